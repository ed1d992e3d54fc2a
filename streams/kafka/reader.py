"""Reads partitions without a group: tables, changelogs, snapshots and history."""

import time
from collections.abc import Iterator, Mapping, Sequence

from kafka import KafkaConsumer, errors

from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.handshake import explained
from stationkeeper.streams.kafka.clients import made, ours, theirs, translated
from stationkeeper.streams.kafka.fetch import columnar
from stationkeeper.streams.kafka.source import offset_bounds, reading_options, to_batch
from stationkeeper.streams.ports import Batch, Partition
from stationkeeper.streams.settings import KafkaSettings

# Some 20 MB of events at a time: the fixed cost of a poll is spread, and memory stays bounded.
_MAX_RECORDS = 20_000
# How long one poll may wait, so that a caller that stops is not held for longer.
_POLL_MS = 500
# A reader has no group to leave: it waits for no more than an answer in flight.
_CLOSE_MS = 1_000


class KafkaReader:
    """The ``Reader`` over kafka-python: read committed, no group, no commits.

    ``read`` goes to the high watermark, not only to the last stable offset: it waits for transactions that are
    open when it is called, because one of them may already be committed with its marker still on the way. So
    state read back after the committed offsets were taken is never older than those offsets.
    """

    def __init__(self, settings: KafkaSettings, name: str = "reader") -> None:
        self._settings = settings
        self._name = f"{settings.prefix}.{name}.{settings.replica}"
        self._clients: dict[str, KafkaConsumer] = {}

    def _consumer(self, use: str) -> KafkaConsumer:
        # One client for each use: a table that is followed keeps its fetch session while another topic is read.
        if use not in self._clients:
            settings = self._settings
            options = reading_options(settings)
            if use == "heads":
                options["isolation_level"] = "read_uncommitted"
            with explained(settings), translated(f"connect to Kafka at {settings.bootstrap}"):
                client = made(KafkaConsumer, **options, **settings.connection(f"{self._name}.{use}"))
                self._clients[use] = columnar(client)
        return self._clients[use]

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """Return the partitions of a topic; empty when it does not exist."""
        with translated(f"look up {topic}"):
            found = self._consumer("read").partitions_for_topic(topic) or ()
        return tuple(Partition(topic, index) for index in sorted(found))

    def bounds(self, partitions: Sequence[Partition]) -> Mapping[Partition, tuple[int, int]]:
        """Return the first and the end offset (read committed) of partitions."""
        return offset_bounds(self._consumer("read"), partitions)

    def read(self, partitions: Sequence[Partition], start: Mapping[Partition, int] | None = None) -> Iterator[Batch]:
        """Yield every committed record from ``start`` (default: the first) to the end as of the call.

        Raises ``Retryable`` when a transaction stays open for longer than twice its timeout.
        """
        bounds = offset_bounds(self._consumer("heads"), partitions)
        position = {p: max((start or {}).get(p, first), first) for p, (first, _) in bounds.items()}
        ends = {p: end for p, (_, end) in bounds.items() if position[p] < end}
        if not ends:
            return
        consumer = self._consumer("read")
        self._assign(consumer, {p: position[p] for p in ends})
        progress = time.monotonic()
        # The broker aborts a transaction within its timeout, looking for such ones every 10 s: twice it is both.
        patience = 2 * self._settings.transaction_timeout / 1_000
        while ends:
            batches = self._poll(consumer, position, tuple(ends), _POLL_MS)
            for batch in batches:
                yield batch.until(ends[batch.partition])
                if batch.next_offset >= ends[batch.partition]:
                    del ends[batch.partition]
                    consumer.pause(theirs(batch.partition))
            if batches:
                progress = time.monotonic()
            elif time.monotonic() - progress > patience:
                waiting = ", ".join(f"{p.topic}/{p.index} at {position[p]} of {end}" for p, end in ends.items())
                raise Retryable(f"no progress for {patience:g} s reading {waiting}: a transaction there stays open")

    def follow(self, partitions: Sequence[Partition], positions: dict[Partition, int], timeout_s: float) -> list[Batch]:
        """Return records that came after ``positions`` and move them; for tables."""
        consumer = self._consumer("follow")
        if {ours(p) for p in consumer.assignment()} != set(partitions):
            missing = [p for p in partitions if p not in positions]
            for partition, (first, _) in self.bounds(missing).items():
                positions[partition] = first
            self._assign(consumer, {p: positions[p] for p in partitions})
        return [batch for batch in self._poll(consumer, positions, partitions, int(timeout_s * 1_000)) if len(batch)]

    @staticmethod
    def _assign(consumer: KafkaConsumer, position: Mapping[Partition, int]) -> None:
        with translated("assign partitions"):
            consumer.assign([theirs(p) for p in position])
            for partition, offset in position.items():
                consumer.seek(theirs(partition), int(offset))
                consumer.resume(theirs(partition))

    @staticmethod
    def _poll(
        consumer: KafkaConsumer, position: dict[Partition, int], partitions: Sequence[Partition], timeout_ms: int
    ) -> list[Batch]:
        with translated("read"):
            try:
                fetched = consumer.poll(timeout_ms=timeout_ms, max_records=_MAX_RECORDS)
            except errors.OffsetOutOfRangeError as error:
                # Retention or compaction moved the log's start past our place: what is left is what there is.
                for partition, (first, _) in offset_bounds(consumer, [ours(one) for one in error.args[0]]).items():
                    consumer.seek(theirs(partition), first)
                fetched = {}
            batches = []
            for partition in partitions:
                at = consumer.position(theirs(partition), timeout_ms=_POLL_MS)
                if at is not None and at != position[partition]:
                    position[partition] = int(at)
                    batches.append(to_batch(partition, fetched.get(theirs(partition), ()), int(at)))
        return batches

    def close(self) -> None:
        """Let go of the connections."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            with translated("close a reader"):
                client.close(autocommit=False, timeout_ms=_CLOSE_MS)
