import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from kafka import KafkaAdminClient, errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.protocol.producer.transaction import TxnOffsetCommitRequest
from kafka.structs import OffsetAndMetadata, TopicPartition

from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.kafka.clients import theirs
from stationkeeper.streams.kafka.source import KafkaSource
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.ports import Partition
from stationkeeper.streams.settings import KafkaSettings
from tests.conformance.worlds import ConfluentWorld, KafkaWorld, take_over
from tests.waiting import until


def test_an_unanswered_question_for_offsets_is_asked_anew() -> None:
    asked: dict[frozenset[str], object] = {frozenset(["scores/0"]): object()}

    def committed(*_: Any, **__: Any) -> OffsetAndMetadata:
        if asked:
            raise errors.KafkaTimeoutError
        return OffsetAndMetadata(7, "", -1)

    source = KafkaSource(KafkaSettings(), "tally")
    coordinator = SimpleNamespace(_offset_fetch_futures=asked)
    source._client = SimpleNamespace(committed=committed, _coordinator=coordinator)
    with pytest.raises(Retryable):
        source.committed([Partition("scores", 0)])
    assert source.committed([Partition("scores", 0)]) == {Partition("scores", 0): 7}


def test_a_topic_that_is_deleted_while_its_bounds_are_asked_ends_no_role() -> None:
    def gone(wanted: list[TopicPartition], **_: Any) -> dict[TopicPartition, int]:
        # As kafka-python 3.0 does: it looks up the answer of a partition that no broker gave one for.
        return {one: {}[one] for one in wanted}

    source = KafkaSource(KafkaSettings(), "tally")
    source._client = SimpleNamespace(beginning_offsets=gone, end_offsets=gone)
    with pytest.raises(Retryable, match=r"do not know .*labels.* any more"):
        source.bounds([Partition("labels", 0)])


def test_a_client_that_leaves_two_questions_unanswered_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []

    def unanswered(*_: Any, **__: Any) -> int:
        raise errors.KafkaTimeoutError

    source = KafkaSource(KafkaSettings(), "tally")
    coordinator = SimpleNamespace(_offset_fetch_futures={})
    old = SimpleNamespace(committed=unanswered, _coordinator=coordinator, close=lambda **how: closed.append(how))
    source._client, source._topics, source._membership.joined = old, ("scores",), True
    subscribed: list[tuple[str, ...]] = []

    def subscribe(topics: tuple[str, ...]) -> None:
        subscribed.append(topics)
        source._client = SimpleNamespace(poll=lambda **_: {}, _coordinator=SimpleNamespace(_join_task=None))
        source._membership.follow(source._client)

    monkeypatch.setattr(source, "subscribe", subscribe)
    for _ in range(2):
        assert not closed
        with pytest.raises(Retryable):
            source.committed([Partition("scores", 0)])
    assert len(closed) == 1
    # The next poll joins with a new client; that the old one's partitions are gone is told like any rebalance.
    assert source.poll(0.1, 10) == []
    assert (subscribed, source.joined(), source.take_rebalance()) == ([("scores",)], False, True)


@pytest.mark.broker
def test_offsets_of_a_process_that_died_in_its_transaction_are_known_once_it_begins_anew(kafka: FoundBroker) -> None:
    world = KafkaWorld(kafka.bootstrap)
    try:
        topic = world.create("in", 1)
        place = Partition(topic, 0)
        source = world.source(world.settings(transaction_timeout="5s"))
        source.subscribe([topic])
        take_over(source)
        dead: Any = world.sink(world.settings(transaction_timeout="10m"))
        dead.recover()
        dead.begin()
        dead.commit({place: 3}, source.group())
        # As kill -9 leaves it: offsets in a transaction that nobody will end before its ten minutes are over.
        dead.begin()
        dead._producer.send_offsets_to_transaction({theirs(place): OffsetAndMetadata(9, "", -1)}, source.group())
        with pytest.raises(Retryable, match="KafkaTimeoutError"):
            source.committed([place])
        world.sink(world.settings()).recover()
        assert source.committed([place]) == {place: 3}
    finally:
        world.close()


def forgotten(world: KafkaWorld, role: str, group: str, place: Partition, offset: int) -> None:
    """Leave an offset in a transaction that the coordinator takes for over, as a broker killed over its end may.

    Written past the coordinator, which a broker only allows while it does not ask it.
    """
    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    broker = str(admin.describe_cluster()["brokers"][0]["broker_id"])
    name = "transaction.partition.verification.enable"
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, broker, configs={name: "false"})])
        owner = admin.describe_transactions([role])[role]
        topics = TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic
        mine = topics.TxnOffsetCommitRequestPartition(
            partition_index=place.index, committed_offset=offset, committed_leader_epoch=-1, committed_metadata=""
        )
        request = TxnOffsetCommitRequest(
            transactional_id=role,
            group_id=group,
            producer_id=owner.producer_id,
            producer_epoch=owner.producer_epoch,
            generation_id=-1,
            member_id="",
            group_instance_id=None,
            topics=[topics(name=place.topic, partitions=[mine])],
            min_version=3,
            max_version=3,
        )

        async def send() -> Any:
            return await admin._manager.send(request, node_id=int(broker))

        def written() -> bool:
            (answer,) = admin._manager.run(send).topics
            return bool(answer.partitions[0].error_code == 0)

        # A broker hears of its new configuration a moment after it is set.
        until(written, "the broker takes it")
    finally:
        admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, broker, configs={name: "true"})])
        admin.close()


