"""A batch of JSON texts to columns of events, and every text that is no event with its closed code."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from stationkeeper.contracts.codes import DeadLetterCode as Code
from stationkeeper.events.assemble import assemble
from stationkeeper.events.columns import Events, Rejection
from stationkeeper.events.faults import Faults
from stationkeeper.events.mapping import Form
from stationkeeper.events.raw import Raw, chunk_rows
from stationkeeper.events.row_types import NotAnObject, row_type

_ESCAPE = re.compile(
    rb"\\(?:ud[89ab][\da-f]{2}\\ud[c-f][\da-f]{2}|(ud[89a-f][\da-f]{2})|.)",
    re.IGNORECASE | re.DOTALL,
)
"""An escape within a string: both halves of a pair, one half alone (the group), or any other."""


def mended(value: bytes) -> bytes:
    """Return JSON text with U+FFFD in place of each half that stands alone, of the same length. O(bytes)."""
    return _ESCAPE.sub(lambda found: found[0] if found[1] is None else rb"\ufffd", value)


_STRING = re.compile(rb'("(?:[^"\\]|\\.)*")', re.DOTALL)
"""A string of JSON with its quotes: what stands between two of them is JSON's own, and no value of the producer's."""

_N, _I = b"NI"
"""How NaN and Infinity begin: a single byte is looked for twenty times as quickly as a word."""


def _spelled(value: bytes | None) -> bool:
    """Whether NaN or Infinity may stand in a record, within a string or bare."""
    return value is not None and ((_N in value and b"NaN" in value) or (_I in value and b"Infinity" in value))


def finite(value: bytes, infinity: bytes = b"null") -> bytes:
    """Return JSON text with null for each bare NaN and ``infinity`` for each infinity, as ``json.dumps`` writes them.

    Strings stay as they are; what was no JSON for another reason stays none. O(bytes), no Python step for a field.
    """
    # Such a record is no JSON, and splitting at its own zero bytes could make it one.
    if _SEAM in value:
        return value
    if b"\\" in value:
        parts, between = _STRING.split(value), b""
    else:
        parts, between = value.split(b'"'), b'"'
    bare = _SEAM.join(parts[::2]).replace(b"NaN", b"null")
    if b"Infinity" in bare:
        # The longer word first, or its minus would be left behind.
        bare = bare.replace(b"-Infinity", infinity).replace(b"Infinity", infinity)
    parts[::2] = bare.split(_SEAM)
    return between.join(parts)


_SEAM = b"\0"
"""Joins what stands outside of strings, to be looked through at once: a byte that no JSON text may hold."""

_MOST_DIGITS = 4_300
"""Python reads and writes no integer of more digits (its own default since 3.11); float64 ends at 309."""

_OPEN_BATCHES = 64
"""After a batch that the closed form refused, this many are not tried by it: the next ones are probably alike.

