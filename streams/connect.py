"""Source, sink, reader and appender of the client that the configuration names."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Literal

from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Appender, Reader, Sink, Source
from stationkeeper.streams.settings import KafkaSettings

_MISSING = "kafka.client is librdkafka, and confluent-kafka is not installed; install stationkeeper[librdkafka]"


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise Fatal(_MISSING) from error


def source_for(settings: KafkaSettings, role: str) -> Source:
    """Return the consumer-group member of a role; raises ``Fatal`` when the client's package is missing."""
    if settings.client == "librdkafka":
        with _installed():
            from stationkeeper.streams.librdkafka.source import ConfluentSource
        return ConfluentSource(settings, role)
    from stationkeeper.streams.kafka.source import KafkaSource

    return KafkaSource(settings, role)


def sink_for(settings: KafkaSettings, role: str) -> Sink:
    """Return the transactional producer of a role; raises ``Fatal`` when the client's package is missing."""
    if settings.client == "librdkafka":
        with _installed():
            from stationkeeper.streams.librdkafka.sink import ConfluentSink
        from stationkeeper.streams.kafka.sink import latest_producer

        # Its own admin client does not describe producers; kafka-python is always installed.
        return ConfluentSink(settings, role, partial(latest_producer, settings, settings.member(role)))
    from stationkeeper.streams.kafka.sink import KafkaSink

    return KafkaSink(settings, role)


def reader_for(settings: KafkaSettings, name: str) -> Reader:
    """Return a reader without a group; raises ``Fatal`` when the client's package is missing."""
    if settings.client == "librdkafka":
        with _installed():
            from stationkeeper.streams.librdkafka.source import ConfluentReader
        return ConfluentReader(settings, name)
    from stationkeeper.streams.kafka.reader import KafkaReader

    return KafkaReader(settings, name)


def beside_requests(settings: KafkaSettings, client: Literal["auto", "kafka-python", "librdkafka"]) -> KafkaSettings:
    """Return the settings of a producer whose process answers people meanwhile.

    ``auto`` takes librdkafka, which does its work outside of the interpreter, where it is installed and can do what the
    cluster asks; else the client of the roles. One that is named and cannot is ``Fatal``: no answer would be logged.
    """
    installed, barred = find_spec("confluent_kafka") is not None, settings.security.mechanism == "AWS_MSK_IAM"
    if client == "auto":
        client = "librdkafka" if installed and not barred else settings.client
    elif client == "librdkafka" and not installed:
        raise Fatal(f"serve.{_MISSING.removeprefix('kafka.')}")
    elif client == "librdkafka" and barred:
        raise Fatal("serve.client librdkafka has no AWS_MSK_IAM; write serve.client: kafka-python")
    return settings.model_copy(update={"client": client})


def appender_for(settings: KafkaSettings, name: str, compression: str | None, delivery_ms: int) -> Appender:
    """Return a producer without transactions; raises ``Fatal`` when the client's package is missing, ``Retryable``."""
    if settings.client == "librdkafka":
        with _installed():
            from stationkeeper.streams.librdkafka.appender import ConfluentAppender
        return ConfluentAppender(settings, name, compression, delivery_ms)
    from stationkeeper.streams.kafka.appender import KafkaAppender

    return KafkaAppender(settings, name, compression, delivery_ms)
