"""What only the sink over kafka-python has to do: keep the library from waiting in a transaction."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.cluster import ClusterMetadata

from stationkeeper.streams.ports import Outgoing, Partition
from tests.conformance.worlds import KafkaWorld, everything, poll_rows, take_over

pytestmark = pytest.mark.broker


@pytest.fixture
def world(kafka: Any) -> Iterator[KafkaWorld]:
    made = KafkaWorld(kafka.bootstrap)
    yield made
    made.close()


def test_a_producers_first_transaction_sleeps_only_as_long_as_we_let_it(
    world: KafkaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time.sleep(seconds)

    # A library that no longer sleeps here makes the option that shortens it needless.
    monkeypatch.setattr("kafka.producer.sender.time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    topic, out = world.create("in", 1), world.create("out", 1)
    source, sink = world.source(world.settings()), world.sink(world.settings())
    sink.recover()
    source.subscribe([topic])
    take_over(source)
    world.produce(topic, [b"a"])
    poll_rows(source, 1)
    slept.clear()
    for _ in range(2):
        sink.begin()
        sink.send([Outgoing(out, b"b", None, 0)])
        sink.commit({Partition(topic, 0): 1}, source.group())
    assert set(slept) == {0.02}
    assert source.committed([Partition(topic, 0)]) == {Partition(topic, 0): 1}


def test_the_topics_of_a_transaction_are_looked_up_together(world: KafkaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = {world.create(name, 1) for name in ("panes", "joins", "state")}
    asked: list[set[str]] = []
    request = ClusterMetadata.metadata_request

    def noted(metadata: ClusterMetadata) -> Any:
        asked.append(set(metadata._topics))
        return request(metadata)

    monkeypatch.setattr(ClusterMetadata, "metadata_request", noted)
    sink = world.sink(world.settings())
    sink.begin()
    sink.send([Outgoing(topic, b"a", None, 0) for topic in sorted(topics)])
    sink.commit({}, None)
    assert {frozenset(one & topics) for one in asked} == {frozenset(), frozenset(topics)}
    for topic in topics:
        assert len(everything(world, topic)) == 1
