"""What the reference itself teaches about its panes: dependence (phi), day-to-day movement (delta) and seasons."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stationkeeper.monitor.core.detect import DENSE_ALTERNATIVES, exact_alternatives, subject_cells

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
# The floor is what nine days in ten stay below, times 1.5 (docs/statistics.md). The median would page on every second
# day; the maximum grows with the number of days and hides drift in a long reference.
FLOOR_QUANTILE = 0.9
# The same quantile of a normal law: noise is taken as high as the movement it is compared with, else days of 500 rows
# without any effect would read as a floor of 5 %.
_NOISE_QUANTILE = 1.28


def learned_phi(panes: Counts, kind: Kind, strata: ArrayLike | None = None, usual: Counts | None = None) -> Floats:
    """Variance inflation of a subject's groups of alternatives from its reference panes in time order.

    panes [T, C]: cell counts of consecutive panes, as `PlannedSubject.reference`; strata [T] their strata, whose
    counts are usual [S, C]: each pane is compared with its stratum's mix (without: with that of these panes).
    Returns `DENSE_ALTERNATIVES` + 2 values for numeric, 2 for categorical (one-cell, adaptive), all >= 1: the
    largest, over blocks of 1 to 16 panes, of the variance of block sums of log e over what independent events would
    give.  A ratio counts from 2.5 standard errors above 1, so that independent panes keep phi = 1.  By hand: every
    pane seen twice in a row doubles the variance of pairs, phi = 2.
    """
    series, expected = _centred(panes, kind, strata, usual)
    rows = series.shape[1]
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


def _centred(panes: Counts, kind: Kind, strata: ArrayLike | None, usual: Counts | None) -> tuple[Floats, Floats]:
    """Sums of log e a pane less their mean, and their variance for independent events: both [T, rows].

    The alternatives are those of all panes together, whatever the stratum: what depends on each other moves alike.
    """
    of = np.zeros(len(panes), np.int64) if strata is None else np.asarray(strata, np.int64)
    if usual is None:
        usual = np.zeros((int(of.max(initial=0)) + 1, panes.shape[1]), np.int64)
        np.add.at(usual, of, panes)
    # Two in one call, so that both are in the same groups of cells.
    reference, both = subject_cells(kind, panes.sum(axis=0), np.concatenate([panes, usual]))
    groups, known = both[: len(panes)], both[len(panes) :]
    log_e = exact_alternatives(reference, kind).matrix()
    size = known.sum(axis=1, keepdims=True)
    p = known / np.maximum(size, 1)
    mean = p @ log_e.T
    variance = p @ (log_e**2).T - mean**2
    n = groups.sum(axis=1, keepdims=True)
    total = groups @ log_e.T - n * mean[of]
    # What is usual was learned from these very panes: give each the share of it back that it made itself, at most half.
    share = np.minimum(n / np.maximum(size[of], 1), 0.5)
    return total / np.sqrt(1 - share), n * np.maximum(variance[of], 0)


def sampling_noise(p: Floats, rows: ArrayLike) -> Floats:
    """The 90 % quantile of TV from sampling alone, for cells p [..., K] and so many rows [...].

    Its mean .5 sqrt(2/pi) sum_k sqrt(v_k) plus 1.28 standard deviations .5 sqrt((1 - 2/pi) sum_k v_k),
    v = p (1 - p) / rows: with the mean alone, days of 500 rows without any effect would read as a floor of 5 %.
    """
    variance = p * (1 - p) / np.maximum(np.asarray(rows, np.float64), 1.0)[..., None]
    mean = 0.5 * np.sqrt(2 / np.pi) * np.sqrt(variance).sum(axis=-1)
    spread = 0.5 * np.sqrt((1 - 2 / np.pi) * variance.sum(axis=-1))
    return np.asarray(mean + _NOISE_QUANTILE * spread, np.float64)


def natural_floor(days: ArrayLike, usual: Floats | None = None) -> float:
    """How far a subject moves from day to day by itself, as a share of traffic (TV), beyond sampling noise.

    days [D, K]: cell counts of whole days (or any long blocks) of the reference; usual [D, K] the mix that each should
    have, that of all where it is not given.  The 90 % quantile over days of sqrt((TV(day, usual)^2 - noise^2)+), noise
    as in `sampling_noise`.  Days without rows are left out; fewer than two give 0.  By hand: identical days give 0.
    """
    counts = np.asarray(days, np.float64)
    kept = counts.sum(axis=1) > 0
    counts = counts[kept]
    if len(counts) < 2:
        return 0.0
    n = counts.sum(axis=1)
    p = np.broadcast_to(counts.sum(axis=0) / counts.sum(), counts.shape) if usual is None else usual[kept]
    distance = 0.5 * np.abs(counts / n[:, None] - p).sum(axis=1)
    beyond = np.sqrt(np.maximum(distance**2 - sampling_noise(p, n) ** 2, 0))
    return float(np.quantile(beyond, FLOOR_QUANTILE))
