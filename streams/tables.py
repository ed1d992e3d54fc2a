"""The compacted topics that a stage reads whole before anything else, and follows."""

import structlog

from contracts.log_events import LogEvent
from streams.errors import Retryable
from streams.ports import Batch, Partition, Reader, Stage
from streams.vitals import Vitals

log = structlog.get_logger()

_CUT = 300


class Tables:
    """Shows a stage its tables; a record that the stage cannot use is told and passed, so the value before it stays."""

    def __init__(self, stage: Stage, reader: Reader, vitals: Vitals) -> None:
        self._stage, self._reader, self._vitals = stage, reader, vitals
        self._positions: dict[Partition, int] = {}

    def read(self) -> None:
        """Show every table from its first record to its end; raises ``Retryable`` where one does not exist."""
        names = [topic for topic in self._stage.tables if topic not in self._stage.inputs]
        partitions = [partition for topic in names for partition in self._reader.partitions(topic)]
        missing = [topic for topic in names if not any(p.topic == topic for p in partitions)]
        if missing:
            raise Retryable(f"topics {', '.join(missing)} do not exist yet; stationkeeper check creates and lists them")
        for batch in self._reader.read(partitions):
            self._show(batch)
            self._positions[batch.partition] = batch.next_offset
        for partition in partitions:
            self._positions.setdefault(partition, self._reader.bounds([partition])[partition][0])

    def follow(self) -> None:
        """Show what came since."""
        if self._positions:
            for batch in self._reader.follow(tuple(self._positions), self._positions, 0.0):
                self._show(batch)

    def _show(self, batch: Batch) -> None:
        for row, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            if key is None:
                continue
            try:
                self._stage.table(batch.partition.topic, key, value)
            except (ValueError, ArithmeticError) as error:
                # A table belongs to everyone who may write to it; what one of them got wrong must not end a process
                # that would meet the same record at its next start.
                self._vitals.table_refused()
                log.error(
                    LogEvent.TABLE_RECORD_REFUSED,
                    role=self._stage.name,
                    topic=batch.partition.topic,
                    partition=batch.partition.index,
                    offset=int(batch.offsets[row]),
                    key=key.decode(errors="backslashreplace"),
                    reason=f"{type(error).__name__}: {' '.join(str(error).split())[:_CUT]}",
                )
