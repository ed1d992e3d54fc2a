"""The plain way to count: one event at a time, with dictionaries, in no hurry; what ``verify`` holds the tally against.

Nothing of the tally's decoding, columns, hashing or grouping is used: only the frozen cells and the rules in words.
"""

import json
import math
import re
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from contracts.codes import Outcome
from monitor.core.cells import LOWEST_OCTAVE, OCTAVES, QUALITY, CategoricalCells, NumericCells
from monitor.core.column import canonical_key, json_type
from monitor.core.reference import Reference, Subject
from monitor.faults import MAX_TEXT
from monitor.instants import parse_instant
from monitor.mapping import Form, PathKeys
from monitor.settings import ModelSettings

_MISSING = object()
_SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


class Key(NamedTuple):
    """What a pane is of."""

    model: str
    version: str
    digest: str
    source: str
    segment: str
    start: int


class Found(NamedTuple):
    """A decoded event of a plain kind."""

    kind: str
    id: str
    time: int
    model: str
    version: str
    data: Mapping[str, Any]


class Recount:
    """The outcomes and pane counts of one input partition, from its first record on."""

    def __init__(
        self,
        form: Form,
        models: Mapping[str, ModelSettings],
        *,
        wall: bool,
        left_out: Callable[[str], Collection[str]] = lambda _: (),
    ) -> None:
        self._form, self._models, self._wall, self._left_out = form, models, wall, left_out
        self._versions: dict[str, set[str]] = {}
        self.outcomes: Counter[str] = Counter()
        self.rows: Counter[Key] = Counter()
        self.cells: dict[Key, Counter[int]] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self._clock: int | None = None
        self._horizon = max(models[name].dedupe for name in form.models)
        self._most_bytes = max(models[name].limits.message_bytes for name in form.models)
        self._most_fields = max(models[name].limits.fields for name in form.models)

    def take(self, offset: int, stamp: int, value: bytes | None, references: Mapping[str, Reference | None]) -> None:
        """Count one record; ``references`` by ``model/version`` are those in force at its offset."""
        event = self._read(value)
        if event is None:
            self.outcomes[Outcome.REJECTED] += 1
            return
        settings = self._models[event.model]
        if event.kind != "label":
            event = event._replace(version=self._place(event, references))
        reference = references.get(f"{event.model}/{event.version}")
        if self._wall and stamp >= 0 and event.time > stamp + settings.skew:
            self.outcomes[Outcome.REJECTED] += 1
            self._note("mistimed", event, reference)
            return
        key = (event.kind, event.id)
        before = self._seen.get(key)
        self._seen[key] = offset
        if before is not None and offset - before <= self._horizon and self._horizon:
            self.outcomes[Outcome.DUPLICATE] += 1
            self._note("duplicates", event, reference)
            return
        bound = settings.label_horizon if event.kind == "label" else settings.lateness
        late = self._clock is not None and event.time < self._clock - bound
        self._clock = event.time if self._clock is None else max(self._clock, event.time)
        if late:
            self.outcomes[Outcome.LATE] += 1
            self._note("late", event, reference)
            return
        self.outcomes[Outcome.TALLIED] += 1
        if event.kind != "label":
            self._count(event, reference)
            self._look(offset, event, reference)

    def _place(self, event: Found, references: Mapping[str, Reference | None]) -> str:
        """The version as it is counted: first come, up to the limit.

        One with a reference of its own always has a place; the record of references then names it.
        """
        mine = self._versions.setdefault(event.model, set())
        if event.version not in mine:
            limit = self._models[event.model].limits.versions
            if len(mine) >= limit and f"{event.model}/{event.version}" not in references:
                return "(other)"
            mine.add(event.version)
        return event.version

    def _look(self, offset: int, event: Found, reference: Reference | None) -> None:
        """Features that the reference does not know, in every eighth record, each counted eight times."""
        features = self._form.features
        settings = self._models[event.model]
        if reference is None or settings.source != event.kind or not isinstance(features, tuple):
            return
        if (offset * 0x9E3779B1 >> 16) % 8:
            return
        held = _at(event.data, features)
        unseen = [name for name in held if name not in self._known(reference)] if isinstance(held, dict) else []
        if unseen:
            pane = settings.pane
            key = Key(event.model, event.version, reference.digest, event.kind, "", event.time // pane * pane)
            self.cells[key][reference.layout.pane_counter("unseen_fields")] += 8 * len(unseen)

    def _known(self, reference: Reference) -> set[str]:
        return {*reference.by_name, *self._left_out(reference.digest)}

    def _note(self, counter: str, event: Found, reference: Reference | None) -> None:
        if reference is None or self._clock is None:
            return
        pane = self._models[event.model].pane
        key = Key(event.model, event.version, reference.digest, event.kind, "", self._clock // pane * pane)
        self.cells.setdefault(key, Counter())[reference.layout.pane_counter(counter)] += 1

    def _count(self, event: Found, reference: Reference | None) -> None:
        settings = self._models[event.model]
        digest = "" if reference is None else reference.digest
        start = event.time // settings.pane * settings.pane
        key = Key(event.model, event.version, digest, event.kind, "", start)
        self.rows[key] += 1
        mine = self.cells.setdefault(key, Counter())
        if reference is None:
            return
        inputs = settings.source == event.kind
        for subject in reference.subjects:
            if subject is reference.prediction:
                if event.kind == "prediction":
                    _tally(mine, reference, subject, _score(self._form, event))
            elif inputs:
                path = self._form.feature_path(subject.name)
                _tally(mine, reference, subject, _MISSING if path is None else _at(event.data, path))
        weight = self._field(event.data, "weight")
        if weight is not _MISSING and weight is not None:
            octave = min(max(math.frexp(weight)[1] + 16, 0), 31)
            mine[reference.layout.weights.start + octave] += 1

    def _read(self, value: bytes | None) -> Found | None:
        if value is not None and len(value) > self._most_bytes:
            return None
        try:
            data = _plain((value or b"").decode())
        except (ValueError, RecursionError):
            return None
        if not isinstance(data, dict) or _fields(data) > self._most_fields:
            return None
        form = self._form
        kind = self._field(data, "kind")
        kind = form.kinds[0] if kind is _MISSING and len(form.kinds) == 1 else kind
        identity, model = self._text(data, "event_id"), form.model or self._text(data, "model")
        version = form.version or self._text(data, "version")
        time = parse_instant(self._field(data, "time"), form.time_unit)
        if kind not in form.kinds or identity is None or time is None or model not in form.models:
            return None
        if version is None and (kind == "prediction" or self._field(data, "version") not in (_MISSING, None)):
            return None
        if not self._sound(data, kind):
            return None
        return Found(kind, identity, time, model, "" if kind == "label" else version or "", data)

    def _sound(self, data: Mapping[str, Any], kind: str) -> bool:
        weight, latency = self._field(data, "weight"), self._field(data, "latency_ms")
        if weight not in (_MISSING, None) and not (_number(weight) and weight > 0):
            return False
        segment = self._field(data, "segment")
        if segment not in (_MISSING, None) and not (isinstance(segment, dict) and all(map(_scalar, segment.values()))):
            return False
        if kind == "label":
            label = self._field(data, "label")
            return isinstance(label, str | bool) or _number(label)
        features = self._form.features
        if isinstance(features, tuple):
            held = _at(data, features)
            if held is not _MISSING and not isinstance(held, dict) and not (held is None and not self._form.own):
                return False
        if kind == "feature":
            return True
        if latency not in (_MISSING, None) and not (_number(latency) and latency >= 0):
            return False
        answer = self._field(data, "prediction")
        if isinstance(answer, dict):
            return all(_number(share) and 0 <= share <= 1 for share in answer.values())
        return answer is _MISSING or answer is None or isinstance(answer, str | bool) or _number(answer)

    def _field(self, data: Mapping[str, Any], name: str) -> Any:
        path = self._form.paths.get(name)
        return _MISSING if path is None else _at(data, path)

    def _text(self, data: Mapping[str, Any], name: str) -> str | None:
        value = self._field(data, name)
        if not self._form.own and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        return value if isinstance(value, str) and 1 <= len(value) <= MAX_TEXT else None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _plain(text: str) -> Any:
    """Any JSON value: an integer of more than 4 300 digits is an infinity, half a surrogate pair U+FFFD."""
    data = json.loads(
        text, parse_constant=_refuse, parse_int=lambda t: float(t) if len(t.lstrip("-")) > 4_300 else int(t)
    )
    if _SURROGATE.search(text):
        data = json.loads(re.sub("[\ud800-\udfff]", "\ufffd", json.dumps(data, ensure_ascii=False)))
    return data


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def _at(data: Any, path: PathKeys) -> Any:
    for key in path:
        if not isinstance(data, dict) or key not in data:
            return _MISSING
        data = data[key]
    return data


def _score(form: Form, event: Found) -> Any:
    answer = _at(event.data, form.paths["prediction"])
    if answer is _MISSING:
        return None
    if not isinstance(answer, dict):
        return answer
    positive = form.positive.get(event.model, "1")
    if positive in answer:
        return answer[positive]
    return min(answer, key=lambda name: (-answer[name], name)) if answer else None


def _tally(mine: Counter[int], reference: Reference, subject: Subject, value: Any) -> None:
    place, cells = reference.layout[subject.name], subject.cells

    def fails(check: str, *, missing: bool = True) -> None:
        mine[place.quality + QUALITY.index(check)] += 1
        if missing:
            mine[place.missing] += 1

    if value is _MISSING:
        fails("absent")
    elif value is None:
        fails("null")
    elif isinstance(cells, NumericCells):
        if not isinstance(value, bool | int | float):
            fails("wrong_type")
        elif (isinstance(value, int) and abs(value) > 10**308) or not math.isfinite(value):
            fails("not_finite")
        else:
            number = float(value)
            mine[place.first + bisect_left(cells.edges.tolist(), number)] += 1
            if not cells.low <= number <= cells.high:
                fails("below" if number < cells.low else "above", missing=False)
                octave = min(max(math.frexp(number)[1] - LOWEST_OCTAVE, 0), OCTAVES - 1)
                mine[place.octaves.start + octave] += 1
    else:
        _tally_category(mine, place.first, cells, subject, value, fails)


def _tally_category(
    mine: Counter[int], first: int, cells: CategoricalCells, subject: Subject, value: Any, fails: Any
) -> None:
    key = canonical_key(value)
    if key is None:
        fails("not_finite" if json_type(value) == "number" else "wrong_type")
        return
    found, unseen = cells.lookup([key])
    mine[first + int(found[0])] += 1
    if bool(unseen[0]):
        fails("unseen", missing=False)
    if subject.json_type and json_type(value) != subject.json_type:
        fails("wrong_type", missing=False)


def _fields(data: object) -> int:
    """Return how many keys a JSON value has, at every depth."""
    total, left = 0, [data]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            total += len(value)
            left += value.values()
        elif isinstance(value, list):
            left += value
    return total
