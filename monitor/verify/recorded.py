"""What the tally wrote of its counts, summed again from its records: panes, arms and the rows for the label join."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from stationkeeper.contracts.wire import ArmDelta, JoinBatch, OutcomeDelta, PaneDelta, decode
from stationkeeper.monitor.core.reference import Counts, OutcomeSums
from stationkeeper.monitor.tally import apart
from stationkeeper.monitor.verify.arms import Arm
from stationkeeper.monitor.verify.outcomes import OutcomeKey
from stationkeeper.monitor.verify.recount import JoinKey, Key
from stationkeeper.streams.ports import Partition, Reader

_CONFUSION: Final = ("true positive", "false positive", "false negative", "true negative")
_SUMS: Final = ("rows", "errors", "positives", "timed", "latency_us")


class Recorded:
    """The sums of every record in the panes and joins topics; ``lengths`` are panes (ms) by configured model."""

    def __init__(self, lengths: dict[str, int]) -> None:
        self._lengths = lengths
        self.rows: Counter[Key] = Counter()
        self.cells: dict[Key, Counts] = {}
        self.arms: dict[Arm, Counter[str]] = {}
        self.joins: Counter[JoinKey] = Counter()
        self.outcomes: dict[OutcomeKey, Counter[str]] = {}
        self.corrections: dict[OutcomeKey, Counter[str]] = {}

    def read(self, reader: Reader, partitions: Iterable[Partition]) -> None:
        """Add up the records of these partitions."""
        for batch in reader.read(tuple(partitions)):
            for value in batch.values:
                for record in decode(value) if value is not None else ():
                    if isinstance(record, PaneDelta):
                        self._add_pane(record)
                    elif isinstance(record, ArmDelta):
                        self._add_arm(record)
                    elif isinstance(record, OutcomeDelta):
                        self._add_outcome(record)
                    elif isinstance(record, JoinBatch) and record.model in self._lengths:
                        self._add_rows(record, self._lengths[record.model])

    def _add_pane(self, record: PaneDelta) -> None:
        key = Key(record.model, record.version, record.digest, record.source, record.segment, record.start)
        counts = self.cells.setdefault(key, np.zeros(record.width, np.int64))
        part = record.vector()
        counts[record.first : record.first + len(part)] += part
        # The rows are repeated in each block of a pane.
        if record.first == 0:
            self.rows[key] += record.rows

    def _add_arm(self, record: ArmDelta) -> None:
        sums = self.arms.setdefault(Arm(record.model, record.version, record.segment, record.start), Counter())
        for name in _SUMS:
            sums[name] += getattr(record, name)
        for place, count in enumerate(np.frombuffer(record.scores, "<i8").tolist()):
            sums[f"score bin {place}"] += count
        _add_actions(sums, record.actions)

    def _add_outcome(self, record: OutcomeDelta) -> None:
        key = OutcomeKey(record.model, record.version, record.segment, record.start, record.known_at)
        # Apart: the join keeps fewer pairs for corrections than the plain one.
        sums = (self.corrections if record.corrected else self.outcomes).setdefault(key, Counter())
        for name in ("rows", "age_ms", "loss", "corrected"):
            sums[name] += getattr(record, name)
        for name, count in zip(_CONFUSION, np.frombuffer(record.confusion, "<i8").tolist(), strict=True):
            sums[name] += count
        for place, count in enumerate(np.frombuffer(record.scored, "<i8").tolist()):
            sums[f"score bin {place // 2} of {place % 2}"] += count
        _add_actions(sums, record.actions)

    def _add_rows(self, record: JoinBatch, length: int) -> None:
        table, side = record.table(), record.side
        names = [apart(name) for name in record.segments]
        actions = record.actions or ("",) * len(names)
        columns = (table[name].tolist() for name in ("segment", "time", "bin", "decision"))
        for segment, time, place, decision in zip(*columns, strict=True):
            # Join rows bear times, and what is compared is panes.
            start = time // length * length
            whose = (side, record.model, record.version, names[segment], start)
            self.joins[JoinKey(*whose, place, bool(decision & 1), actions[segment])] += 1


def _add_actions(sums: Counter[str], actions: Mapping[str, bytes]) -> None:
    for name, packed in actions.items():
        found = OutcomeSums.unpack(packed)
        for place, count in zip(found.at.tolist(), found.sum.tolist(), strict=True):
            sums[f"action {name!r} at {place}"] += count
