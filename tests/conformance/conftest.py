"""Every test of this directory runs in every world."""

from collections.abc import Iterator

import pytest

from tests.conformance.worlds import KafkaWorld, MemoryWorld, World


@pytest.fixture(params=["memory", pytest.param("kafka-python", marks=pytest.mark.broker)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    found: World = (
        MemoryWorld() if request.param == "memory" else KafkaWorld(request.getfixturevalue("kafka").bootstrap)
    )
    try:
        yield found
    finally:
        found.close()
