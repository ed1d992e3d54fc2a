"""What exactness rests on is pinned: names by slot, session, assignor, isolation, metadata age, no silent reset."""

from typing import Any

import pytest
from kafka.coordinator.assignors.range import RangePartitionAssignor

from stationkeeper.contracts.topics import DAY_MS, Topics
from stationkeeper.streams.connect import reader_for, sink_for, source_for
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.ports import Outgoing
from stationkeeper.streams.settings import KafkaSettings
from tests.conformance.counting import Counting

SLOT = KafkaSettings(prefix="bank", instance="3")


def taken(monkeypatch: pytest.MonkeyPatch, place: str, call: Any) -> dict[str, Any]:
    """The options that the client at ``place`` is made with; the client itself is not."""
    seen: list[dict[str, Any]] = []

    def client(config: dict[str, Any] | None = None, **options: Any) -> Any:
        seen.append({**(config or {}), **options})
        raise Retryable("not here")

    monkeypatch.setattr(place, client)
    with pytest.raises(Retryable):
        call()
    return seen[0]


def test_the_defaults_are_the_pinned_ones() -> None:
    assert (SLOT.session_timeout, SLOT.metadata_max_age, SLOT.transaction_timeout) == (10_000, 30_000, 15_000)
    assert SLOT.member("tally") == "bank.tally.3"
    assert SLOT.member("tally") == KafkaSettings(prefix="bank", instance="3").member("tally")
    assert SLOT.member("tally") != KafkaSettings(prefix="bank", instance="4").member("tally")


def test_a_member_of_kafka_python_is_static_ranged_and_reads_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_for(SLOT, "tally")
    found = taken(monkeypatch, "stationkeeper.streams.kafka.source.KafkaConsumer", lambda: source.subscribe(["scores"]))
    assert found["group_id"] == "bank.tally"
    assert found["group_instance_id"] == "bank.tally.3"
    assert found["partition_assignment_strategy"] == [RangePartitionAssignor]
    assert found["session_timeout_ms"] == 10_000
    assert found["metadata_max_age_ms"] == 30_000
    assert found["isolation_level"] == "read_committed"
    assert found["auto_offset_reset"] == "none"
    assert found["enable_auto_commit"] is False
    sink = sink_for(SLOT, "tally")
    found = taken(monkeypatch, "stationkeeper.streams.kafka.sink.KafkaProducer", sink.recover)
    assert (found["transactional_id"], found["enable_idempotence"]) == ("bank.tally.3", True)
    assert found["retry_backoff_ms"] == 20
    reader = reader_for(SLOT, "tally")
    found = taken(monkeypatch, "stationkeeper.streams.kafka.reader.KafkaConsumer", lambda: reader.partitions("scores"))
    assert (found["isolation_level"], found["auto_offset_reset"]) == ("read_committed", "none")


def test_a_member_of_librdkafka_has_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: stationkeeper[librdkafka]")
    slot = SLOT.model_copy(update={"client": "librdkafka"})
    source = source_for(slot, "tally")
    found = taken(monkeypatch, "stationkeeper.streams.librdkafka.source.Consumer", lambda: source.subscribe(["scores"]))
    assert (found["group.id"], found["group.instance.id"]) == ("bank.tally", "bank.tally.3")
    assert (found["partition.assignment.strategy"], found["session.timeout.ms"]) == ("range", 10_000)
    assert found["topic.metadata.refresh.interval.ms"] == 30_000
    assert (found["isolation.level"], found["auto.offset.reset"]) == ("read_committed", "error")
    assert found["enable.auto.commit"] is False
    sink = sink_for(slot, "tally")
    assert (
        taken(monkeypatch, "stationkeeper.streams.librdkafka.sink.Producer", sink.recover)["transactional.id"]
        == "bank.tally.3"
    )


def test_internal_topics_have_the_pinned_partitions() -> None:
    topics = Topics("bank", label_horizon_ms=DAY_MS)
    counts = {topic.name.removeprefix("bank."): topic.partitions for topic in topics.all()}
    assert {name: n for name, n in counts.items() if n != 1} == {
        "panes": 6,
        "joins": 6,
        "join-state": 6,
        "judge-state": 6,
        "history": 6,
    }


class Watched(MemorySink):
    """A sink that notes what the loop does with it, beside what the stage is told."""

    def __init__(self, log: MemoryLog, settings: KafkaSettings, calls: list[str]) -> None:
        super().__init__(log, settings, "counting")
        self._calls = calls

    def begin(self) -> None:
        self._calls.append("begin")
        super().begin()


class Told(Counting):
    """A stage that notes what it is told."""

    calls: list[str]

    def absorb(self, batch: Any) -> None:
        self.calls.append("absorb")
        super().absorb(batch)

    def flush(self, now_ms: int) -> list[Outgoing]:
        self.calls.append("flush")
        return super().flush(now_ms)


def test_a_transaction_begins_at_the_flush_and_never_while_records_are_absorbed() -> None:
    log, calls, now = MemoryLog(), list[str](), [0]
    for name in ("in", "state", "out"):
        log.create(name, 1)
    stage = Told("in", "state", "out")
    stage.calls = calls
    settings = KafkaSettings(prefix="bank", flush_interval=1_000, poll_timeout=0, max_poll_records=5)
    source = MemorySource(log, settings, "counting")
    loop = Loop(stage, source, Watched(log, settings, calls), MemoryReader(log), settings, now_ms=lambda: now[0])
    log.produce("in", [b"x"] * 20)
    for _ in range(5):
        loop.turn()
    assert calls.count("absorb") >= 4
    # The first one, before any record, commits where reading begins.
    assert calls[:2] == ["flush", "begin"]
    assert "begin" not in calls[2:]
    now[0] = 2_000
    loop.turn()
    assert calls[-2:] == ["flush", "begin"]
