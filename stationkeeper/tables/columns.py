"""One column as values: what it holds, whether it can be watched, and how that is said in a line."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.contracts.column import json_type, numbers
from stationkeeper.contracts.masking import printable
from stationkeeper.contracts.times import to_datetime
from stationkeeper.events import NULL_WORDS, ValueRules, numbers_of
from stationkeeper.events.text_values import PATTERNS
from stationkeeper.tables.moments import LATEST_MS, PER_MS, epoch_unit, text_times

Array = npt.NDArray[Any]
ColumnKind = Literal["number", "text", "boolean", "time", "mixed", "empty", "other"]

# Share of the cells that must be numbers for a column of texts to be one, as in the schema of a reference: at .8 a
# category of codes with some letters is cut into quantiles, at 1 one "error" in 3 000 makes a number a category.
_MAJORITY: Final = 0.9
# Rows from which on texts that nearly all differ are an identifier or prose; among fewer that is ordinary.
_ENOUGH: Final = 100
# Share of different texts beyond which a column is no category: half its values then stand for one row each, so that
# its cells say nothing of a row to come. Chosen: at .25 a category of many rare values is lost, at 1 one repeated
# comment lets prose through.
_DIFFERENT: Final = 0.5
# Beyond 2**53 a number no longer tells neighbouring integers apart: such a column is an identifier.
_LARGEST: Final = 2.0**53

WRITTEN: Final = "numbers written as text"
"""The reason of a column whose numbers are written with marks that nobody has named."""

# A ZIP code such as 01234 is digits with a zero before them; read as a number it would lose the zero.
_ZERO, _DIGITS = r"^\s*0[0-9]", r"^\s*[0-9]+\s*$"
_SHOWN: Final = 100
"""Characters of a name in its line, about a line of a terminal; half cuts paths of keys, double wraps every line."""

EXAMPLE: Final = 40
"""Characters shown of a cell or a row as an example: enough to find it again, and the line still has its words."""
# Different unusable texts shown of a column: files have two or three words for "nothing", and one at a time would ask
# for as many runs; at double the line outgrows the terminal.
_EXAMPLES: Final = 3

_PLAIN: Final = r"^\s*[+\-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+\-]?[0-9]+)?\s*$"
_INFINITE: Final = r"^\s*[+\-]?(?i:inf(inity)?)\s*$"
# The spellings that pandas, R and SQL exports use; "yes" or "1" also name categories and counts, so they stay texts.
_TRUTHS: Final = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}


# Share of the rows that may be broken and are left out, counted and shown: with another number of fields than the
# header, no JSON, no event. Chosen: a few are an accident of the export; at double and beyond the file is another than
# thought, and a refusal says so.
BROKEN: Final = 0.05


class TableRefused(ValueError):
    """A table, or a column that has a part in it, that cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ColumnReading:
    """What one column was read as.

    ``values`` are float64 (NaN missing), bool, datetime64[ms] or objects with None; None where nothing can be made of
    it. ``blind`` says why it would be watched in vain, "" where it is of use; ``note`` how it was read. ``unusable``
    cells are neither missing nor of its kind, ``example`` is the first of them with its row from 1. ``option`` is what
    a person would say to have it read.
    """

    name: str
    kind: ColumnKind
    values: Array | None
    missing: int = 0
    unusable: int = 0
    example: str = ""
    note: str = ""
    blind: str = ""
    option: str = ""
    different: int = 0

    def line(self, left_out: str = "", part: str = "") -> str:
        """Return the column in a line; ``part`` is its part in the table, ``left_out`` a reason found elsewhere."""
        why = ("" if part else self.blind) or left_out
        words = [word for word in (self.kind, self.note) if word and word != part]
        if self.values is not None and (not why or self.kind == "time"):
            words += _range(self.values, self.kind)
            words += [] if part or self.kind != "number" else _like_times(self.values, self.name)
        if self.different and not why:
            words.append(f"{self.different:,} different")
        if self.missing:
            words.append(f"{self.missing:,} missing")
        if self.unusable:
            words.append(f"{self.unusable:,} unusable, e.g. {self.example}")
        use = f"left out: {why}" if why else part or "used"
        return f"{printable(self.name)[:_SHOWN]}: {use}; {', '.join(words)}" + (
            f". {self.option}" if self.option and why else ""
        )


