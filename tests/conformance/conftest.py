"""Every test of this directory runs in every world."""

from collections.abc import Iterator

import pytest

from tests.conformance.counting import Setting
from tests.conformance.worlds import ConfluentWorld, KafkaWorld, MemoryWorld, World


@pytest.fixture(
    params=[
        "memory",
        pytest.param("kafka-python", marks=pytest.mark.broker),
        pytest.param("librdkafka", marks=pytest.mark.broker),
    ]
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Yield the in-memory log, or a real Kafka through one of the clients."""
    if request.param == "librdkafka":
        pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: stationkeeper[librdkafka]")
    found: World
    if request.param == "memory":
        found = MemoryWorld()
    else:
        made = KafkaWorld if request.param == "kafka-python" else ConfluentWorld
        found = made(request.getfixturevalue("kafka").bootstrap)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def setting(world: World) -> Iterator[Setting]:
    """Yield the topics of one counting stage, and end what runs on them."""
    found = Setting(world)
    try:
        yield found
    finally:
        found.close()
