"""What is wrong with one row: the rules of the contract that its types alone do not hold."""

import math
from collections.abc import Callable
from typing import Any

from stationkeeper.contracts.codes import DeadLetterCode as Code
from stationkeeper.events.mapping import MAX_TEXT, Form
from stationkeeper.events.row_types import ABSENT, NAN, RowType
from stationkeeper.events.text_values import holds_missing_word
from stationkeeper.events.timestamps import parse_instant

Fault = tuple[Code, str]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _shares(value: object) -> bool:
    return isinstance(value, dict) and all(_number(share) for share in value.values())


def _scalars(value: object) -> bool:
    return isinstance(value, dict) and all(v is None or isinstance(v, str | bool | int | float) for v in value.values())


def _finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(_finite(share) for share in value.values())
    try:
        return not isinstance(value, int | float) or math.isfinite(value)
    # An integer of hundreds of digits, which JSON may hold and float64 not.
    except OverflowError:
        return False


# The contract's types, field by field, for rows that the strict pass refused; a boolean is no number.
_ALLOWED: dict[str, Callable[[Any], bool]] = {
    "kind": lambda v: isinstance(v, str),
    "event_id": _name,
    "time": lambda v: isinstance(v, str) or _number(v),
    "model": _name,
    "version": lambda v: v is None or _name(v),
    "prediction": lambda v: v is None or isinstance(v, str | bool | int | float) or _shares(v),
    "label": lambda v: isinstance(v, str | bool | int | float),
    "segment": lambda v: v is None or _scalars(v),
    "weight": lambda v: v is None or _number(v),
    "latency_ms": lambda v: v is None or _number(v),
}
# Numbers that are summed or compared: an infinity (1e400) in them rejects the record, in a feature it is a status.
_FINITE = frozenset({"prediction", "label", "weight", "latency_ms"})


class Faults:
    """Says what is wrong with a row of one form, or None; the batch checks in ``assemble`` find the same rows."""

    def __init__(self, form: Form) -> None:
        self.form = form

    def of_types(self, row_type: RowType, row: Any) -> Fault | None:
        """Return the first field whose type the contract does not allow (for rows that were not read strictly)."""
        for name, get in row_type.get.items():
            value = get(row)
            # That a field is missing has a code of its own, below.
            if value is ABSENT or value is NAN or name not in _ALLOWED:
                continue
            if _ALLOWED[name](value):
                if name in _FINITE and not _finite(value):
                    return (Code.NOT_FINITE, name)
                continue
            return (Code.WRONG_TYPE, name)
        return None

    def of(self, row_type: RowType, row: Any) -> Fault | None:
        """Return the first rule that a row of the right types breaks."""
        get = row_type.get
        kinds = self.form.kinds
        kind: object = get["kind"](row)
        # A topic of one kind says it by its name.
        if kind is ABSENT and len(kinds) == 1:
            kind = kinds[0]
        if kind not in kinds:
            return (Code.UNKNOWN_KIND, "kind")
        # In this order, whichever fault is found first by columns: a record has one code, the same alone or in a batch.
        for name in ("event_id", "time", *(("model",) if "model" in get else ())):
            if get[name](row) is ABSENT:
                return (Code.MISSING_FIELD, name)
        if not 1 <= len(str(get["event_id"](row))) <= MAX_TEXT:
            return (Code.WRONG_TYPE, "event_id")
        if parse_instant(get["time"](row), self.form.time_unit) is None:
            return (Code.BAD_TIME, "time")
        if "model" in get and not self.form.reads(str(get["model"](row))):
            return (Code.UNKNOWN_MODEL, "model")
        return self._version(get, row, str(kind)) or self._values(get, row, str(kind))

    def _version(self, get: Any, row: Any, kind: str) -> Fault | None:
        if "version" not in get:
            return None
        version = get["version"](row)
        if version is ABSENT or version is None:
            return (Code.MISSING_FIELD, "version") if kind == "prediction" else None
        return None if 1 <= len(str(version)) <= MAX_TEXT else (Code.WRONG_TYPE, "version")

    def _values(self, get: Any, row: Any, kind: str) -> Fault | None:
        if kind == "label" and get["label"](row) is ABSENT:
            return (Code.MISSING_FIELD, "label")
        # No label yet: read as one, the label that comes later would be a repeat.
        if kind == "label" and holds_missing_word([get["label"](row)], self.form.values):
            return (Code.WRONG_TYPE, "label")
        if kind == "prediction":
            prediction = get["prediction"](row)
            if isinstance(prediction, dict) and not all(0.0 <= share <= 1.0 for share in prediction.values()):
                return (Code.WRONG_TYPE, "prediction")
            latency = get["latency_ms"](row) if "latency_ms" in get else None
            if latency is not None and latency < 0:
                return (Code.WRONG_TYPE, "latency_ms")
        weight = get["weight"](row) if "weight" in get else None
        return (Code.WRONG_TYPE, "weight") if weight is not None and weight <= 0 else None
