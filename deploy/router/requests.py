"""What callers send: the plain JSON route and KServe v2, both as rows with their identity."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

import msgspec

from stationkeeper.contracts.times import to_ms
from stationkeeper.deploy.router.refusals import Refusal, Refused
from stationkeeper.registry import Column

Value = float | int | bool | str | None
Segment = dict[str, Value]
# msgspec says in words where it failed and offers no field; a caller and our own tests want the name by itself.
_PLACE: Final = re.compile(r"at `\$\.?([^`]*)`")
_KEY: Final = re.compile(r"field `([^`]*)`")
# The last millisecond of the year 9999, beyond which RFC 3339 has no form.
_LAST_MS: Final = 253_402_300_799_999
# The longest that the monitor's reader takes (events.mapping): an answer under a longer one would be no event.
_LONGEST_ID: Final = 512
IDENTITY: Final = ("event_id", "entity_id", "time")


class Instance(msgspec.Struct, forbid_unknown_fields=True):
    """One row of the plain route."""

    features: dict[str, Value]
    event_id: str | None = None
    entity_id: str | None = None
    time: int | str | None = None
    segment: Segment | None = None


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    instances: list[Instance]


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None


class _Infer(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """A request's rows: identity and features; ``times`` are UTC milliseconds, ``single`` says one object was sent."""

    event_ids: Sequence[str]
    entity_ids: Sequence[str | None]
    times: Sequence[int]
    features: Sequence[dict[str, Value]]
    segments: Sequence[Segment | None]
    single: bool = False

    def __len__(self) -> int:
        return len(self.event_ids)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of several requests as one batch, in their order."""
        return cls(
            [one for part in parts for one in part.event_ids],
            [one for part in parts for one in part.entity_ids],
            [one for part in parts for one in part.times],
            [one for part in parts for one in part.features],
            [one for part in parts for one in part.segments],
        )

    def column(self, name: str, rows: Sequence[int] | None = None) -> Column | None:
        """Return one feature of the rows, None when a row has not got it."""
        try:
            return [one[name] for one in self._picked(rows)]
        except KeyError:
            return None

    def padded(self, name: str, rows: Sequence[int] | None = None) -> Column:
        """Return one feature of the rows, null where a row has not got it."""
        return [one.get(name) for one in self._picked(rows)]

    def without(self, name: str) -> int:
        """Return the first row that has not got a feature."""
        return next(index for index, one in enumerate(self.features) if name not in one)

    def _picked(self, rows: Sequence[int] | None) -> Sequence[dict[str, Value]]:
        return self.features if rows is None else [self.features[row] for row in rows]


_batch_decoder = msgspec.json.Decoder(_Batch)
_single_decoder = msgspec.json.Decoder(Instance)
_infer_decoder = msgspec.json.Decoder(_Infer)


def _decode(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        field = _culprit(body) if "[...]" in text else _field(text)
        raise Refused(Refusal.WRONG_TYPE, f"{text}; send the fields of the documented body", field) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        hint = (
            "JSON has no NaN or Infinity; send null"
            if b"NaN" in body or b"Infinity" in body
            else "send one JSON object"
        )
        raise Refused(Refusal.BAD_JSON, f"the body is not JSON: {error}; {hint}") from None


def _field(text: str) -> str | None:
    """Return the path that msgspec's message names: where it looked, and the key that is unknown or missing there."""
    place, key = _PLACE.search(text), _KEY.search(text)
    return ".".join(part for part in (place and place[1], key and key[1]) if part) or None


def _culprit(body: bytes) -> str | None:
    """Return the path of the first feature or segment value that is no scalar; msgspec leaves map keys out."""
    try:
        whole = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return None
    rows = whole.get("instances", [whole])
    for index, row in enumerate(rows if isinstance(rows, list) else [whole]):
        for part in ("features", "segment"):
            found = row.get(part) if isinstance(row, dict) else None
            for name, value in found.items() if isinstance(found, dict) else ():
                if isinstance(value, list | dict):
                    return f"instances[{index}].{part}.{name}"
    return None


