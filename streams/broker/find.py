"""Finding a broker: the environment's, else one from Docker, else a local JVM, else a message with the three ways."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stationkeeper.streams.broker.local import LocalBroker
from stationkeeper.streams.errors import Fatal, Retryable

ENVIRONMENT: Final = "STATIONKEEPER_KAFKA"
THREE_WAYS: Final = (
    f"no Kafka was found. Give one of: {ENVIRONMENT}=host:port of a running broker; a Docker daemon; "
    "the extra stationkeeper[broker], which runs Apache Kafka on this machine's or its own Java"
)


@dataclass(frozen=True, slots=True)
class FoundBroker:
    """A broker that answers: where, what it is, and its local process control where there is one."""

    bootstrap: str
    description: str
    local: LocalBroker | None = None


@contextmanager
def find_broker(directory: Path | None = None) -> Iterator[FoundBroker]:
    """Yield a broker, in the order environment, Docker, local JVM; raises ``Fatal`` naming the three ways."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        yield FoundBroker(given, f"the broker of {ENVIRONMENT}, {given}")
        return
    refused = ""
    if _docker_answers():
        with ExitStack() as stack:
            try:
                bootstrap = str(stack.enter_context(_container()).get_bootstrap_server())
            # The daemon, its registry and the container each fail with errors of their own.
            except Exception as error:  # noqa: BLE001
                # The first sentence or two of it: a library appends the whole log of a container.
                refused = f"; Docker answers, but its container did not start: {' '.join(str(error).split())[:200]}"
            else:
                yield FoundBroker(bootstrap, f"a container of Apache Kafka, {bootstrap}")
                return
    broker = LocalBroker(directory)
    try:
        broker.__enter__()
    except (Fatal, Retryable) as error:
        raise Fatal(f"{THREE_WAYS}. The last of them failed: {error}{refused}") from error
    try:
        yield FoundBroker(broker.bootstrap, broker.description + refused, broker)
    finally:
        broker.stop()


def _container() -> Any:
    from testcontainers.kafka import KafkaContainer

    # A tag of its own, so that two days' tests run over one Kafka: 7.9 is Confluent's number of Kafka 3.9.
    return KafkaContainer("confluentinc/cp-kafka:7.9.0").with_kraft()


def _docker_answers() -> bool:
    """Return whether a Docker daemon answers; never pulls or starts anything."""
    # The library is imported only where it may find something.
    if shutil.which("docker") is None and not Path("/var/run/docker.sock").exists():
        return False
    try:
        import docker
        from docker.errors import DockerException
    except ImportError:
        return False
    try:
        # A daemon that hangs must not hold up the way to the local broker for the default minute.
        client = docker.from_env(timeout=3)
        return bool(client.ping())
    except (DockerException, OSError):
        return False
