"""The moves of a rollout: each gives the next record and the audit record of what was done."""

import math
from dataclasses import dataclass, field

from stationkeeper.contracts.identity import content_id
from stationkeeper.contracts.messages import Deployment, DeploymentAction, Rollout, RolloutPhase
from stationkeeper.contracts.times import to_datetime
from stationkeeper.deploy.core.comparison import log_e, seen_ratio
from stationkeeper.deploy.core.policy import Policy
from stationkeeper.deploy.core.reasons import Because, Reason, because
from stationkeeper.deploy.core.split import BUCKETS
from stationkeeper.deploy.core.state import Controller, StepLog, memory, remember

# Milliseconds.
MINUTE = 60_000
Phase = RolloutPhase


@dataclass(frozen=True, slots=True)
class Transition:
    """The next record and what was done; a weight in ``rollout`` is applied only after the record is in the log."""

    rollout: Rollout
    deployments: tuple[Deployment, ...] = field(default=())


def steady(model: str, champion: str, clock_ms: int, reason: Because, *, epoch: int = 0) -> Transition:
    """Return the first record of a model: ``champion`` has all traffic."""
    rollout = Rollout(
        model=model, epoch=epoch, time=to_datetime(clock_ms), phase=Phase.STEADY, champion=champion, reason=reason.text
    )
    return Transition(rollout, (audit(rollout, DeploymentAction.ADOPTED, reason, clock_ms),))


def audit(rollout: Rollout, action: DeploymentAction, reason: Because, clock_ms: int, **extra: object) -> Deployment:
    """Return the audit record of one thing done; its id is its content, so that a replay repeats it."""
    return Deployment(
        id=content_id("dep", rollout.model, rollout.epoch, action.value, rollout.weight_bp, clock_ms, reason.text),
        time=to_datetime(clock_ms),
        model=rollout.model,
        action=action,
        champion=rollout.champion,
        canary=rollout.canary,
        weight_bp=rollout.weight_bp,
        candidate=rollout.candidate,
        request=rollout.request,
        reason=reason.text,
        evidence={**reason.evidence, **extra},
    )


def begin(rollout: Rollout, policy: Policy, clock_ms: int, reason: Because) -> Transition:
    """Return the canary at its first step."""
    state = memory(rollout).model_copy(update={"started": clock_ms, "clock": clock_ms})
    first = at_step(rollout, state, policy.steps_bp[0], clock_ms, before=0.0)
    first = first.model_copy(update={"phase": Phase.CANARY, "reason": reason.text})
    return Transition(first, (audit(first, DeploymentAction.STARTED, reason, clock_ms),))


def roll_back(
    rollout: Rollout, reason: Because, clock_ms: int, action: DeploymentAction = DeploymentAction.ROLLED_BACK
) -> Transition:
    """Return the champion alone: needs nothing but the last record. From probation the old champion returns."""
    state = memory(rollout)
    # From a canary the champion stays; from probation, or after it by a person's decision, the one before returns.
    champion = rollout.champion if rollout.canary else (state.previous or rollout.champion)
    back = rollout.model_copy(
        update={
            "time": to_datetime(clock_ms),
            "phase": Phase.STEADY,
            "champion": champion,
            "canary": None,
            "weight_bp": 0,
            "lease_until": None,
            "reason": reason.text,
        }
    )
    bad = rollout.canary or rollout.champion
    after = state.for_next().model_copy(
        update={
            "previous": state.previous if rollout.canary else None,
            "dropped": bad,
            "rollbacks": state.rollbacks + (action is DeploymentAction.ROLLED_BACK),
        }
    )
    record = audit(back, action, reason, clock_ms, rolled_back=bad, **shown(state))
    return Transition(remember(back, after), (record.model_copy(update={"canary": bad}),))


def promote(rollout: Rollout, policy: Policy, reason: Because) -> Transition:
    """Return the canary as champion, on probation where the policy asks for one; the old champion is remembered."""
    state = memory(rollout)
    state = state.with_step(ended=state.clock).model_copy(
        update={"previous": rollout.champion, "promoted": state.clock, "promotions": state.promotions + 1}
    )
    # Where nothing could speak against it later a probation would be a name without a meaning.
    watched = policy.probation_rows > 0 or policy.labels_expected
    new = rollout.model_copy(
        update={
            "phase": Phase.PROBATION if watched else Phase.STEADY,
            "champion": rollout.canary,
            "canary": None,
            "weight_bp": 0,
            "lease_until": None,
            "reason": reason.text,
        }
    )
    kept = policy.holdback_bp if watched else 0
    record = audit(new, DeploymentAction.PROMOTED, reason, state.clock, previous=rollout.champion, **shown(state))
    record = record.model_copy(update={"weight_bp": BUCKETS - kept})
    if kept:
        # The holdback is a step more: its labelled rows of both versions are compared by themselves, alike old. It
        # counts at once, as each minute is compared by the share that it really had.
        last = StepLog(weight_bp=BUCKETS - kept, started=state.clock, settled=state.clock)
        state = state.model_copy(update={"steps": (*state.steps, last), "holdback_bp": kept})
    return Transition(remember(new, state if watched else state.for_next()), (record,))