def test_a_role_that_cannot_read_its_offsets_puts_an_end_to_what_may_hide_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, settings = MemoryLog(), KafkaSettings()
    clock = [1_000.0]
    monkeypatch.setattr("stationkeeper.streams.loop.time", Mock(monotonic=lambda: clock[0], time_ns=time.time_ns))
    log.create("in")
    place = Partition("in", 0)
    stage = Mock(inputs=("in",), tables=())
    stage.configure_mock(name="role")
    stage.changelog.return_value, stage.start_offsets.return_value, stage.flush.return_value = [], {}, []
    stage.stopped.return_value = frozenset()
    stage.hindered.return_value, stage.samples.return_value, stage.status.return_value = None, (), {}
    source, sink = MemorySource(log, settings, "role"), MemorySink(log, settings, "role")
    hidden, committed = [place], source.committed
    longest = settings.transaction_timeout / 1_000
    # An election fails at once, as often as it is asked; then brokers wait for a transaction to end.
    took_s = [0.0, 0.0, 0.0, longest, longest]

    def answered(partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        if hidden:
            clock[0] += took_s.pop(0)
            raise Retryable("read committed offsets: timed out")
        return committed(partitions)

    def abandon(partition: Partition, _group: Any) -> None:
        hidden.remove(partition)

    # Mypy takes a method for one that is bound already.
    source.committed, sink.abandon = answered, abandon  # type: ignore[method-assign,assignment]
    loop = Loop(stage, source, sink, MemoryReader(log), settings)
    while len(took_s) > 1:
        with pytest.raises(Retryable) as early:
            loop.turn()
        # What a broker ends by itself within the time of a transaction is not ours to end.
        assert "forgotten" not in str(early.value)
        assert hidden
    with pytest.raises(Retryable, match="ended what a broker may have forgotten"):
        loop.turn()
    assert not hidden
    loop.turn()
    assert stage.assigned.call_count == 1


def test_the_time_without_partitions_is_no_time_without_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    log, settings = MemoryLog(), KafkaSettings()
    clock = [1_000.0]
    monkeypatch.setattr("stationkeeper.streams.loop.time", Mock(monotonic=lambda: clock[0], time_ns=time.time_ns))
    log.create("in")
    stage = Mock(inputs=("in",), tables=())
    stage.configure_mock(name="role")
    stage.changelog.return_value, stage.start_offsets.return_value, stage.flush.return_value = [], {}, []
    stage.stopped.return_value = frozenset()
    stage.hindered.return_value, stage.samples.return_value, stage.status.return_value = None, (), {}
    source, sink = MemorySource(log, settings, "role"), MemorySink(log, settings, "role")
    given = [True]

    def unanswered(_: Sequence[Partition]) -> Mapping[Partition, int]:
        raise Retryable("read committed offsets: timed out")

    # Mypy takes a method for one that is bound already.
    source.committed, source.joined = unanswered, lambda: given[0]  # type: ignore[method-assign,assignment]
    loop = Loop(stage, source, sink, MemoryReader(log), settings)
    with pytest.raises(Retryable):
        loop.turn()
    given[0] = False
    loop.turn()
    clock[0] += 40 * settings.transaction_timeout / 1_000
    given[0] = True
    # An election that fails one question after it is no transaction that a broker forgot.
    with pytest.raises(Retryable) as early:
        loop.turn()
    assert "forgotten" not in str(early.value)


@pytest.mark.broker
@pytest.mark.parametrize("world_of", [KafkaWorld, ConfluentWorld])
def test_a_transaction_that_a_broker_forgot_is_ended_by_one_of_ours(
    kafka: FoundBroker, world_of: type[KafkaWorld]
) -> None:
    if world_of is ConfluentWorld:
        pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: stationkeeper[librdkafka]")
    world = world_of(kafka.bootstrap)
    try:
        place = Partition(world.create("in", 1), 0)
        settings = world.settings(transaction_timeout="5s")
        source, sink = world.source(settings), world.sink(settings)
        source.subscribe([place.topic])
        take_over(source)
        sink.begin()
        sink.commit({place: 3}, source.group())
        forgotten(world, settings.member("role"), settings.group("role"), place, 9)
        again = world.sink(settings)
        again.recover()
        with pytest.raises(Retryable):
            source.committed([place])
        again.abandon(place, source.group())
        assert source.committed([place]) == {place: 3}
    finally:
        world.close()
