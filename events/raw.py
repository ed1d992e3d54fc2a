"""Fields of rows as plain lists and arrays, taken out while the rows are still in the processor's cache."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple

from stationkeeper.contracts.column import Status
from stationkeeper.events.columns import FeatureColumn, Floats, Integers, NumberColumn, category_column, number_column
from stationkeeper.events.row_types import ABSENT, Block, Holder, RowType

Statuses = npt.NDArray[np.int8]

# Rows taken apart at once, and the values they may hold: 32 768 values of about 32 bytes with their objects stay within
# the second-level cache (measured: three times as quick as column by column from main memory, see ``chunk_rows``).
# Fewer than 32 rows pay the calls of a chunk for too little, more than 2 048 gain nothing.
_CHUNK_ROWS = (32, 2_048)
_CHUNK_VALUES = 32_768


_NONE: Mapping[int, Any] = {}


def chunk_rows(fields: int) -> int:
    """Return how many rows of so many fields are decoded and taken apart at once.

    Their objects then never leave the second-level cache: reading 177 rows of 1 000 numbers column by column from
    main memory takes three times as long.
    """
    least, most = _CHUNK_ROWS
    return max(least, min(most, _CHUNK_VALUES // max(fields, 1)))


class Raw:
    """The rows of a batch, field by field: ``fields`` and category features as lists, numbers as arrays.

    ``add`` takes rows of the strict pass, whose numeric features hold nothing but numbers and nulls; ``add_odd`` takes
    any rows of the right fields.
    """

    def __init__(self, row_type: RowType) -> None:
        self._type = row_type
        self.fields: dict[str, list[Any]] = {name: [] for name in row_type.get}
        self._lists: dict[str, list[Any]] = {name: [] for name in row_type.feature}
        self._values: dict[Block, list[Floats]] = {block: [] for block in row_type.blocks}
        self._missing: dict[str, list[tuple[int, Statuses]]] = {}
        self._odd = False
        self.rows = 0

    def __len__(self) -> int:
        return self.rows

    def add(self, rows: Sequence[Any], infinite: Mapping[int, Any] = _NONE) -> bool:
        """Take rows of the strict pass. O(values), no Python step for a row or a numeric column.

        ``infinite`` are rows again that hold infinities, which stand as null in ``rows`` and as 0 there: so a feature
        that is null here only is not finite. Returns False, with the rows half taken, if that is so of a field.
        """
        kind = self._type
        for row, again in infinite.items():
            for get in kind.get.values():
                one, other = get(rows[row]), get(again)
                # `is` first: NaN differs from itself and ABSENT is one object.
                if one is not other and one != other:
                    return False
        # A tuple of each row, and slices of all of them, cost two thirds of getting field by field.
        flat: list[Any] = list(chain.from_iterable(map(astuple, rows))) if kind.places else []
        for name, get in kind.get.items():
            self.fields[name] += flat[kind.places[name] :: kind.width] if name in kind.places else map(get, rows)
        held: dict[Holder, Sequence[Any]] = {}
        for holder in kind.holders:
            if holder.place is not None:
                held[holder] = flat[holder.place :: kind.width]
            else:
                held[holder] = rows if holder.get is None else list(map(holder.get, rows))
        for block in kind.blocks:
            self._add_numbers(block, held[block.holder], infinite)
        for name, (holder, get) in kind.inner.items():
            if name not in kind.numeric:
                mine = list(map(get, held[holder]))
                for row, again in infinite.items():
                    if mine[row] is None and kind.feature[name](again) is not None:
                        mine[row] = math.inf
                self._lists[name] += mine
        self.rows += len(rows)
        return True

    def _add_numbers(self, block: Block, held: Sequence[Any], infinite: Mapping[int, Any]) -> None:
        try:
            flat = np.frombuffer(block.take(held), np.float64)
            # By column from here on: each is read as a whole by the tally.
            values = np.ascontiguousarray(flat.reshape(len(held), -1).T)
        except struct.error:
            # A null: numpy takes it for NaN, struct does not take it.
            getters = [self._type.inner[name][1] for name in block.names]
            columns = [np.fromiter(map(get, held), np.float64, len(held)) for get in getters]
            values = np.array(columns)
        self._values[block].append(values)
        missing = np.isnan(values)
        if not missing.any():
            return
        for place in np.flatnonzero(missing.any(axis=1)).tolist():
            name, rest = block.names[place], np.flatnonzero(missing[place]).tolist()
            get = self._type.inner[name][1]
            status = np.zeros(len(held), np.int8)
            status[rest] = [Status.NULL if get(held[i]) is None else Status.ABSENT for i in rest]
            for i in infinite.keys() & rest if infinite else ():
                if status[i] == Status.NULL and self._type.feature[name](infinite[i]) is not None:
                    status[i] = Status.NOT_FINITE
            self._missing.setdefault(name, []).append((self.rows, status))

    def add_odd(self, rows: Sequence[Any]) -> None:
        """Take rows whose features may hold anything; then all rows of this object must be given here."""
        self._odd = True
        self.rows += len(rows)
        for name, get in self._type.get.items():
            self.fields[name] += map(get, rows)
        for name, get in self._type.feature.items():
            self._lists[name] += [_absent_nan(get(row)) for row in rows]

    def features(self, index: Integers | None) -> dict[str, FeatureColumn]:
        """Return the feature columns of some rows (None: all)."""
        numbers: dict[str, FeatureColumn] = {}
        if not self._odd:
            for block, parts in self._values.items():
                whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
                for name, values in zip(block.names, whole, strict=True):
                    column = NumberColumn(values, self._status(name))
                    numbers[name] = column if index is None else column.at(index)
        found: dict[str, FeatureColumn] = {}
        for name in self._type.feature:
            if name in numbers:
                found[name] = numbers[name]
                continue
            values_of, rules = self.list_of(self._lists[name], index), self._type.values
            if name in self._type.numeric or name in self._type.written:
                found[name] = number_column(values_of, ABSENT, rules)
                continue
            categories = category_column(values_of, ABSENT, rules.na)
            # What stays text is the same category as text and as number, so that neither is of a wrong type.
            found[name] = replace(categories, types="string", each=None) if name in rules.text else categories
        return found

    def _status(self, name: str) -> Statuses | None:
        """The status of each row of a numeric feature, None where all are usable."""
        parts = self._missing.get(name)
        if parts is None:
            return None
        status = np.zeros(self.rows, np.int8)
        for first, part in parts:
            status[first : first + len(part)] = part
        return status

    @staticmethod
    def list_of(values: list[Any], index: Integers | None) -> list[Any]:
        """Return some of a list (None: all)."""
        return values if index is None else [values[i] for i in index.tolist()]


def _absent_nan(value: Any) -> Any:
    return ABSENT if isinstance(value, float) and np.isnan(value) else value
