"""The one reader of files and frames: what kind of file it is, its columns as values, and the part each plays."""

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from stationkeeper.contracts.column import canonical_key
from stationkeeper.contracts.column import numbers as numbers_column
from stationkeeper.contracts.times import to_datetime
from stationkeeper.events import Assigned, ValueRules
from stationkeeper.monitor.profiling import opened
from stationkeeper.tables.columns import (
    WRITTEN,
    Array,
    ColumnReading,
    TableRefused,
    as_labels,
    moments_of,
    read_column,
    read_objects,
)
from stationkeeper.tables.events_file import LABEL, PREDICTION, left_out, read_events
from stationkeeper.tables.moments import epoch_unit, epochs
from stationkeeper.tables.text_file import read_text, unpacked

Frame = Any
"""pandas, polars or pyarrow, a structured array, or a mapping of arrays."""

# Nothing said: cells are read as their file has them, and what is doubtful is left out by name.
NO_RULES: Final = ValueRules()

# Share of the rows that may have no time and are left out, said aloud. Chosen: a few empty cells are an accident of the
# export; at double and beyond the column is no time, or its form was misread.
_TIMELESS: Final = 0.05
_TWICE: Final = "stands twice"
"""How the reason of a name begins that two columns have."""

# Whole numbers up to here are shown as integers, as their file had them; beyond it a float64 has lost digits.
_WHOLE: Final = 2.0**53
# A damaged file makes polars panic as often as it makes it say so.
_UNREADABLE: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
# How files begin that people take for tables and that are read here as none: each gets a word of what to do, where a
# text reader would speak of NUL characters, character sets or odd columns.
_FOREIGN: Final = {
    b"PK\x03\x04": "a workbook or an archive; save the sheet as CSV, or give the file within",
    b"\xd0\xcf\x11\xe0": "a workbook of old Excel; save the sheet as CSV",
    b"Obj\x01": "an Avro file; write it as Parquet or CSV",
    b"%PDF": "a PDF; give the table it was made from",
    b"SQLite format 3": "an SQLite database; write the table as CSV",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: git lfs pull",
}
# One line with all four makes the file one of events; a flat object of a table has no `event_id` beside `kind`.
_EVENT_FIELDS: Final = frozenset({"kind", "event_id", "time", "model"})


@dataclass(frozen=True, slots=True)
class Parts:
    """Which column plays which part; ``features`` are used whatever they look like, None is all others."""

    time: str | None = None
    prediction: str | None = None
    label: str | None = None
    weight: str | None = None
    features: tuple[str, ...] | None = None

    def named(self) -> dict[str, str]:
        """Return the part of each column that has one, features apart."""
        pairs = {"time": self.time, "prediction": self.prediction, "label": self.label, "weight": self.weight}
        return {name: part for part, name in pairs.items() if name}


NO_PARTS: Final = Parts()


