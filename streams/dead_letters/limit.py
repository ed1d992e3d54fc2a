"""When rejected records stop being noise: a rule over records in the order of the log, whatever the batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from stationkeeper.streams.dead_letters.letters import DeadLetterLimit
from stationkeeper.streams.ports import Partition
from stationkeeper.streams.settings import DeadLetterSettings


@dataclass(slots=True)
class Rejections:
    """One partition's count: records and rejected ones of the present block, and rejected ones in a row."""

    seen: int = 0
    rejected: int = 0
    run: int = 0


@dataclass(slots=True)
class RejectionLimit:
    """Watches the share and the run length of rejected records, partition by partition.

    The share is taken over blocks of ``minimum`` records, so that a long good history cannot hide a broken present. It
    is a rejected record that stops, the first one past a limit: batches, flushes and restarts do not change which one,
    because ``counts`` are kept with the partition's committed state. And a feed that was mended is never stopped for
    what came before.
    """

    settings: DeadLetterSettings = field(default_factory=DeadLetterSettings)
    _counts: dict[Partition, Rejections] = field(default_factory=dict)

    def observe(self, partition: Partition, records: int, rejected: Sequence[int]) -> None:
        """Count a batch of ``records``, of which those at the ascending positions ``rejected`` are.

        Raises ``DeadLetterLimit``; nothing of the batch may then be committed. O(rejected).
        """
        counts, at = self.counts(partition), 0
        for position in rejected:
            self._pass(counts, position - at)
            self._refuse(partition, counts, position)
            at = position + 1
        # What follows the last rejected record, which ends its run.
        self._pass(counts, records - at)

    def counts(self, partition: Partition) -> Rejections:
        """Return the partition's counts, to be kept with its state."""
        return self._counts.setdefault(partition, Rejections())

    def restore(self, partition: Partition, counts: Rejections) -> None:
        """Go on from kept counts."""
        self._counts[partition] = counts

    def forget(self) -> None:
        """Start counting again, after an abort or a rebalance gave the same records back."""
        self._counts.clear()

    def _pass(self, counts: Rejections, records: int) -> None:
        if not records:
            return
        # A good record ends a run: a run of bad ones is a changed contract, scattered ones are bad producers.
        counts.run = 0
        counts.seen += records
        if counts.seen >= self.settings.minimum:
            # Blocks lie by the count of records and not by batches, so that a restart at another batch stops at the
            # same record.
            counts.seen, counts.rejected = counts.seen % self.settings.minimum, 0

    def _refuse(self, partition: Partition, counts: Rejections, row: int) -> None:
        counts.seen += 1
        counts.rejected += 1
        counts.run += 1
        where = f"{partition.topic}/{partition.index}"
        # Before the share: a run names the fault better, and a topic that is wrong from its first record must not wait
        # for a block.
        if counts.run >= self.settings.run:
            raise DeadLetterLimit(
                f"{counts.run} records in a row of {where} are rejected (limit {self.settings.run})", row
            )
        # Measured against the whole block from its first record on: three bad of the first three are no share yet.
        if counts.rejected > self.settings.share * self.settings.minimum:
            raise DeadLetterLimit(
                f"{counts.rejected} of the last {counts.seen} records of {where} are rejected, more than share "
                f"{self.settings.share:g} of {self.settings.minimum}",
                row,
            )
        if counts.seen >= self.settings.minimum:
            counts.seen = counts.rejected = 0
