"""The rollout of one model as a pure state machine: the last record and what came in give the next record."""

import math
from collections.abc import Collection, Mapping

from stationkeeper.contracts.messages import DeploymentAction, Rollout
from stationkeeper.contracts.times import to_datetime
from stationkeeper.deploy.core.comparison import CONFIRM, counted, harm_limit, log_e, seen_ratio, weigh
from stationkeeper.deploy.core.dispersion import entities, handful
from stationkeeper.deploy.core.evidence import changeover, share_log_e
from stationkeeper.deploy.core.minutes import Minute, arm
from stationkeeper.deploy.core.moves import (
    MINUTE,
    Phase,
    Transition,
    audit,
    busiest_exposure,
    hold,
    next_exposure,
    next_step,
    promote,
    reseen,
    resume,
    roll_back,
    shown,
)
from stationkeeper.deploy.core.policy import LABELLED, Action, Guardrail, Policy, TimeoutAction
from stationkeeper.deploy.core.promotion import confirmation, promote_limit, wanted, why_labels
from stationkeeper.deploy.core.queries import QueryAnswer, aged, failing, noted, unanswered
from stationkeeper.deploy.core.reasons import Because, Reason, Uncounted, because
from stationkeeper.deploy.core.split import BUCKETS
from stationkeeper.deploy.core.state import Controller, memory, remember

# log 20: a step counts once its minutes show the new weight 20 times likelier than the old one (alpha .05).
_SETTLED_AT = math.log(20.0)
# Milliseconds after which it counts where so few entities are that their share could not show it: what is far off is
# told as a mismatch. Half cuts the changeover short where traffic is thin.
_SETTLED_AFTER = 10 * MINUTE
# A weight that gives the canary fewer entities than this may leave it none (of three one time in twenty), so that its
# silence says nothing and the ramp goes on by time.
_FEW = 3.0
# Log of a thousand: a weight that gives the canary fewer entities than this leaves it none one time in a thousand or
# more, and it would wait for its first row until the deadline. At log 20 one such step in twenty still would.
_NOBODY = math.log(1_000.0)
_RUNNING = frozenset({Phase.CANARY, Phase.HOLD})
# What brings the old champion back while both answer. Latency does not: of a request of many rows the holdback answers
# a few, so that it is faster without being better. Scores and decisions keep the action that the policy gives them.
_WATCHED = LABELLED | {Guardrail.ERRORS, Guardrail.DECISIONS, Guardrail.SCORES}


def close_minute(rollout: Rollout, minute: Minute, policy: Policy) -> Transition:
    """Return the record after one closed minute: evidence first, then one decision on it."""
    state = memory(rollout)
    # A replay after a restart brings minutes again; weighed twice they would be evidence twice.
    if minute.end <= state.clock:
        return Transition(rollout)
    state = aged(state.model_copy(update={"clock": minute.end}))
    if rollout.phase in _RUNNING and rollout.canary:
        state = weigh(state, minute, rollout.champion, rollout.canary, policy)
        state = _settle(state, minute, rollout)
        state = _count(state, minute, rollout)
        return _decide_canary(_stamped(rollout, state), state, policy)
    if rollout.phase is Phase.PROBATION and state.previous:
        state = weigh(state, minute, state.previous, rollout.champion, policy)
        rows = state.probation_rows + arm(minute, rollout.champion).rows
        state = state.model_copy(update={"probation_rows": rows})
        return _decide_probation(_stamped(rollout, state), state, policy)
    return Transition(_stamped(rollout, state))


def tick(rollout: Rollout, policy: Policy, clock_ms: int) -> Transition:
    """Return the record when the wall clock has passed a longest duration with no minute closing."""
    state = memory(rollout)
    if rollout.phase is Phase.PROBATION and clock_ms - state.promoted >= policy.probation_max_ms:
        state = state.model_copy(update={"clock": max(clock_ms, state.clock)})
        return _decide_probation(_stamped(rollout, state), state, policy)
    if rollout.phase not in _RUNNING or clock_ms - state.started < policy.max_ms or state.held == Reason.TIMEOUT:
        return Transition(rollout)
    return _time_out(_stamped(rollout, state.model_copy(update={"clock": max(clock_ms, state.clock)})), policy)


def compared(rollout: Rollout) -> tuple[str, str] | None:
    """Return the old and the new version while both are out, or the new one is on probation; None otherwise."""
    if rollout.phase in _RUNNING and rollout.canary:
        return rollout.champion, rollout.canary
    # Asked at each flush of every model: the memory of one that is steady is not read for it.
    previous = memory(rollout).previous if rollout.phase is Phase.PROBATION else None
    return (previous, rollout.champion) if previous else None


