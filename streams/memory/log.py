"""A Kafka-like log in memory: partitions with holes, atomic transactions, consumer groups; deterministic."""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from kafka.partitioner import murmur2

from stationkeeper.contracts.topics import Topic
from stationkeeper.streams.errors import Fenced, Retryable
from stationkeeper.streams.ports import Batch, Headers, Outgoing, Partition

# Compaction costs a pass over the partition, so it waits until it is worth one.
_COMPACT_SLACK = 1_000


@dataclass(slots=True)
class PartitionLog:
    """The records of one partition, ordered by offset; offsets have holes where markers and aborts were."""

    compacted: bool = False
    first: int = 0
    end: int = 0
    offsets: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)

    def append(self, records: Sequence[Outgoing], timestamps: Iterable[int]) -> None:
        """Add records at the end."""
        self.offsets.extend(range(self.end, self.end + len(records)))
        self.timestamps.extend(timestamps)
        self.keys.extend(record.key for record in records)
        self.values.extend(record.value for record in records)
        self.headers.extend(record.headers for record in records)
        self.end += len(records)
        # Twice the keys: Kafka compacts when half of a log is dirty.
        if self.compacted and len(self.offsets) > 2 * len(set(self.keys)) + _COMPACT_SLACK:
            self.compact()

    def skip(self, offsets: int) -> None:
        """Use up offsets without records, as transaction markers and aborted records do."""
        self.end += offsets

    def take(self, partition: Partition, start: int, end: int, limit: int) -> Batch:
        """Return up to ``limit`` records from offset ``start`` below ``end``, O(log n + limit)."""
        low = bisect_left(self.offsets, start)
        high = min(bisect_left(self.offsets, end), low + limit)
        done = high == bisect_left(self.offsets, end)
        headers = self.headers[low:high]
        return Batch(
            partition=partition,
            offsets=np.array(self.offsets[low:high], dtype=np.int64),
            timestamps=np.array(self.timestamps[low:high], dtype=np.int64),
            keys=tuple(self.keys[low:high]),
            values=tuple(self.values[low:high]),
            # Behind markers and aborted records at the end too, or a position would never reach the end of a log that
            # ends with a marker, and a partition never count as read.
            next_offset=end if done else self.offsets[high - 1] + 1,
            # As the real clients: no headers at all is one empty tuple, which costs nothing a record.
            headers=tuple(headers) if any(headers) else (),
        )

    def trim(self, first: int) -> None:
        """Drop what is below ``first``, as retention does."""
        low = bisect_left(self.offsets, first)
        for column in (self.offsets, self.timestamps, self.keys, self.values, self.headers):
            del column[:low]
        self.first = max(self.first, min(first, self.end))

    def compact(self) -> None:
        """Keep the last record of each key; offsets stay."""
        last = {key: row for row, key in enumerate(self.keys)}
        rows = sorted(last.values())
        self.offsets = [self.offsets[row] for row in rows]
        self.timestamps = [self.timestamps[row] for row in rows]
        self.keys = [self.keys[row] for row in rows]
        self.values = [self.values[row] for row in rows]
        self.headers = [self.headers[row] for row in rows]