@dataclass(frozen=True, slots=True)
class InputTable:
    """A table as it was read, n rows in order of time where it has times, else as they came.

    ``columns`` are the arrays that can be watched or have a part (float64 with NaN, bool, objects with None), by name;
    what was left out is not among them. ``readings`` are all columns in the file's order. ``index`` int64[n] is each
    row's 0-based number in the input, ``times`` int64[n] epoch ms or None. ``untyped`` are categories whose JSON type
    the file does not tell. ``label_times``, ``model``, ``version``, ``confidence`` (the probability of a class that
    is the answer, float64[n]) and ``assigned`` (what was done upon it) come from events; ``notes`` are of the whole
    file.
    """

    source: str
    columns: Mapping[str, Array]
    readings: tuple[ColumnReading, ...]
    index: Array
    times: Array | None = None
    label_times: Array | None = None
    time: str | None = None
    time_unit: str | None = None
    prediction: str | None = None
    label: str | None = None
    model: str | None = None
    version: str | None = None
    untyped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    confidence: Array | None = None
    assigned: Assigned | None = None

    def __len__(self) -> int:
        return len(self.index)

    def frame(self) -> pl.DataFrame:
        """Return everything that could be read, left out or not, in the order of the file."""
        made: dict[str, pl.Series] = {}
        for reading in self.readings:
            if reading.values is None:
                continue
            column = pl.Series(reading.name, reading.values.tolist(), strict=False)
            if column.dtype == pl.Float64:
                column = column.fill_nan(None)
                whole = bool((column == column.round()).all()) and bool((column.abs() < _WHOLE).all())
                column = column.cast(pl.Int64) if whole else column
            made[reading.name] = column
        return pl.DataFrame(list(made.values()))

    def used(self) -> pl.DataFrame:
        """Return the columns that can be used, as a trainer takes them: numbers, truths and texts, null where missing.

        In order of time, which is epoch ms under its own name.
        """
        made = [pl.Series(self.time, self.times)] if self.time is not None and self.times is not None else []
        for reading in self.readings:
            values = self.columns.get(reading.name)
            if values is None or reading.name == self.time:
                continue
            if reading.kind == "number":
                made.append(pl.Series(reading.name, numbers_column(values).values).fill_nan(None))
            elif reading.kind == "mixed":
                made.append(pl.Series(reading.name, [canonical_key(one) for one in values.tolist()], dtype=pl.String))
            else:
                made.append(pl.Series(reading.name, values.tolist()))
        return pl.DataFrame(made)

    def lines(self, left_out: Mapping[str, str] | None = None) -> Iterator[str]:
        """Yield the notes on the file and one line a column; ``left_out`` are reasons that were found later."""
        yield from self.notes
        for reading in self.readings:
            shown = reading
            if reading.name == self.time and self.time_unit is not None and self.times is not None:
                moments = self.times.astype("datetime64[ms]")
                shown = replace(reading, kind="time", values=moments, note=f"epoch {self.time_unit}")
            yield shown.line((left_out or {}).get(reading.name, ""), self.parts.get(reading.name, ""))


