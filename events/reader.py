"""The one reading of events: the records of a topic to columns, the same for every role, command and demo."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import msgspec
import numpy as np

from stationkeeper.events.columns import Rejection
from stationkeeper.events.decoder import Headers, JsonValues
from stationkeeper.events.json_reader import JsonReader, Reading, by_grammar, mended
from stationkeeper.events.mapping import Form, PathKeys
from stationkeeper.events.row_types import nameable

_UNSALTED = np.uint64(0)
"""The salt of readers whose id hashes are compared with those of no other process."""

_NUMBER_STARTS: Final = frozenset(b"-0123456789n")
"""How a JSON number or a null begins: a feature of nothing else is read as a number."""


class EventReader:
    """Reads batches of the topic that a form describes; keeps which features it has learned, nothing of the events.

    What becomes of a record depends on the form and the record alone. Features that were not learned are skipped
    unread; a reader that does not know their names beforehand reads with ``discover``.
    """

    def __init__(self, form: Form, *, salt: np.uint64 = _UNSALTED) -> None:
        self.form = form
        self._values = JsonValues(form)
        self.json = JsonReader(form, salt=salt)
        self._names = FeatureNames(form)

    @property
    def features(self) -> Mapping[str, bool]:
        """The features that are read, and whether each counts as a number."""
        return self.json.features

    def learn(self, features: Mapping[str, bool]) -> None:
        """Read these features from now on: whether each counts as a number."""
        self.json.learn(features)

    def read(self, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> Reading:
        """Return the accepted events by kind as columns, and each other record with its code. O(bytes)."""
        texts, refused = self._values.of(values, headers)
        dropped = _of_refused(self.form, texts) if self.form.refused else []
        if dropped:
            kept = np.delete(np.arange(len(texts)), dropped)
            reading = self.json.read([texts[row] for row in kept.tolist()])
            reading = replace(
                reading,
                events=tuple(replace(events, rows=kept[events.rows]) for events in reading.events),
                rejected=tuple(replace(one, row=int(kept[one.row])) for one in reading.rejected),
                values=texts,
                dropped=tuple(dropped),
            )
        else:
            reading = self.json.read(texts)
        if not refused:
            return reading
        # The reader saw an empty text in its place; the decoder knows why.
        rejected = [Rejection(one.row, *refused[one.row]) if one.row in refused else one for one in reading.rejected]
        return replace(reading, rejected=tuple(rejected))

    def discover(self, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> Reading:
        """Return the same with every feature that the accepted events carry, learning the names that are new.

        A feature that has ever held anything but a number is a category column from then on, which keeps each value's
        JSON type. O(bytes); a batch with a new name or type is read twice.
        """
        reading = self.read(values, headers)
        if reading.known:
            return reading
        # Only records that are events bring names: what is rejected says nothing of the model's features.
        rows = [row for events in reading.events if events.kind != "label" for row in events.rows.tolist()]
        found = self._names.look([reading.values[row] or b"" for row in rows], self.json.features)
        if found == self.json.features:
            return reading
        self.learn(found)
        return self.read(values, headers)


def _of_refused(form: Form, texts: Sequence[bytes | None]) -> list[int]:
    """Return the rows of the records that name a refused model, whatever else is right or wrong about them. O(bytes).

    They are left out before they are read: their kinds and fields may be such that only their own model reads.
    """
    if form.told is None:
        return list(range(len(texts))) if form.model in form.refused else []
    names = [name.encode() for name in form.refused]
    return [
        row
        for row, text in enumerate(texts)
        # One look in C for most: only where a name stands somewhere, or an escape may hide one, the record is decoded.
        if text
        and len(text) <= form.max_bytes
        and (b"\\" in text or any(name in text for name in names))
        and _told(text, form.told) in form.refused
    ]


def _told(text: bytes, path: PathKeys) -> str:
    """Return whose event a record says that it is, "" where it says nothing or cannot be decoded."""
    try:
        try:
            held: Any = msgspec.json.decode(text)
        except msgspec.MsgspecError:
            held = by_grammar(text)
    except (ValueError, RecursionError):
        return ""
    for key in path:
        held = held.get(key) if isinstance(held, dict) else None
    return str(held) if isinstance(held, str | int) and not isinstance(held, bool) else ""


class FeatureNames:
    """Finds the features of one topic's records and whether each holds nothing but numbers and nulls."""

    def __init__(self, form: Form) -> None:
        self._limit, self._text = form.max_fields, frozenset(form.values.text)
        if isinstance(form.features, tuple):
            self._objects: list[tuple[Callable[[bytes], Any], dict[str, str] | None]] = [
                (object_at(form.features), None)
            ]
            return
        parents: dict[PathKeys, dict[str, str]] = {}
        for name, path in form.features.items():
            parents.setdefault(path[:-1], {})[path[-1]] = name
        self._objects = [(object_at(path), names) for path, names in parents.items()]

    def look(self, values: Sequence[bytes], known: Mapping[str, bool]) -> dict[str, bool]:
        """Return ``known`` with what these records add; a number becomes none where a record holds anything else.

        At most as many names as one record may have fields: names that differ from record to record are data in the
        wrong place, and each would cost a column. O(bytes), a Python step a value.
        """
        found = dict(known)
        for value in values:
            for read, names in self._objects:
                held = read(value)
                for key, inner in held.items() if isinstance(held, dict) else ():
                    name = key if names is None else names.get(key)
                    if name is None or (name not in found and len(found) >= self._limit):
                        continue
                    # The first byte decides: the values are not decoded for it.
                    number = memoryview(inner)[0] in _NUMBER_STARTS and name not in self._text
                    found[name] = found.get(name, True) and number
        return found


def object_at(path: PathKeys) -> Callable[[bytes], Any]:
    """Return what reads the object at a path as a dictionary of undecoded values, None where there is none."""
    kind: Any = dict[str, msgspec.Raw] | None
    if not all(map(nameable, path)):
        return partial(_object_by_steps, path)
    for key in reversed(path):
        kind = msgspec.defstruct("Holder", [("inner", kind | None, None)], rename={"inner": key}, gc=False)
    decode = msgspec.json.Decoder(kind).decode

    def read(value: bytes) -> Any:
        try:
            held: Any = decode(value)
        except msgspec.DecodeError:
            if (whole := mended(value)) == value:
                return None
            return read(whole)
        except RecursionError:
            return None
        for _ in path:
            held = getattr(held, "inner", None)
        return held

    return read


def _object_by_steps(path: PathKeys, value: bytes) -> Any:
    """As ``object_at`` reads, for paths with keys that no structure can hold: one object after the other."""
    held: Any = value
    for key in (*path, None):
        try:
            found = msgspec.json.decode(held, type=dict[str, msgspec.Raw] | None)
        except (msgspec.DecodeError, RecursionError):
            return None
        if key is None or not isinstance(found, dict) or key not in found:
            return found if key is None else None
        held = found[key]
    return None
