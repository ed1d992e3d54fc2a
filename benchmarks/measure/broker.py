"""A real broker for a benchmark, kept on another core than the programs that are measured."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kafka import KafkaProducer
from kafka.admin import NewTopic

from stationkeeper.contracts.topics import Topics
from stationkeeper.monitor.core.reference import Reference, dump
from stationkeeper.streams.broker import LocalBroker
from stationkeeper.streams.kafka.topics import admin_client, ensure_internal
from stationkeeper.streams.settings import KafkaSettings


@contextmanager
def broker_elsewhere() -> Iterator[str]:
    """Yield the address of a local broker on the second core (where there is one); we stay on the first."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[1:]))
    with LocalBroker() as broker:
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[0]})
        try:
            yield broker.bootstrap
        finally:
            if len(cores) > 1:
                os.sched_setaffinity(0, set(cores))


def settings_of(bootstrap: str, prefix: str, client: str = "kafka-python", **more: object) -> KafkaSettings:
    """Return the default settings of a client, under a prefix of its own."""
    return KafkaSettings.model_validate({"bootstrap": bootstrap, "prefix": prefix, "client": client} | more)


def create_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    """Create an input topic."""
    with admin_client(settings_of(bootstrap, "benchmark")) as admin:
        admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])


def produce(bootstrap: str, topic: str, values: Sequence[bytes], keys: Sequence[bytes] | None = None) -> None:
    """Write records, uncompressed, and wait for all of them."""
    producer = KafkaProducer(
        **settings_of(bootstrap, "benchmark").connection("benchmark"), linger_ms=20, batch_size=2**18
    )
    for at, value in enumerate(values):
        producer.send(topic, value, key=None if keys is None else keys[at])
    producer.flush()
    producer.close()


def prepare(settings: KafkaSettings, references: Sequence[Reference]) -> Topics:
    """Create the internal topics under the settings' prefix and write the references."""
    topics = Topics(settings.prefix)
    ensure_internal(settings, topics)
    keys = [f"{made.model}/{made.version}".encode() for made in references]
    produce(settings.bootstrap, topics.references.name, [dump(made).encode() for made in references], keys)
    return topics
