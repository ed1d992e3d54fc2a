"""Records that retention removed before they were read: told to the stage, or shown by the loop itself."""

from collections.abc import Iterator, Mapping

import structlog

from contracts.log_events import LogEvent
from streams.ports import CountsLosses, Partition, Stage
from streams.vitals import Vitals

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
