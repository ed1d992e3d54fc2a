"""One partition of the label join: what waits on both sides, and what a later start has to know of it."""

from collections.abc import Mapping
from typing import Any

from stationkeeper.monitor.join.disk_cache import Snapshot
from stationkeeper.monitor.join.rebuild import Marks, Note, Replay, Spent
from stationkeeper.monitor.join.store import Owners, Rows, Waiting
from stationkeeper.monitor.tally.clock import UNSET

COUNTS = ("paired", "repeated", "expired", "unusable", "crowded out")


class Side:
    """One joins partition: both waiting sides, how far it has spoken, and from where it must be read again.

    ``emitted`` is the offset below which outcomes are already in the panes topic: records below it only rebuild the
    store. ``base`` is the oldest offset that is still needed, ``base_clock`` the highest time before it; ``spent`` is
    what else a rebuild from there has to know, and ``replay`` the same while one goes on.
    """

    def __init__(self, most: int, horizon: int) -> None:
        self.predictions, self.labels = Waiting(most), Waiting(most)
        self.owners = Owners()
        self.store = ""
        self.unsaved = 0
        self.emitted = 0
        self.next_offset = 0
        self.clock = UNSET
        self.base, self.base_clock = 0, UNSET
        self.spent = Spent()
        self.replay: Replay | None = None
        self.marks = Marks(horizon)
        self.counts = dict.fromkeys(COUNTS, 0)
        self.batches = 0

    @property
    def rebuilding(self) -> bool:
        """Whether records come that were joined before this start."""
        return self.next_offset < self.emitted

    def become(self, snapshot: Snapshot) -> None:
        """Take over a cached store: what came since is read from the topic."""
        self.predictions.load(snapshot.predictions)
        self.labels.load(snapshot.labels)
        self.owners = Owners()
        self.owners.codes(snapshot.owners)
        self.next_offset, self.clock, self.replay = snapshot.offset, snapshot.clock, None
        self.marks.load(snapshot.marks, self.base)

    def snapshot(self) -> Snapshot:
        """Return the store as it is now, in arrays of its own."""
        waiting = self.predictions.rows(), self.labels.rows()
        owners = list(self.owners.names)
        return Snapshot(self.store, self.next_offset, self.base, self.clock, self.marks.state(), owners, *waiting)

    def begin(self, saved: Mapping[str, Any], notes: Mapping[int, Any]) -> None:
        """Start from what the state topic holds, with an empty store."""
        self.emitted, self.base = saved["emitted"], saved["base"]
        self.base_clock = self.clock = saved.get("base_clock", UNSET)
        self.counts |= saved["counts"]
        self.next_offset = self.base
        self.store = saved.get("store") or self.store
        self.marks.load([], self.base)
        self.replay = Replay(self.spent.restore(notes), self.base)

    def took(self, offset: int, batch: int, rows: Rows, others: Rows) -> None:
        """See rows that were met by ``others``, or had them before; only what is new is noted."""
        if offset >= self.emitted:
            self.spent.spent(offset, batch, rows["key"], others["offset"], self.marks.start)

    def make_way(self, offset: int, before: int) -> None:
        """Bound the store after the record at ``offset``; in a rebuild, as it was bounded then."""
        stores = {Note.PREDICTIONS: self.predictions, Note.LABELS: self.labels}
        if self.replay is not None and offset < self.emitted:
            for note, key, other in self.replay.made_way(offset):
                stores[note].leave(key, other)
        else:
            self.replay = None
        for note, store in stores.items():
            crowded = store.crowded
            last = store.make_way(before)
            if last is not None and offset >= self.emitted:
                self.spent.made_way(offset, note, *last)
                self.counts["crowded out"] += store.crowded - crowded

    def expire(self, before: int) -> int:
        """Let go of rows older than ``before``, and of offsets that held nothing younger; returns how many rows."""
        mark = self.marks.passed(before)
        if mark is not None and mark[0] > self.base:
            self.base, self.base_clock = mark
        return self.predictions.expire(before) + self.labels.expire(before)

    def state(self) -> dict[str, Any]:
        """Return what ``begin`` needs, without the notes."""
        names = ("emitted", "base", "base_clock", "counts", "store")
        return {name: getattr(self, name) for name in names}
