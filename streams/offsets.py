"""Where reading begins: pure decisions about offsets, the same over Kafka and the in-memory log."""

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.streams.errors import ShorterLog
from stationkeeper.streams.ports import CountsLosses, Partition, Stage
from stationkeeper.streams.vitals import Vitals

log = structlog.get_logger()


class Losses:
    """Tells each loss once; a stage that keeps such counts with its state shows them itself, so that they last.

    For any other stage a loss is held back until a transaction has gone through: after an abort reading begins anew,
    and what is gone is then told from where it begins.
    """

    def __init__(self, stage: Stage, vitals: Vitals) -> None:
        self._stage, self._vitals = stage, vitals
        self._told: dict[Partition, int] = {}
        self._open: dict[Partition, tuple[int, int]] = {}
        self._shown: dict[Partition, int] = {}

    def tell(self, partition: Partition, offset: int, records: int) -> None:
        """Tell of the records before ``offset`` that were gone when reading began, began again or came to them."""
        log.error(LogEvent.RECORDS_EXPIRED, topic=partition.topic, partition=partition.index, records=records)
        if isinstance(self._stage, CountsLosses):
            self._stage.lost(partition, offset, records)
            return
        # A stage that always begins before its committed offset would be told of the same records at each beginning.
        new = min(records, offset - self._shown.get(partition, 0))
        self._open[partition] = (offset, self._open.get(partition, (0, 0))[1] + max(new, 0))

    def new(self, expired: Mapping[Partition, int]) -> Iterator[tuple[Partition, int]]:
        """Yield what a source's growing counts have more than before: lost while it was reading."""
        for partition, records in expired.items():
            new = records - self._told.get(partition, 0)
            if new:
                self._told[partition] = records
                yield partition, new

    def settled(self) -> None:
        """Show what was told since the last transaction, which has gone through."""
        for partition, (offset, records) in self._open.items():
            self._vitals.lost(partition, records)
            self._shown[partition] = offset
        self._open.clear()

    def begin_anew(self, expired: Mapping[Partition, int]) -> None:
        """Forget what no transaction has carried, and take a source's counts for told."""
        self._told = dict(expired)
        self._open.clear()


class Positions:
    """How far each partition was read, and what of that no transaction has carried yet.

    ``at`` is the next offset of every partition that gives records, ``uncommitted`` the part that the next transaction
    moves.
    """

    def __init__(self) -> None:
        self.at: dict[Partition, int] = {}
        self.uncommitted: dict[Partition, int] = {}

    def forget(self) -> None:
        """Begin anew: reading goes back to what is committed."""
        self.at, self.uncommitted = {}, {}

    def begin(self, partition: Partition, offset: int, *, committed: bool) -> None:
        """Note where reading begins; ``committed`` says that the group knows an offset of the partition."""
        self.at[partition] = offset
        if not committed:
            # Where reading began is known from the first transaction on, also of a partition that stays quiet: at the
            # next start it would be taken for one that was added, and read from its beginning.
            self.uncommitted[partition] = offset

    def read(self, partition: Partition, next_offset: int) -> None:
        """Note that records, or markers without any, were read up to ``next_offset``."""
        self.at[partition] = self.uncommitted[partition] = next_offset

    def passed(self, partition: Partition, offset: int, committed: int) -> None:
        """Note that what lay before ``offset`` is gone; ``committed`` is what the group knows, or less."""
        self.at[partition] = offset
        # Where the group stands further, because the stage's state begins earlier, its offset must not go back.
        if offset > committed:
            self.uncommitted[partition] = offset

    @property
    def carried(self) -> Mapping[Partition, int]:
        """The offsets that go with the next transaction: those that moved, all where none did.

        They go with every transaction, because they carry the proof of ownership that a member without its partitions,
        stopped for a while and unaware of it, does not have.
        """
        return self.uncommitted or self.at

    def settled(self) -> None:
        """Note that the transaction has gone through."""
        self.uncommitted = {}


def resume_at(partition: Partition, wanted: int, bounds: tuple[int, int]) -> tuple[int, int]:
    """Return where to go on and how many offsets retention took before they were read.

    ``bounds`` are the partition's first and end offset. An offset past the end raises ``ShorterLog``: the log is
    not the one that was read before.
    """
    first, end = bounds
    if wanted > end:
        raise ShorterLog(
            f"{partition.topic}/{partition.index} ends at {end} but this group has read to {wanted}: the topic was "
            "deleted and created again, or a broker lost data. Reset the group's offsets and the stage's state first"
        )
    return max(wanted, first), max(first - wanted, 0)


def start_offset(
    partition: Partition,
    bounds: tuple[int, int],
    *,
    restored: Mapping[Partition, int],
    committed: Mapping[Partition, int],
    known_topics: Collection[str],
    first_start: Literal["earliest", "latest"],
) -> tuple[int, int]:
    """Return where a newly assigned partition starts, and how many offsets were lost to retention.

    The stage's own state comes first, then the group's committed offset. A partition without either is read from
    its beginning when its topic has been read before (the topic was enlarged), else as ``first_start`` says.
    """
    if partition in restored:
        return resume_at(partition, restored[partition], bounds)
    if partition in committed:
        return resume_at(partition, committed[partition], bounds)
    if partition.topic in known_topics or first_start == "earliest":
        return bounds[0], 0
    return bounds[1], 0


def start_offsets(
    bounds: Mapping[Partition, tuple[int, int]],
    restored: Mapping[Partition, int],
    committed: Mapping[Partition, int],
    known_topics: Collection[str],
    first_start: Literal["earliest", "latest"],
) -> Iterator[tuple[Partition, int, int]]:
    """Yield each partition, where its reading begins, and how many records before that are gone (`start_offset`)."""
    for partition, mine in bounds.items():
        offset, lost = start_offset(
            partition, mine, restored=restored, committed=committed, known_topics=known_topics, first_start=first_start
        )
        yield partition, offset, lost
