from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors
from kafka.structs import OffsetAndMetadata, TopicPartition

from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.kafka.clients import theirs
from stationkeeper.streams.kafka.source import KafkaSource
from stationkeeper.streams.ports import Partition
from stationkeeper.streams.settings import KafkaSettings
from tests.conformance.worlds import KafkaWorld, take_over


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