@dataclass(slots=True)
class Group:
    """A consumer group: who is a member under which instance, what each reads, and what is committed."""

    generation: int = 0
    members: dict[str, object] = field(default_factory=dict)
    topics: dict[str, tuple[str, ...]] = field(default_factory=dict)
    committed: dict[Partition, int] = field(default_factory=dict)
    notes: dict[Partition, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupToken:
    """What a transaction shows to prove that its consumer still owns its partitions."""

    group: str
    instance: str
    member: object
    generation: int


class MemoryLog:
    """Topics, groups and transactional ids shared by memory sources, sinks and readers.

    ``clock_ms`` gives the broker timestamp of records that bring none (default: the wall clock). ``available``
    False makes every call raise ``Retryable``, as an unreachable broker does. Safe to use from several threads.
    """

    def __init__(self, clock_ms: Callable[[], int] | None = None) -> None:
        self.available = True
        # Reentrant: a commit appends and checks under the lock that it holds.
        self.changed = threading.Condition(threading.RLock())
        self._clock_ms = clock_ms or (lambda: int(time.time() * 1_000))
        self._topics: dict[str, list[PartitionLog]] = {}
        self._limits: dict[str, int] = {}
        self._turns: dict[str, int] = {}
        self._made = 0
        self.ids: dict[str, str] = {}
        self.groups: dict[str, Group] = {}
        self.epochs: dict[str, int] = {}

    def create(self, topic: str | Topic, partitions: int = 1, *, compacted: bool = False) -> None:
        """Create a topic, or enlarge it; groups that read it then rebalance."""
        if isinstance(topic, Topic):
            self._limits[topic.name] = topic.max_message_bytes
            self.create(topic.name, topic.partitions, compacted="compact" in topic.cleanup)
            return
        with self.changed:
            if topic not in self._topics:
                # A number and not random, so that a run repeats itself; topics made anew get another, as in Kafka.
                self._made += 1
                self.ids[topic] = f"{self._made:032x}"
            logs = self._topics.setdefault(topic, [])
            while len(logs) < partitions:
                logs.append(PartitionLog(compacted=compacted))
            for group in self.groups.values():
                if any(topic in topics for topics in group.topics.values()):
                    group.generation += 1

    def delete(self, topic: str) -> None:
        """Delete a topic and its records; what is created under its name is another one, with an id of its own."""
        with self.changed:
            del self._topics[topic], self.ids[topic]
            for group in self.groups.values():
                # As in Kafka, where the offsets of a topic go with it.
                for partition in [one for one in group.committed if one.topic == topic]:
                    del group.committed[partition], group.notes[partition]
                if any(topic in topics for topics in group.topics.values()):
                    group.generation += 1

    def limit(self, topic: str, bytes_: int) -> None:
        """Refuse records of a topic whose value is larger, as ``max.message.bytes`` does."""
        self._limits[topic] = bytes_

    def limit_of(self, topic: str) -> int | None:
        """Return the largest value that a topic takes; None for any."""
        return self._limits.get(topic)

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """Return the partitions of a topic; empty when it does not exist."""
        return tuple(Partition(topic, index) for index in range(len(self._topics.get(topic, ()))))

    def at(self, partition: Partition) -> PartitionLog:
        """Return one partition's log; raises ``Retryable`` when it does not exist, as a lagging broker would say."""
        logs = self._topics.get(partition.topic, ())
        if partition.index >= len(logs):
            raise Retryable(f"{partition.topic}/{partition.index} does not exist")
        return logs[partition.index]

    def produce(
        self,
        topic: str,
        values: Sequence[bytes | None],
        *,
        keys: Sequence[bytes | None] | None = None,
        partition: int | None = None,
        timestamps: Sequence[int] | None = None,
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Append records outside any transaction, as an ordinary producer does."""
        now = self._clock_ms()
        records = [
            Outgoing(topic, value, keys[i] if keys else None, partition, headers[i] if headers else ())
            for i, value in enumerate(values)
        ]
        with self.changed:
            for target, rows in self.route(records).items():
                self.at(target).append(
                    [records[row] for row in rows], [timestamps[row] if timestamps else now for row in rows]
                )
            self.changed.notify_all()

    def route(self, records: Sequence[Outgoing]) -> dict[Partition, list[int]]:
        """Return which rows go to which partition: explicit, else Kafka's hash of the key, else in turn."""
        routed: dict[Partition, list[int]] = {}
        for row, record in enumerate(records):
            count = len(self._topics.get(record.topic, ()))
            if count == 0:
                raise Retryable(f"topic {record.topic} does not exist")
            index = record.partition
            if index is None and record.key is not None:
                # Kafka's own hash, made positive as its default partitioner does: tests that name partitions hold on
                # both.
                index = (murmur2(record.key) & 0x7FFFFFFF) % count
            elif index is None:
                index = self._turns.get(record.topic, 0) % count
                self._turns[record.topic] = index + 1
            routed.setdefault(Partition(record.topic, index), []).append(row)
        return routed

    def trim(self, topic: str, partition: int, first: int) -> None:
        """Let retention remove the records below ``first``."""
        with self.changed:
            self.at(Partition(topic, partition)).trim(first)

    def check(self) -> None:
        """Raise ``Retryable`` while ``available`` is False."""
        if not self.available:
            raise Retryable("the in-memory log is switched off")

    def check_group(self, token: GroupToken) -> None:
        """Raise ``Fenced`` for a member whose instance has a newer owner, ``Retryable`` for an old generation."""
        group = self.groups[token.group]
        # First who it is, then when: a replaced member has an old generation too, and must not try again.
        if group.members.get(token.instance) is not token.member:
            raise Fenced(f"another process runs as {token.group}.{token.instance}")
        if group.generation != token.generation:
            raise Retryable(f"group {token.group} has rebalanced: commit of generation {token.generation} refused")

    def commit(self, name: str, epoch: int, records: Sequence[Outgoing], offsets: Mapping[Partition, int]) -> None:
        """Append a transaction atomically with a marker per partition; offsets go to ``record_offsets``."""
        with self.changed:
            self.check()
            # Before anything is appended: a fenced process must leave nothing behind.
            if self.epochs.get(name) != epoch:
                raise Fenced(f"another process runs with transactional.id {name}")
            now = self._clock_ms()
            for target, rows in self.route(records).items():
                log = self.at(target)
                log.append([records[row] for row in rows], [now] * len(rows))
                # The commit marker takes an offset too, so that code which adds up offsets fails here as over Kafka.
                log.skip(1)
            # Only to raise for one that is gone, as a broker would; the group keeps the offsets.
            for partition in offsets:
                self.at(partition)
            self.changed.notify_all()

    def abort(self, records: Sequence[Outgoing]) -> None:
        """Use up the offsets of records that nobody will see, and of the abort marker."""
        with self.changed:
            # Of a topic deleted meanwhile nothing is left to use up.
            known = [record for record in records if record.topic in self._topics]
            for target, rows in self.route(known).items():
                self.at(target).skip(len(rows) + 1)


def share(members: Mapping[str, tuple[str, ...]], counts: Mapping[str, int], member: str) -> frozenset[Partition]:
    """Return the partitions of ``member`` by the range assignor, as Kafka computes it."""
    mine: set[Partition] = set()
    for topic in members[member]:
        # By name, not by who came first: every member computes the same share by itself.
        readers = sorted(name for name, topics in members.items() if topic in topics)
        each, extra = divmod(counts.get(topic, 0), len(readers))
        place = readers.index(member)
        start = each * place + min(place, extra)
        stop = start + each + (1 if place < extra else 0)
        mine.update(Partition(topic, index) for index in range(start, stop))
    return frozenset(mine)
