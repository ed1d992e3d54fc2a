"""Records that retention removed before they were read: told to the stage, or shown by the loop itself."""

from collections.abc import Mapping

import structlog

from contracts.log_events import LogEvent
from streams.ports import CountsLosses, Partition, Stage
from streams.vitals import Vitals

log = structlog.get_logger()


class Losses:
    """Tells each loss once; a stage that keeps such counts with its state shows them itself, so that they last."""

    def __init__(self, stage: Stage, vitals: Vitals) -> None:
        self._stage, self._vitals = stage, vitals
        self._told: dict[Partition, int] = {}

    def tell(self, partition: Partition, records: int) -> None:
        """Tell of records that were gone when reading began, or began again."""
        log.error(LogEvent.RECORDS_EXPIRED, topic=partition.topic, partition=partition.index, records=records)
        if isinstance(self._stage, CountsLosses):
            self._stage.lost(partition, records)
        else:
            self._vitals.lost(partition, records)

    def tell_new(self, expired: Mapping[Partition, int]) -> None:
        """Tell of what a source's growing counts have more than before: lost while it was reading."""
        for partition, records in expired.items():
            new = records - self._told.get(partition, 0)
            if new:
                self._told[partition] = records
                self.tell(partition, new)
