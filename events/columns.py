"""A batch of events as columns: what the decoder makes and the tally counts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.column import (
    Categories,
    Column,
    Numbers,
    Status,
    canonical_key,
    categories,
    json_type,
)
from stationkeeper.events.settings import Kind, ValueRules
from stationkeeper.events.text_values import NULL_WORDS, plain_value, texts_as_numbers

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Scalar = float | bool | str | None

MIXED = "mixed"
# JSON types by the number that stands for them in ``CategoryColumn.each``; the order is used in this file alone.
_TYPES = ("string", "number", "boolean")
_READ: tuple[Callable[[str], Scalar], ...] = (str, float, "true".__eq__)
"""How a key of each type is read back; a boolean's key is true or false."""


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A feature whose usable values are numbers: ``values`` float64[n]; ``status`` int8[n], None if all are usable."""

    values: Floats
    status: npt.NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def at(self, index: Integers) -> "NumberColumn":
        """Return some rows."""
        return NumberColumn(self.values[index], None if self.status is None else self.status[index])

    def numbers(self) -> Numbers:
        """Return the values as numbers, which they are."""
        return Numbers(self.values, self.status)

    def present(self) -> Flags:
        """Return which records have the key at all, null or not, bool[n]."""
        return np.ones(len(self), np.bool_) if self.status is None else self.status != Status.ABSENT

    def plain(self) -> list[Scalar]:
        """Return the usable values, None for the others. O(n)."""
        unusable = np.isnan(self.values) if self.status is None else np.isnan(self.values) | (self.status != 0)
        return [None if gone else value for value, gone in zip(self.values.tolist(), unusable.tolist(), strict=True)]

    def core(self, expected: str, *, numeric: bool) -> Column:
        """Return the column as the core counts it; for categories a number is its canonical spelling."""
        if numeric:
            return self.numbers()
        status = np.zeros(len(self.values), np.int8) if self.status is None else self.status
        nan = np.isnan(self.values) & (status == 0)
        # NaN and what has no value are spelled as 0 here and get their status back below: a category of NaN would be
        # one that no reference knows.
        made = categories(np.where(status == 0, np.nan_to_num(self.values), 0.0))
        codes = np.where(nan, Status.NULL, np.where(status != 0, status, made.codes))
        return CategoryColumn(codes, made.keys, "number").core(expected, numeric=False)


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """A feature as categories: ``codes`` int64[n] index ``keys`` or are a ``Status``.

    ``types`` is the JSON type of all usable values, or ``mixed`` with ``each`` int8[n] (index into string, number,
    boolean).
    """

    codes: Integers
    keys: Sequence[str]
    types: str = "string"
    each: npt.NDArray[np.int8] | None = None

    def at(self, index: Integers) -> "CategoryColumn":
        """Return some rows."""
        return replace(self, codes=self.codes[index], each=None if self.each is None else self.each[index])

    def present(self) -> Flags:
        """Return which records have the key at all, null or not, bool[n]."""
        found: Flags = self.codes != Status.ABSENT
        return found

    def plain(self) -> list[Scalar]:
        """Return the usable values with their JSON types (numbers as floats), None for the others. O(n)."""
        pairs = list(zip(self.codes.tolist(), self.type_codes().tolist(), strict=True))
        made = {pair: _READ[pair[1]](self.keys[pair[0]]) for pair in set(pairs) if pair[0] >= 0}
        return [made.get(pair) for pair in pairs]

    def type_codes(self) -> npt.NDArray[np.int8]:
        """Return each value's JSON type as its place in string, number, boolean, int8[n]."""
        return np.full(len(self.codes), _TYPES.index(self.types), np.int8) if self.each is None else self.each

    def core(self, expected: str, *, numeric: bool) -> Column:
        """Return the column as the core counts it; values of another JSON type than ``expected`` are mistyped."""
        if numeric:
            return self.numbers()
        if not expected or (self.each is None and self.types == expected):
            return Categories(self.codes, self.keys)
        wrong = self.codes >= 0
        if self.each is not None and expected in _TYPES:
            wrong &= self.each != _TYPES.index(expected)
        return Categories(self.codes, self.keys, wrong)

    def of_type(self, name: str) -> Flags:
        """Return which rows hold a usable value of this JSON type (string, number or boolean), bool[n]."""
        found: Flags = (self.codes >= 0) & (self.type_codes() == _TYPES.index(name))
        return found

    def written(self, rules: ValueRules) -> "CategoryColumn":
        """Return the same with the texts that are numbers by the rules' decimal mark as numbers. O(n)."""
        texts = self.of_type("string")
        known = {code: self.keys[code] for code in np.unique(self.codes[texts]).tolist()} if rules.decimal else {}
        found = {code: plain_value(key, rules, numeric=True) for code, key in known.items()}
        numbers = {code: value for code, value in found.items() if isinstance(value, float)}
        if not numbers:
            return self
        # Keys of their own: as a number 1.234 may be there beside the text, which is 1234 where the mark is a comma.
        place = np.arange(len(self.keys))
        place[list(numbers)] = len(self.keys) + np.arange(len(numbers))
        moved = texts & np.isin(self.codes, list(numbers))
        codes = np.where(moved, place[np.maximum(self.codes, 0)], self.codes)
        each = np.where(moved, _TYPES.index("number"), self.type_codes()).astype(np.int8)
        return CategoryColumn(
            codes, [*self.keys, *(canonical_key(value) or "" for value in numbers.values())], MIXED, each
        )

    def numbers(self) -> Numbers:
        """Return the values as numbers: a boolean is 0 or 1, text is null or a wrong type."""
        each = self.type_codes()
        table = np.array([_number(key) for key in self.keys] or [np.nan])
        text = (self.codes >= 0) & (each == _TYPES.index("string"))
        nothing = np.array(
            [Status.NULL if key in NULL_WORDS else Status.WRONG_TYPE for key in self.keys] or [Status.NULL]
        )
        strange = np.where(text, nothing[np.maximum(self.codes, 0)], 0)
        status = np.where(self.codes < 0, self.codes, strange).astype(np.int8)
        values = np.where(status == 0, table[np.maximum(self.codes, 0)], np.nan)
        return Numbers(values, status if status.any() else None)


