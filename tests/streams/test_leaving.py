"""A role over librdkafka that ends while its group still assigns partitions: it ends, and does not hang in C."""

import subprocess
import sys
from typing import Any

import pytest

from tests.conformance.worlds import ConfluentWorld

pytestmark = pytest.mark.broker

# Fresh groups, left around the time when their first assignment comes. In a process of its own, as a hang would hold
# Python's lock.
ENDS = """
import random, sys, time
from stationkeeper.streams.librdkafka.source import ConfluentSource
from stationkeeper.streams.settings import KafkaSettings
bootstrap, topic, prefix = sys.argv[1:]
for n in range(60):
    source = ConfluentSource(KafkaSettings(bootstrap=bootstrap, prefix=f"{prefix}-{n}", session_timeout="6s"), "role")
    source.subscribe([topic])
    time.sleep(random.uniform(0.0, 0.12))
    source.close()
print("ended")
"""


def test_a_member_that_leaves_as_it_is_assigned_ends(kafka: Any) -> None:
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: stationkeeper[librdkafka]")
    world = ConfluentWorld(kafka.bootstrap)
    words = [kafka.bootstrap, world.create("in", 1), world.prefix]
    done = subprocess.run(
        [sys.executable, "-c", ENDS, *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "ended\n", done.stderr[-2_000:]
