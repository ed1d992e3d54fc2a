"""The ports between Kafka and the roles: batches in, outgoing records out, and the stage that a role is."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.metrics import Sample

Headers = tuple[tuple[str, bytes], ...]


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which a partition has no use for


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of one partition from one poll, as columns, in offset order.

    ``offsets`` and ``timestamps`` (broker, ms) are int64[n]; ``next_offset`` is the position after the batch,
    which passes holes left by transaction markers. ``headers`` is empty when no record carries any. A batch
    without records reaches ``absorb`` about once a second while its partition is read to the end and the broker
    answers: that is how a stage knows a quiet partition from an unreachable one.
    """

    partition: Partition
    offsets: npt.NDArray[np.int64]
    timestamps: npt.NDArray[np.int64]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    next_offset: int
    headers: Sequence[Headers] = ()

    def __len__(self) -> int:
        return len(self.values)

    def until(self, end: int) -> Self:
        """Return the part below offset ``end``, so that a read ends where it promised."""
        if self.next_offset <= end or not len(self):
            return self
        keep = int(self.offsets.searchsorted(end))
        return replace(
            self,
            offsets=self.offsets[:keep],
            timestamps=self.timestamps[:keep],
            keys=self.keys[:keep],
            values=self.values[:keep],
            next_offset=end,
            headers=self.headers[:keep],
        )


class Outgoing(NamedTuple):
    """A record to be written in the current transaction; ``value`` None is a tombstone."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """What is read back before the first record: the latest value by key of the stage's changelog partitions."""

    values: Mapping[bytes, bytes] = field(default_factory=dict)
    partitions: Mapping[bytes, int] = field(default_factory=dict)