def _range(values: Array, kind: ColumnKind) -> list[str]:
    if kind == "number":
        known = numbers(values).values
        known = known[np.isfinite(known)]
        return [f"{known.min():.6g} to {known.max():.6g}"] if len(known) else []
    if kind == "time":
        known = values[~np.isnat(values)].astype(np.int64)
        if len(known):
            first, last = (to_datetime(int(end)) for end in (known.min(), known.max()))
            return [f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"]
    return []


# Years between which whole numbers are taken for times in a remark: what is measured today. The range of an epoch's
# unit begins in 1973, where a hundred million is as well an amount or a number of an account.
_NOW: Final = (2000, 2050)


def _like_times(values: Array, name: str) -> list[str]:
    """Say of numbers that could be the time, which drifts from the first row on as a feature, how to name them so."""
    known = numbers(values).values
    known = known[np.isfinite(known)]
    if not len(known) or not np.array_equal(known, np.floor(known)):
        return []
    low, high = float(known.min()), float(known.max())
    unit = epoch_unit(low, high)
    if unit is None:
        return []
    first, last = (to_datetime(int(end / PER_MS[unit])) for end in (low, high))
    if not _NOW[0] <= first.year <= last.year < _NOW[1] or low == high:
        return []
    return [f"like epoch {unit} from {first:%Y-%m-%d} to {last:%Y-%m-%d}; if it is the time: --time {_quoted(name)}"]


def read_column(
    name: str, column: pl.Series, rules: ValueRules, rows: Array, *, typed: bool, time: bool = False
) -> ColumnReading:
    """Return what a column holds; ``typed`` says that its file knows numbers from texts. O(n).

    ``rows`` int64[n] are the numbers of its rows in the file, for the examples; ``time`` says that it is the time.
    """
    kind = column.dtype
    if kind in (pl.Categorical, pl.Enum):
        column, kind = column.cast(pl.String), pl.String()
    if kind == pl.Null or column.null_count() == len(column):
        return ColumnReading(name, "empty", None, missing=len(column), blind="has no value")
    if kind == pl.String:
        if time and rules.time_format is not None:
            return _moments(name, column, column.null_count(), rows, rules.time_format)
        return _texts(name, column, rules, rows, typed=typed and not time)
    missing = column.null_count()
    if kind == pl.Boolean:
        values = column.to_numpy() if not missing else np.array(column.to_list(), object)
        return ColumnReading(name, "boolean", values, missing)
    if kind.is_numeric():
        return _numbers(name, column, missing)
    if isinstance(kind, pl.Datetime | pl.Date):
        made = column.cast(pl.Datetime("ms")) if kind == pl.Date else column.dt.cast_time_unit("ms")
        times = made.dt.epoch("ms").fill_null(_NAT).to_numpy().astype("datetime64[ms]")
        zone = getattr(kind, "time_zone", None)
        note = "days" if kind == pl.Date else (f"zone {zone}" if zone else "no zone, so UTC")
        return ColumnReading(name, "time", times, missing, note=note, blind="holds times")
    form = str(kind).split("(", 1)[0].lower()
    return ColumnReading(name, "other", None, missing, note=form, blind=f"holds {_HOLDS.get(form, 'odd values')}")


_HOLDS: Final = {
    "time": "times of day",
    "duration": "durations",
    "list": "lists",
    "array": "lists",
    "struct": "objects",
    "binary": "bytes",
}
"""What columns of polars' other types hold, in words."""

_NAT: Final = np.iinfo(np.int64).min
"""How numpy stores a time that is none."""


def _numbers(name: str, column: pl.Series, missing: int) -> ColumnReading:
    values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    nan = int(np.isnan(values).sum())
    found = ColumnReading(name, "number", values, max(missing, nan))
    if column.dtype.is_decimal():
        found = replace(found, note="decimal")
    if column.dtype.is_integer() and np.nanmax(np.abs(values), initial=0) > _LARGEST:
        return _identifier(found)
    return found


def _identifier(found: ColumnReading) -> ColumnReading:
    why = "integers beyond 2^53, which no number tells apart: an identifier"
    return replace(found, blind=why, option=f"To watch them as texts: --text {_quoted(found.name)}")


def read_objects(
    name: str, cells: Sequence[Any], rules: ValueRules, rows: Array, *, time: bool = False
) -> ColumnReading:
    """Return what a column of plain Python values holds, as JSON and object arrays bring it. O(n)."""
    # The one missing value of pandas that is neither None nor NaN.
    cells = [None if type(cell).__name__ in {"NAType", "NaTType"} else cell for cell in cells]
    kinds: set[type] = {type(cell) for cell in cells} - {type(None)}
    if kinds <= {dict, list, tuple, set} and kinds:
        held = "objects" if dict in kinds else "lists"
        return ColumnReading(name, "other", None, note="nested", blind=f"holds {held}")
    try:
        # polars would make texts of a mixture of texts and numbers, and then "1" and 1 are one value.
        if kinds <= {bool} or kinds <= {str} or not kinds or not kinds & {bool, str, dict, list}:
            made = pl.Series(name, cells, strict=len(kinds) < 2)
            if made.dtype != pl.Object:
                return read_column(name, made, rules, rows, typed=True, time=time)
    except (pl.exceptions.PolarsError, TypeError, OverflowError, ValueError):
        pass
    gone = set(rules.na)
    # A person's word goes before what the values look like.
    as_text = name in rules.text
    plain: list[Any] = []
    for cell in cells:
        empty = json_type(cell) == "null" or (isinstance(cell, str) and cell in gone)
        plain.append(None if empty else str(cell) if as_text else cell)
    values = np.empty(len(plain), object)
    values[:] = plain
    known = [cell for cell in plain if cell is not None]
    numeric = sum(json_type(cell) == "number" for cell in known)
    if known and numeric >= _MAJORITY * len(known):
        strange = [at for at, cell in enumerate(plain) if cell is not None and not _is_number(cell)]
        words = [at for at in strange if plain[at] in NULL_WORDS]
        values[words] = None
        bad = sorted(set(strange) - set(words))
        shown = _examples([plain[at] for at in bad], rows[bad])
        huge = any(isinstance(cell, int) and abs(cell) > _LARGEST for cell in plain)
        found = ColumnReading(name, "number", values, len(plain) - len(known) + len(words), len(bad), shown)
        return _identifier(found) if huge else found
    note = "text as you say" if as_text else "types " + ", ".join(sorted({type(cell).__name__ for cell in known}))
    found = ColumnReading(name, "text" if as_text else "mixed", values, len(plain) - len(known), note=note)
    # 1 and True are two values, though Python takes them for one.
    different = {(type(cell), str(cell)): cell for cell in known}
    return _as_category(found, different.values(), len(known))


def as_labels(found: ColumnReading) -> ColumnReading:
    """Return labels; words for nothing are missing where all others are numbers or truths, as events are read."""
    if found.kind != "text" or found.values is None:
        return found
    known = pl.Series([cell for cell in found.values.tolist() if cell is not None], dtype=pl.String)
    told = known.filter(~known.is_in(list(NULL_WORDS)))
    numbers_alone = (told.str.contains(_PLAIN) | told.is_in(list(_TRUTHS))).all()
    if not len(told) or len(told) == len(known) or not numbers_alone:
        return found
    kept = [None if cell in NULL_WORDS else cell for cell in found.values.tolist()]
    values = np.empty(len(kept), object)
    values[:] = kept
    return replace(found, values=values, missing=kept.count(None), note="", different=told.n_unique())


def _is_number(cell: Any) -> bool:
    return json_type(cell) in {"number", "boolean"}


def _texts(name: str, column: pl.Series, rules: ValueRules, rows: Array, *, typed: bool) -> ColumnReading:
    """Decide what texts are: as asked for, numbers, truths, times, or texts that are their own values."""
    gone = column.is_null() | column.is_in(list(rules.na)) if rules.na else column.is_null()
    column = column.set(gone, None)
    missing = int(gone.sum())
    if missing == len(column):
        return ColumnReading(name, "empty", None, missing, blind="has no value")
    words = column.is_in(list(NULL_WORDS)).fill_null(value=False)
    cells = column.set(words, None)
    if name in rules.text or cells.null_count() == len(cells):
        return _as_text(name, column, missing, "text as you say" if name in rules.text else "")
    if (
        (rules.decimal is not None or not typed)
        and cells.str.contains(_ZERO).any()
        and cells.str.contains(_DIGITS).all()
    ):
        zero = next(cell for cell in cells.drop_nulls() if re.match(_ZERO, cell))
        return _as_text(name, column, missing, f"leading zeros ({zero})")
    if rules.decimal is None and typed:
        return _other(name, column, cells, missing, rules, rows)
    number = _plain_numbers(cells) if rules.decimal is None else numbers_of(cells, rules.decimal)
    found = _numeric(name, column, number, words, rows)
    # Asked of the numbers, answered of the digits: 1e300 is a measurement, twenty digits are an identifier.
    large = float(number.abs().max() or 0.0) > _LARGEST  # type: ignore[arg-type]
    if found is not None and large and cells.str.contains(_DIGITS).all():
        return _identifier(found)
    return found or _other(name, column, cells, missing, rules, rows)


def _plain_numbers(cells: pl.Series) -> pl.Series:
    """Texts as the numbers that machines write, null for others. The cast alone takes some words for NaN, too."""
    number = cells.cast(pl.Float64, strict=False)
    if number.null_count() == cells.null_count() and not number.is_nan().any():
        return number
    plain = cells.str.contains(_PLAIN) | cells.str.contains(_INFINITE)
    return cells.set(~plain.fill_null(value=False), None).str.strip_chars().cast(pl.Float64, strict=False)


def _numeric(name: str, column: pl.Series, number: pl.Series, words: pl.Series, rows: Array) -> ColumnReading | None:
    """The column as numbers, if most cells are; words for nothing are missing, other texts stay as they are."""
    missing = column.is_null() | words
    bad = number.is_null() & ~missing
    known = len(column) - int(missing.sum())
    strange = int(bad.sum())
    if known - strange < _MAJORITY * known:
        return None
    values: Array = number.fill_null(float("nan")).to_numpy()
    example = ""
    if strange:
        values = values.astype(object)
        values[missing.to_numpy()] = None
        places = np.flatnonzero(bad.to_numpy())
        values[places] = np.array(column.gather(places).to_list(), object)
        example = _examples(values[places], rows[places])
    return ColumnReading(name, "number", values, int(missing.sum()), strange, example)


def _other(
    name: str, column: pl.Series, cells: pl.Series, missing: int, rules: ValueRules, rows: Array
) -> ColumnReading:
    """Texts that are no plain numbers: numbers written in some way are asked about, times left out."""
    # Patterns are tried on the different texts alone: a category of ten values in a million rows costs ten tries.
    known = cells.drop_nulls().unique(maintain_order=True)
    if known.is_in(list(_TRUTHS)).all():
        truths = [None if cell is None else _TRUTHS[cell] for cell in cells]
        gone = cells.null_count()
        return ColumnReading(name, "boolean", np.array(truths, object if gone else np.bool_), gone)
    digits = known.str.contains("[0-9]").all() and not known.str.contains(_DIGITS).all()
    marks = [mark for mark, pattern in PATTERNS.items() if digits and _share(known, pattern) >= _MAJORITY]
    if rules.decimal is None and marks:
        if len(marks) > 1:
            # A mark with other than three digits after it is no group of thousands.
            ends = [m for m in marks if known.str.contains(rf"\{m}(?:[0-9]{{1,2}}|[0-9]{{4,}})(?:[^0-9]|$)").any()]
            marks = ends or marks
        say = f"To read them: {' or '.join(f'--decimal {mark}' for mark in marks)}; as categories: "
        found = _as_text(name, column, missing, f"as in {str(known[0])!r}")
        return replace(found, blind=WRITTEN, option=f"{say}--text {_quoted(name)}")
    if text_times(known.head(_ENOUGH)) is None:
        return _as_text(name, column, missing)
    return _moments(name, cells, cells.null_count(), rows)


def _share(texts: pl.Series, pattern: str) -> float:
    return int(texts.str.contains(pattern).sum()) / max(len(texts), 1)


def _moments(name: str, cells: pl.Series, missing: int, rows: Array, form: str | None = None) -> ColumnReading:
    """Texts as times, or as what they are where they are none."""
    moments = text_times(cells, form)
    if moments is None:
        return _as_text(name, cells, missing)
    times, how, unknown = moments
    bad = (times < 0) & ~cells.is_null().to_numpy()
    places = np.flatnonzero(bad)
    example = _examples(cells.gather(places).to_list(), rows[places])
    values = np.where(times < 0, _NAT, times).astype("datetime64[ms]")
    return ColumnReading(name, "time", values, missing, int(bad.sum()), example, how, "holds times", unknown)


def _as_text(name: str, column: pl.Series, missing: int, note: str = "") -> ColumnReading:
    values = np.empty(len(column), object)
    values[:] = column.to_list()
    found = ColumnReading(name, "text", values, missing, note=note)
    return _as_category(found, column.drop_nulls().unique().to_list(), len(column) - missing)


def _as_category(found: ColumnReading, different: Collection[Any], known: int) -> ColumnReading:
    """Say of the ``different`` values of ``known`` cells what a category cannot be: another one in nearly every row."""
    words = sorted(value for value in different if isinstance(value, str) and value in NULL_WORDS)
    if words:
        count, mean = ("counts as a value", "it means") if len(words) == 1 else ("count as values", "they mean")
        told = ",".join(filter(None, words)) or "''"
        say = f"{', '.join(map(repr, words))} {count}; if {mean} none: --na {told}"
        found = replace(found, note=f"{found.note}, {say}" if found.note else say)
    found = replace(found, different=len(different))
    if known >= _ENOUGH and len(different) > _DIFFERENT * known:
        why = f"{len(different):,} different texts in {known:,} rows, like an identifier or prose"
        return replace(found, blind=why, option=f"To watch it all the same: --features with {_quoted(found.name)}")
    return found


def _examples(cells: Iterable[object], rows: Array) -> str:
    """Return the first different ones of the cells, each with its row; "" for none."""
    first: dict[str, int] = {}
    for cell, row in zip(cells, rows, strict=True):
        first.setdefault(str(cell)[:EXAMPLE], int(row))
        if len(first) == _EXAMPLES:
            break
    return ", ".join(f"{text!r} in row {row}" for text, row in first.items())


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.\-]+", name) else repr(name)


def moments_of(found: ColumnReading) -> Array | None:
    """Return the times of a column of times as epoch ms, -1 where there is none; None for another column."""
    if found.kind != "time" or found.values is None:
        return None
    times = found.values.astype(np.int64)
    return np.where((times < 0) | (times >= LATEST_MS), -1, times)
