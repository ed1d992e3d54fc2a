"""A rollout as people and Prometheus see it: the same numbers that decided."""

from collections.abc import Sequence
from typing import Any

from stationkeeper.contracts.messages import Deployment, Rollout
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.times import to_ms
from stationkeeper.deploy.core.comparison import applies, harm_limit, log_e
from stationkeeper.deploy.core.moves import MINUTE, Phase
from stationkeeper.deploy.core.policy import Action, Policy
from stationkeeper.deploy.core.queries import shown as query_shown
from stationkeeper.deploy.core.split import BUCKETS
from stationkeeper.deploy.core.state import Controller, StepLog, memory


def rollout_samples(rollout: Rollout, policy: Policy | None) -> list[Sample]:
    """Return the metric values of one model; a canary's series vanish with it."""
    model, state = rollout.model, memory(rollout)
    found = [
        Sample("stationkeeper_champion_info", (model, rollout.champion), 1),
        Sample("stationkeeper_rollouts_total", (model, "promoted"), state.promotions),
        Sample("stationkeeper_rollouts_total", (model, "rolled_back"), state.rollbacks),
    ]
    # After a promotion the former canary is judged on, under the same labels, until probation ends.
    watched = rollout.canary or (rollout.champion if rollout.phase is Phase.PROBATION else None)
    if rollout.canary:
        found.append(Sample("stationkeeper_canary_weight_ratio", (model, rollout.canary), rollout.weight_bp / BUCKETS))
    if watched is None or policy is None:
        return found
    for name, rail in policy.guardrails.items():
        if not applies(state, name):
            continue
        labels = (model, watched, name.value)
        found.append(Sample("stationkeeper_canary_evidence", labels, log_e(state, name, policy)))
        # A guardrail that only informs has no threshold: a line in a graph would promise an action.
        if rail.action is not Action.INFORM:
            found.append(Sample("stationkeeper_canary_evidence_threshold", labels, harm_limit(policy)))
    return found


def rollout_status(rollout: Rollout, policy: Policy | None, deployments: Sequence[Deployment]) -> dict[str, Any]:
    """Return a ``contracts.status.RolloutStatus``."""
    state = memory(rollout)
    # A page that says "on probation since" the start of the canary would count the ramp as well.
    since = state.promoted if rollout.phase is Phase.PROBATION else state.started
    status: dict[str, Any] = {
        "model": rollout.model,
        "phase": rollout.phase.value,
        "champion": rollout.champion,
        "weight_bp": rollout.weight_bp,
        "reason": rollout.reason,
        "since": since or to_ms(rollout.time),
        "deployments": [_deployment(one) for one in reversed(deployments)],
    }
    for name in ("canary", "candidate", "request"):
        if getattr(rollout, name) is not None:
            status[name] = getattr(rollout, name)
    if state.shadow is not None:
        status["shadow"] = state.shadow.words()
    if rollout.phase is Phase.PROBATION and state.holdback_bp and state.previous:
        status["holdback"], status["holdback_bp"] = state.previous, state.holdback_bp
    if rollout.lease_until is not None:
        status["lease_until"] = to_ms(rollout.lease_until)
    if policy is not None and state.steps:
        status["steps"] = _steps(state, policy)
    return status


def _steps(state: Controller, policy: Policy) -> list[dict[str, Any]]:
    last = len(state.steps) - 1
    steps = [_step(step, state, policy, current=index == last) for index, step in enumerate(state.steps)]
    planned = [weight for weight in policy.steps_bp if weight > state.steps[-1].weight_bp]
    return [*steps, *({"weight_bp": weight, "state": "planned"} for weight in planned)]


def _step(step: StepLog, state: Controller, policy: Policy, *, current: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "weight_bp": step.weight_bp,
        "state": "current" if current and step.ended is None else "done",
        "started": step.started,
        "rows_champion": step.rows_a,
        "rows_canary": step.rows_b,
    }
    if step.ended is not None:
        shown["ended"] = step.ended
    if step.uncounted:
        shown["uncounted"] = {why: span / MINUTE for why, span in step.uncounted.items()}
    # Evidence runs over all steps and belongs to now; a step that is over shows what it was when it ended.
    evidence = {name: log_e(state, name, policy) for name in state.wealth} if current else step.evidence
    shown["guardrails"] = [
        _guardrail(name.value, rail.margin, evidence.get(name, 0.0), state if current else None, policy, rail.action)
        for name, rail in policy.guardrails.items()
        if applies(state, name)
    ]
    # The last answer belongs to now, as the evidence does.
    if current:
        shown["guardrails"] += [query_shown(name, one, state) for name, one in policy.queries.items()]
    return shown


def _guardrail(
    name: str, margin: float, evidence: float, state: Controller | None, policy: Policy, action: Action
) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": name, "evidence": evidence}
    rates = ""
    pool = state.sums.get(name) if state else None
    if pool and pool.rows_a and pool.rows_b:
        shown["champion"], shown["canary"] = pool.loss_a / pool.rows_a, pool.loss_b / pool.rows_b
        rates = f"canary {shown['canary']:.4g}, champion {shown['champion']:.4g}; "
    does = "informs" if action is Action.INFORM else f"{action.value} at {harm_limit(policy):.2f} nats"
    if action is not Action.INFORM:
        shown["threshold"] = harm_limit(policy)
    shown["reason"] = f"{rates}evidence {evidence:.2f} nats against a ratio above {margin:g}; {does}"
    return shown


def _deployment(one: Deployment) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": one.id,
        "time": to_ms(one.time),
        "action": one.action.value,
        "champion": one.champion,
        "reason": one.reason,
        "weight_bp": one.weight_bp,
    }
    if one.canary is not None:
        shown["canary"] = one.canary
    return shown
