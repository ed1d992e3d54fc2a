"""What comes in from outside a rollout: candidates, approvals, data-quality verdicts."""

from dataclasses import dataclass

from stationkeeper.contracts.identity import content_id, rollout_id
from stationkeeper.contracts.messages import (
    Approval,
    Candidate,
    Deployment,
    DeploymentAction,
    GateOutcome,
    Level,
    Rollout,
    SubjectType,
    Verdict,
    VerdictKind,
)
from stationkeeper.contracts.times import to_datetime, to_ms
from stationkeeper.deploy.core.moves import Phase, Transition, audit, begin, hold, promote, resume, roll_back
from stationkeeper.deploy.core.policy import Policy
from stationkeeper.deploy.core.promotion import risks
from stationkeeper.deploy.core.reasons import Because, Reason, because
from stationkeeper.deploy.core.split import BUCKETS, rollout_salt
from stationkeeper.deploy.core.state import memory, remember


@dataclass(frozen=True, slots=True)
class Origin:
    """The request and candidate that a registered version carries as tags; None where it carries none."""

    request: str | None
    candidate: str | None


def disagreement(candidate: Candidate, origin: Origin | None) -> Because | None:
    """Return why registry and log do not name the same maker; None where they do, or without a registry to ask.

    Anyone who may write to the topic can offer a version; only what a retraining registered carries both tags.
    """
    if origin is None or origin == Origin(candidate.request, candidate.id):
        return None
    return because(
        Reason.UNKNOWN_ORIGIN,
        version=candidate.version,
        request=candidate.request,
        candidate=candidate.id,
        found_request=origin.request or "none",
        found_candidate=origin.candidate or "none",
    )


def offer(
    rollout: Rollout, candidate: Candidate, policy: Policy, clock_ms: int, origin: Origin | None = None
) -> Transition:
    """Return what becomes of a candidate: a canary, a question to a person, a place in the queue or a refusal.

    A candidate that was handled before changes nothing. While another rollout runs the newest candidate waits and
    is offered again when that ends; the one it replaces is refused as superseded. A version that registry and log do
    not ascribe to the same maker is refused at once, so that it cannot replace one that waits.
    """
    state = memory(rollout)
    if candidate.id in state.handled or (state.after and state.after.id == candidate.id):
        return Transition(rollout)
    mismatch = disagreement(candidate, origin)
    refusal = mismatch or _refusal(rollout, candidate)
    # One rollout at a time: with two canaries in the traffic, each one's harm would be read as the other's.
    if rollout.phase is not Phase.STEADY and candidate.gate is not GateOutcome.FAIL and mismatch is None:
        return queue(rollout, candidate, clock_ms)
    if refusal:
        handled = remember(rollout, state.handling(candidate.id))
        return Transition(handled, (_refused(rollout, candidate, refusal, clock_ms),))
    begins = {"clock": clock_ms, "started": clock_ms, "gate": candidate.gate.value, "shadow": candidate.shadow}
    known = {"busiest": candidate.busiest or 0.0, **begins}
    fresh = state.for_next().handling(candidate.id).model_copy(update=known)
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
            "curve": candidate.curve,
            "lease_until": None,
            "spared": candidate.spared,
        }
    )
    flips = too_many_flips(candidate, policy)
    if policy.approval or candidate.gate is not GateOutcome.PASS or flips:
        asked = flips or because(Reason.AWAITING_APPROVAL, candidate=candidate.id)
        held = begun.model_copy(update={"phase": Phase.AWAITING_APPROVAL, "reason": asked.text})
        held = remember(held, fresh)
        return Transition(held, (audit(held, DeploymentAction.HELD, asked, clock_ms),))
    started = because(Reason.STARTED, candidate=candidate.id, weight=policy.steps_bp[0] / BUCKETS)
    return begin(remember(begun, fresh), policy, clock_ms, started)


def too_many_flips(candidate: Candidate, policy: Policy) -> Because | None:
    """Return why a candidate changes too many decisions to reach anyone unasked; None where it does not."""
    shadow, limit = candidate.shadow, policy.most_flips
    if limit is None:
        return None
    share = shadow.flip_share if shadow else None
    if share is not None and share <= limit:
        return None
    # What nobody has measured is not few.
    said = shadow.words() if shadow and share is not None else "how many it changes is not known"
    return because(Reason.MANY_FLIPS, candidate=candidate.id, limit=limit, shadow=said)


