"""Clients of kafka-python that find no broker."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.kafka.reader import KafkaReader
from stationkeeper.streams.kafka.source import KafkaSource
from stationkeeper.streams.kafka.topics import admin_client
from stationkeeper.streams.settings import KafkaSettings


def selectors() -> int:
    """Count what a client waits by, one each."""
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += "eventpoll" in str(one.readlink())
    return found


def asked(settings: KafkaSettings) -> None:
    with admin_client(settings):
        pass


def joined(settings: KafkaSettings) -> None:
    KafkaSource(settings, "tally").subscribe(["in"])


def looked_up(settings: KafkaSettings) -> None:
    KafkaReader(settings, "tally").partitions("in")


def compared(settings: KafkaSettings) -> None:
    KafkaSource(settings, "tally").topic_ids(["in"])


@pytest.mark.parametrize("attempt", [asked, joined, looked_up, compared])
def test_a_client_that_finds_no_broker_leaves_nothing_behind(attempt: Callable[[KafkaSettings], None]) -> None:
    """A role that waits for Kafka makes one after the other: at four descriptors each it would run out of them."""
    with socket.socket() as silent:
        # Bound and not listening: who connects is refused, and nobody else gets the port meanwhile.
        silent.bind(("127.0.0.1", 0))
        settings = KafkaSettings(bootstrap=f"127.0.0.1:{silent.getsockname()[1]}", connect_timeout=100)
        threads, before = threading.active_count(), selectors()
        for _ in range(3):
            with suppress(Retryable):
                attempt(settings)
        assert threading.active_count() == threads
        assert selectors() == before
