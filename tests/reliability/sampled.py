"""The oracle of a stream too quick to be counted whole: every record of one of its minutes in so many, exactly."""

import time

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.wire import PaneDelta, decode
from stationkeeper.events.mapping import forms
from stationkeeper.monitor.core.reference.layout import PANE_COUNTERS
from stationkeeper.monitor.references import References
from stationkeeper.monitor.verify.recount import Key, Recount
from stationkeeper.streams.kafka.reader import KafkaReader
from stationkeeper.streams.ports import Partition
from tests.reliability.bank import Bank
from tests.reliability.flood import TIME
from tests.reliability.oracle import PANE_MS, Audit

EVERY = 12
"""One minute in so many is counted: the plain count takes some 35 us a record, a twelfth of what a busy core sends."""


class Sampled:
    """The cells of the chosen minutes as ``stationkeeper verify`` counts them.

    An event's time stands at a fixed place, so a record of another minute costs a comparison. Repetitions have the
    time of their first, so a minute is whole without its neighbours.
    """

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._reader = KafkaReader(bank.settings("sampled"), "sampled")
        self._positions: dict[Partition, int] = {}
        references = References(bank.models)
        for batch in self._reader.read(self._reader.partitions(bank.topics.references.name)):
            for key, value in zip(batch.keys, batch.values, strict=True):
                if key is not None:
                    references.put_reference(key, value)
        self._known = {f"fraud/{version}": reference for version, reference in references.of_model("fraud")}
        form = forms(list(bank.models.values()))[bank.scores]
        self._recounts = {
            partition.index: Recount(form, bank.models, wall=False, left_out=references.left_out)
            for partition in self._reader.partitions(bank.scores)
        }
        self._by_digest = references.by_digest
        self.records, self.counted = 0, 0

    def follow(self, limit_s: float) -> bool:
        """Count what has come since, for at most about so long; returns whether it has come to the end."""
        until = time.monotonic() + limit_s
        for batch in self._reader.read(self._reader.partitions(self._bank.scores), self._positions):
            minutes = np.fromiter((int((value or b"")[TIME]) for value in batch.values), np.int64) // PANE_MS
            recount = self._recounts[batch.partition.index]
            for at in np.flatnonzero(minutes % EVERY == 0).tolist():
                recount.take(int(batch.offsets[at]), int(batch.timestamps[at]), batch.values[at], self._known)
                self.counted += 1
            self.records += len(batch)
            self._positions[batch.partition] = batch.next_offset
            if time.monotonic() > until:
                return False
        return True

    def compare(self, found: Audit) -> int:
        """Hold the panes that were written to those counted; returns how many minutes were compared."""
        rows: dict[Key, int] = {}
        cells: dict[Key, npt.NDArray[np.int64]] = {}
        for recount in self._recounts.values():
            for key, count in recount.rows.items():
                rows[key] = rows.get(key, 0) + count
            for key, counts in recount.cells.items():
                reference = self._by_digest(key.digest)
                assert reference is not None, f"{key}: no reference of this digest"
                mine = cells.setdefault(key, np.zeros(reference.layout.width, np.int64))
                mine[list(counts.keys())] += np.fromiter(counts.values(), np.int64)
        minutes = len({key.start for key in rows})
        for batch in self._reader.read(self._reader.partitions(self._bank.topics.panes.name)):
            for value in batch.values:
                for record in decode(value or b""):
                    if not isinstance(record, PaneDelta) or record.segment or record.start // PANE_MS % EVERY:
                        continue
                    key = Key(record.model, record.version, record.digest, record.source, "", record.start)
                    mine = cells.setdefault(key, np.zeros(record.width, np.int64))
                    part = record.vector()
                    mine[record.first : record.first + len(part)] -= part
                    if record.first == 0:
                        rows[key] = rows.get(key, 0) - record.rows
        for key, mine in cells.items():
            reference = self._by_digest(key.digest)
            assert reference is not None, f"{key}: no reference of this digest"
            # Noted in the minute of the clock, which a repetition half a minute later has left; counted by outcome.
            mine[[reference.layout.pane_counter(name) for name in PANE_COUNTERS]] = 0
            found.numbers += 1 + len(mine)
            left, wrong = rows.get(key, 0), np.flatnonzero(mine)
            found.lost += max(left, 0)
            found.twice += max(-left, 0)
            if left or len(wrong):
                found.differences.append(f"{key}: {left} rows too few, {len(wrong)} cells differ: {mine[wrong][:5]}")
        return minutes

    def close(self) -> None:
        """Let go of the connections."""
        self._reader.close()
