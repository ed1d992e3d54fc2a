"""The cells of the fixed reference: the fine cells of a numeric subject grouped into about twenty, per stratum."""

import numpy as np
from numpy.typing import NDArray

from stationkeeper.monitor.core.detect.alternatives import ReferenceCells

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

# As many as rank cells, for the same reasons (`conformal.RANK_CELLS`). Twice as many double the cost, and of each the
# reference knows less.
GROUPS = 20


def subject_cells(kind: str, reference: Counts, panes: Counts) -> tuple[ReferenceCells, Floats]:
    """Return reference int64[C] and panes int64[T, C] of one subject on the cells that are bet on, [1, K] and [T, K].

    Missing is last in both; the fine cells of a number are grouped, a category's are its own.
    """
    if kind == "numeric":
        grouping = Grouping(reference[None, :-1], reference[None, -1])
        groups = [grouping.counts(pane[None, :-1], pane[None, -1]) for pane in panes]
        return grouping.reference, np.concatenate(groups, axis=0)
    counts = reference[None, :].astype(np.float64)
    everything = np.ones(counts.shape, bool)
    return ReferenceCells(counts, counts.sum(axis=1), everything, ~everything), panes.astype(np.float64)


class Grouping:
    """Fine cells [F, m] of one stratum mapped to GROUPS groups of about equal reference mass, plus missing.

    A fine cell joins the group its middle rank falls in, so an atom heavier than two groups keeps a group of its own.
    """

    def __init__(self, fine: Counts, missing: Counts) -> None:
        """Group by the reference's fine counts [F, m] (padding: zeros on the right) and missing counts [F]."""
        f = len(fine)
        total = np.maximum(fine.sum(axis=1, keepdims=True), 1)
        middle = (np.cumsum(fine, axis=1) - fine / 2) / total
        group = np.clip((middle * GROUPS).astype(np.int64), 0, GROUPS - 1)
        flat = (group + np.arange(f, dtype=np.int64)[:, None] * GROUPS).ravel()
        # Groups follow the axis, so each is one run of fine cells.
        starts = np.flatnonzero(np.append(True, flat[1:] != flat[:-1]))
        self._starts, self._groups = starts.astype(np.uint32), flat[starts].astype(np.uint32)
        self._features = f
        counts = self.counts(fine, missing)
        used = np.concatenate([counts[:, :-1] > 0, np.ones((f, 1), bool)], axis=1)
        ordered = used.copy()
        ordered[:, -1] = False
        self.reference = ReferenceCells(counts, counts.sum(axis=1), used, ordered)

    def forget(self) -> None:
        """Let go of the reference, which only the placing of bets needs."""
        nothing = np.empty((0, 0))
        self.reference = ReferenceCells(nothing, nothing, nothing > 0, nothing > 0)

    def counts(self, fine: Counts, missing: Counts) -> Floats:
        """Counts of a pane over the groups, missing last: [F, GROUPS + 1]."""
        out = np.zeros((self._features, GROUPS + 1))
        grouped = np.zeros(self._features * GROUPS)
        grouped[self._groups] = np.add.reduceat(fine.ravel(), self._starts.astype(np.intp))
        out[:, :-1] = grouped.reshape(self._features, GROUPS)
        out[:, -1] = missing
        return out
