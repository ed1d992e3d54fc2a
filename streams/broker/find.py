"""Finding a broker: the environment's, else one from Docker, else a local JVM, else a message with the three ways."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
    if _docker_answers():
        from testcontainers.kafka import KafkaContainer

        with KafkaContainer("confluentinc/cp-kafka:7.9.0").with_kraft() as container:
            bootstrap = str(container.get_bootstrap_server())
            yield FoundBroker(bootstrap, f"a container of Apache Kafka, {bootstrap}")
        return
    broker = LocalBroker(directory)
    try:
        broker.__enter__()
    except (Fatal, Retryable) as error:
        raise Fatal(f"{THREE_WAYS}. The last of them failed: {error}") from error
    try:
        yield FoundBroker(broker.bootstrap, broker.description, broker)
    finally:
        broker.stop()


def _docker_answers() -> bool:
    """Return whether a Docker daemon answers; never pulls or starts anything."""
    if shutil.which("docker") is None and not Path("/var/run/docker.sock").exists():
        return False
    try:
        import docker
        from docker.errors import DockerException
    except ImportError:
        return False
    try:
        client = docker.from_env(timeout=3)
        return bool(client.ping())
    except (DockerException, OSError):
        return False
