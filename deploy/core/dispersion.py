"""How many rows count as one: the design effect of rows that fail together, estimated from the rollout itself.

Rows of one entity or of one moment are alike, so that both arms differ by more than independent rows would. Entities
fall into ``ENTITY_GROUPS`` groups by a hash of their own, each whole in one group: how far the groups' rates scatter
around the arm's, over how far independent rows would, is the design effect (random groups, Wolter 2007, chapter 2).
The same over blocks of minutes sees rows that fail together in time. Evidence is raised to the power one over the
larger of the two; while neither is beyond chance it counts rows, as nothing says otherwise. What both arms share (the
hours of a tenant under a weight that rises, a burst) is no scatter: each minute is compared with itself.
"""

import math

import numpy as np

from stationkeeper.contracts.wire import Counts
from stationkeeper.deploy.core.policy import Guardrail
from stationkeeper.deploy.core.state import Allocation, Controller, Groups, Pool, Spread

# A block of minutes ends when its expected variance reaches this: below one or two failures the square of a residual
# says little, and longer blocks are fewer.
BLOCK_VARIANCE = 2.0
# Blocks that only tell the canary's ratio: a bad canary is far from the ratio of one that is assumed at first, and its
# harm must not pass for scatter.
FIRST_BLOCKS = 3
# Standard deviations beyond one before an estimate is believed: at 2.3 one estimate of a hundred is believed falsely,
# and costs that rollout time; at one standard deviation it would be one of six.
BEYOND_CHANCE = 2.3
# Groups or blocks below which nothing is estimated: eight squares have a standard deviation of a half.
LEAST = 8.0
# Observations that one entity of a handful counts for at most, one a minute: entities differ for ever, and without the
# bound two of twelve equal canaries of twenty people were condemned within a week (with it none of fifty); far fewer
# would miss one that always fails.
AN_ENTITY = 60
# Rows of the canary before it is believed that requests are split one by one. Where entities keep their arm so many
# rows of a handful are some twenty-five each, which no chance spreads over all groups; with far fewer they might.
ROWS_TELL = 200
# Variance of the canary's rows in a group before its share is compared (at a small weight the number of these rows):
# Cochran's rule of five expected for Pearson's statistic, below which it is no chi-square.
EXPECTED = 5.0
MIDDLE = "latency.middle"
"""The scatter of answers beyond the champion's median, kept beside that of the slow tail."""


def group_effect(rows: Counts, loss: Counts) -> tuple[float, float]:
    """Return the design effect of one arm's groups and how many groups it rests on; ``(1, 0)`` where none can be told.

    ``rows`` and ``loss`` int64[groups]. By hand: two groups of 10 rows with 0 and 10 failures: the rate is .5, the
    residuals are -5 and 5, their squares sum to 50; independent rows would give .25 * (20 - 200 / 20) = 2.5: 20.
    """
    total = float(rows.sum())
    rate = float(loss.sum()) / total if total else 0.0
    sizes = float(np.square(rows, dtype=np.float64).sum())
    expected = rate * (1.0 - rate) * (total - sizes / total) if total else 0.0
    if expected <= 0.0:
        return 1.0, 0.0
    residual = loss - rate * rows
    return float(np.square(residual).sum()) / expected, total * total / sizes - 1.0


def crowd(rows: Counts) -> float:
    """Return how many groups of equal rows would be as unequal; ``rows`` int64[groups]. By hand: 10, 10, 0 are two."""
    total = float(rows.sum())
    return total * total / float(np.square(rows, dtype=np.float64).sum()) if total else 0.0


def by_request(state: Controller) -> bool:
    """Return whether rows were split one by one: each group of entities has the canary's share, within chance.

    A gateway, a cloud's endpoint and ``sticky: event_id`` split so. Then each entity is in both arms and no arm has the
    worst of them, however few they are: who is randomised is what counts (Fisher 1935; Deng et al. 2017 for metrics of
    A/B tests). Where entities keep their arm the share scatters over the groups at least as much as their failures can.
    Pearson's statistic of what ``shared_out`` summed; a group's residuals sum to zero over the groups, so that it has
    one degree of freedom less than groups. By hand: two groups of 200 rows in one minute, 103 and 97 of them the
    canary's: residuals of 3 and -3, each of variance 200 * .5 * .5 * 200 / 399 = 25.06: .718, of which half is one
    degree's: split one by one. All of one, none of the other: 399.
    """
    split = state.split
    if split is None or split.rows_b < ROWS_TELL:
        return False
    variance = np.array(split.variance)
    seen = variance >= EXPECTED
    # One group has no other to compare its share with.
    free = int(seen.sum()) - 1
    if free < 1:
        return False
    squares = float((np.square(np.array(split.residual)[seen]) / variance[seen]).sum()) * free / (free + 1)
    return squares <= free + BEYOND_CHANCE * math.sqrt(2.0 * free)


