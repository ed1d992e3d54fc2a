"""The ports over the in-memory log: what Kafka does, in one process and without waiting."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from stationkeeper.streams.dead_letters.oversize import Oversize
from stationkeeper.streams.errors import Fenced, Retryable
from stationkeeper.streams.memory.log import Group, GroupToken, MemoryLog, share
from stationkeeper.streams.offsets import resume_at
from stationkeeper.streams.ports import Batch, Outgoing, Partition
from stationkeeper.streams.settings import KafkaSettings

# As the real readers: several batches a partition, so that tests see more than one.
_READ_ROWS = 20_000


class MemorySource:
    """The ``Source`` over a ``MemoryLog``; a member of the same instance replaces the older one, as in Kafka."""

    def __init__(self, log: MemoryLog, settings: KafkaSettings, role: str) -> None:
        self._log = log
        self._name = settings.group(role)
        self._instance = settings.replica
        # Who a process is: a newer one under the same instance has another, by which the older finds itself fenced.
        self._member = object()
        self._generation = -1
        self._assigned: frozenset[Partition] = frozenset()
        self._changed = False
        self._positions: dict[Partition, int] = {}
        self._expired: dict[Partition, int] = {}
        self._subscribed = False

    @property
    def _group(self) -> Group:
        return self._log.groups.setdefault(self._name, Group())

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group for these topics."""
        self._log.check()
        with self._log.changed:
            self._group.members[self._instance] = self._member
            self._group.topics[self._instance] = tuple(topics)
            self._group.generation += 1
        self._subscribed = True

    def poll(self, timeout_s: float, max_records: int) -> list[Batch]:
        """Return what is there; waits up to ``timeout_s`` for something."""
        self._log.check()
        with self._log.changed:
            batches = self._take(max_records) if self._settled() else []
            if not batches and not self._changed and timeout_s > 0:
                self._log.changed.wait(timeout_s)
                batches = self._take(max_records) if self._settled() else []
        return batches

    def _settled(self) -> bool:
        """Return whether the assignment still stands; after a rebalance the loop must first restore its state."""
        group = self._group
        if group.members.get(self._instance) is not self._member:
            raise Fenced(f"another process runs as {self._name}.{self._instance}; give each its own kafka.instance")
        # The same share again is a rebalance too: others may have written meanwhile.
        if group.generation == self._generation:
            return not self._changed
        counts = {topic: len(self._log.partitions(topic)) for topics in group.topics.values() for topic in topics}
        self._assigned = share(group.topics, counts, self._instance)
        self._generation = group.generation
        self._positions = {}
        # Until the loop has taken the change no records are given, as in Kafka: they would be read with the old state.
        self._changed = True
        return False

    def _take(self, max_records: int) -> list[Batch]:
        batches = []
        left = max_records
        for partition, wanted in sorted(self._positions.items()):
            log = self._log.at(partition)
            position, lost = resume_at(partition, wanted, (log.first, log.end))
            if lost:
                # Told before the records behind it are given, so that the loss is counted in order.
                self._expired[partition] = self._expired.get(partition, 0) + lost
                self._positions[partition] = position
                continue
            if left <= 0 or position >= log.end:
                continue
            batch = log.take(partition, position, log.end, left)
            self._positions[partition] = batch.next_offset
            left -= len(batch)
            batches.append(batch)
        return batches

    def assignment(self) -> frozenset[Partition]:
        """Return what is assigned now."""
        return self._assigned

    def joined(self) -> bool:
        """Return whether the group has given this member its share."""
        return self._generation >= 0

    def expired(self) -> Mapping[Partition, int]:
        """Return how many offsets were trimmed before they were read."""
        return dict(self._expired)

    def take_rebalance(self) -> bool:
        """Return whether the assignment changed since the last call."""
        changed, self._changed = self._changed, False
        return changed

    def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return committed offsets; partitions without one are left out."""
        self._log.check()
        known = self._group.committed
        return {partition: known[partition] for partition in partitions if partition in known}

    def notes(self, partitions: Sequence[Partition]) -> Sequence[str]:
        """Return what was noted beside committed offsets."""
        self._log.check()
        return [self._group.notes[partition] for partition in partitions if self._group.notes.get(partition)]

    def hold(self, partitions: Collection[Partition]) -> None:
        """Give no records of these until they are sought again."""
        for partition in partitions:
            self._positions.pop(partition, None)

    def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        """Return the id of each topic that exists."""
        self._log.check()
        return {topic: self._log.ids[topic] for topic in topics if topic in self._log.ids}

    def seek(self, partition: Partition, offset: int) -> None:
        """Move the position of an assigned partition."""
        self._positions[partition] = offset

    def bounds(self, partitions: Sequence[Partition]) -> Mapping[Partition, tuple[int, int]]:
        """Return the first and the end offset of partitions."""
        return _bounds(self._log, partitions)

    def group(self) -> GroupToken:
        """Return what proves to a commit that this member still owns its partitions."""
        return GroupToken(self._name, self._instance, self._member, self._generation)

    def close(self) -> None:
        """Leave the group, so that the others take over at once."""
        with self._log.changed:
            group = self._group
            if self._subscribed and group.members.get(self._instance) is self._member:
                del group.members[self._instance], group.topics[self._instance]
                group.generation += 1


class MemorySink:
    """The ``Sink`` over a ``MemoryLog``; a newer sink of the same instance fences the older one."""

    def __init__(self, log: MemoryLog, settings: KafkaSettings, role: str) -> None:
        self._log = log
        self._name = settings.member(role)
        self._epoch: int | None = None
        self._records: list[Outgoing] | None = None
        self._oversize = Oversize(alone=True)

    def recover(self) -> None:
        """Fence earlier owners of this slot; does nothing while this one is alive."""
        self._log.check()
        # Alive, it keeps its epoch: recover is called after each abort, and would fence itself.
        if self._epoch is None:
            with self._log.changed:
                self._epoch = self._log.epochs.get(self._name, -1) + 1
                self._log.epochs[self._name] = self._epoch

    def begin(self) -> None:
        """Start a transaction."""
        self.recover()
        self._records = []

    def send(self, records: Sequence[Outgoing]) -> None:
        """Write records in the open transaction."""
        if self._records is None:
            raise Retryable("no transaction is open")
        self._records.extend(self._oversize.fitted(record) for record in records)

    def commit(self, offsets: Mapping[Partition, int], group: Any, note: str = "") -> None:
        """Commit records and input offsets together; raises ``Retryable`` or ``Fenced``."""
        if self._records is None or self._epoch is None:
            raise Retryable("no transaction is open")
        with self._log.changed:
            # At the commit and not at send: a real producer hears of a refusal when the batch comes back.
            self._check_sizes(self._records)
            if offsets:
                self._log.check_group(group)
            self._log.commit(self._name, self._epoch, self._records, offsets)
            if offsets:
                self._log.groups[group.group].committed.update(offsets)
                self._log.groups[group.group].notes.update(dict.fromkeys(offsets, note))
        self._records = None

    def _check_sizes(self, records: Sequence[Outgoing]) -> None:
        for record in records:
            limit = self._log.limit_of(record.topic)
            headers = sum(len(name) + len(text) for name, text in record.headers)
            if limit is not None and len(record.value or b"") + headers > limit:
                self._oversize.refuse(record, f"limit {limit}")
                raise Retryable(f"{record.topic} refused a dead letter for its size")

    def abort(self) -> None:
        """Undo the open transaction."""
        records, self._records = self._records, None
        # An unreachable broker gets no abort either; the newer epoch ends the transaction.
        if records and self._log.available:
            self._log.abort(records)

    @property
    def alive(self) -> bool:
        """Whether this producer began, and has no transaction open."""
        return self._epoch is not None and self._records is None

    def latest(self) -> bool:
        """Return whether no newer sink of this name has begun."""
        return self._epoch is not None and self._log.epochs.get(self._name) == self._epoch

    def ask(self, partition: Partition, group: Any) -> None:
        """Return where no newer sink of this name has begun."""
        if not self.latest():
            raise Fenced(f"{self._name} runs elsewhere")

    def abandon(self, partition: Partition, group: Any) -> None:
        """Do nothing: the log in memory forgets no transaction."""

    def close(self) -> None:
        """Let go of the producer."""
        self.abort()


class MemoryReader:
    """The ``Reader`` over a ``MemoryLog``."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """Return the partitions of a topic; empty when it does not exist."""
        self._log.check()
        return self._log.partitions(topic)

    def bounds(self, partitions: Sequence[Partition]) -> Mapping[Partition, tuple[int, int]]:
        """Return the first and the end offset of partitions."""
        return _bounds(self._log, partitions)

    def read(self, partitions: Sequence[Partition], start: Mapping[Partition, int] | None = None) -> Iterator[Batch]:
        """Yield every committed record from ``start`` (default: the first) to the end as of the call."""
        for partition, (first, end) in _bounds(self._log, partitions).items():
            # What retention removed is passed over: readers rebuild tables and reports, which take what is there.
            position = max((start or {}).get(partition, first), first)
            while position < end:
                with self._log.changed:
                    batch = self._log.at(partition).take(partition, position, end, _READ_ROWS)
                position = batch.next_offset
                yield batch

    def follow(self, partitions: Sequence[Partition], positions: dict[Partition, int], timeout_s: float) -> list[Batch]:
        """Return records that came after ``positions`` and move them."""
        self._log.check()
        with self._log.changed:
            batches = self._after(partitions, positions)
            if not batches and timeout_s > 0:
                self._log.changed.wait(timeout_s)
                batches = self._after(partitions, positions)
        return batches

    def _after(self, partitions: Sequence[Partition], positions: dict[Partition, int]) -> list[Batch]:
        batches = []
        for partition in partitions:
            log = self._log.at(partition)
            position = max(positions.get(partition, log.first), log.first)
            if position < log.end:
                batch = log.take(partition, position, log.end, _READ_ROWS)
                positions[partition] = batch.next_offset
                if len(batch):
                    batches.append(batch)
        return batches

    def close(self) -> None:
        """Let go of nothing: the log belongs to whoever made it."""


def _bounds(log: MemoryLog, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
    log.check()
    return {partition: (log.at(partition).first, log.at(partition).end) for partition in partitions}
