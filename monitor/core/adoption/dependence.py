"""What the reference itself teaches about its panes: dependence (phi), day-to-day movement (delta) and seasons."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stationkeeper.monitor.core.detect import DENSE_ALTERNATIVES, exact_alternatives, subject_cells
from stationkeeper.monitor.core.reference import HOURS_OF_WEEK

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Kind = Literal["numeric", "categorical"]

# Lengths of blocks, in panes, over which dependence is looked for (docs/statistics.md). What lasts longer, such as
# days, belongs to the effect floor: phi over long blocks costs far more delay for it.
BLOCKS = (1, 2, 4, 8, 16)
# Blocks of one length that a variance needs. Chosen: its relative error is sqrt(2 / 20) = 32 %; half as many would err
# by 45 %, twice as many leave 16-pane blocks unlearned in a reference of less than 640 panes.
MIN_BLOCKS = 20
# Standard errors above 1 from which an inflation counts, so that independent panes keep phi = 1. Chosen: at 2 one of
# 44 independent series would lose delay for nothing, at 5 an inflation of 2.6 over 20 blocks would go unseen.
SURE = 2.5
HOURS_OF_DAY = 24
# Rows a stratum needs; below, hours of the week fall back to hours of the day (docs/statistics.md). The conformal bag
# of 500 rows finds .25 sd after 190 events where 10 000 rows need 196: half as many thins the parts of a
# pane to a dozen rows, twice as many takes seasons from references that carry them.
MIN_STRATUM_ROWS = 500
# The floor is what nine days in ten stay below, times 1.5 (docs/statistics.md). The median would page on every second
# day; the maximum grows with the number of days and hides drift in a long reference.
FLOOR_QUANTILE = 0.9
# The same quantile of a normal law: noise is taken as high as the movement it is compared with, else days of 500 rows
# without any effect would read as a floor of 5 %.
_NOISE_QUANTILE = 1.28


def learned_phi(panes: Counts, kind: Kind, strata: ArrayLike | None = None) -> Floats:
    """Variance inflation of a subject's groups of alternatives from its reference panes in time order.

    panes [T, C]: cell counts of consecutive panes, as `PlannedSubject.reference`; strata [T] their strata, each
    compared with its own mean.  Returns `DENSE_ALTERNATIVES` + 2 values for numeric, 2 for categorical (one-cell,
    adaptive), all >= 1: the largest, over blocks of 1 to 16 panes, of the variance of block sums of log e over what
    independent events would give.  A ratio counts from 2.5 standard errors above 1, so that independent
    panes keep phi = 1.  By hand: every pane seen twice in a row doubles the variance of pairs, phi = 2.
    """
    strata_of = np.zeros(len(panes), np.int64) if strata is None else np.asarray(strata, np.int64)
    sums, variances = [], []
    for s in np.unique(strata_of):
        chosen = panes[strata_of == s]
        total, variance = _centred(chosen, kind)
        sums.append((strata_of == s, total))
        variances.append((strata_of == s, variance))
    rows = sums[0][1].shape[1]
    series, expected = np.zeros((len(panes), rows)), np.zeros((len(panes), rows))
    for (where, total), (_, variance) in zip(sums, variances, strict=True):
        series[where] = total
        expected[where] = variance
    inflation = np.ones(rows)
    for block in BLOCKS:
        count = len(panes) // block
        if count < MIN_BLOCKS:
            break
        blocks = series[: count * block].reshape(count, block, rows).sum(axis=1)
        iid = expected[: count * block].sum(axis=0)
        ratio = np.divide((blocks**2).sum(axis=0), iid, out=np.ones(rows), where=iid > 1e-12)
        sure = ratio > 1 + SURE * np.sqrt(2 / count)
        inflation = np.maximum(inflation, np.where(sure, ratio, 1.0))
    dense = DENSE_ALTERNATIVES if kind == "numeric" else 0
    cells = inflation[dense:].max()
    return np.concatenate([inflation[:dense], [cells, inflation.max()]])


def _centred(panes: Counts, kind: Kind) -> tuple[Floats, Floats]:
    """Sums of log e a pane less their mean, and their variance for independent events: both [T, rows]."""
    reference, groups = subject_cells(kind, panes.sum(axis=0), panes)
    p, f = reference.probabilities, len(groups)
    log_e = exact_alternatives(reference, kind).matrix()
    mean = log_e @ p[0]
    variance = (log_e**2) @ p[0] - mean**2
    n = groups.sum(axis=1, keepdims=True)
    total = groups @ log_e.T - n * mean
    # The mean was fitted to these very panes: give the lost degree of freedom back.
    return total * np.sqrt(f / max(f - 1, 1)), n * np.maximum(variance, 0)


def natural_floor(days: ArrayLike) -> float:
    """How far a subject moves from day to day by itself, as a share of traffic (TV), beyond sampling noise.

    days [D, K]: cell counts of whole days (or any long blocks) of the reference.  The 90 % quantile over days of
    sqrt((TV(day, all)^2 - noise^2)+).  noise is the 90 % quantile of TV from sampling alone: its mean
    .5 sqrt(2/pi) sum_k sqrt(v_k) plus 1.28 standard deviations .5 sqrt((1 - 2/pi) sum_k v_k), v = p (1 - p) / n_day:
    with the mean alone, days of 500 rows without any effect would read as a floor of 5 %.  Days without rows are left
    out; fewer than two give 0.  By hand: identical days give 0.
    """
    counts = np.asarray(days, np.float64)
    counts = counts[counts.sum(axis=1) > 0]
    if len(counts) < 2:
        return 0.0
    n = counts.sum(axis=1, keepdims=True)
    p = counts.sum(axis=0) / counts.sum()
    distance = 0.5 * np.abs(counts / n - p).sum(axis=1)
    variance = p * (1 - p) / n
    mean = 0.5 * np.sqrt(2 / np.pi) * np.sqrt(variance).sum(axis=1)
    noise = mean + _NOISE_QUANTILE * 0.5 * np.sqrt((1 - 2 / np.pi) * variance.sum(axis=1))
    beyond = np.sqrt(np.maximum(distance**2 - noise**2, 0))
    return float(np.quantile(beyond, FLOOR_QUANTILE))


def choose_strata(rows_by_hour: ArrayLike) -> int:
    """Strata the reference can carry: 168 hours of the week, else 24 hours of the day, else 1.

    rows_by_hour [168]: reference rows of each hour of the week.  Every stratum needs `MIN_STRATUM_ROWS` rows.
    """
    rows = np.asarray(rows_by_hour)
    if rows.shape != (HOURS_OF_WEEK,):
        raise ValueError(f"rows by hour of the week must have 168 entries, got shape {rows.shape}")
    if rows.min() >= MIN_STRATUM_ROWS:
        return HOURS_OF_WEEK
    if rows.reshape(7, HOURS_OF_DAY).sum(axis=0).min() >= MIN_STRATUM_ROWS:
        return HOURS_OF_DAY
    return 1


def fold_strata(by_hour: Counts, strata: int) -> Counts:
    """Counts by hour of the week [168, C] folded to 168, 24 or 1 strata: [strata, C]."""
    if strata == HOURS_OF_WEEK:
        return by_hour
    if strata == HOURS_OF_DAY:
        return np.asarray(by_hour.reshape(7, HOURS_OF_DAY, -1).sum(axis=0), np.int64)
    if strata == 1:
        return np.asarray(by_hour.sum(axis=0, keepdims=True), np.int64)
    raise ValueError(f"strata must be 168, 24 or 1, got {strata}")
