"""The border to kafka-python: how clients are built and how its errors become ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from kafka import errors
from kafka.structs import TopicPartition

from streams.errors import Fatal, Retryable
from streams.ports import Partition

_FENCED = (errors.ProducerFencedError, errors.FencedInstanceIdError, errors.InvalidProducerEpochError)

# What another attempt with the same settings cannot cure.
_HOPELESS = (
    errors.AuthorizationError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.KafkaConfigurationError,
    errors.UnsupportedVersionError,
    errors.UnsupportedCodecError,
    errors.InvalidTopicError,
    errors.InvalidSessionTimeoutError,
    errors.InvalidTransactionTimeoutError,
)


class Fenced(Fatal):
    """Another process has taken this replica's place; this one must stop."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn a client error raised inside into ``Retryable``, ``Fatal`` or ``Fenced``, saying what was being done."""
    try:
        yield
    except _FENCED as error:
        raise Fenced(
            f"{doing}: another process runs with the same instance ({describe(error)}); give each replica its own "
            "kafka.instance"
        ) from error
    except _HOPELESS as error:
        raise Fatal(f"{doing}: {describe(error)}") from error
    except (errors.KafkaError, OSError) as error:
        raise Retryable(f"{doing}: {describe(error)}") from error


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
