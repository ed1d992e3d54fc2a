"""What a closed minute says about canary against champion: one e-process a guardrail, carried over the whole ramp."""

import math
from collections.abc import Iterator

from contracts.wire import SCORE_BINS
from deploy.core.evidence import (
    CALM_RATIOS,
    HARM_RATIOS,
    TILTS,
    Arms,
    Floats,
    Mixture,
    log_bets,
    score_bets,
    sign_bets,
)
from deploy.core.minutes import ArmCounts, Minute, OutcomeCounts, arm
from deploy.core.policy import Guardrail, Policy
from deploy.core.state import Controller, Pool

CALM = "noninferior"
"""The e-process for "no worse than the margin", on wrong decisions among labelled rows."""
SCORE_CUTS = tuple(range(3, SCORE_BINS, 3))
MIN_POOL = 10
MIN_TIMED = 10

_SIZES = {Guardrail.SCORES: len(SCORE_CUTS) * TILTS.size}


def weigh(memory: Controller, minute: Minute, champion: str, canary: str, policy: Policy) -> Controller:
    """Return the memory after one closed minute: evidence, sums for people, pools of labelled rows.

    Errors, decisions, latency and scores compare the two arms of the minute; labelled rows are pooled by the step
    that predicted them, so that both arms' labels have matured alike, and bet once either arm has ``MIN_POOL``.
    """
    wealth, sums, pools = dict(memory.wealth), dict(memory.sums), dict(memory.pools)

    def bet(name: str, size: int, log_factors: Floats) -> None:
        mixture = Mixture(size, wealth.get(name, ()), policy.design_effect)
        mixture.bet(log_factors)
        wealth[name] = tuple(mixture.wealth.tolist())

    a, b = arm(minute, champion), arm(minute, canary)
    for rail, arms in _minute_arms(a, b):
        bet(rail, HARM_RATIOS.size, log_bets(arms, policy.guardrails[rail].margin, HARM_RATIOS))
        sums[rail] = _add(sums.get(rail, Pool()), arms)
    if a.timed >= MIN_TIMED and b.timed >= MIN_TIMED:
        worse = b.latency_us / b.timed > policy.guardrails[Guardrail.LATENCY].margin * a.latency_us / a.timed
        bet(Guardrail.LATENCY, HARM_RATIOS.size, sign_bets(worse, HARM_RATIOS))
    bet(Guardrail.SCORES, _SIZES[Guardrail.SCORES], score_bets(a.histogram(), b.histogram(), SCORE_CUTS))

    labels_b = memory.labels_b
    for outcome in minute.outcomes:
        step = memory.step_at(outcome.start)
        if step is None or outcome.version not in {champion, canary}:
            continue
        labels_b += outcome.rows if outcome.version == canary else 0
        for name, rows, loss in _labelled(outcome):
            loss_only = (rows, loss, 0, 0.0) if outcome.version == champion else (0, 0.0, rows, loss)
            key = f"{name}/{step}"
            pools[key] = _add(pools.get(key, Pool()), Arms(*loss_only))
    for key in sorted(pools):
        pool = pools[key]
        if pool.rows_a < MIN_POOL or pool.rows_b < MIN_POOL:
            continue
        name = key.split("/", maxsplit=1)[0]
        arms = Arms(pool.rows_a, pool.loss_a, pool.rows_b, pool.loss_b)
        if name == CALM:
            bet(CALM, CALM_RATIOS.size, log_bets(arms, policy.promote_margin, CALM_RATIOS))
        else:
            bet(name, HARM_RATIOS.size, log_bets(arms, policy.guardrails[Guardrail(name)].margin, HARM_RATIOS))
        sums[name] = _add(sums.get(name, Pool()), arms)
        del pools[key]
    return memory.model_copy(update={"wealth": wealth, "sums": sums, "pools": pools, "labels_b": labels_b})


def log_e(memory: Controller, name: str, policy: Policy) -> float:
    """Return the log e-value of a guardrail or of ``CALM``: 0 before its first bet."""
    wealth = memory.wealth.get(name)
    return Mixture(len(wealth), wealth, policy.design_effect).log_e() if wealth else 0.0


def harm_limit(policy: Policy) -> float:
    """Return the log e-value at which a guardrail acts: log of one over its share of alpha."""
    return -math.log(policy.rail_alpha())


def _minute_arms(a: ArmCounts, b: ArmCounts) -> Iterator[tuple[Guardrail, Arms]]:
    yield Guardrail.ERRORS, Arms(a.rows, min(a.errors, a.rows), b.rows, min(b.errors, b.rows))
    yield Guardrail.DECISIONS, Arms(a.rows, min(a.positives, a.rows), b.rows, min(b.positives, b.rows))


def _labelled(outcome: OutcomeCounts) -> Iterator[tuple[str, int, float]]:
    """Yield (guardrail, rows, loss) of labelled rows; a loss above one a row is no bounded loss and is not tested."""
    if outcome.loss <= outcome.rows:
        yield Guardrail.LOSS, outcome.rows, outcome.loss
    flagged = outcome.true_positives + outcome.false_positives
    positive = outcome.true_positives + outcome.false_negatives
    yield Guardrail.PRECISION, flagged, float(outcome.false_positives)
    yield Guardrail.RECALL, positive, float(outcome.false_negatives)
    yield CALM, outcome.rows, float(outcome.false_positives + outcome.false_negatives)


def _add(pool: Pool, arms: Arms) -> Pool:
    return Pool(
        rows_a=pool.rows_a + arms.rows_a,
        loss_a=pool.loss_a + arms.loss_a,
        rows_b=pool.rows_b + arms.rows_b,
        loss_b=pool.loss_b + arms.loss_b,
    )


def seen_ratio(memory: Controller, name: str) -> float | None:
    """Return the canary's rate over the champion's so far, None while it cannot be told."""
    pool = memory.sums.get(name)
    return Arms(pool.rows_a, pool.loss_a, pool.rows_b, pool.loss_b).ratio() if pool else None