def answered(rollout: Rollout, policy: Policy, answers: Mapping[str, QueryAnswer]) -> Transition:
    """Return the record with answers to the policy's queries; what rolls back does so at once.

    A canary that breaks all traffic closes no minute, and its harm must not wait for one.
    """
    state = noted(memory(rollout), policy, answers)
    held = remember(rollout, state)
    harm = next((why for does, why in failing(state, policy) if does is Action.ROLL_BACK), None)
    return roll_back(held, harm, state.clock) if harm else Transition(held)


def _decide_canary(rollout: Rollout, state: Controller, policy: Policy) -> Transition:
    # The order is the rule: harm before the deadline, the deadline before a hold (else a hold would last for ever), and
    # a promotion last, when nothing speaks against it.
    harm = harm_found(state, policy)
    if harm and harm[0] is Action.ROLL_BACK:
        return roll_back(rollout, harm[1], state.clock)
    if state.clock - state.started >= policy.max_ms:
        return _time_out(rollout, policy)
    # A person's pause holds against everything but harm and the deadline: forgotten, it must end in the safe action,
    # and not with a canary on the traffic for ever.
    return Transition(rollout) if state.held == Reason.PAUSED else _go_on(rollout, state, policy, harm)


def _go_on(rollout: Rollout, state: Controller, policy: Policy, harm: tuple[Action, Because] | None) -> Transition:
    """Return the hold, the wait, the next step or the promotion of a canary that no one stops; ``harm`` may hold."""
    # What a query holds goes on by its answer alone: that none comes, or one that is not yet one too many in a row, is
    # no word for the canary, whatever else holds it meanwhile.
    silent = unanswered(state, policy) if state.held == Reason.QUERY_FAILED else None
    if silent:
        return Transition(rollout.model_copy(update={"reason": (harm[1] if harm else silent).text}))
    mismatch = _mismatch(state, policy)
    if harm or mismatch or state.incidents:
        broken = because(Reason.DATA_QUALITY, incident=", ".join(state.incidents))
        reason = harm[1] if harm else mismatch or broken
        return hold(reseen(rollout, mismatch.numbers["seen"]) if mismatch else rollout, reason)
    few = _handful(state, policy)
    # It stays until more entities come: resumed each time, it would go to and fro and be told anew with each step.
    stays = few is not None and state.held == few.reason
    if rollout.phase is Phase.HOLD and not stays and state.steps[-1].settled is not None:
        return resume(rollout)
    waiting = _waiting(rollout, state, policy)
    if few and (stays or not waiting):
        return hold(rollout, few)
    if waiting:
        return Transition(rollout.model_copy(update={"reason": waiting.text}))
    following = policy.next_weight(state.steps[-1].weight_bp)
    if following is not None:
        return next_step(rollout, policy, following)
    return _finish(rollout, state, policy)


def _finish(rollout: Rollout, state: Controller, policy: Policy) -> Transition:
    """Return the promotion, or the wait until every guardrail shows that the canary is no worse than its margin."""
    proofs = wanted(state, policy)
    if not proofs:
        waiting = because(Reason.NOTHING_TO_SHOW)
        return Transition(rollout.model_copy(update={"reason": waiting.text}))
    least = proofs[0]
    numbers = {
        "guardrail": least.name,
        "e": _exp(least.log_e),
        "limit": math.exp(promote_limit(policy)),
        "margin": least.margin,
    }
    if least.log_e < promote_limit(policy):
        why = why_labels(state, policy)
        why = f"; labels decide because {why}" if why else ""
        waiting = because(Reason.NOT_YET_NONINFERIOR, risk=least.as_good, why=why, **numbers)
        return Transition(rollout.model_copy(update={"reason": waiting.text}))
    names, rows = ", ".join(sorted(proof.name for proof in proofs)), sum(one.rows_b for one in state.steps)
    return promote(rollout, policy, because(Reason.NONINFERIOR, guardrails=names, rows=rows, **numbers))


