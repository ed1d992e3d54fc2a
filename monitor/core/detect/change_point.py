"""The change point, refined on stored panes, with an interval."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stationkeeper.monitor.core.detect.alternatives import Alternative, ReferenceCells, build_alternatives
from stationkeeper.monitor.core.detect.fixed_reference import Grouping
from stationkeeper.monitor.core.detect.plan import DENSE_ALTERNATIVES, PlannedSubject

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# Panes whose log likelihood lies within this of the best are in the interval: e^-3 = 5 % as likely as the best start.
# Chosen: half of it misses the true start more often, twice as much (e^-6) names starts 400 times less likely.
INTERVAL_NATS = 3.0

# Reference rows mixed into the pooled law of an adaptive alternative: one a cell of twenty, so that a cell without rows
# since the rough start is unlikely, not impossible. With none a single earlier row there would bar every older start.
_PRIOR_ROWS = 20.0
# The error chance asked of a table against exact probabilities: nothing is uncertain there, so it changes nothing.
_NO_ETA = 0.01


@dataclass(frozen=True)
class ChangePoint:
    """Index of the first changed pane, and the first and last index it may be."""

    index: int
    first: int
    last: int


def locate_change_point(log_ratios: ArrayLike) -> ChangePoint:
    """The most likely first changed pane, from log ratios [T] of the winning row, pane by pane up to the page.

    The change point maximises the sum of log ratios from it on: maximum likelihood for this row, less noisy for strong
    changes than fitting the law anew at each candidate.  The interval holds every pane whose sum is within
    `INTERVAL_NATS` of the best.  O(T).  By hand: (-1, -1, 2, 2) has sums 2, 3, 4, 2, so index 2 and interval 0 to 3.
    """
    steps = np.asarray(log_ratios, np.float64)
    if steps.ndim != 1 or steps.size == 0:
        raise ValueError(f"refining a change point needs at least one pane, got shape {steps.shape}")
    tail = np.cumsum(steps[::-1])[::-1]
    best = int(np.argmax(tail))
    near = np.flatnonzero(tail >= tail[best] - INTERVAL_NATS)
    return ChangePoint(best, int(near[0]), int(near[-1]))


def change_point_log_ratios(
    subject: PlannedSubject, row: Alternative, panes: Counts, strata: Iterable[int], rough: int
) -> Floats:
    """Log ratios [T] of a row of a subject over stored panes [T, C], against the reference as it stands.

    row is the leading alternative of the page.  An adaptive row has no fixed law: the panes from index rough on (the
    page's own onset) are pooled for it.  No correction for a finite reference: the page is decided, only its date is
    asked.
    """
    out = np.zeros(len(panes))
    strata_of = np.fromiter(strata, np.int64, len(panes))
    for stratum in np.unique(strata_of):
        where = strata_of == stratum
        reference, groups = _cells(subject, int(stratum), panes)
        p = reference.probabilities
        exact = ReferenceCells(p, np.full(1, np.inf), reference.used, reference.ordered)
        if row.kind == "adaptive":
            pooled = groups[rough:].sum(axis=0) + _PRIOR_ROWS * p[0]
            q = pooled / pooled.sum()
            log_e = np.where(p[0] > 0, np.log(np.where(p[0] > 0, q, 1) / np.where(p[0] > 0, p[0], 1)), 0.0)
        else:
            dense = DENSE_ALTERNATIVES if subject.kind == "numeric" else 0
            table = build_alternatives(exact, subject.kind, np.zeros(1), np.ones((1, dense + 1)), _NO_ETA)
            index = table.rows.index(row)
            if index < dense:
                log_e = table.dense[0, index]
            else:
                level, cell = divmod(index - dense, p.shape[1])
                log_e = np.where(
                    np.arange(p.shape[1]) == cell, table.inside[0, level, cell], table.outside[0, level, cell]
                )
        out[where] = groups[where] @ log_e
    return out


def _cells(subject: PlannedSubject, stratum: int, panes: Counts) -> tuple[ReferenceCells, Floats]:
    """Reference and pane counts [T, K] of a subject on the cells its rows are written for."""
    reference = subject.reference[stratum]
    if subject.kind == "numeric":
        grouping = Grouping(reference[None, :-1], reference[None, -1])
        groups = [grouping.counts(pane[None, :-1], pane[None, -1]) for pane in panes]
        return grouping.reference, np.concatenate(groups, axis=0)
    counts = reference[None, :].astype(np.float64)
    everything = np.ones(counts.shape, bool)
    return ReferenceCells(counts, counts.sum(axis=1), everything, ~everything), panes.astype(np.float64)