def queue(rollout: Rollout, candidate: Candidate, clock_ms: int, why: Because | None = None) -> Transition:
    """Return the record with the candidate waiting, for ``why`` or the present rollout's end.

    The one it replaces is refused as superseded.
    """
    state = memory(rollout)
    if candidate.id in state.handled or (state.after and state.after.id == candidate.id):
        return Transition(rollout)
    queued = because(Reason.QUEUED, candidate=candidate.id, canary=rollout.canary or rollout.champion)
    records = [_refused(rollout, candidate, why or queued, clock_ms, DeploymentAction.HELD)]
    if state.after:
        state = state.handling(state.after.id)
        newer = because(Reason.SUPERSEDED, newer=candidate.id)
        records.append(_refused(rollout, memory(rollout).after or candidate, newer, clock_ms))
    return Transition(remember(rollout, state.model_copy(update={"after": candidate})), tuple(records))


def advance(transition: Transition, policy: Policy, clock_ms: int, origin: Origin | None = None) -> Transition:
    """Return the transition followed by the offer of the waiting candidate, if the rollout has ended."""
    rollout = transition.rollout
    waiting = memory(rollout).after
    if rollout.phase is not Phase.STEADY or waiting is None:
        return transition
    free = remember(rollout, memory(rollout).model_copy(update={"after": None}))
    offered = offer(free, waiting, policy, clock_ms, origin)
    return Transition(offered.rollout, (*transition.deployments, *offered.deployments))


def decide(rollout: Rollout, approval: Approval, policy: Policy | Because, clock_ms: int) -> Transition:
    """Return what a person's decision does: begin, pause, go on, promote, refuse or roll back.

    One about nothing is refused in the log. Where a reason stands for the policy there is none: the canary or the
    promotion is taken back all the same, as that needs nothing but the last record, and the rest is refused for it.
    """
    known = names(rollout)
    if approval.id not in known:
        unknown = because(Reason.UNKNOWN_ROLLOUT, id=approval.id, model=rollout.model, known=sorted(known) or "none")
        return Transition(rollout, (audit(rollout, DeploymentAction.REFUSED, unknown, clock_ms),))
    if approval.decision in {"reject", "roll_back"}:
        return _take_back(rollout, approval, clock_ms)
    if isinstance(policy, Because):
        return Transition(rollout, (audit(rollout, DeploymentAction.REFUSED, policy, clock_ms),))
    state, waits = memory(rollout), rollout.phase is Phase.AWAITING_APPROVAL
    if approval.decision == "approve" and waits:
        weight = policy.steps_bp[0] / BUCKETS
        approved = because(Reason.APPROVED, by=approval.by, candidate=rollout.candidate, weight=weight)
        return begin(rollout, policy, clock_ms, approved)
    note = approval.note or "no note"
    if approval.decision in {"pause", "resume"} and may_pause(rollout) is (approval.decision == "pause"):
        # The memory's clock stays: ahead of the minutes it would leave some of them unweighed.
        spoken = {"by": approval.by, "weight": rollout.weight_bp / BUCKETS, "note": note}
        if approval.decision == "pause":
            return hold(rollout, because(Reason.PAUSED, **spoken), clock_ms)
        return resume(rollout, because(Reason.RESUMED_BY, **spoken), clock_ms)
    # Not of a canary that still waits: it has no evidence whose lack could be accepted, and `approve` begins it.
    if approval.decision == "promote" and rollout.canary and not waits:
        risk = "; ".join(risks(state, policy)) or "none: every guardrail has shown its margin"
        accepted = because(Reason.RISK_ACCEPTED, by=approval.by, risk=risk, note=note)
        return promote(_at(rollout, clock_ms), policy, accepted)
    return _idle(rollout, approval, clock_ms)


