"""What a rebuild of the label join's store could not know, because it lies before where the rebuild begins to read."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.state import State
from stationkeeper.monitor.join.store import Flags, Hashes, Integers, Rows
from stationkeeper.monitor.tally import UNSET

STEPS = 64
"""Steps of one horizon: a rebuild reads up to a sixty-fourth of the horizon more than it needs; half reads twice that,
double keeps twice the marks and notes twice as many rows as spent."""


class Marks:
    """Where each step of a joins partition's clock began: (offset, highest time before it), ``STEPS`` a horizon (ms).

    A mark says that no record before its offset is younger than its time. ``start`` is where the present step began.
    Whoever begins to read at a mark with its time for a clock makes the same marks from there on.
    """

    def __init__(self, horizon: int) -> None:
        self._step = max(horizon // STEPS, 1)
        self._marks: deque[tuple[int, int]] = deque()
        self.start = 0

    def __len__(self) -> int:
        return len(self._marks)

    def put(self, offset: int, before: int, clock: int) -> None:
        """See the record at ``offset``, which moves the clock from ``before`` to ``clock``, before it is worked on."""
        # Before the record is worked on: whoever begins to read here has to read it as well.
        if before != UNSET and before // self._step != clock // self._step:
            self._marks.append((offset, before))
            self.start = offset

    def passed(self, before: int) -> tuple[int, int] | None:
        """Let go of marks older than ``before``; returns the last of them, None without one."""
        last = None
        while self._marks and self._marks[0][1] < before:
            last = self._marks.popleft()
        return last

    def state(self) -> list[tuple[int, int]]:
        """Return what ``load`` needs."""
        return list(self._marks)

    def load(self, state: Sequence[tuple[int, int]], base: int) -> None:
        """Take over what ``state`` gave, or begin a rebuild from ``base``."""
        self._marks = deque(state)
        self.start = state[-1][0] if state else base


# One note in 40 bytes: where, which batch of the record, a NoteKind, the row's key (its place, for a ROW), and the
# offset of its other row.
_NOTE = np.dtype([("offset", "<i8"), ("batch", "<i8"), ("what", "<i8"), ("key", "<u8"), ("other", "<i8")])
_MOST = 2_048
"""Notes of one record of the state topic (80 kB before zstd); the last one is written again until it is full: half
makes twice as many keys, double rewrites twice as much with each flush."""

Notes = npt.NDArray[np.void]


class SpentNotes(State, frozen=True):
    """The notes of one record of the state topic, a column for each field of ``_NOTE``, by rising offset."""

    offset: npt.NDArray[np.int64]
    batch: npt.NDArray[np.int64]
    what: npt.NDArray[np.int64]
    key: npt.NDArray[np.uint64]
    other: npt.NDArray[np.int64]


class NoteKind(IntEnum):
    """A row that did not wait (``ROW``), or the last of those that were evicted on one side, or of the pairs.

    ``SPENT`` is what older versions wrote for a row, by its key: as many rows of a key as notes, the first ones.
    """

    # Stored in the notes: a number keeps its meaning for good.
    SPENT = 0
    PREDICTIONS = 1
    LABELS = 2
    SETTLED = 3
    # By its place in the batch: rows of one key that met and rows that waited may come in any order.
    ROW = 4


_ROWS = NoteKind.SPENT, NoteKind.ROW


class Spent:
    """Notes of one joins partition, in the order of their offsets.

    A row that was paired with, or repeated, a row of an earlier step of ``Marks`` is noted: a rebuild that begins
    between the two would let it wait. So is each eviction, up to which row. Every other row meets rows
    of its own step only, so that a rebuild with these notes is the store, from whichever step it begins. Kept in memory
    are at most ``_MOST`` notes; the rest is in the state topic.
    """

    def __init__(self) -> None:
        self._new: list[Notes] = []
        self._open: Notes = np.zeros(0, _NOTE)
        self._place = 0
        self._last: dict[int, int] = {}

    def spent(self, offset: int, batch: int, places: Integers, others: Integers, since: int) -> None:
        """Note the rows at ``places`` of a batch whose other row came before ``since``, the begin of the step."""
        # Rows of the same step are read again together by every rebuild, and meet again by themselves.
        old = others < since
        if old.any():
            made = np.zeros(int(np.count_nonzero(old)), _NOTE)
            made["offset"], made["batch"], made["what"] = offset, batch, NoteKind.ROW
            made["key"], made["other"] = places[old], others[old]
            self._new.append(made)

    def evicted(self, offset: int, side: NoteKind, rows: Rows, marks: Sequence[tuple[int, int]]) -> None:
        """Note that the record at ``offset`` evicted ``rows``, first come first.

        Pairs lie in the order in which they met: the last of them may be of a row from before a rebuild, which then
        lacks it. So for every mark at which a rebuild may begin the last one behind it is noted, 65 at most.
        """
        step = np.searchsorted(np.array([at for at, _ in marks], np.int64), rows["offset"], side="right")
        # The highest step of the row and all behind it: a row is the last of its step where that falls.
        highest = np.maximum.accumulate(step[::-1])[::-1]
        last = rows[highest > np.append(highest[1:], -1)]
        made = np.zeros(len(last), _NOTE)
        made["offset"], made["what"], made["key"], made["other"] = offset, side, last["key"], last["offset"]
        self._new.append(made)

    def changed(self, base: int) -> Iterator[tuple[int, SpentNotes | None]]:
        """Yield (place, value) of what is to be stored; None where no rebuild from ``base`` on needs it any more."""
        if self._new:
            rows = np.concatenate([self._open, *self._new])
            self._new.clear()
            for first in range(0, len(rows), _MOST):
                self._open = rows[first : first + _MOST]
                # What tells when the notes can go: the last of them lies before where any rebuild would begin.
                self._last[self._place] = int(self._open["offset"][-1])
                yield self._place, SpentNotes(**{name: self._open[name] for name in _NOTE.names or ()})
                if len(self._open) == _MOST:
                    self._begin()
        for place in [place for place, last in self._last.items() if last < base]:
            del self._last[place]
            yield place, None
            # The open place went too: what comes needs another, or a late note would revive it.
            if place == self._place:
                self._begin()

    def _begin(self) -> None:
        """Take a place that is free for the notes to come: those of what is gone come again."""
        self._open = np.zeros(0, _NOTE)
        self._place = next(place for place in range(len(self._last) + 1) if place not in self._last)

    def restore(self, found: Mapping[int, SpentNotes | None]) -> Notes:
        """Go on after what was stored; returns all of it by offset."""
        pieces = [np.zeros(0, _NOTE)]
        for place, value in found.items():
            if value is not None:
                made = np.zeros(len(value.key), _NOTE)
                for name in _NOTE.names or ():
                    made[name] = getattr(value, name)
                self._last[place] = int(made["offset"][-1])
                pieces.append(made)
        self._begin()
        rows = np.concatenate(pieces)
        # Stable: notes of one record keep their order, in which evictions happened.
        return rows[np.argsort(rows["offset"], kind="stable")]


class RebuildNotes:
    """The notes as a rebuild from ``base`` needs them, record by record."""

    def __init__(self, notes: Notes, base: int) -> None:
        # Where the other row is read again too, the two simply meet again.
        waits = np.isin(notes["what"], _ROWS) & (notes["other"] >= base)
        self._notes = notes[(notes["offset"] >= base) & ~waits]

    def waiting(self, keys: Hashes, places: Integers, offset: int, batch: int) -> Flags:
        """Return which rows of a batch are not noted: the others met a row from before the rebuild.

        ``places`` are those of the rows in the batch as it came.
        """
        mine = self._of(offset)
        mine = mine[mine["batch"] == batch]
        waits: Flags = ~np.isin(places, mine["key"][mine["what"] == NoteKind.ROW].astype(np.int64))
        # Of an older version: the first rows of the key.
        for key, times in zip(*np.unique(mine["key"][mine["what"] == NoteKind.SPENT], return_counts=True), strict=True):
            waits[np.flatnonzero(keys == key)[:times]] = False
        return waits

    def evictions(self, offset: int) -> list[tuple[NoteKind, int, int]]:
        """Return (side, key, offset of its record) of the last rows evicted on each side at ``offset``."""
        mine = self._of(offset)
        return [
            (NoteKind(int(note["what"])), int(note["key"]), int(note["other"]))
            for note in mine[~np.isin(mine["what"], _ROWS)]
        ]

    def _of(self, offset: int) -> Notes:
        first, last = np.searchsorted(self._notes["offset"], [offset, offset + 1])
        found: Notes = self._notes[first:last]
        return found
