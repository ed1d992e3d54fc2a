"""A pane: the additive counts of a stretch of event time, all that is kept of the events in it."""

from dataclasses import dataclass, field

from stationkeeper.contracts.times import UTC_ZONE, local_ms
from stationkeeper.monitor.core.reference import HOURS_OF_WEEK, Counts, NewValues

# The Unix epoch, 1970-01-01 00:00, was a Thursday: three days after hour 0 of the week, Monday 00:00.
_EPOCH_HOUR_OF_WEEK = 3 * 24
HOUR_MS = 3_600_000


def stratum_of(start: int, strata: int, timezone: str = UTC_ZONE) -> int:
    """Return the stratum of a pane that starts at ``start``, epoch milliseconds.

    168 strata are the hours of the week from Monday 00:00 of the time zone, 24 the hours of the day, 1 is all time. By
    hand: 0 (Thursday 1970-01-01 00:00 UTC) is hour 72 of the week, in Europe/Berlin hour 73.
    """
    return (local_ms(start, timezone) // HOUR_MS + _EPOCH_HOUR_OF_WEEK) % HOURS_OF_WEEK % strata


@dataclass(frozen=True, slots=True, eq=False)
class Pane:
    """Counts of [start, start + length) in clock units (ms, or rows): ``rows`` events and the layout's vector.

    ``first_row`` and ``last_row`` are 0-based indices of its events where a file's row numbers are known. ``traffic``
    counts the events of all versions that share the requests (None: ``rows``): it is what volume and freshness judge,
    so that a canary's share is no outage of the champion. ``new`` names some of the values never seen before.
    """

    start: int
    length: int
    rows: int
    counts: Counts
    last_row: int | None = None
    first_row: int | None = None
    traffic: int | None = None
    new: NewValues = field(default_factory=dict)

    @property
    def volume(self) -> int:
        """The events of all versions."""
        return self.rows if self.traffic is None else self.traffic

    @property
    def end(self) -> int:
        """The first instant after the pane."""
        return self.start + self.length

    def __add__(self, other: "Pane") -> "Pane":
        """Merge two partial or neighbouring panes: counts add, the stretch is their union."""
        start = min(self.start, other.start)
        rows = [row for row in (self.last_row, other.last_row) if row is not None]
        firsts = [row for row in (self.first_row, other.first_row) if row is not None]
        return Pane(
            start,
            max(self.end, other.end) - start,
            self.rows + other.rows,
            self.counts + other.counts,
            max(rows) if rows else None,
            min(firsts) if firsts else None,
        )