def next_step(rollout: Rollout, policy: Policy, weight_bp: int) -> Transition:
    """Return the canary at the weight that follows in the ramp; its evidence goes on, it is not restarted."""
    state = memory(rollout)
    step = state.steps[-1]
    minutes, exposed = (state.clock - step.started) / MINUTE, next_exposure(state, policy)
    reason = because(Reason.STEP_PASSED, rows=step.rows_b, minutes=minutes, weight=weight_bp / BUCKETS)
    had = sum(one.rows_b for one in state.steps)
    # Passed without the rows of a step: the next exposes few, or too few entities are there to give any.
    if step.rows_b < policy.min_rows and (exposed <= policy.min_rows or had < policy.rows_before(exposed)):
        small = {"exposed": exposed, "needed": policy.min_rows, "weight": weight_bp / BUCKETS}
        reason = because(Reason.SMALL_TRAFFIC, **small)
    # What traffic showed, not what was asked: with few entities the two differ. Half a row more in each arm keeps the
    # share of a step without rows off 0 and 1, where the next minute's likelihood would have no logarithm.
    before = (step.rows_b + 0.5) / (step.rows_a + step.rows_b + 1.0)
    ended = state.with_step(ended=state.clock, evidence=_logs(state, policy))
    raised = at_step(rollout, ended, weight_bp, state.clock, before=before)
    raised = raised.model_copy(update={"phase": Phase.CANARY, "reason": reason.text})
    return Transition(raised, (audit(raised, DeploymentAction.STEP, reason, state.clock, **shown(state)),))


def next_exposure(state: Controller, policy: Policy) -> float:
    """Return how many rows the next weight, or the last, gives the canary in one step, at this one's traffic."""
    step = state.steps[-1]
    spent = state.clock - (step.settled or state.clock)
    weight = (policy.next_weight(step.weight_bp) or step.weight_bp) / BUCKETS
    return (step.rows_a + step.rows_b) / max(spent, 1) * policy.step_ms * weight


def busiest_exposure(state: Controller, policy: Policy) -> float:
    """Return the same at the busiest that is known: of the log before the rollout or of this step; inf without a log.

    A few quiet minutes say nothing of the hour after them.
    """
    if not state.busiest:
        return math.inf
    step = state.steps[-1]
    weight = (policy.next_weight(step.weight_bp) or step.weight_bp) / BUCKETS
    return max(next_exposure(state, policy), state.busiest * policy.step_ms / MINUTE * weight)


def at_step(rollout: Rollout, state: Controller, weight_bp: int, clock_ms: int, *, before: float) -> Rollout:
    """Return the record with a new weight; ``before`` is the share that traffic shows until the router has it."""
    steps = (*state.steps, StepLog(weight_bp=weight_bp, started=clock_ms))
    moved = state.model_copy(update={"steps": steps, "before": before, "changeover": 0.0, "held": ""})
    return remember(rollout.model_copy(update={"weight_bp": weight_bp, "time": to_datetime(clock_ms)}), moved)


def hold(rollout: Rollout, reason: Because, clock_ms: int | None = None) -> Transition:
    """Return the rollout held at its weight; a new reason is recorded once, not every minute.

    ``clock_ms`` is when a person said so; of what a minute showed it is that minute's end.
    """
    state = memory(rollout)
    held = rollout.model_copy(update={"phase": Phase.HOLD, "reason": reason.text})
    # By reason and not by words, whose numbers change with each minute.
    if state.held == reason.reason:
        return Transition(held)
    held = remember(held, state.model_copy(update={"held": reason.reason.value}))
    return Transition(held, (audit(held, DeploymentAction.HELD, reason, clock_ms or state.clock, **shown(state)),))


def resume(rollout: Rollout, reason: Because | None = None, clock_ms: int | None = None) -> Transition:
    """Return the step begun again: minutes and rows from before the hold do not count towards it."""
    state = memory(rollout)
    # What traffic has not shown yet it has still to show.
    settled = state.steps[-1].settled is not None
    state = state.restarted(state.clock if settled else None)
    reason = reason or because(Reason.RESUMED, weight=rollout.weight_bp / BUCKETS)
    going = rollout.model_copy(update={"phase": Phase.CANARY, "reason": reason.text})
    going = remember(going, state.model_copy(update={"held": ""}))
    return Transition(going, (audit(going, DeploymentAction.STEP, reason, clock_ms or state.clock),))


def _logs(state: Controller, policy: Policy) -> dict[str, float]:
    return {name: log_e(state, name, policy) for name in sorted(state.wealth)}


def shown(state: Controller) -> dict[str, object]:
    """Return the numbers that an audit record shows: ratios seen by guardrail, canary rows and labels."""
    ratios = {name: ratio for name in sorted(state.sums) if (ratio := seen_ratio(state, name)) is not None}
    return {"ratios": ratios, "canary_rows": sum(step.rows_b for step in state.steps), "canary_labels": state.labels_b}


def reseen(rollout: Rollout, before: float) -> Rollout:
    """Return the record with its step to be seen in traffic anew, coming from the share ``before``."""
    again = memory(rollout).restarted(None)
    return remember(rollout, again.model_copy(update={"before": before, "changeover": 0.0}))