def shared_out(split: Allocation | None, a: Counts, b: Counts) -> Allocation | None:
    """Return the sums with one minute's added; ``a`` and ``b`` int64[groups] are both arms' rows.

    Against the canary's share of that minute and not of the rollout: a tenant who sends by day alone has most of his
    rows under the day's weight, and would seem to keep an arm. A draw without replacement, as in ``scatter``.
    """
    rows, mine = a + b, int(b.sum())
    total = int(rows.sum())
    if not 0 < mine < total:
        return split
    share = mine / total
    residual, variance = b - share * rows, rows * share * (1.0 - share) * (total - rows) / (total - 1.0)
    if split is not None:
        residual, variance = residual + np.array(split.residual), variance + np.array(split.variance)
        mine += split.rows_b
    return Allocation(rows_b=mine, residual=tuple(residual.tolist()), variance=tuple(variance.tolist()))


def handful(state: Controller, name: str) -> bool:
    """Return whether so few entities send most of the rows that how alike theirs are cannot be told."""
    groups, arms = state.groups.get(name), state.groups.get("rows")
    if groups is None or arms is None or by_request(state):
        return False
    # Where most rows name nobody the few who do say nothing of all.
    counted = state.sums.get(name, Pool())
    if 2 * (sum(arms.a) + sum(arms.b)) <= counted.rows_a + counted.rows_b:
        return False
    rows_a, rows_b = np.array(arms.a), np.array(arms.b)
    told = sum(group_effect(one, np.array(lost))[1] for one, lost in ((rows_a, groups.a), (rows_b, groups.b)))
    # Where no row fails, or every one, nothing scatters; whether anything could is a matter of the rows alone. One
    # entity an arm is such a case, and its rows are the least independent of all.
    return (told or sum(max(crowd(one) - 1.0, 0.0) for one in (rows_a, rows_b))) < LEAST


def alike(state: Controller) -> float:
    """Return how many rows count as one if those of one entity and minute all fail together, at least one.

    The variance of the difference of both arms' rates over that of independent rows, with each arm's rows an entity and
    minute, of which an entity has ``AN_ENTITY`` at most. By hand: 90 rows of 3 entities beside 10 of 2, in one minute:
    (90 * 5 + 10 * 30) / 100 = 7.5.
    """
    arms = state.groups["rows"]
    rows_a, rows_b = np.array(arms.a), np.array(arms.b)
    a, b = float(rows_a.sum()), float(rows_b.sum())
    # A record of another version of us counted no minutes: then all rows of an entity are one, which is finite too.
    minutes = min(max(state.grouped, 1), AN_ENTITY)
    return _together(a, a / max(crowd(rows_a), 1.0) / minutes, b, b / max(crowd(rows_b), 1.0) / minutes)


def by_minute(state: Controller) -> float:
    """Return how many answers count as one if all of an arm and minute are slow together; infinite before the first.

    An arm's minutes count up to ``AN_ENTITY``, as an entity's do. By hand: 9 minutes of 198 answers beside 2: the
    canary's two are one, 1782 * 2 / 1800 + 18 * 198 / 1800 = 3.96.
    """
    seen = state.sums.get(Guardrail.LATENCY, Pool())
    minutes = min(state.timed, AN_ENTITY)
    if not minutes:
        return math.inf
    return _together(seen.rows_a, seen.rows_a / minutes, seen.rows_b, seen.rows_b / minutes)


def _together(a: float, each_a: float, b: float, each_b: float) -> float:
    """Return the variance of the difference of two rates, of ``each`` rows alike, over that of independent rows."""
    return max((a * each_b + b * each_a) / max(a + b, 1.0), 1.0)


def design_effect(state: Controller, name: str, *, harm: bool = False) -> float:
    """Return the larger of the design effects over entities and over time, 1 where neither is beyond chance.

    Infinite where it must be known and cannot be told: then nothing counts as evidence, and the rollout waits. Of a
    handful of people, and of latency until its scatter is known, ``harm`` is told by the worst case instead: a canary
    that fails for all of them must not go on, nor one so slow that no answer of either arm lies among the other's, of
    which there is no scatter ever.
    """
    found = [1.0]
    groups, arms = state.groups.get(name), state.groups.get("rows")
    if groups is not None and arms is not None and not by_request(state):
        # A handful of people send most of the rows: counted by the row the arm that has the worst of them would be
        # condemned, and one that has the best of them promoted.
        if handful(state, name):
            if not harm:
                return math.inf
            found.append(alike(state))
        loss_a, loss_b = np.array(groups.a), np.array(groups.b)
        a, b = group_effect(np.array(arms.a), loss_a), group_effect(np.array(arms.b), loss_b)
        many = a[1] + b[1]
        if many:
            pooled = (a[0] * a[1] + b[0] * b[1]) / many
            found.append(_believed(pooled, many, float(loss_a.sum() + loss_b.sum()) / (2 * len(loss_a))))
        found.append(_believed(*b, float(loss_b.sum()) / len(loss_b)))
    spread = state.spread.get(name, Spread())
    # Slow answers are what is judged, so their own scatter is believed first; with few requests a minute they take a
    # day to fill the blocks, and the middle, which has five times as many, speaks until then.
    if name == Guardrail.LATENCY and spread.blocks - FIRST_BLOCKS < LEAST:
        spread = state.spread.get(MIDDLE, spread)
    blocks = spread.blocks - FIRST_BLOCKS
    if blocks >= LEAST:
        found.append(_believed(spread.squares / blocks, blocks, BLOCK_VARIANCE))
    elif name == Guardrail.LATENCY:
        # All rows of one request have one latency: how many count as one must be known before any is judged good.
        if not harm:
            return math.inf
        found.append(by_minute(state))
    return max(found)


