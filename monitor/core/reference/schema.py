"""What each column of a table is: the kinds a profile infers, and which columns it leaves out and why."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.column import Column, categories, json_type, numbers
from stationkeeper.monitor.core.reference.reference import Kind

Array = npt.NDArray[np.generic]

# Rows from which on a column may be called an identifier or a clock: among fewer, texts that all differ are ordinary.
_ENOUGH_ROWS = 100

# Different values that a number which never falls must have to be a clock: a flag that turns on once has two, a version
# number a handful. At half, slow step functions are left out; at double, a counter that rises daily is watched for
# weeks.
_CLOCK_DISTINCT = 50

# Share of the values that must be numbers (or booleans) for a mixed column to be one; the rest counts as wrong type. At
# .8 a category of codes with some letters is cut into quantiles; at 1 one "n/a" makes a number a category.
_MAJORITY = 0.9


@dataclass(frozen=True, slots=True)
class Schema:
    """Kinds by column name, the JSON type most values have, and notes on what was left out."""

    kinds: Mapping[str, Kind]
    json_types: Mapping[str, str]
    notes: tuple[str, ...]

    def column(self, name: str, values: npt.ArrayLike) -> Column:
        """Return an array as the column its kind counts."""
        if self.kinds[name] is Kind.NUMERIC:
            return numbers(values)
        return categories(values, self.json_types[name])


def infer_schema(
    columns: Mapping[str, Array], *, categorical: Collection[str] = (), named: bool = False, ordered: bool = False
) -> Schema:
    """Infer kinds from arrays of equal length.

    Numbers are numeric unless named in ``categorical``; text is categorical. Left out with a note, unless the user
    ``named`` the columns: times, columns without a value, an identifier (one distinct text a row) and, where rows
    are ``ordered`` in time, a counter or clock (a number that never falls), which must drift by itself.
    """
    kinds: dict[str, Kind] = {}
    types: dict[str, str] = {}
    notes: list[str] = []
    for name, values in columns.items():
        kind, json_kind = _kind(values, forced=name in categorical)
        reason = None
        if values.dtype.kind in "mM":
            reason = "holds times"
        elif json_kind == "null":
            reason = "has no value in the reference rows"
        elif not named:
            reason = _odd(values, kind, ordered=ordered)
        if reason:
            notes.append(f"{name}: {reason}; not watched")
            continue
        kinds[name], types[name] = kind, json_kind
    return Schema(kinds, types, tuple(notes))


def _kind(values: Array, *, forced: bool) -> tuple[Kind, str]:
    code = values.dtype.kind
    if code == "b":
        return Kind.BOOLEAN, "boolean"
    if code in "iuf":
        if not np.isfinite(values.astype(np.float64)).any():
            return Kind.NUMERIC, "null"
        return (Kind.CATEGORICAL if forced else Kind.NUMERIC), "number"
    if code == "U":
        return Kind.CATEGORICAL, "string"
    found = Counter(json_type(value) for value in values.tolist())
    # A hole says nothing of the type.
    found.pop("null", None)
    if not found:
        return Kind.CATEGORICAL, "null"
    top, rows = found.most_common(1)[0]
    if forced or rows < _MAJORITY * found.total() or top not in {"number", "boolean"}:
        return Kind.CATEGORICAL, top
    return (Kind.NUMERIC if top == "number" else Kind.BOOLEAN), top


def _odd(values: Array, kind: Kind, *, ordered: bool) -> str | None:
    rows = len(values)
    if rows < _ENOUGH_ROWS:
        return None
    if kind is Kind.CATEGORICAL and values.dtype.kind in "OU":
        texts = [value for value in values.tolist() if isinstance(value, str)]
        # Every single one: with one repeat it may be a code of which most are rare.
        if len(texts) == rows and len(set(texts)) == rows:
            return "has another text in every row, like an identifier"
    # In time order alone: a sorted table would have a clock in its sort key.
    if kind is Kind.NUMERIC and ordered and values.dtype.kind in "iuf":
        number = values.astype(np.float64)
        if np.all(np.diff(number) >= 0) and len(np.unique(number)) >= _CLOCK_DISTINCT:
            return "never falls, like a counter or a clock"
    return None
