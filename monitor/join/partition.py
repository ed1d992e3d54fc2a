"""One partition of the label join: pairs what comes, keeps what waits, and knows what a later start needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from stationkeeper.contracts.state import State
from stationkeeper.contracts.wire import JoinBatch, Progress
from stationkeeper.events import mix
from stationkeeper.monitor.join.disk_cache import StoreSnapshot
from stationkeeper.monitor.join.rebuild import Marks, NoteKind, RebuildNotes, Spent, SpentNotes
from stationkeeper.monitor.join.settled import MOST_PAIRS, Corrections, Settled, coded, note_latest, said_else
from stationkeeper.monitor.join.store import WAITING_ROW, Flags, Integers, Owner, Owners, Rows, Waiting, first_of_each
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
    """Rows that met: a prediction and its label at each place; and what later labels changed."""

    predictions: Rows
    labels: Rows
    corrections: Corrections = field(default_factory=Corrections)


class JoinPartition:
    """One joins partition: both waiting sides, how far its outcomes are sent, and from where it must be read again.

    ``emitted`` is the offset below which outcomes are already in the panes topic: records below it only rebuild the
    store. ``base`` and ``base_clock`` are as in ``JoinState``; ``spent`` is what else a rebuild from there has to know,
    and ``rebuild`` the same while one goes on. ``tallied`` is how far the tallies were when they sent what was paired
    last, where that was not passed on yet.
    """

    def __init__(self, most: int, horizon: int, store: str, most_pairs: int = MOST_PAIRS) -> None:
        self._horizon = horizon
        self.predictions, self.labels = Waiting(most), Waiting(most)
        self.settled = Settled(most_pairs)
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
        self.settled.rows.load(snapshot.settled)
        self.owners = Owners()
        self.owners.codes(snapshot.owners)
        self.next_offset, self.clock, self.rebuild = snapshot.offset, snapshot.clock, None
        self.marks.load(snapshot.marks, self.base)

    def snapshot(self) -> StoreSnapshot:
        """Return the store as it is now, in arrays of its own."""
        waiting = self.predictions.rows(), self.labels.rows(), self.settled.rows.rows()
        owners = list(self.owners.names)
        return StoreSnapshot(self.store, self.next_offset, self.base, self.clock, self.marks.state(), owners, *waiting)

    def pair(self, record: JoinBatch, offset: int, number: int, salt: np.uint64) -> Pairs:
        """Let the rows of batch ``number`` of the record at ``offset`` meet what waits; those that meet none wait.

        ``salt`` keeps models apart that use the same ids. The first row of a key counts; a later label that says
        something else corrects it, which is told apart. O(n log n).
        """
        table = record.table()
        rows = np.zeros(len(table), WAITING_ROW)
        rows["offset"] = offset
        rows["key"] = mix(table["id"] ^ salt)
        for name in ("time", "score", "label", "decision", "bin"):
            rows[name] = table[name]
        self.clock = max(self.clock, int(table["time"].max()))
        self.unsaved += len(table)
        prediction = record.side == "prediction"
        if prediction:
            actions = record.actions or ("",) * len(record.segments)
            owners = [
                Owner(record.model, record.version, apart(name), action)
                for name, action in zip(record.segments, actions, strict=True)
            ]
            rows["owner"] = self.owners.codes(owners)[table["segment"]]
        # A label that is no class and no number of the model: it would hold the place of one that is.
        places = np.flatnonzero(prediction | ~np.isnan(rows["label"]))
        if offset >= self.emitted:
            self.counts["unusable"] += len(rows) - len(places)
        elif self.rebuild is not None:
            places = places[self.rebuild.waiting(rows["key"][places], places, offset, number)]
        rows = rows[places]
        if not prediction:
            note_latest(rows)
        return self._meet(rows, places, (offset, number), prediction=prediction)

    def _meet(self, rows: Rows, places: Integers, at: tuple[int, int], *, prediction: bool) -> Pairs:
        """Let rows of one side meet the other side, then what they may correct or repeat.

        ``at`` is the record's offset and the batch in it, ``places`` are those of the rows in the batch. Rows of one
        key come out as if they came one by one: only the first can meet the other side, as nothing of that side waits
        behind it.
        """
        offset, number = at
        before = self.clock - self._horizon
        mine, others = (self.predictions, self.labels) if prediction else (self.labels, self.predictions)
        hit = first_of_each(rows["key"])
        distinct = bool(hit.all())
        # First those that wait on the other side, then this side: a row that meets its other never waits.
        hit[hit], met = others.take(rows["key"][hit], before)
        predictions, labels = (rows[hit], met) if prediction else (met, rows[hit])
        found = self.settled.keep(predictions, labels, before) if len(met) else Corrections()
        rest = np.flatnonzero(~hit)
        if prediction:
            # Its label has counted: were it to wait, a correction would count it a second time.
            settled, were = self.settled.repeats(rows[rest], before)
            found += Corrections(repeated=len(were))
        else:
            settled, were, corrections = self.settled.correct(rows[rest], before)
            found += corrections
        waits = rest[~settled]
        known, there = mine.put(rows[waits], before, distinct=distinct)
        again = rows[waits[known]]
        contrary = np.zeros(len(again), np.bool_) if prediction else self._contrary(again, before)
        if offset >= self.emitted:
            # What a rebuild that begins between the two would let wait for ever.
            for gone, others_of in ((np.flatnonzero(hit), met), (rest[settled], were), (waits[known], there)):
                self.spent.spent(offset, number, places[gone], others_of["offset"], self.marks.start)
            self.counts["repeated"] += len(there) - int(np.count_nonzero(contrary)) + found.repeated
            self.counts["corrected"] += int(np.count_nonzero(contrary)) + found.corrected
            self.counts["paired"] += len(met)
        return Pairs(predictions, labels, found)

    def _contrary(self, again: Rows, before: int) -> Flags:
        """Note labels whose ids have one waiting already, and return which say something else than it."""
        _, were = self.labels.amend("score", again, coded(again), before)
        return said_else("score", were, again)

    def evict(self, offset: int) -> None:
        """Bound the store after the record at ``offset``; in a rebuild, as it was bounded then."""
        # What is too old goes first, by ``Waiting.evict``: only what could still be met counts as crowded out.
        before = self.clock - self._horizon
        stores = {
            NoteKind.PREDICTIONS: self.predictions,
            NoteKind.LABELS: self.labels,
            NoteKind.SETTLED: self.settled.rows,
        }
        if self.rebuild is not None and offset < self.emitted:
            for side, key, other in self.rebuild.evictions(offset):
                stores[side].evict_to(key, other)
        else:
            self.rebuild = None
        for side, store in stores.items():
            crowded = store.crowded
            last = store.evict(before)
            if len(last) and offset >= self.emitted:
                self.spent.evicted(offset, side, last, self.marks.state())
                # Pairs have given their outcomes: without them a correction is a label of no prediction, no more.
                gone = "forgotten" if side is NoteKind.SETTLED else "crowded out"
                self.counts[gone] += store.crowded - crowded

    def expire(self) -> None:
        """Let go of rows older than the horizon, and of offsets that held nothing younger."""
        if self.clock == UNSET:
            return
        before = self.clock - self._horizon
        mark = self.marks.passed(before)
        if mark is not None and mark[0] > self.base:
            self.base, self.base_clock = mark
        gone = self.predictions.expire(before) + self.labels.expire(before)
        # Not counted: a pair has given its outcome.
        self.settled.rows.expire(before)
        # In a rebuild they were counted before.
        if self.next_offset > self.emitted:
            self.counts["expired"] += gone
