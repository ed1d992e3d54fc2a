"""Records of a topic or a JSONL file as they were sampled: their decoder, their objects, their fields as paths."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from stationkeeper.config import Config
from stationkeeper.events import (
    KINDS,
    EventReader,
    Events,
    Form,
    JsonValues,
    Kind,
    PathKeys,
    Reading,
    forms,
    own_form,
)
from stationkeeper.events.decoder import Headers
from stationkeeper.events.settings import JSON, TimeUnit

CONFLUENT: Final = "confluent-json"
# The frame of Confluent's serialisers begins with a zero byte, which no JSON text does, and takes five bytes.
_FRAME: Final = 5
# How deep objects are looked into; deeper ones are one leaf, so that an odd record cannot nest without end. Chosen: at
# half, fields of an envelope in an envelope are not found; double finds more paths than a person reads.
MAX_DEPTH: Final = 6
Leaf = tuple[PathKeys, Any]
# Shares of classes sum to 1 but for rounding; a hundredth allows two digits a class, and an object of other numbers
# between 0 and 1 seldom comes so near.
_ROUNDING: Final = 0.01


@dataclass(frozen=True, slots=True)
class RecordSample:
    """Records as they lie in a topic: ``values``, their ``headers`` (may be empty) and the decoder that reads them."""

    source: str
    values: tuple[bytes | None, ...]
    headers: tuple[Headers, ...] = ()
    decoder: str = JSON

    def objects(self) -> list[Mapping[str, Any]]:
        """Return the JSON objects among the records. O(bytes)."""
        texts, _ = JsonValues(replace(own_form(), decoder=self.decoder)).of(self.values, self.headers)
        found: list[Mapping[str, Any]] = []
        for text in texts:
            try:
                value = json.loads(text or b"")
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                found.append(value)
        return found

    def read(self, form: Form) -> Reading:
        """Return the sample as every role reads it."""
        return EventReader(replace(form, decoder=self.decoder)).discover(self.values, self.headers)

    def in_own_form(self, kind: Kind) -> tuple[Events, ...]:
        """Return the events if at least half of the records have the form of ours, and some are events, else none.

        A record that says no kind is of ``kind``. One whose fields lie beside ``features`` is no event of ours, for
        they would never be watched.
        """
        objects = self.objects()
        # Broken events are no reason for a mapping: `check` says what is wrong with each.
        shaped = sum(one.keys() >= _NEEDED for one in objects)
        for kinds in (KINDS, (kind,)):
            events = self.read(own_form(kinds)).events
            if 2 * shaped < len(objects) or not sum(map(len, events)):
                continue
            strange = sum(bool(one.keys() - _OWN_KEYS) for one in objects)
            if 2 * strange < len(objects):
                return tuple(one for one in events if len(one))
        return ()

    def as_written(self, config: Config, topic: str) -> Counter[str]:
        """Return what becomes of the records under a configuration: how many are ``read``, and each code's number."""
        reading = EventReader(forms(list(config.models.values()))[topic]).discover(self.values, self.headers)
        found = Counter(one.code.value for one in reading.rejected)
        found["read"] = sum(map(len, reading.events))
        return found


# Without one of these three no record is an event of ours, whatever else it holds.
_NEEDED: Final = frozenset({"event_id", "time", "model"})
_OWN_KEYS: Final = frozenset({*own_form().paths, "features", "schema_version"})


def sampled(source: str, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> RecordSample:
    """Return the sample with the decoder that its records need: most begin with the frame of Confluent, or none."""
    held = [value for value in values if value]
    framed = sum(value[0] == 0 and len(value) > _FRAME for value in held)
    # The majority decides: a topic may hold a few records of before its serialiser was changed.
    return RecordSample(source, tuple(values), tuple(headers), CONFLUENT if 2 * framed > len(held) else JSON)


def leaves(value: Mapping[str, Any], whole: Callable[[PathKeys, Any], bool], above: PathKeys = ()) -> Iterator[Leaf]:
    """Yield each field that holds no object with its keys; an object that ``whole`` says to be one is one field."""
    for key, inner in value.items():
        path = (*above, key)
        if isinstance(inner, dict) and inner and len(path) <= MAX_DEPTH and not whole(path, inner):
            yield from leaves(inner, whole, path)
        else:
            yield path, inner


def is_shares(value: object) -> bool:
    """Return whether this is an object of at least two numbers between 0 and 1 that sum to 1: a share a class."""
    if not isinstance(value, dict) or len(value) < 2:
        return False
    shares = list(value.values())
    # A boolean is a number to Python, and two flags of which one is set would look like shares.
    if not all(isinstance(share, int | float) and not isinstance(share, bool) for share in shares):
        return False
    return all(0 <= share <= 1 for share in shares) and abs(sum(shares) - 1) <= _ROUNDING


def unit_of(numbers: Sequence[float]) -> TimeUnit | None:
    """Return the unit in which nearly all of these epochs lie between 1990 and 2100, None for other numbers."""
    for unit, per_second in _PER_SECOND.items():
        low, high = _EARLY * per_second, _LATE * per_second
        if numbers and sum(low <= number < high for number in numbers) >= NEARLY * len(numbers):
            return unit
    return None


# No service logged events before 1990, and none will write times after 2100; the ranges of the units do not touch.
_EARLY, _LATE = 631_152_000, 4_102_444_800
# The units of ``time_unit``; the spans above lie apart in each, so that the order does not matter.
_PER_SECOND: Final[Mapping[TimeUnit, int]] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# Of a hundred records a few may be broken; a column of which a tenth is no time is something else.
NEARLY: Final = 0.9