FeatureColumn = NumberColumn | CategoryColumn


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that is no event: its row in the batch, the closed code and the field or limit that it broke."""

    row: int
    code: DeadLetterCode
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Assigned:
    """What was done upon each answer: ``code`` int64[n] indexes ``names``, -1 where the event does not say.

    ``drawn`` float64[n] is the probability with which that action was drawn, above 0 and at most 1; NaN where unknown.
    """

    names: tuple[str, ...]
    code: Integers
    drawn: Floats

    def at(self, index: Integers) -> "Assigned":
        """Return those at ``index``."""
        return Assigned(self.names, self.code[index], self.drawn[index])


@dataclass(frozen=True, slots=True)
class Events:
    """Accepted events of one kind, in offset order.

    ``rows`` int64[n] are positions in the batch, ``time`` int64[n] event time (ms), ``ids`` uint64[n] id hashes.
    ``owner`` int64[n] indexes ``owners`` (model, version); a version that is not known is "".
    ``latency`` (ms) and ``weight`` are NaN where not given, or None if no record has one. ``entity`` uint64[n] hashes
    the entity, or the event's id where none is given; None if no record has one. ``confidence`` float64[n] is the
    probability that came with a class as answer, NaN where none did; None if no record has one. ``segments`` holds a
    category column for each dimension that records carry. ``label`` is a category column. ``assigned`` is what was
    done upon the answers, None if no record says it or the form does not ask. ``extras`` are the fields that the form
    asks for beside these, as lists of what the records hold; ``event_id`` among them is always text.
    """

    kind: Kind
    rows: Integers
    time: Integers
    ids: Hashes
    owner: Integers
    owners: Sequence[tuple[str, str]]
    features: Mapping[str, FeatureColumn] = field(default_factory=dict)
    prediction: FeatureColumn | None = None
    label: CategoryColumn | None = None
    latency: Floats | None = None
    weight: Floats | None = None
    entity: Hashes | None = None
    confidence: Floats | None = None
    segments: Mapping[str, CategoryColumn] = field(default_factory=dict)
    assigned: Assigned | None = None
    extras: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def keep(self, index: Integers) -> "Events":
        """Return the events at ``index``."""
        return replace(
            self,
            rows=self.rows[index],
            time=self.time[index],
            ids=self.ids[index],
            owner=self.owner[index],
            features={name: column.at(index) for name, column in self.features.items()},
            prediction=None if self.prediction is None else self.prediction.at(index),
            label=None if self.label is None else self.label.at(index),
            latency=None if self.latency is None else self.latency[index],
            weight=None if self.weight is None else self.weight[index],
            entity=None if self.entity is None else self.entity[index],
            confidence=None if self.confidence is None else self.confidence[index],
            segments={name: column.at(index) for name, column in self.segments.items()},
            assigned=None if self.assigned is None else self.assigned.at(index),
            extras={name: [values[i] for i in index.tolist()] for name, values in self.extras.items()},
        )


_NO_RULES = ValueRules()


class Keys(dict[str, int]):
    """Codes of text values in the order they were first seen; looking up a new one gives it the next code."""

    __slots__ = ()

    def __missing__(self, key: str) -> int:
        self[key] = code = len(self)
        return code


def number_column(values: Sequence[object], absent: object, rules: ValueRules = _NO_RULES) -> NumberColumn:
    """Return a feature that every reference counts as a number; ``absent`` is the marker of a missing key.

    A boolean is 0 or 1. Text is null where it stands for nothing, a number where the rules have a decimal mark for it,
    else a wrong type. O(n), a Python loop for batches with surprises only.
    """
    values = texts_as_numbers(values, rules)
    if set(map(type, values)) == {float} and np.isfinite(plain := np.array(values, np.float64)).all():
        return NumberColumn(plain)
    out = np.full(len(values), np.nan)
    status = np.zeros(len(values), np.int8)
    for i, value in enumerate(values):
        if value is absent:
            status[i] = Status.ABSENT
        elif value is None or (isinstance(value, str) and (value in NULL_WORDS or value in rules.na)):
            status[i] = Status.NULL
        elif isinstance(value, int | float):
            out[i] = _float(value)
            if not np.isfinite(out[i]):
                status[i] = Status.NOT_FINITE
        else:
            status[i] = Status.WRONG_TYPE
    return NumberColumn(out, status if status.any() else None)


def category_column(values: Sequence[object], absent: object, nulls: Sequence[str] = ()) -> CategoryColumn:
    """Return a feature as categories under the core's canonical spelling, null for each text of ``nulls``; O(n)."""
    if values and type(values[0]) is str and (texts := _texts(values, nulls)) is not None:
        return texts
    # Labels, mostly: a Python step for each was half a second of a million rows.
    if values and type(values[0]) is bool and set(map(type, values)) == {bool}:
        codes = (np.fromiter(values, np.bool_, len(values)) != values[0]).astype(np.int64)
        keys = (str(values[0]).lower(), str(not values[0]).lower())
        return CategoryColumn(codes, keys[: 1 + int(codes.max())], "boolean")
    seen = Keys()
    codes = np.empty(len(values), np.int64)
    each = np.zeros(len(values), np.int8)
    for i, value in enumerate(values):
        key = canonical_key(value)
        kind = json_type(value)
        if value is absent:
            codes[i] = Status.ABSENT
        elif isinstance(value, str) and value in nulls:
            codes[i] = Status.NULL
        elif key is not None:
            codes[i], each[i] = seen[key], _TYPES.index(kind)
        elif kind == "null":
            codes[i] = Status.NULL
        else:
            codes[i] = Status.NOT_FINITE if kind == "number" else Status.WRONG_TYPE
    present = np.unique(each[codes >= 0])
    if len(present) == 1:
        return CategoryColumn(codes, tuple(seen), _TYPES[int(present[0])])
    return CategoryColumn(codes, tuple(seen), MIXED, each)


def _texts(values: Sequence[object], nulls: Sequence[str]) -> CategoryColumn | None:
    """The column if all values are text. Its keys show that, for no text equals anything else, which spares a pass."""
    keys = Keys()
    try:
        codes = np.fromiter(map(keys.__getitem__, values), np.int64, len(values))  # type: ignore[arg-type]
    except TypeError:  # an object or a list has no hash
        return None
    for word in nulls:
        if word in keys:
            codes[codes == keys[word]] = Status.NULL
    return CategoryColumn(codes, tuple(keys)) if set(map(type, keys)) == {str} else None


def _number(key: str) -> float:
    """The number that a canonical key spells, a boolean as 0 or 1, NaN for other text."""
    if key in {"true", "false"}:
        return float(key == "true")
    try:
        return _float(float(key))
    except ValueError:
        return float("nan")


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")
