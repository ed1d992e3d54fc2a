"""One feature of a batch of events as a column: usable values beside what was wrong with the others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Beyond 2**53 a double no longer tells neighbouring integers apart: such a number is spelled as the float it is.
_LARGEST_EXACT = 2.0**53


class Status(IntEnum):
    """Why a value cannot be used; in a category column these stand where a code would."""

    # Negative, so that they can never be taken for the code of a category (0 and up); stored, so never renumbered.
    ABSENT = -1
    NULL = -2
    WRONG_TYPE = -3
    NOT_FINITE = -4


@dataclass(frozen=True, slots=True)
class Numbers:
    """A numeric column: ``values`` float64[n]; ``status`` int8[n], 0 where usable, else a ``Status``.

    Without a status, NaN is null and an infinity is not finite: the convention of tables.
    """

    values: Floats
    status: npt.NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Categories:
    """A category column: ``codes`` int64[n] index ``keys`` (canonical, distinct) or are a ``Status``.

    ``mistyped`` bool[n] marks values that had another JSON type than the reference, but could be used.
    """

    codes: Integers
    keys: Sequence[str]
    mistyped: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.codes)


Column = Numbers | Categories


def canonical_key(value: object) -> str | None:
    """Return the one spelling under which a scalar is a category; None for null, NaN, lists and objects.

    ``1``, ``1.0`` and ``"1"`` are the same category, so that a producer that changes its JSON types cannot split
    a category in two or stop the tally: True -> ``true``, 2.0 -> ``2``, 0.5 -> ``0.5``, text unchanged.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if not np.isfinite(number):
            return None
        return str(int(number)) if number.is_integer() and abs(number) < _LARGEST_EXACT else repr(number)
    return None


# What Python, JSON, SQL and spreadsheets write for the two truth values. Words such as yes and no are left out: who has
# them names one, and then the other is the other.
_TRUTHS = {"1": "1", "1.0": "1", "true": "1", "0": "0", "0.0": "0", "false": "0"}


def same_class(key: str, other: str) -> bool:
    """Return whether two spellings are one class: the same text, or the same truth value.

    By hand: ``true``, ``True``, ``1`` and ``1.0`` are one, ``0`` and ``FALSE`` another, ``yes`` and ``true`` differ.
    """
    return key == other or (key.lower() in _TRUTHS and _TRUTHS[key.lower()] == _TRUTHS.get(other.lower()))


def json_type(value: object) -> str:
    """Return ``null``, ``boolean``, ``number``, ``string`` or ``other``: what the type-mix check compares."""
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 - NaN is its own inequality
        return "null"
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int | float | np.integer | np.floating):
        return "number"
    return "string" if isinstance(value, str) else "other"


def numbers(values: npt.ArrayLike) -> Numbers:
    """Return an array or list as a numeric column; text and objects are a wrong type, None and NaN null.

    O(1) for a numeric array, a Python loop for objects (tables and tests; the tally builds its own columns).
    """
    array = np.asarray(values)
    if array.dtype.kind in "biuf":
        return Numbers(array.astype(np.float64, copy=False))
    out = np.full(len(array), np.nan)
    status = np.zeros(len(array), np.int8)
    for i, value in enumerate(array.tolist()):
        kind = json_type(value)
        if kind in {"number", "boolean"}:
            out[i] = float(value)
            status[i] = 0 if np.isfinite(out[i]) else Status.NOT_FINITE
        else:
            status[i] = Status.NULL if kind == "null" else Status.WRONG_TYPE
    return Numbers(out, status)


def categories(values: npt.ArrayLike | Iterable[Any], expected: str = "") -> Categories:
    """Return an array or list of scalars as a category column; work per distinct value where numpy allows it.

    ``expected`` is the JSON type of the reference ("" takes any): other types are counted as ``mistyped``.
    """
    array = np.asarray(values)
    if array.dtype.kind in "biufU":
        distinct, inverse = np.unique(array, return_inverse=True)
        items, inverse = distinct.tolist(), inverse.reshape(-1)
    else:
        seen: dict[tuple[str, Any], int] = {}
        raw = array.tolist() if array.dtype == object else [str(item) for item in array.tolist()]
        inverse = np.empty(len(raw), np.int64)
        for i, value in enumerate(raw):
            kind = json_type(value)
            inverse[i] = seen.setdefault((kind, value if kind not in {"other", "null"} else None), len(seen))
        items = [value if kind != "other" else () for kind, value in seen]
    codes: dict[str, int] = {}
    table, odd = np.empty(len(items), np.int64), np.zeros(len(items), np.bool_)
    for i, value in enumerate(items):
        kind = json_type(value)
        key = canonical_key(value)
        if key is None:
            table[i] = {"null": Status.NULL, "number": Status.NOT_FINITE}.get(kind, Status.WRONG_TYPE)
            continue
        table[i] = codes.setdefault(key, len(codes))
        odd[i] = bool(expected) and kind != expected
    if not items:
        return Categories(np.empty(0, np.int64), ())
    return Categories(table[inverse], tuple(codes), odd[inverse] if odd.any() else None)
