"""What a backtest replays: a table as it was read, as columns in order of time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stationkeeper.events import Assigned
from stationkeeper.tables import InputTable

Array = np.ndarray[Any, Any]


class BadInput(ValueError):
    """A file or an option that a backtest cannot use; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of n rows in order of time.

    ``index`` int64[n] is each row's 0-based number in the input; ``times`` int64[n] are epoch milliseconds, or None
    where row number is time. ``label_times`` int64[n] say when a label became known (events), else None. ``untyped``
    are columns whose JSON type nobody knows. ``confidence`` float64[n] is the probability that came with a class as
    answer (events), else None; ``assigned`` what was done upon each answer (events), else None.
    """

    columns: Mapping[str, Array]
    index: Array
    times: Array | None = None
    label_times: Array | None = None
    prediction: str | None = None
    label: str | None = None
    model: str = "model"
    version: str = "1"
    untyped: tuple[str, ...] = ()
    confidence: Array | None = None
    assigned: Assigned | None = None

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, first: int, last: int) -> dict[str, Array]:
        """Return the columns of rows [first, last)."""
        return {name: values[first:last] for name, values in self.columns.items()}


def table_of(read: InputTable) -> Table:
    """Return a table as it was read for a replay."""
    return Table(
        read.columns,
        read.index,
        read.times,
        read.label_times,
        read.prediction,
        read.label,
        read.model or "model",
        read.version or "1",
        read.untyped,
        read.confidence,
        read.assigned,
    )
