"""What the reference itself teaches about its panes: dependence (phi), day-to-day movement (delta) and seasons."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stationkeeper.monitor.core.detect import DENSE_ALTERNATIVES, exact_alternatives, subject_cells

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Integers = NDArray[np.int64]
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


def learned_phi(
    panes: Counts,
    kind: Kind,
    strata: ArrayLike | None = None,
    usual: Counts | None = None,
    days: Integers | None = None,
) -> Floats:
    """Variance inflation of a subject's groups of alternatives from its reference panes in time order.

    panes [T, C]: cell counts of consecutive panes, as `PlannedSubject.reference`; strata [T] their strata, whose
    counts are usual [S, C]: each pane is compared with its stratum's mix (without: with that of these panes).
    Returns `DENSE_ALTERNATIVES` + 2 values for numeric, 2 for categorical (one-cell, adaptive), all >= 1: the
    largest, over blocks of 1 to 16 panes, of the variance of block sums of log e over what independent events would
    give.  A ratio counts from 2.5 standard errors above 1, so that independent panes keep phi = 1.  By hand: every
    pane seen twice in a row doubles the variance of pairs, phi = 2.
    days [T]: the day of each pane, where the effect floor carries what moves from day to day. Dependence is then that
    within days, about each day's own mean and in blocks of at most half a day: charged with both, days that move by
    .05 sd slow a page from hours to days (docs/statistics.md).
    """
    series, expected = _centred(panes, kind, strata, usual)
    rows = series.shape[1]
    inflation = np.ones(rows)
    within = None if days is None else _Days(days, panes.sum(axis=1).astype(np.float64))
    if within is not None:
        series = within.centred(series)
    for block in BLOCKS:
        if within is not None:
            blocks, iid = within.blocks(series, expected, block)
        else:
            whole = len(panes) // block * block
            blocks = series[:whole].reshape(-1, block, rows).sum(axis=1)
            iid = expected[:whole].sum(axis=0)
        count = len(blocks)
        if count < MIN_BLOCKS:
            break
        # An alternative that takes one value alone has no variance but rounding's, and nothing to be inflated.
        ratio = np.divide((blocks**2).sum(axis=0), iid, out=np.ones(rows), where=iid > 1e-12)
        sure = ratio > 1 + SURE * np.sqrt(2 / count)
        inflation = np.maximum(inflation, np.where(sure, ratio, 1.0))
    dense = DENSE_ALTERNATIVES if kind == "numeric" else 0
    cells = inflation[dense:].max()
    return np.concatenate([inflation[:dense], [cells, inflation.max()]])


class _Days:
    """The days of panes in time order: what a day has in common is taken off, and blocks lie within one."""

    def __init__(self, days: Integers, size: Floats) -> None:
        """``days`` int64[T] is the day of each pane, ``size`` float64[T] its rows."""
        first = np.flatnonzero(np.diff(days, prepend=days[:1] - 1))
        self._of = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(days))))
        self._place = np.arange(len(days)) - first[self._of]
        self._many = np.bincount(self._of)[self._of]
        self._size, self._rows = size, np.maximum(np.bincount(self._of, weights=size), 1.0)

    def centred(self, series: Floats) -> Floats:
        """Take from sums [T, rows] what their day has in common, in proportion to the rows of each pane."""
        total = np.zeros((len(self._rows), series.shape[1]))
        np.add.at(total, self._of, series)
        return np.asarray(series - self._size[:, None] * (total / self._rows[:, None])[self._of], np.float64)

    def blocks(self, series: Floats, expected: Floats, block: int) -> tuple[Floats, Floats]:
        """Sums over the blocks of so many panes that lie in half a day or less, and what independent events give.

        A day's own mean took the share n / N of a block's variance with it, n of the day's N rows; of more than half a
        day too little is left to tell dependence from what was taken.
        """
        kept = (self._place < self._many // block * block) & (2 * block <= self._many)
        if not kept.any():
            return np.empty((0, series.shape[1])), np.zeros(series.shape[1])
        starts = np.flatnonzero(self._place[kept] % block == 0)
        left = 1 - np.add.reduceat(self._size[kept], starts) / self._rows[self._of[kept][starts]]
        iid = np.add.reduceat(expected[kept], starts, axis=0) * left[:, None]
        return np.add.reduceat(series[kept], starts, axis=0), iid.sum(axis=0)


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