def _take_back(rollout: Rollout, approval: Approval, clock_ms: int) -> Transition:
    state, note = memory(rollout), approval.note or "no note"
    if rollout.phase is Phase.AWAITING_APPROVAL:
        rejected = because(Reason.REJECTED, by=approval.by, candidate=rollout.candidate, note=note)
        return roll_back(rollout, rejected, clock_ms, DeploymentAction.REFUSED)
    # A canary that was promoted while the word was on its way is a canary no more.
    promoted = approval.canary is not None and approval.canary != rollout.canary
    if promoted or (rollout.phase is Phase.STEADY and not state.previous):
        return _idle(rollout, approval, clock_ms)
    version = rollout.champion if rollout.canary else state.previous
    return roll_back(rollout, because(Reason.MANUAL, by=approval.by, version=version, note=note), clock_ms)


def _idle(rollout: Rollout, approval: Approval, clock_ms: int) -> Transition:
    idle = because(Reason.NOT_WAITING, phase=rollout.phase.value, decision=approval.decision)
    if approval.decision in {"pause", "resume"}:
        idle = past_deadline(rollout, approval.decision) or idle
    return Transition(rollout, (audit(rollout, DeploymentAction.REFUSED, idle, clock_ms),))


def may_pause(rollout: Rollout) -> bool | None:
    """Return whether a rollout can be paused, False where it is and can go on.

    None where no canary answers anyone, or the deadline holds it: the next minute would undo either.
    """
    held = memory(rollout).held
    if rollout.canary is None or rollout.phase is Phase.AWAITING_APPROVAL or held == Reason.TIMEOUT:
        return None
    return held != Reason.PAUSED


def past_deadline(rollout: Rollout, decision: str) -> Because | None:
    """Return why a canary that the deadline holds is neither paused nor resumed; None where it holds none."""
    timed_out = rollout.canary is not None and memory(rollout).held == Reason.TIMEOUT
    return because(Reason.PAST_DEADLINE, decision=decision) if timed_out else None


def note_proven(rollout: Rollout, version: str) -> Rollout:
    """Return the record with the canary known to be, in serving, the model that the gate scored."""
    state = memory(rollout)
    if rollout.canary != version or state.proven:
        return rollout
    return remember(rollout, state.model_copy(update={"proven": True}))


def note_verdict(rollout: Rollout, verdict: Verdict) -> Rollout:
    """Return the record with the open data-quality pages of the model: while there is one, a rollout is held.

    Only broken inputs and predictions count: a change of volume or late events leave the arms comparable.
    """
    state = memory(rollout)
    if verdict.incident is None:
        return rollout
    incidents = set(state.incidents)
    broken = verdict.subject.type in {SubjectType.FEATURE, SubjectType.PREDICTION}
    if verdict.kind is VerdictKind.DATA_QUALITY and verdict.level is Level.PAGE and broken:
        incidents.add(verdict.incident)
    elif verdict.kind is VerdictKind.RECOVERED:
        incidents.discard(verdict.incident)
    # The same record where nothing changed, so that a stream of verdicts writes none.
    if incidents == set(state.incidents):
        return rollout
    return remember(rollout, state.model_copy(update={"incidents": tuple(sorted(incidents))}))


def _at(rollout: Rollout, clock_ms: int) -> Rollout:
    state = memory(rollout)
    moved = state.model_copy(update={"clock": max(clock_ms, state.clock)})
    return remember(rollout.model_copy(update={"time": to_datetime(moved.clock)}), moved)


def _refusal(rollout: Rollout, candidate: Candidate) -> Because | None:
    if candidate.gate is GateOutcome.FAIL:
        return because(Reason.GATE_FAILED, gate=candidate.gate.value, gate_reason=candidate.gate_reason)
    if candidate.version == rollout.champion:
        return because(Reason.ALREADY_CHAMPION, version=candidate.version)
    # The gate compared it with a version that answers nobody any more: better than that says nothing of today's.
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


def refuse_unknown(candidate: Candidate, *, configured: bool) -> Deployment:
    """Return the refusal of a candidate whose model has no champion in the log, or is not ``configured`` here.

    It cannot wait for a champion: what waits lies in the record of the rollout, and there is none yet.
    """
    reason = Reason.NO_CHAMPION if configured else Reason.NOT_CONFIGURED
    nothing_runs = Rollout(
        model=candidate.model, epoch=0, time=candidate.time, phase=Phase.STEADY, champion=candidate.champion
    )
    return _refused(nothing_runs, candidate, because(reason, model=candidate.model), to_ms(candidate.time))
