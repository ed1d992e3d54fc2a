"""A header's name is UTF-8 by the protocol and any bytes on the wire: no record is lost or stops the reading for it."""

from collections.abc import Iterator
from typing import Any

import pytest

from stationkeeper.streams.ports import Headers
from tests.conformance.worlds import ConfluentWorld, KafkaWorld, take_over
from tests.waiting import until

pytestmark = pytest.mark.broker


class Latin(str):
    """A name that a producer wrote in Latin-1."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return super().encode("latin-1")


@pytest.fixture(params=[KafkaWorld, ConfluentWorld])
def world(request: pytest.FixtureRequest, kafka: Any) -> Iterator[KafkaWorld]:
    if request.param is ConfluentWorld:
        pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: stationkeeper[librdkafka]")
    made = request.param(kafka.bootstrap)
    yield made
    made.close()


def test_a_header_name_that_is_not_utf8_costs_no_record(world: KafkaWorld) -> None:
    topic = world.create("in", 1)
    strange: Headers = ((Latin("größe"), b"9"), ("h", b"1"))
    world.produce(topic, [b"a", b"bad", b"c"], partition=0, headers=[(("h", b"0"),), strange, (("h", b"2"),)])
    source = world.source(world.settings())
    source.subscribe([topic])
    take_over(source)
    found: dict[bytes | None, Headers] = {}

    def read() -> bool:
        for batch in source.poll(0.05, 100):
            found.update(zip(batch.values, batch.headers, strict=True))
        return len(found) == 3

    until(read, "every record")
    assert (found[b"a"], found[b"c"]) == ((("h", b"0"),), (("h", b"2"),))
    # confluent-kafka gives none of the headers of such a record, kafka-python's bytes are our own to read.
    kept = (("gr\\xf6\\xdfe", b"9"), ("h", b"1"))
    assert found[b"bad"] == (() if isinstance(world, ConfluentWorld) else kept)
