"""Fields of rows as plain lists and arrays, taken out while the rows are still in the processor's cache."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from monitor.columns import FeatureColumn, Integers, NumberColumn, category_column, number_column
from monitor.core.column import Status
from monitor.rows import ABSENT, RowType

CHUNK = 2_048
"""Rows decoded and taken apart at once: their objects then never leave the second-level cache."""


class Raw:
    """The rows of a batch, field by field: ``fields`` and category features as lists, numbers as arrays.

    ``add`` takes rows of the strict pass, whose numeric features hold nothing but numbers and nulls; ``add_odd`` takes
    any rows of the right fields.
    """

    def __init__(self, row_type: RowType) -> None:
        self._type = row_type
        self.fields: dict[str, list[Any]] = {name: [] for name in row_type.get}
        self._lists: dict[str, list[Any]] = {name: [] for name in row_type.feature}
        self._parts: dict[str, list[NumberColumn]] = {name: [] for name in row_type.numeric}
        self._odd = False
        self.rows = 0

    def __len__(self) -> int:
        return self.rows

    def add(self, rows: Sequence[Any]) -> None:
        """Take rows of the strict pass. O(fields) array steps and no Python step a row."""
        n = len(rows)
        self.rows += n
        for name, get in self._type.get.items():
            self.fields[name] += map(get, rows)
        nodes: dict[int, Sequence[Any]] = {}
        for name, get in self._type.feature.items():
            inner = self._type.inner[name]
            if inner is None:
                held: Sequence[Any] = rows
            else:
                held = nodes.get(id(inner[0])) or nodes.setdefault(id(inner[0]), list(map(inner[0], rows)))
                get = inner[1]  # noqa: PLW2901 - the last step of the same path
            if name not in self._type.numeric:
                self._lists[name] += map(get, held)
                continue
            values = np.fromiter(map(get, held), np.float64, n)
            missing = np.isnan(values)
            status = None
            if missing.any():
                status = np.zeros(n, np.int8)
                rest = np.flatnonzero(missing).tolist()
                status[rest] = [Status.NULL if get(held[i]) is None else Status.ABSENT for i in rest]
            self._parts[name].append(NumberColumn(values, status))

    def add_odd(self, rows: Sequence[Any]) -> None:
        """Take rows whose features may hold anything; all rows of this object then come this way."""
        self._odd = True
        self.rows += len(rows)
        for name, get in self._type.get.items():
            self.fields[name] += map(get, rows)
        for name, get in self._type.feature.items():
            self._lists[name] += [_absent_nan(get(row)) for row in rows]

    def features(self, index: Integers | None) -> dict[str, FeatureColumn]:
        """Return the feature columns of some rows (None: all)."""
        found: dict[str, FeatureColumn] = {}
        for name in self._type.feature:
            if name in self._type.numeric and not self._odd:
                found[name] = _chosen(_joined(self._parts[name]), index)
                continue
            values = self.list_of(self._lists[name], index)
            make = number_column if name in self._type.numeric else category_column
            found[name] = make(values, ABSENT)
        return found

    @staticmethod
    def list_of(values: list[Any], index: Integers | None) -> list[Any]:
        """Return some of a list (None: all)."""
        return values if index is None else [values[i] for i in index.tolist()]


def _joined(parts: list[NumberColumn]) -> NumberColumn:
    if len(parts) == 1:
        return parts[0]
    values = np.concatenate([part.values for part in parts])
    if all(part.status is None for part in parts):
        return NumberColumn(values)
    none = [np.zeros(len(part), np.int8) if part.status is None else part.status for part in parts]
    return NumberColumn(values, np.concatenate(none))


def _chosen(column: NumberColumn, index: Integers | None) -> NumberColumn:
    if index is None:
        return column
    return NumberColumn(column.values[index], None if column.status is None else column.status[index])


def _absent_nan(value: Any) -> Any:
    return ABSENT if isinstance(value, float) and np.isnan(value) else value