Chosen: a refused try costs up to one pass over the batch, so a producer with a field more than the reference knows pays
at most 1/64 more; half of it pays twice that, double finds out twice as late that the field is gone.
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of a batch: events by kind and the rejected records; together they are all its records.

    But for the ``dropped`` ones, by their rows: they are of models whose entry in the configuration is refused.
    ``known`` says that no event holds a feature that the reader has not learned; False leaves it open. ``values`` are
    the JSON texts that were read.
    """

    events: tuple[Events, ...]
    rejected: tuple[Rejection, ...]
    known: bool = False
    values: Sequence[bytes | None] = ()
    dropped: tuple[int, ...] = ()


class JsonReader:
    """JSON objects in the form that a mapping describes, by msgspec structures made for the known features.

    The fate of a record is a function of that record alone: the whole batch takes one strict pass, and only records
    that it refuses are looked at one by one, with the strict pass first again. So both accept the same records.
    """

    def __init__(self, form: Form, *, salt: np.uint64) -> None:
        self.form = form
        self._salt = salt
        self._max_bytes, self._max_fields = form.max_bytes, form.max_fields
        # A field takes at least four bytes ("":0 and a comma), so that short records cannot have too many.
        self._suspicious = min(form.max_bytes, 4 * form.max_fields)
        self._faults = Faults(form)
        self.features: dict[str, bool] = {}
        self._open_for = 0
        self._constants = False
        self.row_type = row_type(form, self.features)

    def learn(self, features: Mapping[str, bool]) -> None:
        """Read these features from now on: whether each counts as a number. Others are skipped unread."""
        if dict(features) != self.features:
            self.features, self._open_for = dict(features), 0
            self.row_type = row_type(self.form, self.features)

    def read(self, values: Sequence[bytes | None]) -> Reading:
        """Return the events and rejections of a batch; a record's fate does not depend on its neighbours. O(bytes)."""
        texts: Sequence[bytes | None] = values
        if self._constants:
            texts = [finite(value) if value and _spelled(value) else value for value in values]
        # The closed form costs nothing more and shows that no feature is unknown: then nobody has to look for any.
        closed = self.row_type.closed if self._open_for == 0 else None
        raw = None if closed is None else self._strict(values, texts, closed)
        known = raw is not None
        if raw is None:
            decode = self.row_type.decode
            if not self._constants and any(map(_spelled, values)):
                # json.dumps of a table with holes: from now on this topic's texts are looked through beforehand.
                self._constants = True
                return self.read(values)
            self._open_for = max(self._open_for - 1, 0) if closed is None else _OPEN_BATCHES
            raw = self._strict(values, texts, decode)
        if raw is not None:
            events = assemble(raw, self.form, None, self._salt)
            if events is not None:
                return Reading(events, (), known, texts)
        return self.one_by_one(values)

    def one_by_one(self, values: Sequence[bytes | None]) -> Reading:
        """Return the same as ``read`` looking at each record apart.

        Good records among refused ones still go to columns in one piece; only records with odd features, or one that
        breaks a rule beyond its types, make each row be looked at.
        """
        kept: list[Any] = []
        index: list[int] = []
        rejected: list[Rejection] = []
        odd = False
        for i, value in enumerate(values):
            row = self._examine(value)
            if row is None:
                row = self._loose(value or b"")
                odd = odd or not isinstance(row, tuple)
            if isinstance(row, tuple):
                rejected.append(Rejection(i, *row))
            else:
                kept.append(row)
                index.append(i)
        if not odd:
            raw = Raw(self.row_type)
            size = chunk_rows(len(self.features))
            for first in range(0, len(kept), size):
                raw.add(kept[first : first + size])
            events = assemble(raw, self.form, np.array(index, np.int64), self._salt)
            if events is not None:
                return Reading(events, tuple(rejected), values=values)
        return replace(self._row_by_row(kept, index, rejected), values=values)

    def _row_by_row(self, rows: list[Any], index: list[int], rejected: list[Rejection]) -> Reading:
        kept: list[int] = []
        for at, row in enumerate(rows):
            fault = self._faults.of(self.row_type, row)
            if fault is None:
                kept.append(at)
            else:
                rejected.append(Rejection(index[at], *fault))
        raw = Raw(self.row_type)
        raw.add_odd([rows[at] for at in kept])
        events = assemble(raw, self.form, np.array([index[at] for at in kept], np.int64), self._salt)
        if events is None:
            # Both ways hold the same rules; a difference is a fault of ours, not of the record.
            raise AssertionError("a record without a fault could not be put into columns")
        return Reading(events, tuple(sorted(rejected, key=lambda one: one.row)))

    def _strict(
        self, values: Sequence[bytes | None], texts: Sequence[bytes | None], decode: Callable[[bytes], Any]
    ) -> Raw | None:
        """The fields of the whole batch, or None if any record is not plainly good; ``texts`` have null for NaN."""
        raw = Raw(self.row_type)
        try:
            size = chunk_rows(len(self.features))
            for first in range(0, len(texts), size):
                part: Sequence[bytes] = texts[first : first + size]  # type: ignore[assignment]
                if max(map(len, part)) > self._suspicious and any(map(self._too_much, part)):
                    return None
                # msgspec checks UTF-8 only in what it keeps; which fields are known must not decide a record's fate.
                if not all(map(bytes.isascii, part)):
                    b"\n".join(part).decode()
                rows = list(map(decode, part))
                infinite: dict[int, Any] = {}
                if texts is not values:
                    infinite = {
                        row: decode(finite(value, b"0"))
                        for row, value in enumerate(values[first : first + size])
                        if value and _I in value and b"Infinity" in value
                    }
                if not raw.add(rows, infinite):
                    return None
        except (TypeError, UnicodeDecodeError, RecursionError, msgspec.MsgspecError):
            return None
        return raw

    def _too_much(self, value: bytes) -> bool:
        """Whether a record is too long or may have too many fields, each of which takes a colon."""
        if len(value) <= self._suspicious:
            return False
        # Five times as quick as bytes.count, which begins anew at every colon.
        return len(value) > self._max_bytes or _colons(value) > self._max_fields

    def _examine(self, value: bytes | None) -> Any:
        """A row by the strict pass, None if that refuses it, or the code and detail of what is wrong at once."""
        if not value:
            return (Code.EMPTY_VALUE, "")
        if len(value) > self._max_bytes:
            return (Code.TOO_LARGE, f"{len(value)} bytes, limit {self._max_bytes}")
        try:
            value.decode()
        except UnicodeDecodeError:
            return (Code.NOT_UTF8, "")
        try:
            if not self._too_much(value):
                # An infinity is no null, so that such a record is looked at by the standard library.
                plain = finite(value) if _spelled(value) and b"Infinity" not in value else value
                return self.row_type.decode(plain)
        except RecursionError:
            return (Code.TOO_DEEP, "")
        except msgspec.MsgspecError:
            pass
        return None

    def _loose(self, value: bytes) -> Any:
        """A row of a record that the strict pass refused: odd features count as such, all else is a rejection."""
        try:
            try:
                data = msgspec.json.decode(value)
            except msgspec.MsgspecError:
                data = by_grammar(value)
        except RecursionError:
            return (Code.TOO_DEEP, "")
        except ValueError:
            return (Code.NOT_JSON, "")
        if not isinstance(data, dict):
            return (Code.NOT_AN_OBJECT, type(data).__name__)
        if self._too_much(value) and (fields := _count_fields(data)) > self._max_fields:
            return (Code.TOO_MANY_FIELDS, f"{fields} fields, limit {self._max_fields}")
        try:
            row = self.row_type.build(data)
        except NotAnObject as error:
            return (Code.WRONG_TYPE, str(error))
        return self._faults.of_types(self.row_type, row) or self._faults.of(self.row_type, row) or row


def _colons(value: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(value, np.uint8) == ord(":")))


_CONSTANTS = {"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}
"""What the words mean that ``json.dumps`` writes and JSON does not have: no value, and a number beyond any."""


def by_grammar(value: bytes) -> Any:
    """What the standard library reads where msgspec refuses; raises ``ValueError`` for no JSON.

    NaN is null. A number beyond float64 is an infinity, as the word is, and half a surrogate pair U+FFFD: both are
    valid JSON.
    """
    text = mended(value).decode()
    return json.loads(text, parse_int=_integer, parse_constant=_CONSTANTS.__getitem__)


def _integer(text: str) -> int | float:
    return int(text) if len(text.lstrip("-")) <= _MOST_DIGITS else float(text)


def _count_fields(data: Any) -> int:
    # A list of its own and no recursion: depth is what such a record may have too much of.
    total, open_ = 0, [data]
    while open_:
        node = open_.pop()
        if isinstance(node, dict):
            total += len(node)
            open_.extend(node.values())
        elif isinstance(node, list):
            open_.extend(node)
    return total
