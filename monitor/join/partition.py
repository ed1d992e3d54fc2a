"""One partition of the label join: pairs what comes, keeps what waits, and knows what a later start needs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stationkeeper.contracts.state import State
from stationkeeper.contracts.wire import JoinBatch, Progress
from stationkeeper.events import mix
from stationkeeper.monitor.join.disk_cache import StoreSnapshot
from stationkeeper.monitor.join.rebuild import Marks, NoteKind, RebuildNotes, Spent, SpentNotes
from stationkeeper.monitor.join.store import WAITING_ROW, Owner, Owners, Rows, Waiting, distinct
from stationkeeper.monitor.join.totals import COUNTS
from stationkeeper.monitor.tally import UNSET, apart


class JoinState(State, frozen=True):
    """What a start needs beside the notes: records below ``emitted`` have given their outcomes already.

    ``base`` is the oldest offset that is still needed, ``base_clock`` the highest time before it. ``store`` names the
    topic's life that a cache file must belong to; ``generation`` counts flushes.
    """

    generation: int
    emitted: int
    base: int
    counts: dict[str, int]
    base_clock: int = UNSET
    store: str = ""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows that met: a prediction and its label at each place."""

    predictions: Rows
    labels: Rows


class JoinPartition:
    """One joins partition: both waiting sides, how far its outcomes are sent, and from where it must be read again.

    ``emitted`` is the offset below which outcomes are already in the panes topic: records below it only rebuild the
    store. ``base`` and ``base_clock`` are as in ``JoinState``; ``spent`` is what else a rebuild from there has to know,
    and ``rebuild`` the same while one goes on. ``tallied`` is how far the tallies were when they sent what was paired
    last, where that was not passed on yet.
    """

    def __init__(self, most: int, horizon: int, store: str) -> None:
        self._horizon = horizon
        self.predictions, self.labels = Waiting(most), Waiting(most)
        self.owners = Owners()
        self.store = store
        self.unsaved = 0
        self.emitted = 0
        self.next_offset = 0
        self.clock = UNSET
        self.base, self.base_clock = 0, UNSET
        self.spent = Spent()
        self.rebuild: RebuildNotes | None = None
        self.marks = Marks(horizon)
        self.tallied: dict[tuple[str, int, str], Progress] = {}
        self.counts = dict.fromkeys(COUNTS, 0)
        self.batches = 0

    @property
    def rebuilding(self) -> bool:
        """Whether records come that were joined before this start."""
        return self.next_offset < self.emitted

    def restore(self, saved: JoinState, notes: Mapping[int, SpentNotes | None]) -> None:
        """Start from what the state topic holds, with an empty store."""
        self.emitted, self.base = saved.emitted, saved.base
        self.base_clock = self.clock = saved.base_clock
        self.counts |= saved.counts
        # Not where it was: the store is empty, and what may still meet its other side lies from ``base`` on.
        self.next_offset = self.base
        self.store = saved.store or self.store
        self.marks.load([], self.base)
        self.rebuild = RebuildNotes(self.spent.restore(notes), self.base)

    def state(self, generation: int) -> JoinState:
        """Return what ``restore`` needs, without the notes."""
        return JoinState(
            generation=generation,
            emitted=self.emitted,
            base=self.base,
            base_clock=self.base_clock,
            counts=self.counts,
            store=self.store,
        )

    def load(self, snapshot: StoreSnapshot) -> None:
        """Take over a cached store: what came since is read from the topic."""
        self.predictions.load(snapshot.predictions)
        self.labels.load(snapshot.labels)
        self.owners = Owners()
        self.owners.codes(snapshot.owners)
        self.next_offset, self.clock, self.rebuild = snapshot.offset, snapshot.clock, None
        self.marks.load(snapshot.marks, self.base)

    def snapshot(self) -> StoreSnapshot:
        """Return the store as it is now, in arrays of its own."""
        waiting = self.predictions.rows(), self.labels.rows()
        owners = list(self.owners.names)
        return StoreSnapshot(self.store, self.next_offset, self.base, self.clock, self.marks.state(), owners, *waiting)

    def pair(self, record: JoinBatch, offset: int, number: int, salt: np.uint64) -> Pairs:
        """Let the rows of batch ``number`` of the record at ``offset`` meet what waits; those that meet none wait.

        ``salt`` keeps models apart that use the same ids. The first row of a key counts. O(rows) expected.
        """
        new = offset >= self.emitted
        table = record.table()
        rows = np.zeros(len(table), WAITING_ROW)
        rows["offset"] = offset
        rows["key"] = mix(table["id"] ^ salt)
        for name in ("time", "score", "label", "decision", "bin"):
            rows[name] = table[name]
        self.clock = max(self.clock, int(table["time"].max()))
        self.unsaved += len(table)
        before = self.clock - self._horizon
        rows, repeated = distinct(rows)
        if record.side == "prediction":
            _, first = np.unique(table["id"], return_index=True)
            segments = table["segment"] if not repeated else table["segment"][np.sort(first)]
            owners = [Owner(record.model, record.version, apart(name)) for name in record.segments]
            rows["owner"] = self.owners.codes(owners)[segments]
            mine, others = self.predictions, self.labels
        else:
            # A label that is no class and no number of the model: it would hold the place of one that is.
            usable = ~np.isnan(rows["label"])
            if new:
                self.counts["unusable"] += int(np.count_nonzero(~usable))
            rows = rows[usable]
            mine, others = self.labels, self.predictions
        if not new and self.rebuild is not None:
            rows = self.rebuild.waiting(rows, offset, number)
        # First those that wait on the other side, then this side: a row that meets its other never waits.
        hit, met = others.take(rows["key"], before)
        known, there = mine.put(rows[~hit], before)
        if new:
            # What a rebuild that begins between the two would let wait for ever.
            self.spent.spent(offset, number, rows[hit]["key"], met["offset"], self.marks.start)
            self.spent.spent(offset, number, rows[~hit][known]["key"], there["offset"], self.marks.start)
            self.counts["repeated"] += repeated + len(there)
            self.counts["paired"] += len(met)
        return Pairs(rows[hit], met) if record.side == "prediction" else Pairs(met, rows[hit])

    def evict(self, offset: int) -> None:
        """Bound the store after the record at ``offset``; in a rebuild, as it was bounded then."""
        # What is too old goes first, by ``Waiting.evict``: only what could still be met counts as crowded out.
        before = self.clock - self._horizon
        stores = {NoteKind.PREDICTIONS: self.predictions, NoteKind.LABELS: self.labels}
        if self.rebuild is not None and offset < self.emitted:
            for side, key, other in self.rebuild.evictions(offset):
                stores[side].evict_to(key, other)
        else:
            self.rebuild = None
        for side, store in stores.items():
            crowded = store.crowded
            last = store.evict(before)
            if last is not None and offset >= self.emitted:
                self.spent.evicted(offset, side, *last)
                self.counts["crowded out"] += store.crowded - crowded

    def expire(self) -> None:
        """Let go of rows older than the horizon, and of offsets that held nothing younger."""
        if self.clock == UNSET:
            return
        before = self.clock - self._horizon
        mark = self.marks.passed(before)
        if mark is not None and mark[0] > self.base:
            self.base, self.base_clock = mark
        gone = self.predictions.expire(before) + self.labels.expire(before)
        # In a rebuild they were counted before.
        if self.next_offset > self.emitted:
            self.counts["expired"] += gone
