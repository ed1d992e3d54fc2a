"""The worlds that one suite runs in: the in-memory log, and a real Kafka through each client."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol, TypeVar

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from kafka.structs import TopicPartition

from stationkeeper.streams.connect import sink_for
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.ports import Batch, Headers, Partition, Reader, Sink, Source
from stationkeeper.streams.settings import KafkaSettings
from tests.waiting import until

LIMIT_S = 30.0

Port = TypeVar("Port", Source, Sink, Reader)


class World(Protocol):
    """Somewhere to read and write; every world has its own names, so that tests may share a broker."""

    prefix: str

    def settings(self, instance: str = "0", **more: Any) -> KafkaSettings: ...
    def create(self, name: str, partitions: int = 1, **config: str) -> str: ...
    def delete(self, topic: str) -> None: ...
    def enlarge(self, topic: str, partitions: int) -> None: ...
    def trim(self, topic: str, partition: int, first: int) -> None: ...
    def produce(
        self,
        topic: str,
        values: Sequence[bytes | None],
        *,
        keys: Sequence[bytes | None] | None = None,
        partition: int | None = None,
        headers: Sequence[Headers] | None = None,
    ) -> None: ...
    def source(self, settings: KafkaSettings, role: str = "role") -> Source: ...
    def sink(self, settings: KafkaSettings, role: str = "role") -> Sink: ...
    def reader(self, settings: KafkaSettings | None = None) -> Reader: ...
    def close(self) -> None: ...


class _Named:
    def __init__(self) -> None:
        self.prefix = f"c{uuid.uuid4().hex[:10]}"
        self._closing = ExitStack()

    def _settings(self, instance: str, more: Mapping[str, Any], **base: Any) -> KafkaSettings:
        fast = {"flush_interval": 50, "poll_timeout": 50, "session_timeout": "6s", "transaction_timeout": "10s"}
        return KafkaSettings.model_validate(
            {"prefix": self.prefix, "instance": instance, "metadata_max_age": "1s"} | fast | base | dict(more)
        )

    def _kept(self, port: Port) -> Port:
        self._closing.callback(port.close)
        return port

    def close(self) -> None:
        """Close every port that was handed out."""
        self._closing.close()


class MemoryWorld(_Named):
    """The in-memory log."""

    def __init__(self) -> None:
        super().__init__()
        self.log = MemoryLog()

    def settings(self, instance: str = "0", **more: Any) -> KafkaSettings:
        return self._settings(instance, more)

    def create(self, name: str, partitions: int = 1, **config: str) -> str:
        topic = f"{self.prefix}.{name}"
        self.log.create(topic, partitions, compacted="compact" in config.get("cleanup_policy", ""))
        limit = config.get("max_message_bytes")
        if limit is not None:
            self.log.limit(topic, int(limit))
        return topic

    def delete(self, topic: str) -> None:
        self.log.delete(topic)

    def enlarge(self, topic: str, partitions: int) -> None:
        self.log.create(topic, partitions)

    def trim(self, topic: str, partition: int, first: int) -> None:
        self.log.trim(topic, partition, first)

    def produce(self, topic: str, values: Sequence[bytes | None], **more: Any) -> None:
        self.log.produce(topic, values, **more)

    def source(self, settings: KafkaSettings, role: str = "role") -> Source:
        return self._kept(MemorySource(self.log, settings, role))

    def sink(self, settings: KafkaSettings, role: str = "role") -> Sink:
        return self._kept(MemorySink(self.log, settings, role))

    def reader(self, settings: KafkaSettings | None = None) -> Reader:
        return self._kept(MemoryReader(self.log))


class KafkaWorld(_Named):
    """A real Kafka through kafka-python."""

    client = "kafka-python"

    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self.bootstrap = bootstrap
        self._producer: KafkaProducer | None = None

    def settings(self, instance: str = "0", **more: Any) -> KafkaSettings:
        return self._settings(instance, more, bootstrap=self.bootstrap, client=self.client)

    def _admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.bootstrap)

    def create(self, name: str, partitions: int = 1, **config: str) -> str:
        topic = f"{self.prefix}.{name}"
        admin = self._admin()
        try:
            configs = {key.replace("_", "."): value for key, value in config.items()}
            admin.create_topics([NewTopic(topic, partitions, -1, topic_configs=configs)])
            until(lambda: topic in admin.list_topics(), f"{topic} exists")
        finally:
            admin.close()
        return topic

    def delete(self, topic: str) -> None:
        admin = self._admin()
        try:
            admin.delete_topics([topic])
        finally:
            admin.close()

    def enlarge(self, topic: str, partitions: int) -> None:
        admin = self._admin()
        try:
            admin.create_partitions({topic: partitions})
        finally:
            admin.close()
        self._producer = None  # a new one knows the new partitions

    def trim(self, topic: str, partition: int, first: int) -> None:
        admin = self._admin()
        try:
            admin.delete_records({TopicPartition(topic, partition): first})
        finally:
            admin.close()

    def produce(
        self,
        topic: str,
        values: Sequence[bytes | None],
        *,
        keys: Sequence[bytes | None] | None = None,
        partition: int | None = None,
        headers: Sequence[Headers] | None = None,
    ) -> None:
        if self._producer is None:
            self._producer = KafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True, acks="all")
            self._closing.callback(self._producer.close)
        sent = [
            self._producer.send(
                topic,
                value=value,
                key=keys[i] if keys else None,
                partition=partition,
                headers=list(headers[i]) if headers else None,
            )
            for i, value in enumerate(values)
        ]
        self._producer.flush()
        for future in sent:
            future.get(timeout=10)

    def source(self, settings: KafkaSettings, role: str = "role") -> Source:
        from stationkeeper.streams.kafka.source import KafkaSource

        return self._kept(KafkaSource(settings, role))

    def sink(self, settings: KafkaSettings, role: str = "role") -> Sink:
        from stationkeeper.streams.kafka.sink import KafkaSink

        return self._kept(KafkaSink(settings, role))

    def reader(self, settings: KafkaSettings | None = None) -> Reader:
        from stationkeeper.streams.kafka.reader import KafkaReader

        return self._kept(KafkaReader(settings or self.settings()))


class ConfluentWorld(KafkaWorld):
    """A real Kafka through confluent-kafka."""

    client = "librdkafka"

    def source(self, settings: KafkaSettings, role: str = "role") -> Source:
        from stationkeeper.streams.librdkafka.source import ConfluentSource

        return self._kept(ConfluentSource(settings, role))

    def sink(self, settings: KafkaSettings, role: str = "role") -> Sink:
        return self._kept(sink_for(settings.model_copy(update={"client": self.client}), role))

    def reader(self, settings: KafkaSettings | None = None) -> Reader:
        from stationkeeper.streams.librdkafka.source import ConfluentReader

        return self._kept(ConfluentReader(settings or self.settings()))


def rows(batches: Sequence[Batch]) -> list[tuple[int, int, bytes | None, bytes | None]]:
    """Return (partition, offset, key, value) of batches."""
    return [
        (batch.partition.index, int(offset), key, value)
        for batch in batches
        for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True)
    ]


def everything(world: World, topic: str) -> list[tuple[int, int, bytes | None, bytes | None]]:
    """Return every committed record of a topic."""
    reader = world.reader()
    return rows(list(reader.read(reader.partitions(topic))))


def take_over(source: Source, offsets: Mapping[Partition, int] | None = None) -> frozenset[Partition]:
    """Wait for the assignment and start its partitions where told, else at their first record."""

    def assigned() -> bool:
        source.poll(0.05, 1_000)
        source.take_rebalance()
        return source.joined() and bool(source.assignment())

    until(assigned, "an assignment")
    found = source.assignment()
    for partition, (first, _) in source.bounds(sorted(found)).items():
        source.seek(partition, (offsets or {}).get(partition, first))
    return found


def poll_rows(source: Source, count: int) -> list[tuple[int, int, bytes | None, bytes | None]]:
    """Poll until ``count`` rows have come."""
    found: list[tuple[int, int, bytes | None, bytes | None]] = []

    def enough() -> bool:
        found.extend(rows(source.poll(0.05, 1_000)))
        return len(found) >= count

    until(enough, f"{count} records")
    return found
