"""Reading one record the plain way: what the contract says of its fields, with nothing of the tally's decoder."""

import json
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from stationkeeper.events import MAX_TEXT, Form, PathKeys, number_of, parse_instant, plain_value

MISSING: Final = object()
"""Stands for a field that is not there."""

# Half a surrogate pair, which JSON may spell and UTF-8 may not hold.
_SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


class Found(NamedTuple):
    """A decoded event of a plain kind."""

    kind: str
    id: str
    time: int
    model: str
    version: str
    data: Mapping[str, Any]


class PlainReader:
    """Reads the records of one topic, each on its own."""

    def __init__(self, form: Form, most_bytes: int, most_fields: int) -> None:
        self._form, self._most_bytes, self._most_fields = form, most_bytes, most_fields

    def read(self, value: bytes | None) -> Found | None:
        """Return the event, None for a record that is rejected."""
        data = self._object(value)
        if data is None or _fields(data) > self._most_fields:
            return None
        form = self._form
        kind = self.field(data, "kind")
        # A topic of one kind says it by its name.
        kind = form.kinds[0] if kind is MISSING and len(form.kinds) == 1 else kind
        identity, model = self._text(data, "event_id"), form.model or self._text(data, "model")
        version = form.version or self._text(data, "version")
        time = parse_instant(self.field(data, "time"), form.time_unit)
        if kind not in form.kinds or identity is None or time is None or model not in form.models:
            return None
        # A feature or a label may have no version; one that is there and is no text is a fault.
        if version is None and (kind == "prediction" or self.field(data, "version") not in (MISSING, None)):
            return None
        if not self._sound(data, kind):
            return None
        return Found(kind, identity, time, model, "" if kind == "label" else version or "", data)

    def told(self, value: bytes | None) -> str | None:
        """Return the model that a record names, be it an event or not; None for none."""
        if self._form.told is None:
            return self._form.model
        found = at_path(self._object(value) or {}, self._form.told)
        return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else None

    def _object(self, value: bytes | None) -> dict[str, Any] | None:
        if value is not None and len(value) > self._most_bytes:
            return None
        try:
            data = _plain((value or b"").decode())
        except (ValueError, RecursionError):
            return None
        return data if isinstance(data, dict) else None

    def _sound(self, data: Mapping[str, Any], kind: str) -> bool:
        weight, latency = self.field(data, "weight"), self.field(data, "latency_ms")
        if weight not in (MISSING, None) and not (_number(weight) and weight > 0):
            return False
        segment = self.field(data, "segment")
        if segment not in (MISSING, None) and not (isinstance(segment, dict) and all(map(_scalar, segment.values()))):
            return False
        if kind == "label":
            label = self.field(data, "label")
            return (isinstance(label, str | bool) and label not in self._form.values.na) or _number(label)
        features = self._form.features
        if isinstance(features, tuple):
            held = at_path(data, features)
            if held is not MISSING and not isinstance(held, dict) and not (held is None and not self._form.own):
                return False
        if kind == "feature":
            return True
        if latency not in (MISSING, None) and not (_number(latency) and latency >= 0):
            return False
        answer = self.field(data, "prediction")
        if isinstance(answer, dict):
            return all(_number(share) and 0 <= share <= 1 for share in answer.values())
        return answer is MISSING or answer is None or isinstance(answer, str | bool) or _number(answer)

    def field(self, data: Mapping[str, Any], name: str) -> Any:
        """Return an event's field, ``MISSING`` where it has none."""
        path = self._form.paths.get(name)
        return MISSING if path is None else at_path(data, path)

    def asked(self, data: Mapping[str, Any], name: str) -> Any:
        """Return a field that no column is made of: in another's records, where a name may mean anything, if mapped."""
        form = self._form
        return at_path(data, form.paths.get(name, (name,))) if form.own or name in form.paths else MISSING

    def _text(self, data: Mapping[str, Any], name: str) -> str | None:
        value = self.field(data, name)
        # Ids that are numbers are read as their text; True is no id.
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        return value if isinstance(value, str) and 1 <= len(value) <= MAX_TEXT else None


def _plain(text: str) -> Any:
    """Any JSON value: NaN is null, an integer of more than 4 300 digits an infinity, half a surrogate pair U+FFFD."""
    data = json.loads(
        text,
        parse_constant=lambda name: None if name == "NaN" else float(name),
        # Python converts no longer ones and would refuse the whole record; the tally counts such a number as not
        # finite.
        parse_int=lambda t: float(t) if len(t.lstrip("-")) > 4_300 else int(t),
    )
    if _SURROGATE.search(text):
        data = json.loads(re.sub("[\ud800-\udfff]", "\ufffd", json.dumps(data, ensure_ascii=False)))
    return data


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def at_path(data: Any, path: PathKeys) -> Any:
    """Return what lies at a path, ``MISSING`` if nothing does."""
    for key in path:
        if not isinstance(data, dict) or key not in data:
            return MISSING
        data = data[key]
    return data


def answer_of(form: Form, event: Found) -> Any:
    """Return the prediction as it is counted: of class shares the positive one's, else the likeliest class."""
    answer = at_path(event.data, form.paths["prediction"])
    if answer is MISSING:
        return None
    if not isinstance(answer, dict):
        # A class may be called as a number is missing, so that only the words of the configuration are none here.
        answer = plain_value(answer, form.values, numeric=False)
        decimal = form.values.decimal
        number = number_of(answer, decimal) if isinstance(answer, str) and decimal is not None else None
        return answer if number is None else number
    positive = form.positive.get(event.model, "1")
    if positive in answer:
        return answer[positive]
    # Of equal shares the first by name, so that the order of the keys, which producers do not keep, decides nothing.
    return min(answer, key=lambda name: (-answer[name], name)) if answer else None


def share_of(form: Form, event: Found) -> float | None:
    """Return the probability that came with a class as answer, None where none did."""
    answer = at_path(event.data, form.paths["prediction"])
    if not isinstance(answer, dict) or not answer or form.positive.get(event.model, "1") in answer:
        return None
    return float(max(answer.values()))


def _fields(data: object) -> int:
    """Return how many keys a JSON value has, at every depth."""
    # A list of its own and no recursion: nesting is what the limit of fields is to be safe from.
    total, left = 0, [data]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            total += len(value)
            left += value.values()
        elif isinstance(value, list):
            left += value
    return total
