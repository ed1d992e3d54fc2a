"""Read what a backtest replays: a table (CSV, Parquet) or events (JSONL), as columns in order of time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from stationkeeper.contracts.codes import DEAD_LETTER_HELP
from stationkeeper.events import EventReader, own_form
from stationkeeper.monitor.profiling import columns_of, epoch_ms

Array = np.ndarray[Any, Any]
NULLS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?"]
PREDICTION = "prediction"
LABEL = "label"
_NEVER = np.iinfo(np.int64).max
"""The time of a label that never came."""


class BadInput(ValueError):
    """A file or an option that a backtest cannot use; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of n rows in order of time.

    ``index`` int64[n] is each row's 0-based number in the input; ``times`` int64[n] are epoch milliseconds, or None
    where row number is time. ``label_times`` int64[n] say when a label became known (events), else None.
    """

    columns: Mapping[str, Array]
    index: Array
    times: Array | None = None
    label_times: Array | None = None
    prediction: str | None = None
    label: str | None = None
    model: str = "model"
    version: str = "1"

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, first: int, last: int) -> dict[str, Array]:
        """Return the columns of rows [first, last)."""
        return {name: values[first:last] for name, values in self.columns.items()}


def read_table(
    path: Path,
    *,
    time: str | None = None,
    time_unit: str = "ms",
    prediction: str | None = None,
    label: str | None = None,
) -> Table:
    """Read a CSV, Parquet or JSONL file; raises ``BadInput`` naming the file, the column and what there is."""
    if not path.exists():
        raise BadInput(f"{path}: no such file")
    suffix = "".join(path.suffixes[-2:]) if path.suffix in {".gz", ".zst"} else path.suffix
    if suffix.startswith((".jsonl", ".ndjson", ".json")):
        return read_events(path.read_bytes().splitlines(), str(path))
    try:
        if suffix.startswith((".parquet", ".pq")):
            frame = pl.read_parquet(path)
        else:
            frame = pl.read_csv(path, infer_schema_length=10_000, null_values=NULLS, separator=separator_of(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        frame = _lenient(path, suffix, error)
    if not frame.height:
        raise BadInput(f"{path}: no rows")
    return table_of(columns_of(frame), str(path), time=time, time_unit=time_unit, prediction=prediction, label=label)


def table_of(
    columns: dict[str, Array],
    source: str,
    *,
    time: str | None = None,
    time_unit: str = "ms",
    prediction: str | None = None,
    label: str | None = None,
) -> Table:
    """Return columns as a table in order of time; raises ``BadInput`` naming the column and what there is."""
    for role, name in (("--time", time), ("--prediction", prediction), ("--label", label)):
        if name is not None and name not in columns:
            raise BadInput(f"{role} {name}: no such column in {source}; columns are {', '.join(columns)}")
    index = np.arange(max((len(values) for values in columns.values()), default=0))
    if time is None:
        return Table(columns, index, prediction=prediction, label=label)
    try:
        times = epoch_ms(columns.pop(time), time, time_unit)
    except ValueError as error:
        raise BadInput(f"{source}: {error}") from error
    order = np.argsort(times, kind="stable")
    ordered = {name: values[order] for name, values in columns.items()}
    return Table(ordered, index[order], times[order], prediction=prediction, label=label)


def read_events(lines: Sequence[bytes], source: str = "events") -> Table:
    """Read events of the contract, one JSON object a line: features and predictions joined by event_id with labels.

    They are read as the tally reads them; of several of one kind and id the first counts, of labels the last, and a
    feature of the prediction goes before one of a feature event. Raises ``BadInput`` with the line of the first record
    that is no event. O(events), by columns.
    """
    numbers = np.array([number for number, line in enumerate(lines) if line.strip()], np.int64)
    reading = EventReader(own_form(source=source)).discover([lines[number] for number in numbers.tolist()])
    for fault in reading.rejected[:1]:
        named = f"{fault.code.value} ({fault.detail})" if fault.detail else fault.code.value
        raise BadInput(f"{source}, line {numbers[fault.row] + 1}: {named}: {DEAD_LETTER_HELP[fault.code]}")
    by_kind = {events.kind: events for events in reading.events}
    kinds = [by_kind[kind] for kind in ("feature", "prediction") if kind in by_kind]
    if not kinds:
        raise BadInput(f"{source}: no prediction or feature event; labels alone cannot be replayed")
    ids, place = np.unique(np.concatenate([events.ids for events in kinds]), return_inverse=True)
    index, times = np.full(len(ids), _NEVER), np.full(len(ids), _NEVER)
    np.minimum.at(index, place, numbers[np.concatenate([events.rows for events in kinds])])
    columns: dict[str, Array] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for events in kinds:
        mine = np.searchsorted(ids, events.ids)
        first = numbers[events.rows] == index[mine]
        times[mine[first]] = events.time[first]
        given = dict(events.features) | ({} if events.prediction is None else {PREDICTION: events.prediction})
        for name, column in given.items():
            have = np.flatnonzero(column.present())[::-1]
            values = np.array([*column.plain(), None], object)[have]
            columns.setdefault(name, np.full(len(ids), None, object))[mine[have]] = values
        counts.update({events.owners[owner]: n for owner, n in enumerate(np.bincount(events.owner).tolist())})
    order = np.lexsort((index, times))
    labels, label_times = by_kind.get("label"), None
    if labels is not None and labels.label is not None:
        known = np.flatnonzero(np.isin(labels.ids, ids))
        at = np.searchsorted(ids, labels.ids[known])
        label_times = np.full(len(ids), _NEVER)
        label_times[at] = labels.time[known]
        columns[LABEL] = np.full(len(ids), None, object)
        columns[LABEL][at] = np.array([*labels.label.plain(), None], object)[known]
        label_times = label_times[order]
    (model, version), _ = counts.most_common(1)[0]
    made = {name: _column(values[order].tolist()) for name, values in sorted(columns.items())}
    if not any(value is not None for value in columns.get(PREDICTION, ())):
        made.pop(PREDICTION, None)
    return Table(
        made,
        index[order],
        times[order],
        label_times,
        PREDICTION if PREDICTION in made else None,
        LABEL if labels is not None else None,
        model,
        version or "1",
    )


def _lenient(path: Path, suffix: str, error: Exception) -> pl.DataFrame:
    """A column whose type changes late in the file is read as text: mixed types are data, not an error."""
    if suffix.startswith((".parquet", ".pq")):
        raise BadInput(f"{path}: cannot be read ({error})") from error
    try:
        return pl.read_csv(
            path, infer_schema_length=None, null_values=NULLS, truncate_ragged_lines=True, separator=separator_of(path)
        )
    except (pl.exceptions.PolarsError, OSError) as second:
        raise BadInput(f"{path}: not a CSV table ({second})") from second


def separator_of(path: Path) -> str:
    """The separator of a CSV file: whichever of comma, semicolon, tab and bar its first line has most of."""
    with path.open("rb") as file:
        first = file.readline(1_000_000)
    return max((",", ";", "\t", "|"), key=lambda mark: first.count(mark.encode()))


def _column(values: list[Any]) -> Array:
    kinds = {type(value) for value in values}
    if kinds <= {int, float, type(None)} and kinds != {type(None)}:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    if kinds == {bool}:
        return np.array(values)
    column = np.empty(len(values), object)
    column[:] = values
    return column
