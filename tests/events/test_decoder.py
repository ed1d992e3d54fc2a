"""Wire formats: Confluent's framing and a third party's decoder, through the reader and the tally."""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.plugins import NotConforming, PluginError
from stationkeeper.contracts.topics import Topics
from stationkeeper.events import EventReader, forms
from stationkeeper.events.conformance import check_decoder
from stationkeeper.events.decoder import ConfluentJson, load_decoder
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.streams.ports import Batch, Partition, Restored

EVENT: dict[str, Any] = {
    "kind": "prediction",
    "event_id": "e1",
    "time": "2026-05-01T12:00:00Z",
    "model": "m",
    "version": "3",
    "features": {"a": 1.5},
    "prediction": 0.4,
}
FRAME = struct.pack(">bI", 0, 7)


def framed(**changes: Any) -> bytes:
    return FRAME + json.dumps(EVENT | changes).encode()


class Pairs:
    """A third party's: the event as ``key=value`` lines, its id in a header."""

    def decode(self, value: bytes, headers: Sequence[tuple[str, bytes]]) -> Any:
        if value == b"none":
            return DeadLetterCode.NOT_AN_OBJECT
        pairs = dict(line.split("=") for line in value.decode().splitlines())
        return EVENT | {"event_id": dict(headers)["id"].decode(), "prediction": float(pairs["p"])}


class NotADecoder:
    """Has no ``decode``."""


def model(decoder: str) -> ModelSettings:
    return ModelSettings.model_validate({"name": "m", "predictions": {"topic": "t", "decoder": decoder}})


def reader(decoder: str) -> EventReader:
    return EventReader(forms([model(decoder)])["t"])


def test_framed_json_is_counted_by_the_tally_and_a_frame_that_is_none_is_a_dead_letter() -> None:
    stage = Tally({"m": model("confluent-json")}, Topics("test"), clock="stream")
    partition = Partition("t", 0)
    stage.assigned(frozenset({partition}), Restored())
    values = [framed(), framed(event_id="e2"), json.dumps(EVENT).encode(), FRAME, b"\1" + framed()[1:], None]
    values += [FRAME + b"{", framed(time="never")]
    n = len(values)
    stage.absorb(Batch(partition, np.arange(n), np.full(n, 1_777_640_000_000), [None] * n, values, n))
    letters = [one for one in stage.flush(0) if one.topic == "t.dlq"]
    stage.committed()
    assert [one.value for one in letters] == [value or None for value in values[2:]], "as they came"
    status = stage.status()
    assert status["dead_letters"] == {"bad_time": 1, "empty_value": 1, "not_json": 4}
    assert status["conservation"][0]["tallied"] == 2


def test_a_decoder_by_import_path_gets_the_headers_and_may_give_an_object() -> None:
    made = reader("tests.events.test_decoder:Pairs")
    values, headers = [b"p=0.25", b"none", b"\xff", b"p=0.5"], [[("id", name)] for name in (b"x", b"y", b"z", b"w")]
    found = made.discover(values, headers)
    assert [(one.row, one.code.value, one.detail) for one in found.rejected] == [
        (1, "not_an_object", "decoder tests.events.test_decoder:Pairs"),
        (2, "not_json", "decoder tests.events.test_decoder:Pairs"),
    ]
    (events,) = found.events
    assert events.rows.tolist() == [0, 3]
    assert events.prediction is not None
    assert events.prediction.plain() == [0.25, 0.5]
    assert events.features["a"].plain() == [1.5, 1.5]


def test_the_limit_of_bytes_holds_for_the_framed_value() -> None:
    limits = {"limits": {"message_bytes": 1_024}}
    settings = ModelSettings.model_validate(model("confluent-json").model_dump(exclude_defaults=True) | limits)
    made = EventReader(forms([settings])["t"])
    found = made.read([framed(note="x" * 2_000), framed()])
    assert [(one.row, one.code.value) for one in found.rejected] == [(0, "too_large")]


@pytest.mark.parametrize(
    ("name", "said"),
    [("avro", "not an extension"), ("tests.events.test_decoder:NotADecoder", "no method decode")],
)
def test_a_decoder_that_is_none_is_named(name: str, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        load_decoder(name)


def test_the_shipped_decoder_conforms() -> None:
    check_decoder(ConfluentJson(), [(framed(), (), EVENT), (b"{}", (), DeadLetterCode.NOT_JSON)])


class Counting(ConfluentJson):
    """Answers differently each time."""

    def __init__(self) -> None:
        self.calls = 0

    def decode(self, value: bytes, headers: Any) -> Any:
        self.calls += 1
        return {"calls": self.calls}


class Brittle(ConfluentJson):
    """Raises what is no ``ValueError`` for a short value."""

    def decode(self, value: bytes, headers: Any) -> Any:
        struct.unpack(">bI", value[:5])
        return super().decode(value, headers)


class Strange(ConfluentJson):
    """Gives what JSON does not have."""

    def decode(self, value: bytes, headers: Any) -> Any:
        return {"a": object()}


@pytest.mark.parametrize(
    ("decoder", "expected", "said"),
    [
        (Counting(), {"calls": 1}, "should give"),
        (Brittle(), EVENT, "only ValueError"),
        (Strange(), EVENT, "JSON does not have"),
        (ConfluentJson(), {}, "should give"),
        (ConfluentJson(), DeadLetterCode.NOT_JSON, "no example"),
        (NotADecoder(), EVENT, "no method"),
    ],
)
def test_what_breaks_a_rule_is_told_which(decoder: Any, expected: Any, said: str) -> None:
    with pytest.raises(NotConforming, match=said):
        check_decoder(decoder, [(framed(), (), expected)])
