"""``verify`` counts again what the tally counted, and says so when a number is wrong."""

import json
import random
from typing import Any

from contracts.wire import PaneDelta, decode, encode
from monitor.verify import verify
from streams.memory import MemoryReader
from streams.ports import Outgoing
from tests.monitor.rig import MINUTE, START, TOPICS, Rig, fraud, labels, predictions, reference


def messy(rig: Rig) -> None:
    """Good events, duplicates, disorder, late ones, odd features and junk, from a fixed seed."""
    shuffled = random.Random(4)
    values: list[bytes | None] = list(predictions(30, 20))
    odd: list[Any] = [None, True, "text", [1], 1e9, -1e9, 10**400, "cut\ud83d", {"a": "\ud83d"}, 12345678]
    for i, value in enumerate(odd):
        event = json.loads(values[i * 7] or b"{}")
        event["event_id"] = f"odd{i}"
        event["features"] = {"amount": value, "country": value} if i % 2 else {"country": value}
        event["weight"] = 2.0**i
        values.insert(100 + i, json.dumps(event).encode().replace(b"12345678", b"1" * 5_000))
    values += [json.dumps(json.loads(values[2] or b"{}") | {"event_id": "o", "segment": {"a": []}}).encode()]
    values += [values[0], values[1], None, b"", b"{", b"[]", b'{"event_id": "x"}', b"\xff"]
    for first in range(0, len(values), 40):
        part = values[first : first + 40]
        shuffled.shuffle(part)
        values[first : first + 40] = part
    values += predictions(1, 5, first=9_000, start=START - 60 * MINUTE)
    rig.send("scores", values)
    rig.send("outcomes", [*labels(range(50)), *labels(range(10))])


def test_a_messy_log_counts_the_same_twice() -> None:
    rig = Rig({"fraud": fraud()})
    rig.send("scores", predictions(5, 10, first=20_000))
    rig.turn(3)
    rig.put_reference(reference())
    rig.turn(2)
    messy(rig)
    rig.turn(4)
    rig.put_reference(reference("2", shift=1.0))
    rig.turn(1)
    rig.send("scores", predictions(10, 20, first=30_000, start=START + 30 * MINUTE, version="2"))
    rig.turn(4)
    found = verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream")
    assert found.differences == []
    assert found.unverifiable == []
    assert found.panes >= 40
    conservation = rig.stage("tally").status()["conservation"]
    assert found.records == sum(row["received"] for row in conservation)
    for outcome in ("tallied", "late", "duplicate", "rejected"):
        assert sum(row[outcome] for row in conservation) > 0


def test_a_count_that_is_off_by_one_is_found() -> None:
    rig = Rig({"fraud": fraud()})
    rig.put_reference(reference())
    rig.send("scores", predictions(5, 20))
    rig.turn(4)
    assert verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream").equal
    value = next(v for v in rig.read(TOPICS.panes.name) if isinstance(decode(v)[0], PaneDelta))
    first = decode(value)[0]
    assert isinstance(first, PaneDelta)
    counts = first.vector().copy()
    counts[:] = 0
    counts[3] = 1
    again = PaneDelta(
        first.model,
        first.version,
        first.digest,
        first.source,
        "",
        first.start,
        first.length,
        0,
        first.first,
        first.width,
        counts.tobytes(),
    )
    record = Outgoing(TOPICS.panes.name, encode([again]), b"fraud")
    rig.log.produce(record.topic, [record.value], keys=[record.key])
    found = verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream")
    assert len(found.differences) == 1
    assert "3: " in found.differences[0]


def test_records_that_retention_removed_are_named_and_not_guessed() -> None:
    rig = Rig({"fraud": fraud()}, partitions=1)
    rig.send("scores", predictions(5, 20))
    rig.turn(4)
    rig.log.trim("scores", 0, 10)
    found = verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream")
    assert any("scores/0" in line for line in found.unverifiable)