class Stage(Protocol):
    """A role's logic without Kafka: one loop drives it, over a real broker or an in-memory log.

    The loop calls, in one thread: ``table`` for every record of the table topics (to their end before anything
    else, later as they come), ``assigned`` with what the changelog held, ``absorb`` for each batch, ``flush`` at
    the flush interval, and ``committed`` after the transaction that carried that flush and the input offsets.
    After an abort or a lost assignment it calls ``revoked`` for all, then ``assigned`` again with the committed
    state: a stage must then behave as if the uncommitted records had never been seen.
    """

    @property
    def name(self) -> str:
        """Return the role's name: tally, join, judge, retrain or deploy."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the topics that the group reads."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Return the compacted topics that are read whole before anything else, and followed."""

    def changelog(self, assigned: frozenset[Partition]) -> tuple[Partition, ...]:
        """Return the compacted partitions that hold the state for these input partitions."""

    def start_offsets(self, assigned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return offsets known from restored state; the loop uses committed offsets for the rest."""

    def assigned(self, partitions: frozenset[Partition], restored: Restored) -> None:
        """Take over partitions (the whole new assignment) with their restored state."""

    def revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget partitions and everything not yet flushed of them."""

    def table(self, topic: str, key: bytes, value: bytes | None) -> None:
        """See a record of a table topic; None removes the key. A ``ValueError`` leaves what the key said before."""

    def absorb(self, batch: Batch) -> None:
        """Take in a batch without blocking; raises ``Fatal`` to stop uncommitted."""

    def flush(self, now_ms: int) -> list[Outgoing]:
        """Return what must be written together with the offsets of all absorbed batches; ``now_ms`` is wall."""

    def committed(self) -> None:
        """Learn that the last flush is durable: outside effects belong here."""

    def samples(self) -> list[Sample]:
        """Return the current metric values; called in the loop's thread after a commit."""

    def status(self) -> Mapping[str, Any]:
        """Return the JSON shown under ``/api/v1/status``; called in the loop's thread after a commit."""

    def close(self) -> None:
        """Let go of children and files; called once, after the last commit."""


@runtime_checkable
class CountsLosses(Protocol):
    """A stage that keeps, with its state, how many records retention removed before they were read."""

    def lost(self, partition: Partition, offset: int, records: int) -> None:
        """Learn of such records before ``offset``, after ``assigned`` or between batches.

        It is told again where an abort made it forget them, and never of what lies before where its state ends.
        """


@runtime_checkable
class Hindered(Protocol):
    """A stage whose work may stand still although it reads and commits, and which says why: it is not ready then."""

    def hindered(self) -> str | None:
        """Return what is missing, None where nothing is; called after each flush."""


@runtime_checkable
class StopsInputs(Protocol):
    """A stage that can do without one of its inputs, and says which it must not be given now."""

    def stopped(self, ids: Mapping[str, str], ends: Mapping[Partition, int]) -> Collection[str]:
        """Return the inputs that are not to be read; called after ``assigned`` and before each flush.

        ``ids`` are the ids (KIP-516) of the inputs that are there, "" from a broker that has none; ``ends`` the latest
        known end offsets. What it returns before a flush must be what it returned after ``assigned``, or all begins
        anew from what is committed.
        """

    def shorter(self, partition: Partition, end: int) -> None:
        """Learn that a partition ends before the offset from which it would be read on."""


class Source(Protocol):
    """A consumer-group member. Implementations pass tests/conformance."""

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group for these topics."""

    def poll(self, timeout_s: float, max_records: int) -> list[Batch]:
        """Return batches of assigned partitions; raises ``Retryable`` when the broker is away."""

    def assignment(self) -> frozenset[Partition]:
        """Return what is assigned now."""

    def take_rebalance(self) -> bool:
        """Return whether the assignment changed since the last call."""

    def joined(self) -> bool:
        """Return whether the group has given this member its share, which may be nothing."""

    def expired(self) -> Mapping[Partition, int]:
        """Return how many offsets retention removed before they were read, since the source began.

        A poll that finds some gone gives no record behind them: those come with a later one.
        """

    def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return committed offsets, once transactions that carry some have ended; those without are left out."""

    def notes(self, partitions: Sequence[Partition]) -> Sequence[str]:
        """Return what was noted beside the committed offsets of these, without those that have none."""

    def hold(self, partitions: Collection[Partition]) -> None:
        """Give no records of assigned partitions until they are sought again."""

    def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        """Return the id of each topic as of now, "" where the broker has none; without topics that do not exist."""

    def seek(self, partition: Partition, offset: int) -> None:
        """Move the position of an assigned partition; before its first seek it gives no records."""

    def bounds(self, partitions: Sequence[Partition]) -> Mapping[Partition, tuple[int, int]]:
        """Return the first and the end offset (read committed) of partitions."""

    def group(self) -> Any:
        """Return the group metadata that fences a zombie's transaction."""

    def close(self) -> None:
        """Leave the group."""


Ended = Callable[[Exception | None], None]
"""Told once of a record's end: None once every in-sync replica has it, else what kept it from the log."""


APPEND_BATCH_BYTES = 512 * 1024
"""Half of the broker's default max.message.bytes (1 MiB), which it measures by the batch; large enough to compress."""
APPEND_LINGER_MS = 1
"""How long an appender waits for the rest of what is being handed over; whoever appends has gathered already."""


class Appender(Protocol):
    """An idempotent producer outside transactions; a key's partition is its CRC-32 modulo their number.

    One that failed a record fails those behind it, too: it is closed, and the next writes them again.
    """

    def know(self, topic: str) -> None:
        """Learn a topic's partitions; raises ``Retryable`` while nobody tells them."""

    def append(self, topic: str, key: bytes, value: bytes, ended: Ended) -> None:
        """Hand over one record of a known topic; raises what ``ended`` would have been told.

        ``ended`` is called from any thread, also within this call, with ``RecordTooLarge`` for that record alone, and
        with ``Retryable`` for whatever may be over in a moment.
        """

    def close(self) -> None:
        """Let go without waiting; what had not ended may end later, or never."""


class ProducerEpoch(NamedTuple):
    """What a coordinator gave the latest producer of a name: who begins under it next gets another."""

    id: int
    epoch: int


class Sink(Protocol):
    """A transactional producer. Implementations pass tests/conformance."""

    def recover(self) -> None:
        """Fence earlier owners of this replica's slot and end their open transaction; before state is read."""

    def begin(self) -> None:
        """Start a transaction."""

    def send(self, records: Sequence[Outgoing]) -> None:
        """Write records in the open transaction; every result is checked by ``commit``."""

    def commit(self, offsets: Mapping[Partition, int], group: Any, note: str = "") -> None:
        """Commit records and input offsets together, with a note; raises ``Retryable`` or ``Fatal`` (fenced)."""

    def abort(self) -> None:
        """Undo the open transaction."""

    @property
    def alive(self) -> bool:
        """Whether the producer that began here lives and has no transaction open."""

    def latest(self) -> bool:
        """Return whether no producer of this name has begun since this one's last; false where that cannot be told."""

    def ask(self, partition: Partition, group: Any) -> None:
        """Return where this producer may write still; raises ``Fenced`` where another has begun, ``Retryable``."""

    def abandon(self, partition: Partition, group: Any) -> None:
        """Abort a transaction over a group's offset of a partition: its end is also that of one a broker forgot."""

    def close(self) -> None:
        """Let go of the producer."""


class Reader(Protocol):
    """Reads partitions without a group: tables, changelogs, snapshots, history."""

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """Return the partitions of a topic; empty when it does not exist."""

    def bounds(self, partitions: Sequence[Partition]) -> Mapping[Partition, tuple[int, int]]:
        """Return the first and the end offset (read committed) of partitions."""

    def read(self, partitions: Sequence[Partition], start: Mapping[Partition, int] | None = None) -> Iterator[Batch]:
        """Yield every committed record from ``start`` (default: the first) to the end as of the call.

        Transactions open at the call are waited for, so that what is read is never older than offsets that were
        taken before.
        """

    def follow(self, partitions: Sequence[Partition], positions: dict[Partition, int], timeout_s: float) -> list[Batch]:
        """Return records that came after ``positions`` and move them; for tables."""

    def close(self) -> None:
        """Let go of the connection."""
