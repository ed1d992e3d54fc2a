"""A JSON object read field by field: each is checked, and told with its path, its value and what is allowed."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import accumulate, chain, pairwise
from typing import Any, TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.column import Floats
from stationkeeper.monitor.core.reference.cells import MAX_NAME, Counts

MAX_COUNT = 2**53
"""Largest whole number that every JSON reader keeps exact (RFC 8259, section 6)."""

# Beyond it a number is an infinity to everybody who computes with doubles.
_LARGEST = float(np.finfo(np.float64).max)

_E = TypeVar("_E", bound=StrEnum)
_N = TypeVar("_N", np.float64, np.int64)

Arrays = Mapping[str, npt.NDArray[Any]]
"""Lists of one object that were found to be good and are arrays already, by key."""


class InvalidReference(ValueError):
    """A reference file that cannot be used; the message names the field and what is allowed."""


def _is_number(value: object) -> TypeGuard[int | float]:
    """Whether a JSON value is a number that a float64 holds: 1e999 and an integer of 400 digits are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _array(items: Sequence[Any], type_: type[_N]) -> npt.NDArray[_N] | None:
    """Numbers as an array, None where one is a whole number that the type cannot hold."""
    try:
        return np.array(items, type_)
    except OverflowError:
        return None


def _floats(items: Sequence[Any]) -> Floats | None:
    """Numbers as float64, None where an item is no number or not finite."""
    # Types as a set and bounds of the whole array: a reference has a hundred thousand numbers.
    found = _array(items, np.float64) if set(map(type, items)) <= {int, float} else None
    return found if found is not None and np.isfinite(found).all() else None


def _counts(items: Sequence[Any]) -> Counts | None:
    """Whole numbers as int64, None where an item is none, negative or above ``MAX_COUNT``."""
    found = _array(items, np.int64) if set(map(type, items)) <= {int} else None
    # As unsigned numbers negative ones are beyond every bound.
    return found if found is not None and found.view(np.uint64).max(initial=0) <= MAX_COUNT else None


def read_together(items: Sequence[Any], floats: Sequence[str], counts: Sequence[str]) -> list[Arrays]:
    """Return for each object its lists under these keys as arrays, all objects in one pass a key. O(numbers).

    A key under which one object holds anything else than good numbers is left out of all: read one by one, the field
    that is wrong is told. Thousands of short lists take four times as long alone.
    """
    found: list[dict[str, npt.NDArray[Any]]] = [{} for _ in items]
    for keys, read in ((floats, _floats), (counts, _counts)):
        for key in keys:
            lists = [item.get(key, ()) if isinstance(item, Mapping) else () for item in items]
            if not all(isinstance(one, list | tuple) for one in lists):
                continue
            whole = read(list(chain.from_iterable(lists)))
            if whole is None:
                continue
            for mine, (first, last) in zip(found, pairwise(accumulate(map(len, lists), initial=0)), strict=True):
                mine[key] = whole[first:last]
    return [*found]


class Fields:
    """A JSON object whose every read is checked and, if wrong, reported under its path."""

    def __init__(self, raw: object, path: str, arrays: Arrays | None = None) -> None:
        """``arrays`` are what `read_together` found of this object."""
        if not isinstance(raw, Mapping):
            raise InvalidReference(f"{path}: {type(raw).__name__}, must be an object")
        self._raw, self.path, self._arrays = raw, path, arrays or {}

    def has(self, key: str) -> bool:
        """Return whether the object has the field."""
        return key in self._raw

    def _refused(self, key: str, wanted: str) -> InvalidReference:
        if key not in self._raw:
            return InvalidReference(f"{self.path}.{key}: missing, must be {wanted}")
        # As much of it as a line of a log shows.
        return InvalidReference(f"{self.path}.{key}: {repr(self._raw[key])[:80]}, must be {wanted}")

    def inner(self, key: str) -> "Fields":
        """Return a field that is an object itself."""
        return Fields(self._raw[key], f"{self.path}.{key}")

    def text(self, key: str, *, empty: bool = False, longest: int = MAX_NAME) -> str:
        """Return a text of at most ``longest`` characters."""
        value = self._raw.get(key)
        if isinstance(value, str) and len(value) <= longest and (empty or value):
            return value
        raise self._refused(key, f"text of at most {longest} characters" + ("" if empty else ", not empty"))

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._raw.get(key)
        if isinstance(value, bool):
            return value
        raise self._refused(key, "true or false")

    def whole(self, key: str, low: int, high: int) -> int:
        """Return a whole number in [low, high]."""
        value = self._raw.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise self._refused(key, f"a whole number in [{low}, {high}]")

    def number(self, key: str, low: float = -np.inf) -> float:
        """Return a finite number of at least ``low``."""
        value = self._raw.get(key)
        if _is_number(value) and low <= value:
            return float(value)
        raise self._refused(key, "a number" if low == -np.inf else f"a number of at least {low}")

    def choice(self, key: str, options: type[_E]) -> _E:
        """Return one of the names of a closed list."""
        value: Any = self._raw.get(key)
        try:
            return options(value)
        except ValueError as error:
            raise self._refused(key, f"one of {', '.join(options)}") from error

    def items(self, key: str, most: int) -> Sequence[Any]:
        """Return a list of at most ``most`` items, whatever they are."""
        value = self._raw.get(key)
        if isinstance(value, list) and len(value) <= most:
            return value
        raise self._refused(key, f"a list of at most {most} items")

    def floats(self, key: str, most: int) -> Floats:
        """Return a list of at most ``most`` finite numbers."""
        items, found = self.items(key, most), self._arrays.get(key)
        if found is None:
            found = _floats(items)
        if found is None:
            raise InvalidReference(f"{self.path}.{key}: every item must be a number")
        return found

    def counts(self, key: str, size: int) -> Counts:
        """Return a list of ``size`` whole numbers from 0 to ``MAX_COUNT``."""
        items, found = self.items(key, size), self._arrays.get(key)
        if found is None:
            found = _counts(items)
        if found is None or len(items) != size:
            raise InvalidReference(
                f"{self.path}.{key}: {len(items)} items, must be {size} whole numbers, none negative"
            )
        return found
