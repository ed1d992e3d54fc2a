"""The change point, refined on stored panes, with an interval."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stationkeeper.monitor.core.detect.alternatives import Alternative, exact_alternatives
from stationkeeper.monitor.core.detect.fixed_reference import subject_cells
from stationkeeper.monitor.core.detect.plan import PlannedSubject

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# Panes whose log likelihood lies within this of the best are in the interval: e^-3 = 5 % as likely as the best start.
# Chosen: half of it misses the true start more often, twice as much (e^-6) names starts 400 times less likely.
INTERVAL_NATS = 3.0

# Reference rows mixed into the pooled law of an adaptive alternative: one a cell of twenty, so that a cell without rows
# since the rough start is unlikely, not impossible. With none a single earlier row there would bar every older start.
_PRIOR_ROWS = 20.0


@dataclass(frozen=True)
class ChangePoint:
    """Index of the first changed pane, and the first and last index it may be."""

    index: int
    first: int
    last: int


def locate_change_point(log_ratios: ArrayLike) -> ChangePoint:
    """The most likely first changed pane, from log ratios [T] of the leading alternative, pane by pane up to the page.

    The change point maximises the sum of log ratios from it on: maximum likelihood for this alternative, less noisy
    for strong changes than fitting the law anew at each candidate.  The interval holds every pane whose sum is within
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
    subject: PlannedSubject, alternative: Alternative, panes: Counts, strata: Iterable[int], rough: int
) -> Floats:
    """Log ratios [T] of an alternative of a subject over stored panes [T, C], against the reference as it stands.

    alternative is the one that led the page.  An adaptive one has no fixed law: the panes from index rough on (the
    page's own onset) are pooled for it.  No correction for a finite reference: the page is decided, only its date is
    asked.
    """
    out = np.zeros(len(panes))
    strata_of = np.fromiter(strata, np.int64, len(panes))
    for stratum in np.unique(strata_of):
        where = strata_of == stratum
        reference, groups = subject_cells(subject.kind, subject.reference[stratum].astype(np.int64), panes)
        if alternative.kind == "adaptive":
            p = reference.probabilities[0]
            pooled = groups[rough:].sum(axis=0) + _PRIOR_ROWS * p
            q = pooled / pooled.sum()
            log_e = np.where(p > 0, np.log(np.where(p > 0, q, 1) / np.where(p > 0, p, 1)), 0.0)
        else:
            table = exact_alternatives(reference, subject.kind)
            log_e = table.matrix()[table.rows.index(alternative)]
        out[where] = groups[where] @ log_e
    return out