def entities(state: Controller) -> float:
    """Return how many entities of equal size would scatter the rows over groups as much; infinite where none is known.

    Of entities with ``s`` rows each the groups' variance is the sum of ``s**2`` over their number.
    """
    rows = state.groups.get("rows")
    if rows is None:
        return math.inf
    found = np.array(rows.a, dtype=np.float64) + np.array(rows.b)
    return float(found.sum() ** 2 / max(found.var(ddof=1) * len(found), 1.0))


def scatter(spread: Spread, pool: Pool) -> tuple[float, float] | None:
    """Return the residual of the canary's failures in one stratum and its expected variance; None where none is told.

    What the canary is expected to fail follows from its ratio of failures before, stratum by stratum (Mantel and
    Haenszel 1959): both arms' rates over all of them would differ where weight and failures rise and fall with the
    hour. Given all failures, the canary's are a draw without replacement, so that the
    variance falls as failures become common: of half of all rows it is half the binomial's, and an estimate without
    that factor would call rows that are alike independent. By hand: 10 rows an arm, 10 failures of which 7 the
    canary's, equal rates before: residual 2, variance 10 * .5 * .5 * 10 / 19 = 1.32.
    """
    rows, loss = pool.rows_a + pool.rows_b, pool.loss_a + pool.loss_b
    if not pool.rows_a or not pool.rows_b or not 0 < loss < rows:
        return None
    # One failure of either arm is assumed before the first, so that the ratio begins at one.
    ratio = (spread.failed_b + 1.0) / (spread.failed_a + 1.0)
    share = pool.rows_b * ratio / (pool.rows_a + pool.rows_b * ratio)
    return pool.loss_b - share * loss, loss * share * (1.0 - share) * (rows - loss) / (rows - 1.0)


def scattered(spread: Spread, pool: Pool) -> Spread:
    """Return the scatter over time with one stratum of both arms' rows and failures."""
    found = scatter(spread, pool)
    if found is None:
        return spread
    rows = pool.rows_a + pool.rows_b
    ratio = {
        "failed_a": spread.failed_a + pool.loss_a * pool.rows_b / rows,
        "failed_b": spread.failed_b + pool.loss_b * pool.rows_a / rows,
    }
    return in_block(spread.model_copy(update=ratio), *found)


def in_block(spread: Spread, residual: float, variance: float) -> Spread:
    """Return the scatter with a residual of the canary's failures and its expected variance in the open block."""
    residual, variance = spread.residual + residual, spread.variance + variance
    if variance < BLOCK_VARIANCE:
        return spread.model_copy(update={"residual": residual, "variance": variance})
    square = residual * residual / variance if spread.blocks >= FIRST_BLOCKS else 0.0
    ended = {"squares": spread.squares + square, "blocks": spread.blocks + 1, "residual": 0.0, "variance": 0.0}
    return spread.model_copy(update=ended)


def gathered(groups: Groups | None, a: Counts, b: Counts) -> Groups:
    """Return the sums by group with one minute's added."""
    if groups is None:
        return Groups(a=tuple(a.tolist()), b=tuple(b.tolist()))
    return Groups(a=tuple((np.array(groups.a) + a).tolist()), b=tuple((np.array(groups.b) + b).tolist()))


def _believed(effect: float, many: float, mean: float) -> float:
    """Return an estimate that is beyond chance, else 1; ``mean`` is the failures in a square.

    The variance of ``(X - m)**2 / m`` of a Poisson ``X`` with mean ``m`` is ``2 + 1 / m``: its fourth central moment is
    ``m + 3 * m**2``. By hand: a mean of .5 doubles the 2 of a chi-square.
    """
    if many < LEAST or mean <= 0.0:
        return 1.0
    return effect if effect > 1.0 + BEYOND_CHANCE * math.sqrt((2.0 + 1.0 / mean) / many) else 1.0
