"""The border to kafka-python: how clients are built and how its errors become ours."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from kafka import errors
from kafka.net.compat import KafkaNetClient
from kafka.structs import TopicPartition

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.streams.errors import Denied, Fatal, Fenced, Retryable
from stationkeeper.streams.ports import Partition

_Client = TypeVar("_Client")
_FENCED = (errors.ProducerFencedError, errors.FencedInstanceIdError, errors.InvalidProducerEpochError)

# What another attempt with the same settings cannot cure.
_HOPELESS = (
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.KafkaConfigurationError,
    errors.UnsupportedVersionError,
    errors.UnsupportedCodecError,
    errors.InvalidTopicError,
    errors.InvalidSessionTimeoutError,
    errors.InvalidTransactionTimeoutError,
)


def made(kind: Callable[..., _Client], **options: Any) -> _Client:
    """Return a client of kafka-python; one that finds no broker leaves no thread and no connection behind.

    kafka-python 3.0.12 starts the thread of an admin client or a consumer before it looks for a broker, and where none
    answers nobody can end it: a role that waits for Kafka would run out of descriptors within a quarter of an hour.
    """
    begun: list[KafkaNetClient] = []

    def begin(**more: Any) -> KafkaNetClient:
        begun.append(KafkaNetClient(**more))
        return begun[-1]

    try:
        return kind(kafka_client=begin, **options)
    except BaseException:
        for client in begun:
            client.close()
        raise


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn a client error raised inside into ``Retryable``, ``Fatal`` or ``Fenced``, saying what was being done."""
    try:
        yield
    except (errors.KafkaError, OSError) as error:
        if _holds_fenced(error):
            raise Fenced(
                f"{doing}: another process runs with the same instance ({describe(error)}); give each replica its own "
                "kafka.instance"
            ) from error
        if isinstance(error, errors.AuthorizationError):
            raise Denied(
                LogEvent.BROKER_RIGHTS,
                f"{doing}: {describe(error)}; see docs/kafka-rights.md",
            ) from error
        if isinstance(error, errors.SaslAuthenticationFailedError):
            raise Denied(LogEvent.BROKER_CREDENTIALS, f"{doing}: {describe(error)}") from error
        if isinstance(error, _HOPELESS):
            raise Fatal(f"{doing}: {describe(error)}") from error
        raise Retryable(f"{doing}: {describe(error)}") from error


def _holds_fenced(error: BaseException) -> bool:
    """Return whether an error is, or carries as its reason, that another process has this replica's place.

    The producer tells a fencing that it learned in the background as a plain error around the real one. To take it
    for retryable would be to start a new producer, and to fence the rightful owner in turn.
    """
    return isinstance(error, _FENCED) or any(
        isinstance(reason, BaseException) and _holds_fenced(reason) for reason in error.args
    )


def describe(error: BaseException) -> str:
    """Return an error's name and text on one line; broker errors carry no credentials."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return text if text.startswith(name) or not text else f"{name}: {text}"


def theirs(partition: Partition) -> TopicPartition:
    """Return our partition as the client's."""
    return TopicPartition(partition.topic, partition.index)


def ours(partition: TopicPartition) -> Partition:
    """Return the client's partition as ours."""
    return Partition(partition.topic, partition.partition)
