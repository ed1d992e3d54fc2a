"""Source and reader over confluent-kafka (``kafka.client: librdkafka``): the same promises, held by the same suite."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException

from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.handshake import explained
from stationkeeper.streams.librdkafka.clients import (
    ANSWER_S,
    Asker,
    connection,
    consume,
    leave,
    raised,
    reading,
    theirs,
    topic_partitions,
    translated,
    within,
)
from stationkeeper.streams.offsets import resume_at
from stationkeeper.streams.ports import Batch, Partition
from stationkeeper.streams.settings import KafkaSettings

# Some 20 MB of events at a time: the fixed cost of a poll is spread, and memory stays bounded.
_MAX_RECORDS = 20_000
# How long one poll of a reader may wait, so that a caller that stops is not held for longer.
_POLL_S = 0.2


class ConfluentSource:
    """The ``Source`` of one replica of a role: static member, range assignor, read committed."""

    def __init__(self, settings: KafkaSettings, role: str) -> None:
        self._settings = settings
        self._role = role
        self._client: Consumer | None = None
        self._asker = Asker(settings, f"{settings.member(role)}.bounds")
        self._assigned: frozenset[Partition] = frozenset()
        self._joined = self._changed = self._moved = False
        self._positions: dict[Partition, int] = {}
        self._expired: dict[Partition, int] = {}

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group for these topics; raises ``Retryable`` while no broker answers."""
        settings = self._settings
        member = settings.member(self._role)
        with explained(settings), translated(f"connect to Kafka at {settings.bootstrap}"):
            client = Consumer(
                {
                    "group.id": settings.group(self._role),
                    "group.instance.id": member,
                    "partition.assignment.strategy": "range",
                    "session.timeout.ms": settings.session_timeout,
                    # Ten a session, so that a few lost ones cost no membership; as for kafka-python.
                    "heartbeat.interval.ms": max(settings.session_timeout // 10, 100),
                    # The library refuses one shorter than the session.
                    "max.poll.interval.ms": max(settings.max_poll_interval, settings.session_timeout),
                    **reading(settings),
                    **connection(settings, member),
                }
            )
            try:
                client.list_topics(timeout=settings.connect_timeout / 1_000)
            except KafkaException:
                client.close()
                raise
            self._client = client
            # What a member before this one was given is nobody's now.
            self._assigned, self._positions, self._joined, self._changed = frozenset(), {}, False, True
            # After the look-up: subscribing alone raises nothing where no broker answers.
            client.subscribe(list(topics), on_assign=self._settle, on_revoke=self._unsettle, on_lost=self._unsettle)

    def _settle(self, client: Consumer, partitions: Sequence[Any]) -> None:
        if not self._is_mine(client):
            # A member that was left behind: it may still hear of its group while a new one joins.
            return
        # Nothing is fetched before the loop has restored the state and sought: the group's assignment stands all the
        # same, and ``poll`` assigns what has been sought.
        client.assign([])
        self._assigned = frozenset(Partition(p.topic, p.partition) for p in partitions)
        self._positions = {}
        self._joined = self._changed = True

    def _unsettle(self, client: Consumer, partitions: Sequence[Any]) -> None:
        if not self._is_mine(client):
            return
        client.unassign()
        self._assigned, self._positions = frozenset(), {}
        self._joined, self._changed = False, True

    def _is_mine(self, client: Consumer) -> bool:
        return client is self._client

    def poll(self, timeout_s: float, max_records: int) -> list[Batch]:
        """Return what has arrived; an empty batch tells that a position moved past markers only."""
        client = self._consumer
        # All at once at the next poll, not at each seek: an assignment throws away what was fetched ahead.
        if self._moved:
            with translated("assign partitions"):
                client.assign([theirs(p, offset) for p, offset in self._positions.items()])
            self._moved = False
        batches, lost = consume(client, max_records, timeout_s, self._positions)
        # A rebalance came within the poll: what it brought belongs to an assignment that is gone.
        if self._changed:
            return []
        if lost:
            self._resume_after_expiry(lost)
        return batches

    def _resume_after_expiry(self, lost: Sequence[Partition]) -> None:
        for partition, bounds in self.bounds([p for p in lost if p in self._positions]).items():
            offset, gone = resume_at(partition, self._positions[partition], bounds)
            self._expired[partition] = self._expired.get(partition, 0) + gone
            self.seek(partition, offset)

    def expired(self) -> Mapping[Partition, int]:
        """Return how many offsets retention removed before they were read, since this process began."""
        return dict(self._expired)

    def assignment(self) -> frozenset[Partition]:
        """Return what is assigned now."""
        return self._assigned

    def joined(self) -> bool:
        """Return whether the group has given this member its share, which may be nothing."""
        return self._joined

    def take_rebalance(self) -> bool:
        """Return whether the assignment changed since the last call."""
        changed, self._changed = self._changed, False
        return changed

    def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return committed offsets, after open transactions that carry offsets have ended."""
        return {Partition(found.topic, found.partition): int(found.offset) for found in self._found(partitions)}

    def notes(self, partitions: Sequence[Partition]) -> Sequence[str]:
        """Return what was noted beside committed offsets, by a process with the other client."""
        return [found.metadata for found in self._found(partitions) if found.metadata]

    def _found(self, partitions: Sequence[Partition]) -> list[Any]:
        if not partitions:
            return []
        with translated("read committed offsets"):
            found = self._consumer.committed(
                [theirs(p) for p in partitions], timeout=self._settings.transaction_timeout / 1_000
            )
        for entry in found:
            if entry.error is not None:
                raise raised(f"read the committed offset of {entry.topic}/{entry.partition}", entry.error)
        # Without a committed offset the library says -1001.
        return [entry for entry in found if entry.offset >= 0]

    def hold(self, partitions: Collection[Partition]) -> None:
        """Give no records of assigned partitions until they are sought again."""
        for partition in partitions:
            self._moved = self._positions.pop(partition, None) is not None or self._moved

    def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        """Return the id of each topic as of now."""
        return self._asker.topic_ids(topics)

    def seek(self, partition: Partition, offset: int) -> None:
        """Move the position of an assigned partition and let its records flow from the next poll on."""
        self._positions[partition] = int(offset)
        self._moved = True

    def bounds(self, partitions: Sequence[Partition]) -> Mapping[Partition, tuple[int, int]]:
        """Return the first and the end offset (read committed) of partitions."""
        return self._asker.bounds(partitions)

    def group(self) -> Any:
        """Return the group metadata that fences a zombie's transaction."""
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Let go of the connection; a static member stays in the group until its session ends."""
        client, self._client = self._client, None
        self._asker.close()
        if client is not None:
            with translated("close the consumer"):
                within(ANSWER_S, leave, client)

    @property
    def _consumer(self) -> Consumer:
        if self._client is None:
            raise Retryable("not connected to Kafka")
        return self._client


class ConfluentReader:
    """The ``Reader`` over confluent-kafka: read committed, no group, no commits."""

    def __init__(self, settings: KafkaSettings, name: str = "reader") -> None:
        self._settings = settings
        self._name = f"{settings.prefix}.{name}.{settings.replica}"
        self._clients: dict[str, Consumer] = {}
        self._followed: frozenset[Partition] = frozenset()
        self._asker = Asker(settings, f"{self._name}.bounds")

    def _consumer(self, use: str) -> Consumer:
        if use not in self._clients:
            settings = self._settings
            name = f"{self._name}.{use}"
            with explained(settings), translated(f"connect to Kafka at {settings.bootstrap}"):
                client = Consumer({"group.id": name, **reading(settings), **connection(settings, name)})
                try:
                    client.list_topics(timeout=settings.connect_timeout / 1_000)
                except KafkaException:
                    client.close()
                    raise
                self._clients[use] = client
        return self._clients[use]

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """Return the partitions of a topic; empty when it does not exist."""
        client = self._consumer("read")
        with translated(f"look up {topic}"):
            return topic_partitions(client.list_topics(timeout=ANSWER_S).topics, topic)

    def bounds(self, partitions: Sequence[Partition]) -> Mapping[Partition, tuple[int, int]]:
        """Return the first and the end offset (read committed) of partitions."""
        return self._asker.bounds(partitions)

    def read(self, partitions: Sequence[Partition], start: Mapping[Partition, int] | None = None) -> Iterator[Batch]:
        """Yield every committed record from ``start`` (default: the first) to the end as of the call.

        Raises ``Retryable`` when a transaction stays open for longer than twice its timeout.
        """
        # Uncommitted, so that a transaction that is open now is waited for: its records belong to what the caller asked
        # for.
        bounds = self._asker.bounds(partitions, committed=False)
        position = {p: max((start or {}).get(p, first), first) for p, (first, _) in bounds.items()}
        ends = {p: end for p, (_, end) in bounds.items() if position[p] < end}
        if not ends:
            return
        consumer = self._consumer("read")
        self._assign(consumer, {p: position[p] for p in ends})
        # Twice, as the broker ends a transaction only when it next looks, and its marker takes a moment besides.
        progress, patience = time.monotonic(), 2 * self._settings.transaction_timeout / 1_000
        while ends:
            batches = self._poll(consumer, position, _POLL_S)
            for batch in batches:
                if batch.partition not in ends:
                    continue
                # What came after the call is cut off, or a busy topic would never end.
                yield batch.until(ends[batch.partition])
                if batch.next_offset >= ends[batch.partition]:
                    del ends[batch.partition]
            if batches:
                progress = time.monotonic()
            elif time.monotonic() - progress > patience:
                waiting = ", ".join(f"{p.topic}/{p.index} at {position[p]} of {end}" for p, end in ends.items())
                raise Retryable(f"no progress for {patience:g} s reading {waiting}: a transaction there stays open")
        consumer.unassign()

    def follow(self, partitions: Sequence[Partition], positions: dict[Partition, int], timeout_s: float) -> list[Batch]:
        """Return records that came after ``positions`` and move them; for tables."""
        consumer = self._consumer("follow")
        # Assigned anew only where that changed: an assignment throws away what was fetched ahead.
        if self._followed != set(partitions):
            missing = [p for p in partitions if p not in positions]
            for partition, (first, _) in self.bounds(missing).items():
                positions[partition] = first
            self._assign(consumer, {p: positions[p] for p in partitions})
            self._followed = frozenset(partitions)
        return [batch for batch in self._poll(consumer, positions, timeout_s) if len(batch)]

    @staticmethod
    def _assign(consumer: Consumer, position: Mapping[Partition, int]) -> None:
        with translated("assign partitions"):
            consumer.assign([theirs(p, offset) for p, offset in position.items()])

    def _poll(self, consumer: Consumer, position: dict[Partition, int], timeout_s: float) -> list[Batch]:
        batches, lost = consume(consumer, _MAX_RECORDS, timeout_s, position, member=False)
        if lost:
            # Retention or compaction moved the log's start past our place: what is left is what there is.
            for partition, (first, _) in self.bounds(lost).items():
                position[partition] = max(position[partition], first)
            self._assign(consumer, position)
        return batches

    def close(self) -> None:
        """Let go of the connections."""
        clients, self._clients = self._clients, {}
        self._asker.close()
        for client in clients.values():
            with translated("close a reader"):
                client.close()
