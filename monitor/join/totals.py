"""What the join has committed, as numbers: what became of rows, and what waits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stationkeeper.contracts.metrics import Sample

# Kept with the state and shown by these names: a new one begins at zero beside old state, a renamed one would begin
# anew.
COUNTS = ("paired", "repeated", "corrected", "expired", "unusable", "crowded out", "forgotten")


@dataclass(frozen=True, slots=True)
class JoinTotals:
    """The totals of the partitions owned now: rows by what became of them, and rows that wait by side."""

    counts: Mapping[str, int]
    waiting: Mapping[str, int]
    rebuilding: bool

    @classmethod
    def of(
        cls, partitions: Iterable[Mapping[str, int]], waiting: Mapping[str, int], *, rebuilding: bool
    ) -> "JoinTotals":
        """Sum what the partitions counted; to be called when all of it is durable."""
        counts = dict.fromkeys(COUNTS, 0)
        for one in partitions:
            # State of a later build may hold a name that is not known here: it is kept, and not shown.
            for name in counts:
                counts[name] += one.get(name, 0)
        return cls(counts, waiting, rebuilding)

    def detail(self) -> dict[str, Any]:
        """Return what the status page shows of the role."""
        # Nothing is let go where the limits fit, and a zero would make people ask what it is.
        rare = {"crowded out", "forgotten"}
        shown: dict[str, Any] = {name: count for name, count in self.counts.items() if count or name not in rare}
        shown |= {f"waiting {side}s": rows for side, rows in self.waiting.items()}
        return shown | {"rebuilding": self.rebuilding}

    def samples(self) -> list[Sample]:
        """Return the metrics."""
        # Zeros too: a rate needs a series from the start.
        totals = [(name.replace(" ", "_"), count) for name, count in self.counts.items()]
        out = [Sample("stationkeeper_join_rows_total", (name,), count) for name, count in totals]
        out += [Sample("stationkeeper_join_waiting_rows", (side,), rows) for side, rows in self.waiting.items()]
        # Beside what other roles refuse, under one name for one alert.
        crowded = self.counts["crowded out"]
        return [*out, *([Sample("stationkeeper_limits_refused_total", ("waiting",), crowded)] if crowded else [])]
