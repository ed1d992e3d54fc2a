"""Cohorts that are not judged yet: their predictions, and the labels that came so far."""

from collections.abc import Collection, Iterator
from typing import Final

import numpy as np

from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor.core.reference import Counts
from stationkeeper.monitor.judge.labels.slots import CohortSlot, CohortSlots, Who
from stationkeeper.monitor.settings import DAY_MS, HOUR_MS

# Four cells of the confusion matrix, then negatives and positives by score bin.
WIDTH: Final = 4 + 2 * SCORE_BINS
# What absence needs beside: predictions by score bin, and how many of them were decided positive.
_ARM = SCORE_BINS + 1
# What waits longer than a day waits by the hour: labels that come after ten days would keep 14 400 cohorts a segment,
# by the hour 1 656. At half a day cohorts of a nightly load lose their minutes; at double twice as many wait.
_FINE = DAY_MS


class GrowingCohorts:
    """Predictions and labels of cohorts that are not judged yet: by pane, and by the hour those older than a day.

    What changes touches its slot. With ``absent`` a prediction without label is a negative in the end, so that
    predictions are kept by score bin too.
    """

    def __init__(self, pane: int, slots: CohortSlots, *, absent: bool) -> None:
        self._pane, self._slots = pane, slots
        self._width = WIDTH + _ARM if absent else WIDTH
        self.counts: dict[int, dict[Who, Counts]] = {}
        self.rows: dict[int, int] = {}
        self._coarse: int | None = None

    def of(self, start: int, who: Who) -> Counts:
        """Return the counts of a cohort to add to."""
        at = self.bucket(start)
        self._slots.touch(at)
        return self.counts.setdefault(at, {}).setdefault(who, np.zeros(self._width, np.int64))

    def predicted(self, start: int, rows: int) -> None:
        """Count predictions."""
        at = self.bucket(start)
        self._slots.touch(at)
        self.rows[at] = self.rows.get(at, 0) + rows

    def bucket(self, start: int) -> int:
        """Return the start of the cohort in which predictions of a pane wait."""
        return start if self._coarse is None or start >= self._coarse else start - start % HOUR_MS

    def coarsen(self, now: int) -> int | None:
        """Put the cohorts of an hour together that are older than a day; returns until when, None if nothing is new."""
        edge = (now - _FINE) // HOUR_MS * HOUR_MS
        if self._pane >= HOUR_MS or (self._coarse is not None and edge <= self._coarse):
            return None
        self._coarse = edge
        for start in [start for start in self.starts() if start < edge and start % HOUR_MS]:
            hour, (rows, found) = start - start % HOUR_MS, self.pop(start)
            self.predicted(hour, rows)
            for who, counts in found.items():
                self.of(hour, who)[:] += counts
        return edge

    def starts(self) -> list[int]:
        """Return the starts of all cohorts, oldest first."""
        return sorted({*self.counts, *self.rows})

    def until(self, limit: int) -> tuple[int, list[int]]:
        """Return the start of the last pane whose cohort is whole and at most ``limit``, and the cohorts until then."""
        if self._coarse is not None and limit < self._coarse:
            limit = (limit + self._pane) // HOUR_MS * HOUR_MS - self._pane
        return limit, [start for start in self.starts() if start <= limit]

    def span(self, start: int) -> int:
        """Return the length (ms) of a cohort."""
        fine = self._coarse is None or start >= self._coarse
        return self._pane if fine else max(HOUR_MS, self._pane)

    def due(self, starts: Collection[int]) -> tuple[int, int]:
        """Return predictions and labels of cohorts, over all versions."""
        arrived = sum(
            int(counts[:4].sum())
            for start in starts
            for (_, segment), counts in self.counts.get(start, {}).items()
            if not segment
        )
        return sum(self.rows.get(start, 0) for start in starts), arrived

    def pop(self, start: int) -> tuple[int, dict[Who, Counts]]:
        """Take a cohort out: its predictions, and its labels by version and segment."""
        self._slots.touch(start)
        return self.rows.pop(start, 0), self.counts.pop(start, {})

    def cells(self) -> Iterator[tuple[int, str, str, Counts]]:
        """Yield start, version, segment and counts of each cohort, to be stored."""
        for start, whose in self.counts.items():
            for who, counts in whose.items():
                yield start, *who, counts

    def load(self, piece: CohortSlot) -> None:
        """Take in what a slot holds; older ones lack what absence needs."""
        for start, version, segment, counts in piece.growing:
            mine = self.counts.setdefault(start, {})[version, segment] = np.zeros(self._width, np.int64)
            mine[: len(counts)] = np.array(counts, np.int64)[: self._width]
        self.rows |= dict(piece.rows)
