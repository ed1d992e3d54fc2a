"""What a score stands for: by the reference and by mature labels of calm weeks, within what the reference allows."""

from dataclasses import replace

import numpy as np

from stationkeeper.contracts.state import State
from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor.core.detect import clopper_pearson
from stationkeeper.monitor.core.performance.estimate import with_scores
from stationkeeper.monitor.core.reference import Counts, Labels, isotonic

WEEK_MS = 7 * 86_400_000
"""Labels count when their week is over and no test of them stands at a warning. At half a concept that changes on a
Monday is taught before its test has spoken; at double what a score stands for is a fortnight old before it is used."""

WEEKS = 4
"""Calm weeks that count, the latest: a month. At half the estimate of a small model rests on half of the labels that it
could; at double what changed slowly is followed two months late."""

# Each bound of a share of the reference is wrong in one case of forty, both together in the twentieth that intervals
# shown elsewhere are. At a tenth of it labels may move a share by half as much again as the reference allows.
_ETA = 0.025


class CalibrationState(State, frozen=True):
    """The calm weeks, each with its end (ms) and labels int64[32, 2], and the running one (``begin`` None: none)."""

    weeks: list[tuple[int, Counts]]
    begin: int | None
    running: Counts


class Calibration:
    """The labelled reference, refreshed once a calm week; a change that labels show takes back what came since.

    Where the clock counts rows no week is ever over. By hand: weeks that end at days 7 and 14, and a concept that
    changes at day 12 and pages at day 16: the second week and the running one go, the first stays.
    """

    def __init__(self, known: Labels, tolerance: float) -> None:
        """``known`` are the reference's labels, ``tolerance`` what a share may move unremarked (`refreshed`)."""
        self._known, self._tolerance = known, tolerance
        self._weeks: list[tuple[int, Counts]] = []
        self._begin: int | None = None
        self._running: Counts = np.zeros((SCORE_BINS, 2), np.int64)
        self._labels: Labels | None = known

    @property
    def labels(self) -> Labels:
        """The reference's labels with those of the calm weeks, by score bin; the confusion is the reference's."""
        if self._labels is None:
            live = sum((counts for _, counts in self._weeks), np.zeros_like(self._running))
            self._labels = refreshed(self._known, live, self._tolerance)
        return self._labels

    def add(self, start: int, scored: Counts, *, calm: bool) -> None:
        """Take the labels int64[32, 2] of a stretch that starts at ``start`` (ms); ``calm``: no test of them warns."""
        self._begin = start if self._begin is None else self._begin
        if calm and start >= self._begin + WEEK_MS:
            self._weeks = [*self._weeks, (start, self._running)][-WEEKS:]
            self._begin, self._running, self._labels = start, np.zeros_like(self._running), None
        self._running = self._running + scored

    def withdraw(self, onset: int) -> None:
        """Take back the weeks that were not over at ``onset`` (ms), and what is under way."""
        before = [week for week in self._weeks if week[0] <= onset]
        if len(before) < len(self._weeks):
            self._weeks, self._labels = before, None
        self._begin, self._running = None, np.zeros_like(self._running)

    def state(self) -> CalibrationState:
        """Return what ``restore`` takes."""
        return CalibrationState(weeks=list(self._weeks), begin=self._begin, running=self._running)

    def restore(self, state: CalibrationState) -> None:
        """Go on from ``state``."""
        self._weeks = [(end, np.array(counts, np.int64)) for end, counts in state.weeks]
        self._begin, self._running, self._labels = state.begin, np.array(state.running, np.int64), None


def refreshed(known: Labels, live: Counts, tolerance: float) -> Labels:
    """Return the labels ``known`` with ``live`` int64[32, 2] counted beside them, as far as they allow it. O(32).

    The share of positives of each pool of the reference is known to lie between two bounds (Clopper and Pearson 1934,
    of rows / phi); labels may move it as far as these and ``tolerance`` beyond, and count for less where they would
    move it further: so an estimate never follows what the reference rules out. Bins of which the reference has no
    labelled row stay without. By hand: 50 of 100 rows are positive, so .398 to .602, with a tolerance of a point .388
    to .612. Of 1 000 labels, 900 of them positive, (.612 x 100 - 50) / (900 - .612 x 1 000) count, one in 26.
    """
    pool, hits, rows = isotonic(with_scores(known.scored, known))
    live = np.where(known.scored.sum(1, keepdims=True) > 0, with_scores(live, known), 0)
    x, n = (np.bincount(pool, weights=one, minlength=len(rows)) for one in (live[:, 1], live.sum(1)))
    low, high = clopper_pearson(hits / known.phi, rows / known.phi, _ETA)
    part = np.ones(len(rows))
    for edge, sign in ((np.minimum(high + tolerance, 1.0), 1.0), (np.maximum(low - tolerance, 0.0), -1.0)):
        beyond = sign * (hits + x - edge * (rows + n)) > 0
        part[beyond] = ((edge * rows - hits)[beyond] / (x - edge * n)[beyond]).clip(0.0, 1.0)
    # Whole rows, as pools are compared by; each cell loses less than one.
    counted = np.floor(live * part[pool][:, None]).astype(np.int64)
    return replace(known, scored=known.scored + counted)
