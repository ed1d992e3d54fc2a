"""Which inputs a loop reads, of the topics that the broker has, and which of them it has read to their end."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from stationkeeper.streams.errors import Retryable, ShorterLog
from stationkeeper.streams.offsets import Positions, resume_at, start_offsets
from stationkeeper.streams.own_topics import OwnTopics
from stationkeeper.streams.ports import Batch, Partition, Reader, Source, Stage, StopsInputs
from stationkeeper.streams.settings import KafkaSettings
from stationkeeper.streams.vitals import Vitals

# How often a partition that is read to its end is told to the stage as quiet: the pace of progress records.
_QUIET_S = 1.0
# The columns of a batch that only says "read to the end, and the broker answers".
_NOTHING = np.empty(0, dtype=np.int64)


class Inputs:
    """Asks the stage which inputs it must not be given, and holds them back; a stage that cannot say reads all.

    One topic that is bad, gone or another one than before then stops nothing but itself: its partitions stay assigned
    and give no records, so that nothing past them is committed.
    """

    def __init__(self, stage: Stage, source: Source, own: OwnTopics, names: Collection[str] = ()) -> None:
        """``names`` are all topics of our own; the stage depends on those that it reads, and reads back."""
        self._stage, self._source = stage, source
        self._own, self._needed = own, frozenset(names)
        self._state: frozenset[str] = frozenset()
        self._held: frozenset[str] = frozenset()
        self._ids: Mapping[str, str] = {}
        self._ends: dict[Partition, int] = {}
        self._waiting: set[Partition] = set()

    @property
    def waiting(self) -> list[Partition]:
        """The partitions that are held back and there: how far they go is asked all the same."""
        return sorted(partition for partition in self._waiting if partition.topic in self._ids)

    def recognise(self, assigned: frozenset[Partition]) -> None:
        """Raise ``TopicReplaced`` where a topic of our own is another than the group last knew; before it is read."""
        self._state = frozenset(partition.topic for partition in self._stage.changelog(assigned))
        self._own.begin(self._names(), assigned)

    def _names(self) -> frozenset[str]:
        return self._needed & {*self._stage.inputs, *self._stage.tables, *self._state}

    def begin(self, assigned: Iterable[Partition]) -> list[Partition]:
        """Hold back what the stage, which has its state, does not take; returns the partitions that are read."""
        self._held, mine = self._stopped(), set(assigned)
        self._waiting = {partition for partition in mine if partition.topic in self._held}
        self._source.hold(self._waiting)
        return sorted(mine - self._waiting)

    def starts(
        self,
        partitions: Sequence[Partition],
        committed: Mapping[Partition, int],
        reader: Reader,
        settings: KafkaSettings,
    ) -> Iterator[tuple[Partition, int, int]]:
        """Yield each partition that is read, where reading begins, and how many records before that are gone.

        Raises ``ShorterLog`` where a log ends earlier and the stage needs all its inputs.
        """
        own, found = self._stage.start_offsets(frozenset(partitions)), self._source.bounds(partitions)
        for partition, mine in found.items():
            try:
                resume_at(partition, own.get(partition, committed.get(partition, 0)), mine)
            except ShorterLog:
                if not isinstance(self._stage, StopsInputs):
                    raise
                self._stage.shorter(partition, mine[1])
        self._held = self._stopped()
        self._waiting |= {partition for partition in found if partition.topic in self._held}
        self._source.hold(self._waiting)
        # Again, for a person may have decided where a log that is shorter is read on.
        own = self._stage.start_offsets(frozenset(partitions))
        bounds = {partition: mine for partition, mine in found.items() if partition not in self._waiting}
        known = _known_topics(reader, self._source, bounds.keys() - committed.keys() - own.keys())
        yield from start_offsets(bounds, own, committed, known, settings.first_start)

    def poll(self, timeout_s: float, most: int) -> list[Batch]:
        """Poll the source; a log that ends too early is a reason to begin anew, where the stage can do without it."""
        try:
            return self._source.poll(timeout_s, most)
        except ShorterLog as error:
            raise (Retryable(str(error)) if isinstance(self._stage, StopsInputs) else error) from error

    def check(self) -> None:
        """Raise ``Retryable`` where the stage takes other inputs than it was given: what was read may be wrong.

        Raises ``TopicReplaced`` where a topic of our own is another than at first.
        """
        self._own.check(self._names())
        stopped = self._stopped()
        if stopped != self._held:
            changed = ", ".join(sorted(stopped ^ self._held))
            raise Retryable(f"other inputs are to be read than before ({changed}): going back to what is committed")

    def measured(self, ends: Mapping[Partition, int]) -> dict[Partition, int]:
        """Note the end offsets as of now, and return how many records wait in the partitions that are held back.

        Of a topic that ends before where it was read to, all count: it is another one.
        """
        self._ends.update(ends)
        waiting = [partition for partition in self.waiting if partition in ends]
        read = self._stage.start_offsets(frozenset(waiting)) if waiting else {}
        return {p: ends[p] - at if (at := read.get(p, 0)) <= ends[p] else ends[p] for p in waiting}

    def _stopped(self) -> frozenset[str]:
        if not isinstance(self._stage, StopsInputs):
            return frozenset()
        self._ids = self._source.topic_ids(self._stage.inputs)
        found: Collection[str] = self._stage.stopped(self._ids, self._ends)
        return frozenset(found)


class LogEnds:
    """Sees once a second which partitions are read to their end, the broker answering."""

    def __init__(self, source: Source, inputs: Inputs, vitals: Vitals) -> None:
        self._source, self._inputs, self._vitals = source, inputs, vitals
        self._at = 0.0

    def reached(self, positions: Positions) -> list[Batch]:
        """Return an empty batch for each partition at its end; nothing between two looks.

        Raises ``Retryable`` while the broker does not answer and nothing read waits for a transaction.
        """
        if time.monotonic() - self._at < _QUIET_S or not positions.at:
            return []
        self._at = time.monotonic()
        try:
            asked = [*sorted(positions.at), *self._inputs.waiting]
            ends = {partition: end for partition, (_, end) in self._source.bounds(asked).items()}
        except Retryable:
            # On a narrow line the answer waits behind fetched records: to give up those that have come, for the want
            # of news about the others, would be to read them again for ever.
            if not positions.uncommitted:
                raise
            return []
        waiting = self._inputs.measured(ends)
        self._vitals.measured(waiting | {p: max(ends[p] - at, 0) for p, at in positions.at.items()})
        return [Batch(p, _NOTHING, _NOTHING, (), (), at) for p, at in positions.at.items() if at >= ends[p]]


def _known_topics(reader: Reader, source: Source, new: Collection[Partition]) -> set[str]:
    """Return which topics of the partitions without an offset the group has read in another partition."""
    topics = {partition.topic for partition in new}
    others = [p for topic in sorted(topics) for p in reader.partitions(topic) if p not in new]
    return {partition.topic for partition in source.committed(others)}
