"""What becomes of a candidate: a canary, a question to a person, a place in the queue or a refusal."""

from contracts.identity import content_id, rollout_id
from contracts.messages import Candidate, Deployment, DeploymentAction, GateOutcome, Rollout
from contracts.times import to_datetime
from deploy.core.moves import Phase, Transition, audit, begin
from deploy.core.policy import Policy
from deploy.core.reasons import Because, Reason, because
from deploy.core.split import BUCKETS, rollout_salt
from deploy.core.state import memory, remember


def offer(rollout: Rollout, candidate: Candidate, policy: Policy, clock_ms: int) -> Transition:
    """Return what becomes of a candidate: a canary, a question to a person, a place in the queue or a refusal.

    A candidate that was handled before changes nothing. While another rollout runs the newest candidate waits and
    is offered again when that ends; the one it replaces is refused as superseded.
    """
    state = memory(rollout)
    if candidate.id in state.handled or (state.after and state.after.id == candidate.id):
        return Transition(rollout)
    refusal = _refusal(rollout, candidate)
    if rollout.phase is not Phase.STEADY and candidate.gate is not GateOutcome.FAIL:
        waiting = remember(rollout, state.model_copy(update={"after": candidate}))
        queued = because(Reason.QUEUED, candidate=candidate.id, canary=rollout.canary or rollout.champion)
        records = [_refused(rollout, candidate, queued, clock_ms, DeploymentAction.HELD)]
        if state.after:
            waiting = remember(waiting, memory(waiting).handling(state.after.id))
            newer = because(Reason.SUPERSEDED, newer=candidate.id)
            records.append(_refused(rollout, state.after, newer, clock_ms))
        return Transition(waiting, tuple(records))
    if refusal:
        handled = remember(rollout, state.handling(candidate.id))
        return Transition(handled, (_refused(rollout, candidate, refusal, clock_ms),))
    fresh = state.for_next().handling(candidate.id).model_copy(update={"clock": clock_ms, "started": clock_ms})
    epoch = rollout.epoch + 1
    begun = rollout.model_copy(
        update={
            "epoch": epoch,
            "time": to_datetime(clock_ms),
            "canary": candidate.version,
            "weight_bp": 0,
            "salt": rollout_salt(rollout.model, epoch),
            "candidate": candidate.id,
            "request": candidate.request,
            "lease_until": None,
        }
    )
    if policy.approval or candidate.gate is not GateOutcome.PASS:
        asked = because(Reason.AWAITING_APPROVAL, candidate=candidate.id)
        held = begun.model_copy(update={"phase": Phase.AWAITING_APPROVAL, "reason": asked.text})
        held = remember(held, fresh)
        return Transition(held, (audit(held, DeploymentAction.HELD, asked, clock_ms),))
    started = because(Reason.STARTED, candidate=candidate.id, weight=policy.steps_bp[0] / BUCKETS)
    return begin(remember(begun, fresh), policy, clock_ms, started)


def _refusal(rollout: Rollout, candidate: Candidate) -> Because | None:
    if candidate.gate is GateOutcome.FAIL:
        return because(Reason.GATE_FAILED, gate=candidate.gate.value, gate_reason=candidate.gate_reason)
    if candidate.version == rollout.champion:
        return because(Reason.ALREADY_CHAMPION, version=candidate.version)
    if candidate.champion != rollout.champion:
        return because(Reason.STALE_CHAMPION, compared=candidate.champion, champion=rollout.champion)
    return None


def _refused(
    rollout: Rollout,
    candidate: Candidate,
    reason: Because,
    clock_ms: int,
    action: DeploymentAction = DeploymentAction.REFUSED,
) -> Deployment:
    about = {"canary": candidate.version, "candidate": candidate.id, "request": candidate.request}
    record = audit(rollout, action, reason, clock_ms)
    return record.model_copy(update={**about, "id": content_id("dep", action.value, candidate.id, reason.text)})


def names(rollout: Rollout) -> set[str]:
    """Return every id by which a person may name this rollout."""
    version = rollout.canary or rollout.champion
    known = {rollout.candidate, rollout.request}
    if rollout.candidate:
        known.add(rollout_id(rollout.model, version, rollout.candidate))
    return {name for name in known if name}
