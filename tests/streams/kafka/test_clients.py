"""Clients of kafka-python that find no broker."""

import gc
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from kafka import errors

from stationkeeper.client import KafkaDelivery
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.kafka.appender import KafkaAppender
from stationkeeper.streams.kafka.reader import KafkaReader
from stationkeeper.streams.kafka.sink import KafkaSink, latest_producer
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


def began(settings: KafkaSettings) -> None:
    KafkaSink(settings, "tally").recover()


def appended(settings: KafkaSettings) -> None:
    KafkaAppender(settings, "serve", None, 1_000)


def logged(settings: KafkaSettings) -> None:
    with suppress(errors.KafkaError):
        KafkaDelivery(settings)


@pytest.mark.parametrize("attempt", [asked, joined, looked_up, compared, began, appended, logged])
def test_a_client_that_finds_no_broker_leaves_nothing_behind(attempt: Callable[[KafkaSettings], None]) -> None:
    """A role that waits for Kafka makes one after the other: at four descriptors each it would run out of them."""
    with socket.socket() as silent:
        # Bound and not listening: who connects is refused, and nobody else gets the port meanwhile.
        silent.bind(("127.0.0.1", 0))
        settings = KafkaSettings(bootstrap=f"127.0.0.1:{silent.getsockname()[1]}", connect_timeout=100)
        # What others left for the collector is not ours.
        gc.collect()
        threads, before = threading.active_count(), selectors()
        for _ in range(3):
            with suppress(Retryable):
                attempt(settings)
        assert threading.active_count() == threads
        assert selectors() == before


def test_a_consumer_that_learns_no_topic_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that lets us in and then answers nothing: the next try makes another consumer."""
    closed: list[object] = []

    def unanswered(_: str) -> None:
        raise errors.KafkaTimeoutError

    def made(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(
            subscribe=lambda **_: None, partitions_for_topic=unanswered, close=lambda **more: closed.append(more)
        )

    monkeypatch.setattr("stationkeeper.streams.kafka.source.made", made)
    monkeypatch.setattr("stationkeeper.streams.kafka.source.columnar", lambda client: client)
    source = KafkaSource(KafkaSettings(connect_timeout=100), "tally")
    for tries in (1, 2):
        with pytest.raises(Retryable):
            source.subscribe(["in"])
        assert len(closed) == tries


def test_asking_who_has_a_place_looks_for_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction is open meanwhile, of which the looks at three silent brokers took half as much again."""
    looks: list[object] = []
    monkeypatch.setattr("stationkeeper.streams.handshake.refusal", looks.append)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        security = {"protocol": "SASL_PLAINTEXT", "mechanism": "SCRAM-SHA-256", "username": "u", "password": "p"}
        settings = KafkaSettings.model_validate(
            {"bootstrap": address, "transaction_timeout": "1s", "security": security}
        )
        assert latest_producer(settings, "tally.0") is None
        assert looks == []
        with pytest.raises(Retryable):
            asked(settings)
        assert len(looks) == 2


@pytest.mark.parametrize(("timeout", "step"), [("15s", 2_000), ("6s", 1_000)])
def test_asking_who_has_a_place_leaves_half_of_the_transaction(
    monkeypatch: pytest.MonkeyPatch, timeout: str, step: int
) -> None:
    given: list[dict[str, object]] = []

    def made(_: object, **options: object) -> None:
        given.append(options)
        raise errors.KafkaTimeoutError

    monkeypatch.setattr("stationkeeper.streams.kafka.topics.made", made)
    assert latest_producer(KafkaSettings.model_validate({"transaction_timeout": timeout}), "tally.0") is None
    assert [(one["bootstrap_timeout_ms"], one["request_timeout_ms"]) for one in given] == [(step, step)]
