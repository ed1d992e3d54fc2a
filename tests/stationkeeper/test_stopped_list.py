"""Which topics ``dead-letters list`` says are not read any more."""

import contextlib
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from stationkeeper.commands import rejected
from stationkeeper.streams.ports import Partition


def test_a_stopped_topic_without_letters_is_listed_with_every_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("t: created again; topics accept-new t", "t: 1000 in a row; topics resume t")
    states = {
        Partition("t", at): SimpleNamespace(partition=Partition("t", at), stopped=why) for at, why in enumerate(words)
    }

    @contextlib.contextmanager
    def opened(_config: Any) -> Iterator[tuple[Any, Any, Any]]:
        yield None, None, None

    monkeypatch.setattr("stationkeeper.process.wiring.open_reader", opened)
    monkeypatch.setattr("stationkeeper.streams.dead_letters.box.summary", lambda _reader, _topic: [])
    monkeypatch.setattr(rejected, "partition_states", lambda *_: states)
    monkeypatch.setattr(rejected, "_rejecting", lambda _settings: ["t"])
    rejected.list_rejected(None, json=True)
    found = capsys.readouterr()
    assert json.loads(found.out) == [{"topic": "t", "count": 0, "stopped": "; ".join(words)}]
    assert all(one in found.err for one in words)
