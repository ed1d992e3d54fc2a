"""The oracle of a long run: it counts the log while that grows, in memory that does not."""

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.wire import PaneDelta, decode
from stationkeeper.events.mapping import forms
from stationkeeper.monitor.references import References
from stationkeeper.monitor.verify.recount import Key, Recount
from stationkeeper.streams.kafka.reader import KafkaReader
from stationkeeper.streams.ports import Partition
from tests.reliability.bank import Bank
from tests.reliability.oracle import Audit, Plain


class Following:
    """The plain count of each partition, and the cells of every pane as ``stationkeeper verify`` counts them.

    Ids are forgotten once they are older than the dedupe horizon, and a pane's cells are one array.
    """

    def __init__(self, bank: Bank) -> None:
        self._bank, self._topic = bank, bank.scores
        self._reader = KafkaReader(bank.settings("following"), "following")
        self._positions: dict[Partition, int] = {}
        self._references = References(bank.models)
        for batch in self._reader.read(self._reader.partitions(bank.topics.references.name)):
            for key, value in zip(batch.keys, batch.values, strict=True):
                if key is not None:
                    self._references.put_reference(key, value)
        self._form = forms(list(bank.models.values()))[self._topic]
        self.plain: dict[int, Plain] = {}
        self._recounts: dict[int, Recount] = {}
        self._rows: dict[Key, int] = {}
        self._cells: dict[Key, npt.NDArray[np.int64]] = {}

    def follow(self) -> int:
        """Count what has come since and return how many records that were."""
        partitions = self._reader.partitions(self._topic)
        wall = self._bank.setup.clock == "wall"
        known = {f"fraud/{version}": reference for version, reference in self._references.of_model("fraud")}
        records = 0
        for partition in partitions:
            self.plain.setdefault(partition.index, Plain(self._bank.models["fraud"], wall=wall))
            self._recounts.setdefault(
                partition.index,
                Recount(self._form, self._bank.models, wall=wall, left_out=self._references.left_out),
            )
        for batch in self._reader.read(partitions, self._positions):
            plain, recount = self.plain[batch.partition.index], self._recounts[batch.partition.index]
            for offset, stamp, value in zip(
                batch.offsets.tolist(), batch.timestamps.tolist(), batch.values, strict=True
            ):
                plain.take(offset, stamp, value or b"")
                recount.take(offset, stamp, value, known)
            records += len(batch)
            self._positions[batch.partition] = batch.next_offset
            self._fold(recount, batch.next_offset)
        return records

    def _fold(self, recount: Recount, offset: int) -> None:
        for key, count in recount.rows.items():
            self._rows[key] = self._rows.get(key, 0) + count
        for key, counts in recount.cells.items():
            reference = self._references.by_digest(key.digest)
            assert reference is not None, f"{key}: no reference of this digest"
            cells = self._cells.setdefault(key, np.zeros(reference.layout.width, np.int64))
            cells[list(counts.keys())] += np.fromiter(counts.values(), np.int64)
        recount.rows.clear()
        recount.cells.clear()
        recount.arms.clear()
        recount.joins.clear()
        horizon = self._bank.models["fraud"].dedupe
        if len(recount._seen) > 2 * horizon:
            recount._seen = {key: seen for key, seen in recount._seen.items() if seen[0] >= offset - horizon}

    def compare_panes(self, found: Audit) -> None:
        """Take the panes that were written from those counted: nothing must be left, and nothing be owed."""
        for batch in self._reader.read(self._reader.partitions(self._bank.topics.panes.name)):
            for value in batch.values:
                for record in decode(value or b""):
                    if not isinstance(record, PaneDelta) or record.segment:
                        continue
                    key = Key(record.model, record.version, record.digest, record.source, "", record.start)
                    cells = self._cells.setdefault(key, np.zeros(record.width, np.int64))
                    part = record.vector()
                    cells[record.first : record.first + len(part)] -= part
                    if record.first == 0:
                        self._rows[key] = self._rows.get(key, 0) - record.rows
        for key, cells in self._cells.items():
            found.numbers += 1 + len(cells)
            wrong = np.flatnonzero(cells)
            left = self._rows.get(key, 0)
            found.lost += max(left, 0)
            found.twice += max(-left, 0)
            if left or len(wrong):
                found.differences.append(f"{key}: {left} rows too few, {len(wrong)} cells differ: {cells[wrong][:5]}")

    def close(self) -> None:
        """Let go of the connections."""
        self._reader.close()