def read_table(
    path: Path,
    rules: ValueRules = NO_RULES,
    parts: Parts = NO_PARTS,
    *,
    model: str | None = None,
    rows: int | None = None,
) -> InputTable:
    """Read CSV and its kin, Parquet, Arrow, or JSON lines (events of our own form, or flat objects), packed or not.

    The content says which it is, not the name. ``model`` chooses among the events of several, ``rows`` takes the first
    rows. Raises ``TableRefused`` that names the file, the column and what
    to say. Memory: some times the file.
    """
    try:
        data = unpacked(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise TableRefused(f"there is no file {path}") from None
    except OSError as error:
        raise TableRefused(f"{path} cannot be read: {error.strerror}") from error
    source = str(path)
    if not data.strip():
        raise TableRefused(f"{path} is empty")
    for begins, what in _FOREIGN.items():
        if data.startswith(begins):
            raise TableRefused(f"{path} is {what}")
    if data.startswith((b"PAR1", b"ARROW1")):
        return _of_columns(data, source, rules, parts, rows)
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in {b"{", b"["}:
        return _of_json(data, source, rules, parts, model, rows)
    texts = read_text(data, source, rules.encoding, rows)
    number = texts.rows
    readings = [
        read_column(name, column, rules, number, typed=False, time=name == parts.time) for name, column in texts.columns
    ]
    return _assemble(readings, source, number - 1, rules, parts, texts.notes, untyped=True)


def read_frame(
    data: Frame, rules: ValueRules = NO_RULES, parts: Parts = NO_PARTS, source: str = "the frame"
) -> InputTable:
    """Read a pandas, polars or pyarrow frame, a structured array or a mapping of arrays as ``read_table`` reads files.

    Raises ``TableRefused`` likewise, also for what is no frame.
    """
    if isinstance(data, pl.DataFrame):
        return _of_frame(data, source, rules, parts)
    try:
        found = opened(data)
    except ValueError as error:
        raise TableRefused(str(error)) from error
    if isinstance(found, Mapping):
        columns = {name: np.asarray(values) for name, values in found.items()}
    else:
        try:
            return _of_frame(found.to_polars(), source, rules, parts)
        except (ImportError, ValueError, TypeError, pl.exceptions.PolarsError):
            # pandas columns of mixed objects fit no column of one type; they are read cell by cell.
            columns = {str(name): np.array(found[name].to_list(), object) for name in found.columns}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise TableRefused(f"{source}: columns have {', '.join(map(str, sorted(lengths)))} rows; give equal lengths")
    rows = np.arange(1, 1 + next(iter(lengths), 0))
    readings = [_of_array(name, values, rules, rows, time=name == parts.time) for name, values in columns.items()]
    return _assemble(readings, source, rows - 1, rules, parts)


def _of_array(name: str, values: Array, rules: ValueRules, rows: Array, *, time: bool) -> ColumnReading:
    if values.dtype.kind in "biuf":
        return read_column(name, pl.Series(name, values, nan_to_null=True), rules, rows, typed=True)
    if values.dtype.kind == "M":
        return read_column(name, pl.Series(name, values.astype("datetime64[ms]")), rules, rows, typed=True)
    return read_objects(name, values.tolist(), rules, rows, time=time)


def _of_columns(data: bytes, source: str, rules: ValueRules, parts: Parts, most: int | None) -> InputTable:
    """Read Parquet or Arrow; a column whose type polars has not is left out by name, and the others are read."""
    parquet = data.startswith(b"PAR1")
    read = pl.read_parquet if parquet else pl.read_ipc
    unread: dict[str, str] = {}
    try:
        try:
            frame = read(io.BytesIO(data), n_rows=most)
        except _UNREADABLE:
            schema = (pl.read_parquet_schema if parquet else pl.read_ipc_schema)(io.BytesIO(data))
            for name, kind in schema.items():
                # Without a value there is nothing to be damaged: what fails here is the type.
                try:
                    pl.Series(name, [], kind)
                except _UNREADABLE as why:
                    unread[name] = str(why).splitlines()[0]
            if len(unread) in {0, len(schema)}:
                raise
            frame = read(io.BytesIO(data), n_rows=most, columns=[name for name in schema if name not in unread])
    except _UNREADABLE as error:
        raise TableRefused(f"{source} cannot be read as a table: {str(error).splitlines()[0]}") from error
    return _of_frame(frame, source, rules, parts, unread)


def _of_frame(
    frame: pl.DataFrame, source: str, rules: ValueRules, parts: Parts, unread: Mapping[str, str] | None = None
) -> InputTable:
    rows = np.arange(1, frame.height + 1)
    readings = [
        ColumnReading(name, "other", None, blind=f"cannot be read: {why}; write it as double or text")
        for name, why in (unread or {}).items()
    ]
    for column in frame.get_columns():
        if column.dtype == pl.Object:
            readings.append(read_objects(column.name, column.to_list(), rules, rows))
        else:
            time = column.name == parts.time
            readings.append(read_column(column.name, column, rules, rows, typed=True, time=time))
    return _assemble(readings, source, rows - 1, rules, parts)


def _of_json(
    data: bytes,
    source: str,
    rules: ValueRules,
    parts: Parts,
    model: str | None,
    most: int | None,
) -> InputTable:
    """JSON lines, or one array of objects; only a line feed ends a line, for U+2028 is a letter of a text."""
    lines = [line.rstrip(b"\r") for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise TableRefused(f"{source} is no JSON: {error}") from error
        lines = [json.dumps(one).encode() for one in found]
    lines = (
        [line for line in lines if line.strip()] if most is None else [line for line in lines if line.strip()][:most]
    )
    objects = [_object(line) for line in lines]
    kept = [one for one in objects if isinstance(one, dict)]
    # Before faults are counted: a file of events counts its broken lines by the codes of events.
    if any(one.keys() >= _EVENT_FIELDS for one in kept):
        return _of_events(lines, source, rules, parts, model)
    faults = [f"line {number}: {one}" for number, one in enumerate(objects, 1) if isinstance(one, str)]
    notes = [left_out(source, len(faults), len(objects), one) for one in faults[:1]]
    names = dict.fromkeys(name for one in kept for name in one)
    rows = np.array([number for number, one in enumerate(objects, 1) if not isinstance(one, str)], np.int64)
    readings = [
        read_objects(name, [one.get(name) for one in kept], rules, rows, time=name == parts.time) for name in names
    ]
    return _assemble(readings, source, rows - 1, rules, parts, notes)


def _object(line: bytes) -> dict[str, Any] | str:
    """Return the object of a line, or what is wrong with it."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"no JSON ({error})"
    return found if isinstance(found, dict) else f"a {type(found).__name__}; write one JSON object a line"


def _of_events(
    lines: Sequence[bytes],
    source: str,
    rules: ValueRules,
    parts: Parts,
    model: str | None,
) -> InputTable:
    found = read_events(lines, source, model)
    readings = [read_objects(name, cells, rules, found.index + 1) for name, cells in found.columns.items()]
    chosen = replace(
        parts,
        time=None,
        prediction=PREDICTION if PREDICTION in found.columns else None,
        label=LABEL if LABEL in found.columns else None,
    )
    made = _assemble(readings, source, found.index, rules, chosen, found.notes)
    return replace(
        made,
        times=found.times,
        label_times=found.label_times,
        model=found.model,
        version=found.version,
        time="time",
        confidence=found.confidence,
        assigned=found.assigned,
    )


def _assemble(
    readings: list[ColumnReading],
    source: str,
    index: Array,
    rules: ValueRules,
    parts: Parts,
    notes: Sequence[str] = (),
    *,
    untyped: bool = False,
) -> InputTable:
    """Give columns their parts: what is needed and cannot be used is refused, what would be blind is left out."""
    if not len(index):
        raise TableRefused(f"{source}: no rows")
    readings = [as_labels(one) if one.name == parts.label else one for one in _named(readings, len(index))]
    by_name = {reading.name: reading for reading in readings}
    named = parts.named()
    for name, part in [*named.items(), *((name, "features") for name in parts.features or ())]:
        found = by_name.get(name)
        if found is None:
            raise TableRefused(f"--{part} {name}: {source} has no such column; columns are {', '.join(by_name)}")
        # Nothing can be made of these; a person who names an identifier or prose as a feature is obeyed.
        useless = found.values is None or found.blind.startswith((WRITTEN, _TWICE))
        if useless or (part in {"prediction", "weight"} and found.kind == "time"):
            how = f" ({found.note})" if found.note else ""
            raise TableRefused(f"--{part} {name}: {found.blind}{how}. {found.option}".strip(". "))
    for name in rules.text:
        if name not in by_name:
            raise TableRefused(f"--text {name}: {source} has no such column; columns are {', '.join(by_name)}")
    asked = {*named, *(parts.features or ())}
    columns = {
        reading.name: reading.values
        for reading in readings
        if reading.values is not None and (not reading.blind or reading.name in asked) and reading.name != parts.time
    }
    for name in named.keys() & columns.keys():
        # An "error" among scores makes them no classes: it is a missing score, and its line has said so.
        if by_name[name].kind == "number":
            columns[name] = numbers_column(columns[name]).values
    # A file of texts does not tell true from "true"; a reference made of it takes either in the stream.
    loose = tuple(
        reading.name
        for reading in readings
        if reading.name in columns and untyped and (reading.kind == "boolean" or reading.name in rules.text)
    )
    shown = dict.fromkeys(parts.features or (), "used") | named
    table = InputTable(
        source,
        columns,
        tuple(readings),
        index,
        prediction=parts.prediction,
        label=parts.label,
        untyped=loose,
        notes=tuple(notes),
        parts=shown,
    )
    return table if parts.time is None else _in_order(table, by_name[parts.time], rules)


def _named(readings: list[ColumnReading], rows: int) -> list[ColumnReading]:
    """Columns without a name, or with one that stands twice, are left out under the place they have."""
    counts = Counter(reading.name for reading in readings)
    return [_renamed(reading, place, readings, counts, rows) for place, reading in enumerate(readings, 1)]


def _renamed(
    one: ColumnReading, place: int, readings: Sequence[ColumnReading], counts: Mapping[str, int], rows: int
) -> ColumnReading:
    # pandas writes its row numbers as a column unless told not to; watched, they would drift from the first row on.
    index = one.kind == "number" and one.values is not None and _counts_up(one.values, rows)
    if not one.name or (index and one.name.startswith(("Unnamed:", "__index_level_"))):
        why = "has no name and counts the rows, like an index" if index else "has no name"
        return replace(one, name=one.name or f"column {place}", blind=why, option="")
    if counts[one.name] > 1:
        places = " and ".join(str(at) for at, other in enumerate(readings, 1) if other.name == one.name)
        return replace(one, blind=f"{_TWICE}, as columns {places}: rename one", option="")
    return one


def _counts_up(values: Array, rows: int) -> bool:
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        return False
    return bool(np.array_equal(values - values[0], np.arange(rows)))


def _in_order(table: InputTable, time: ColumnReading, rules: ValueRules) -> InputTable:
    """Put the rows in order of their times; raises ``TableRefused`` where these cannot be known."""
    source, name = table.source, time.name
    unit, doubt = None, ""
    times = moments_of(time)
    if time.kind == "time" and time.option:
        raise TableRefused(f"--time {name} in {source}: {time.option}")
    if time.kind == "number" and time.values is not None:
        numbers = numbers_column(time.values).values
        known = numbers[np.isfinite(numbers)]
        if not len(known):
            raise TableRefused(f"--time {name} in {source}: no row has a time there; name another column, or none")
        likely = epoch_unit(float(known.min()), float(known.max()))
        unit = rules.time_unit or likely
        if likely is not None and unit is not None and unit != likely:
            # A person's word is obeyed, and what it makes of the numbers stands beside what they look like.
            ends = [int(epochs(np.array([known.min()]), one)[0]) for one in (unit, likely)]
            first, other = ("no year up to 9999" if end < 0 else f"{to_datetime(end):%Y-%m-%d}" for end in ends)
            doubt = (
                f"{name} begins on {first} as epoch {unit}, as you say; the numbers look like {likely}, which would be "
                f"{other}: --time-unit {likely}"
            )
            table = replace(table, notes=(*table.notes, doubt))
        if unit is None:
            raise TableRefused(
                f"--time {name} in {source}: numbers from {known.min():.6g} to {known.max():.6g} are no epoch between "
                "1973 and 2286 in s, ms, us or ns; say --time-unit"
            )
        times = epochs(numbers, unit)
    if times is None:
        shown = "" if time.values is None else next((f", e.g. {one!r}" for one in time.values if one is not None), "")
        raise TableRefused(
            f"--time {name} in {source}: {f'{time.kind} {time.note}'.strip()}{shown} is no time that is "
            "known; how is it written? For 31.12.2026 23:59 say --time-format '%d.%m.%Y %H:%M'"
        )
    gone = times < 0
    if gone.any():
        row = int(table.index[np.flatnonzero(gone)[0]]) + 1
        text = f"{int(gone.sum()):,} of {len(gone):,} rows have no usable time in {name} (the first is row {row})"
        if gone.mean() > _TIMELESS:
            how = doubt or "drop them (before 1970 is none), or say how it is written: --time-format, --time-unit"
            raise TableRefused(f"{source}: {text}; {how}")
        table = replace(table, notes=(*table.notes, f"left out: {text}"))
    kept = np.flatnonzero(~gone)
    # Stable: rows of one moment stay in the order of the file, so that a run can be repeated to the verdict.
    order = kept[np.argsort(times[kept], kind="stable")]
    columns = {column: values[order] for column, values in table.columns.items()}
    return replace(table, columns=columns, index=table.index[order], times=times[order], time=name, time_unit=unit)