def parse_plain(body: bytes, now_ms: int) -> Rows:
    """Read ``{"features": ...}`` or ``{"instances": [...]}``; raises ``Refused`` naming the field."""
    # A guess from the first bytes saves decoding every body twice; where it is wrong (`instances` stands behind another
    # key) the other form is tried below. Eighty hold the first key, however the body is indented.
    single = not body.lstrip()[:80].replace(b" ", b"").startswith(b'{"instances"')
    if single:
        try:
            batch = [_decode(_single_decoder, body)]
        except Refused as refusal:
            # The refusal of the form that was meant is the one to show.
            if b'"instances"' not in body:
                raise
            single = False
            try:
                batch = _decode(_batch_decoder, body).instances
            except Refused:
                # Neither form fits: the first refusal names the field, the second would complain of the other form's
                # fields.
                raise refusal from None
    else:
        batch = _decode(_batch_decoder, body).instances
    return Rows(
        event_ids=[_event_id(one.event_id, index) for index, one in enumerate(batch)],
        entity_ids=[one.entity_id for one in batch],
        times=[_time(one.time, now_ms, index) for index, one in enumerate(batch)],
        features=[one.features for one in batch],
        segments=[one.segment for one in batch],
        single=single,
    )


def parse_infer(body: bytes, now_ms: int) -> tuple[Rows, str | None]:
    """Read a KServe v2 inference request: one input a feature, ``event_id``, ``entity_id`` and ``time`` optional."""
    request = _decode(_infer_decoder, body)
    columns: dict[str, list[Any]] = {}
    for tensor in request.inputs:
        columns[tensor.name] = _flat(tensor)
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        sizes = {name: len(column) for name, column in columns.items()}
        raise Refused(Refusal.WRONG_TYPE, f"inputs differ in rows: {sizes}; send one value a row in each", "inputs")
    rows = lengths.pop() if lengths else 0
    # Popped, because what is left are features: an id among them would be scored.
    ids, entities, times = (columns.pop(name, [None] * rows) for name in IDENTITY)
    names = list(columns)
    values = zip(*columns.values(), strict=True) if columns else ([()] * rows)
    parsed = Rows(
        event_ids=[_event_id(None if one is None else str(one), index) for index, one in enumerate(ids)],
        entity_ids=[None if one is None else str(one) for one in entities],
        times=[_time(one, now_ms, index) for index, one in enumerate(times)],
        features=[dict(zip(names, row, strict=True)) for row in values],
        segments=[None] * rows,
    )
    return parsed, request.id


def _event_id(given: str | None, row: int) -> str:
    """Return the caller's id, or a new one; the monitor would reject a longer one, and with it the answer's trace."""
    if not given:
        return uuid.uuid4().hex
    if len(given) > _LONGEST_ID:
        message = f"event_id has {len(given)} characters, at most {_LONGEST_ID}; send a shorter one"
        raise Refused(Refusal.WRONG_TYPE, message, f"instances[{row}].event_id")
    return given


def _flat(tensor: _Tensor) -> list[Any]:
    if tensor.data is None:
        raise Refused(
            Refusal.WRONG_TYPE, "data is absent: the binary extension is not offered; send JSON data", tensor.name
        )
    if len(tensor.shape) not in {1, 2} or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
        raise Refused(Refusal.WRONG_TYPE, f"shape {tensor.shape} is neither [n] nor [n, 1]", tensor.name)
    data = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in tensor.data]
    if len(data) != tensor.shape[0]:
        raise Refused(Refusal.WRONG_TYPE, f"shape {tensor.shape} but {len(data)} values", tensor.name)
    bad = next((one for one in data if isinstance(one, list | dict)), None)
    if bad is not None:
        raise Refused(Refusal.WRONG_TYPE, f"{bad!r} is no number, text, boolean or null", tensor.name)
    # Clients send 0 and 1 under BOOL; as numbers they would be unseen values of a boolean feature.
    if tensor.datatype == "BOOL":
        return [None if one is None else bool(one) for one in data]
    return data


def _time(value: Any, now_ms: int, row: int) -> int:
    if value is None:
        return now_ms
    where = f"instances[{row}].time"
    # In Python True is 1, which is a moment in 1970.
    if isinstance(value, int) and not isinstance(value, bool):
        ms, advice = value, "epoch milliseconds between 1970 and 9999; send milliseconds, not another unit"
    else:
        try:
            ms, advice = to_ms(datetime.fromisoformat(value)), "a time between 1970 and 9999; send when it happened"
        except (TypeError, ValueError) as error:
            message = f"{value!r} is not a time ({error}); send epoch milliseconds or RFC 3339 with a zone"
            raise Refused(Refusal.BAD_TIME, message, where) from None
    # The monitor rejects an event of any other time, and with it the answer's only trace.
    if not 0 <= ms <= _LAST_MS:
        raise Refused(Refusal.BAD_TIME, f"{value} is not {advice}", where)
    return ms