def _decide_probation(rollout: Rollout, state: Controller, policy: Policy) -> Transition:
    # Without a holdback both versions never answer at the same time: only labels of the ramp can still condemn.
    harm = harm_found(state, policy, _WATCHED if state.holdback_bp else LABELLED)
    if harm and harm[0] is Action.ROLL_BACK:
        return roll_back(rollout, harm[1], state.clock)
    spent = state.clock - state.promoted
    if state.probation_rows < policy.probation_rows or spent < policy.probation_ms:
        waiting = because(
            Reason.ON_PROBATION,
            rows=state.probation_rows,
            needed=policy.probation_rows,
            minutes=spent / MINUTE,
            wanted=policy.probation_ms / MINUTE,
        )
        return Transition(rollout.model_copy(update={"reason": waiting.text}))
    numbers = {
        "labels": state.labels_b,
        "e": _exp(log_e(state, CONFIRM, policy)),
        "limit": math.exp(promote_limit(policy)),
        "margin": policy.probation_margin,
    }
    # Labels that are late are waited for; that none came in time is no success, so the deadline does not confirm.
    if confirmation(state, policy):
        if spent >= policy.probation_max_ms:
            return _end_probation(rollout, policy, because(Reason.PROBATION_TIMEOUT, minutes=spent / MINUTE, **numbers))
        return Transition(rollout.model_copy(update={"reason": because(Reason.LABELS_NOT_RIPE, **numbers).text}))
    confirmed = because(Reason.CONFIRMED, rows=state.probation_rows)
    if policy.labels_expected:
        confirmed = because(Reason.CONFIRMED_BY_LABELS, **numbers)
    done = rollout.model_copy(update={"phase": Phase.STEADY, "lease_until": None, "reason": confirmed.text})
    record = audit(done, DeploymentAction.CONFIRMED, confirmed, state.clock, **shown(state))
    return Transition(remember(done, state.for_next()), (record.model_copy(update={"weight_bp": BUCKETS}),))


def _end_probation(rollout: Rollout, policy: Policy, why: Because) -> Transition:
    """Return the old champion, or the promotion left provisional: it is then confirmed by labels or by a person."""
    state = memory(rollout)
    if policy.on_timeout is TimeoutAction.ROLL_BACK:
        return roll_back(rollout, why, state.clock)
    held = rollout.model_copy(update={"reason": why.text})
    # Told once: this is asked again with each minute that closes.
    if state.held == why.reason:
        return Transition(held)
    held = remember(held, state.model_copy(update={"held": why.reason.value}))
    return Transition(held, (audit(held, DeploymentAction.HELD, why, state.clock, **shown(state)),))


def _time_out(rollout: Rollout, policy: Policy) -> Transition:
    state = memory(rollout)
    timed_out = because(Reason.TIMEOUT, minutes=(state.clock - state.started) / MINUTE)
    if policy.on_timeout is TimeoutAction.HOLD:
        return hold(rollout, timed_out)
    return roll_back(rollout, timed_out, state.clock)


def _waiting(rollout: Rollout, state: Controller, policy: Policy) -> Because | None:
    """Return why the step goes on, None when it has passed."""
    step = state.steps[-1]
    weight = rollout.weight_bp / BUCKETS
    if step.settled is None:
        return because(Reason.WEIGHT_NOT_SEEN, weight=weight)
    last = policy.next_weight(step.weight_bp) is None
    spent, exposed = state.clock - step.settled, math.inf if last else next_exposure(state, policy)
    lasts = policy.step_ms if last else policy.lasts(busiest_exposure(state, policy), step.rows_b)
    if spent < lasts:
        return because(
            Reason.STEP_RUNNING,
            minutes=spent / MINUTE,
            needed=lasts / MINUTE,
            weight=weight,
            rows=step.rows_b,
        )
    # At the last step the rows are always waited for: behind it nothing limits whom a bad version reaches.
    # Nobody at all is an accident of the split where few entities are: they are there at the next weight.
    excused = _few(state) or (not step.rows_b and weight * entities(state) < _NOBODY)
    if last and step.rows_b < policy.min_rows:
        return because(Reason.TOO_FEW_ROWS, rows=step.rows_b, needed=policy.min_rows)
    rows, needed = sum(one.rows_b for one in state.steps), policy.rows_before(exposed)
    if rows < needed and not (last or excused):
        return because(Reason.TOO_FEW_ROWS, rows=rows, needed=needed)
    if last and rows < policy.promote_rows:
        return because(Reason.TOO_FEW_ROWS, rows=rows, needed=policy.promote_rows)
    if last and state.labels_b < policy.min_labels:
        return because(Reason.TOO_FEW_LABELS, labels=state.labels_b, needed=policy.min_labels)
    return unanswered(state, policy)


