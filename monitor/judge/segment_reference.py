"""A segment's own reference: what it looked like in its first panes, in the cells of the model's reference.

A segment differs from all traffic by nature, so comparing it with the training data of the whole model would find
every segment drifted for ever. Its first rows are taken for its normal state, and until there are enough it is unknown.
Where the model has seasons, so has the segment: its first day, or week, is taken, hour by hour.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from stationkeeper.contracts.state import State
from stationkeeper.contracts.times import UTC_ZONE
from stationkeeper.monitor.core.adoption import HOUR_MS, HOURS_OF_DAY
from stationkeeper.monitor.core.panes import stratum_of
from stationkeeper.monitor.core.reference import QUALITY, Counts, Reference, ReferenceSubject

# With 3 000 rows a cell of 1 % has 30, so its share is known to within a fifth; an hour of panes shows more than one
# burst. Half of either makes new segments drift from chance; twice leaves them unknown for longer.
FIRST_ROWS = 3_000
# An hour of one-minute panes, so that a burst of rows within minutes is not taken for the segment's normal state.
FIRST_PANES = 60
# Rows of each hour of the day that a segment with seasons waits for, a week at most: an hour with fewer says little of
# its own shape, and waiting longer than a week would leave night-quiet segments unwatched.
HOUR_ROWS = 50

DAY, WEEK = 24 * HOUR_MS, 168 * HOUR_MS


class SegmentAdoptionState(State, frozen=True, array_like=True):
    """A `FirstPanes` as it is kept, by position, behind the version, digest and segment of its watch.

    Builds before hours were told apart kept int64[width] counts and no ``by_hour``, those before time zones UTC.
    """

    version: str
    digest: str
    segment: str
    counts: Counts
    rows: int = 0
    panes: int = 0
    begin: int | None = None
    by_hour: list[int] = []
    timezone: str = UTC_ZONE


@dataclass(slots=True)
class FirstPanes:
    """The counts of a segment's first panes by hour of the day, int64[24 or 1, width], until they are enough."""

    counts: Counts
    rows: int = 0
    panes: int = 0
    begin: int | None = None
    by_hour: list[int] = field(default_factory=lambda: [0] * HOURS_OF_DAY)
    timezone: str = UTC_ZONE

    @classmethod
    def of(cls, reference: Reference) -> "FirstPanes":
        """Begin with nothing: one row of counts, or one an hour of the day where the model has seasons."""
        seasonal = any(len(subject.strata) for subject in reference.subjects)
        counts = np.zeros((HOURS_OF_DAY if seasonal else 1, reference.layout.width), np.int64)
        return cls(counts, timezone=reference.timezone)

    def add(self, start: int, rows: int, counts: Counts) -> bool:
        """Add a pane that begins at ``start`` ms; returns whether there is now enough."""
        self.begin = start if self.begin is None else self.begin
        self.rows += rows
        self.panes += bool(rows)
        hour = stratum_of(start, HOURS_OF_DAY, self.timezone)
        self.by_hour[hour] += rows
        self.counts[hour % len(self.counts)] += counts
        if self.rows < FIRST_ROWS or self.panes < FIRST_PANES:
            return False
        span = start - self.begin
        return len(self.counts) == 1 or (span >= DAY and min(self.by_hour) >= HOUR_ROWS) or span >= WEEK

    def state(self, version: str, digest: str, segment: str) -> SegmentAdoptionState:
        """Return what ``restored`` takes; the counts are a copy, because more is added before they are written."""
        return SegmentAdoptionState(
            version=version,
            digest=digest,
            segment=segment,
            counts=self.counts.copy(),
            rows=self.rows,
            panes=self.panes,
            begin=self.begin,
            by_hour=list(self.by_hour),
            timezone=self.timezone,
        )

    @classmethod
    def restored(cls, state: SegmentAdoptionState) -> "FirstPanes":
        """Return what ``state`` was taken from."""
        by_hour = list(state.by_hour) or [0] * HOURS_OF_DAY
        return cls(np.atleast_2d(state.counts), state.rows, state.panes, state.begin, by_hour, state.timezone)


def segment_reference(reference: Reference, counts: Counts) -> Reference:
    """Return the reference whose counts are the segment's, int64[24 or 1, width] of the same layout.

    What was learned of the order of rows (dependence, day-to-day movement) stays that of the whole model; traffic and
    labels are left out, as they are the whole model's. An hour without rows is taken for an average one.
    """
    total = counts.sum(axis=0)
    watched = [_subject(subject, reference, counts, total) for subject in reference.watched]
    # Subjects may lack rows, so the one with most says how many came.
    rows = max(int(subject.counts.sum()) for subject in watched)
    return replace(reference.with_watched(watched), rows=rows, traffic=None, labels=None, source="adoption")


def _subject(subject: ReferenceSubject, reference: Reference, counts: Counts, total: Counts) -> ReferenceSubject:
    place = reference.layout[subject.name]
    mine = total[place.histogram]
    # It has not shown what it is like: the model's own counts stand in, or any value would be drift.
    if not mine.any():
        by_hour = np.broadcast_to(subject.counts, (len(counts), len(subject.counts)))
        return replace(subject, strata=_strata(by_hour, subject.counts))
    quality = total[place.quality : place.quality + len(QUALITY)]
    strata = _strata(counts[:, place.histogram], mine)
    return replace(subject, counts=mine.copy(), quality=quality.copy(), strata=strata)


def _strata(by_hour: Counts, pooled: Counts) -> Counts:
    """The counts by hour, int64[24, cells]; none where there is one stratum only."""
    if len(by_hour) == 1:
        return np.empty((0, 0), np.int64)
    seen = by_hour.sum(axis=1, keepdims=True) > 0
    return np.where(seen, by_hour, pooled).astype(np.int64)