def _handful(state: Controller, policy: Policy) -> Because | None:
    """Return why no step passes where so few entities are that no harm seen is no evidence; None where there is."""
    for name, rail in policy.guardrails.items():
        # A canary that answered nobody yet has harmed nobody: the ramp goes on until it has somebody.
        if rail.action is Action.INFORM or not handful(state, counted(name)) or not any(state.groups["rows"].b):
            continue
        weight = state.steps[-1].weight_bp / BUCKETS
        return because(Reason.TOO_FEW_ENTITIES, guardrail=name.value, entities=entities(state), weight=weight)
    return None


def _settle(state: Controller, minute: Minute, rollout: Rollout) -> Controller:
    """Return the memory with the step settled once the minutes show the new weight 20 times likelier than the old.

    The step counts from the next minute on: this one may have seen both weights.
    """
    if state.steps[-1].settled is not None or rollout.canary is None:
        return state
    rows_a, rows_b = arm(minute, rollout.champion).rows, arm(minute, rollout.canary).rows
    gain = changeover(rows_a, rows_b, state.before, rollout.weight_bp / BUCKETS)
    # Never below zero: minutes of the old weight before the router had the new one must not have to be made up for.
    total = max(0.0, state.changeover + gain)
    waited = minute.end - state.steps[-1].started >= _SETTLED_AFTER
    if total < _SETTLED_AT and not (waited and _silent(state)):
        return state.model_copy(update={"changeover": total})
    return state.with_step(settled=minute.end).model_copy(update={"changeover": 0.0})


def _silent(state: Controller) -> bool:
    """Return whether the entities are too few for their share to tell the present weight from the one before."""
    before, after = state.before, state.steps[-1].weight_bp / BUCKETS
    if entities(state) * after < _NOBODY:
        return True
    if before <= 0.0 or before == after:
        return False
    told = after * math.log(after / before) + (1.0 - after) * math.log((1.0 - after) / (1.0 - before))
    return entities(state) * told < _SETTLED_AT


def _few(state: Controller) -> bool:
    return state.steps[-1].weight_bp / BUCKETS * entities(state) < _FEW


def _count(state: Controller, minute: Minute, rollout: Rollout) -> Controller:
    step = state.steps[-1]
    if rollout.canary is None:
        return state
    if step.settled is None or minute.start < step.settled:
        return state.without(Uncounted.WEIGHT_NOT_SEEN, minute.length)
    rows_a, rows_b = arm(minute, rollout.champion).rows, arm(minute, rollout.canary).rows
    if not rows_a or not rows_b:
        why = Uncounted.NO_CHAMPION_ROWS if rows_b else Uncounted.NO_CANARY_ROWS
        state = state.without(why, minute.length, one_armed=step.one_armed + minute.length)
    return state.with_step(rows_a=step.rows_a + rows_a, rows_b=step.rows_b + rows_b)


def _mismatch(state: Controller, policy: Policy) -> Because | None:
    step = state.steps[-1]
    # The share is that of entities, not of their rows.
    effect = max(policy.design_effect, (step.rows_a + step.rows_b) / entities(state))
    weight = step.weight_bp / BUCKETS
    log_share = share_log_e(step.rows_a / effect, step.rows_b / effect, weight, policy.share_tolerance)
    if log_share < -math.log(policy.alpha):
        return None
    seen = step.rows_b / (step.rows_a + step.rows_b)
    return because(Reason.SHARE_MISMATCH, seen=seen, weight=weight, e=_exp(log_share))


def harm_found(
    state: Controller, policy: Policy, among: Collection[Guardrail] = frozenset(Guardrail)
) -> tuple[Action, Because] | None:
    """Return the most severe guardrail whose e-value reached its limit."""
    found: list[tuple[Action, Because]] = []
    limit = harm_limit(policy)
    for name, rail in policy.guardrails.items():
        evidence = log_e(state, name, policy)
        if rail.action is Action.INFORM or evidence < limit or name not in among:
            continue
        ratio = seen_ratio(state, name)
        numbers = {"guardrail": name.value, "e": _exp(evidence), "limit": math.exp(limit), "margin": rail.margin}
        shown = "unknown" if ratio is None else f"{ratio:.3g}"
        found.append((rail.action, because(Reason.HARM, ratio=shown, **numbers)))
    found += failing(state, policy)
    # One that holds must not hide one that rolls back.
    return next((one for one in found if one[0] is Action.ROLL_BACK), found[0] if found else None)


def _stamped(rollout: Rollout, state: Controller) -> Rollout:
    return remember(rollout.model_copy(update={"time": to_datetime(state.clock)}), state)


def _exp(log_value: float) -> float:
    # exp(710) overflows a float64; nobody reads an e-value of 1e304 as less than one of infinity.
    return math.exp(min(log_value, 700.0))
