"""The latest closed panes, packed, so that what happened since an onset can be summed, and taken back."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np

from stationkeeper.contracts.state import State, squeeze
from stationkeeper.contracts.times import UTC_ZONE, local_ms
from stationkeeper.monitor.core.panes.packed import (
    Kept,
    PackedRows,
    SparseCounts,
    kept_counts,
    kept_packed,
    merge,
    pack,
)
from stationkeeper.monitor.core.panes.pane import HOUR_MS, Pane
from stationkeeper.monitor.core.reference import Counts

# Four hours of one-minute panes: how far back an onset can be dated to the minute. Twice as many cost twice the memory
# where they fit; half as many cut the slow drifts, which page after hours.
MAX_PANES = 240
# Bytes kept for each counter of the layout. 16 bytes an entry and pane grew to 700 kB a feature within four hours;
# packed, a feature keeps about 14 kB in all (benchmarks/footprint). With half of it panes are merged twice as early.
COUNTER_BYTES = 16
# Narrow models keep at least so much, 48 kB, so that merging starts where memory is worth saving.
LEAST_BYTES = 49_152
# A stretch is at most this share of its age: what began two hours ago is dated to the hour at worst. At .25 fewer may
# be merged, so that more of the oldest are forgotten; at 1 an onset could lie anywhere in its age.
COARSEST = 0.5
# What a stretch costs beside its counts: an object with six numbers, as CPython keeps them.
_HEAD_BYTES = 120


class RecentState(State, frozen=True, omit_defaults=True):
    """The remembered panes: heads int64[T, 5] and counts int64[T, width], which are `PackedRows` when just taken.

    Read back, a head has a sixth number, how many counts are not zero, and the counts are `SparseCounts`; in state of
    older builds the ``at`` and ``values`` of all panes stand behind each other.
    """

    heads: Counts
    counts: Any = None
    at: Counts = np.empty(0, np.int64)
    values: Counts = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """One pane, or neighbours added up: clock units, rows, row numbers (-1: none), and the counts.

    These are squeezed, or as they were read back; ``size`` is what they take packed, which tells how much a stretch
    says whatever squeezes it.
    """

    start: int
    length: int
    rows: int
    first: int
    last: int
    size: int
    counts: Kept

    @classmethod
    def of(cls, head: tuple[int, int, int, int, int], packed: bytes) -> Self:
        """Return the stretch of a head as the state has it and of packed counts."""
        return cls(*head, len(packed) + _HEAD_BYTES, squeeze(packed))

    @classmethod
    def read_back(cls, head: tuple[int, int, int, int, int], counts: SparseCounts) -> Self:
        """Return the stretch of a head and counts as the state has them."""
        # Packed and squeezed once more, a tenth of a restore would go to panes that no onset reaches back to.
        return cls(*head, counts.size + _HEAD_BYTES, counts) if counts.size else cls.of(head, counts.packed())

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def head(self) -> tuple[int, int, int, int, int]:
        return self.start, self.length, self.rows, self.first, self.last


class Recent:
    """Up to ``MAX_PANES`` panes with rows, in at most ``limit`` bytes as they are packed, about half of it in memory.

    Where they do not fit, old panes are added to their neighbours of the same hour by the clock of ``timezone``, the
    oldest and shortest for their age first: sums stay exact, and only how finely an old onset can be dated is lost. The
    limit is ``COUNTER_BYTES`` for each counter, ``LEAST_BYTES`` at least. What is kept depends on the panes alone, so
    replays agree.
    """

    def __init__(self, width: int, panes: int = MAX_PANES, limit: int | None = None, timezone: str = UTC_ZONE) -> None:
        self.width, self._most, self._timezone = width, panes, timezone
        self._limit = max(LEAST_BYTES, COUNTER_BYTES * width) if limit is None else limit
        self._panes: deque[_Stretch] = deque()
        self._bytes = 0
        self._read: dict[int, Counts] = {}

    def __len__(self) -> int:
        return len(self._panes)

    @property
    def size(self) -> int:
        """Bytes that what is kept takes packed."""
        return self._bytes

    def add(self, pane: Pane) -> None:
        """Remember a pane with rows; what is too much is merged, and forgotten where it cannot be."""
        self._read.clear()
        head = pane.start, pane.length, pane.rows, _or(pane.first_row), _or(pane.last_row)
        made = _Stretch.of(head, pack(pane.counts))
        self._panes.append(made)
        self._bytes += made.size
        while len(self._panes) > 1 and (len(self._panes) > self._most or self._bytes > self._limit):
            at = None
            # Only what is too large is merged: what is too many, or reaches further back than so many panes are long,
            # has the oldest go, or a quiet model would remember weeks in ever coarser stretches.
            if len(self._panes) <= self._most and self._panes[0].end > pane.end - self._most * pane.length:
                at = self._mergeable(pane.end)
            if at is None:
                self._bytes -= self._panes.popleft().size
            else:
                self._merge(at)

    def since(self, start: int) -> Iterator[Pane]:
        """Yield what starts at ``start`` or later, in order: panes, or stretches of several that were merged."""
        for one in self._panes:
            if one.start >= start:
                yield Pane(one.start, one.length, one.rows, self._counts(one), _none(one.last), _none(one.first))

    def total(self, start: int) -> tuple[int, Counts]:
        """Return rows and counts of what starts at ``start`` or later, int64[width]."""
        counts, total = np.zeros(self.width, np.int64), 0
        for one in self._panes:
            if one.start >= start:
                counts += self._counts(one)
                total += one.rows
        return total, counts

    def first_row(self, start: int) -> int | None:
        """Return the row number with which the first pane at ``start`` or later begins, where rows are numbered."""
        return next((_none(one.first) for one in self._panes if one.start >= start), None)

    def oldest(self) -> int | None:
        """Return the start of the oldest pane kept."""
        return self._panes[0].start if self._panes else None

    def state(self) -> RecentState:
        """Return heads int64[T, 5] and counts int64[T, width]."""
        return RecentState(
            heads=np.array([one.head for one in self._panes], np.int64).reshape(-1, 5),
            counts=PackedRows(tuple(one.counts for one in self._panes), self.width),
        )

    def restore(self, state: RecentState) -> None:
        """Become what ``state`` was taken from, or its sparse form."""
        self._panes.clear()
        self._read.clear()
        for head, row in zip(state.heads.tolist(), self._rows(state), strict=True):
            stretch = tuple(head[:5])
            if isinstance(row, SparseCounts):
                self._panes.append(_Stretch.read_back(stretch, row))
            else:
                self._panes.append(_Stretch.of(stretch, pack(row)))
        self._bytes = sum(one.size for one in self._panes)

    def _rows(self, state: RecentState) -> Iterator[Any]:
        """The counts of each stretch of a state: vectors, or `SparseCounts`."""
        if state.counts is not None:
            yield from state.counts
            return
        cuts = np.cumsum(state.heads[:, 5])[:-1]
        positions, values = np.split(state.at, cuts), np.split(state.values, cuts)
        for at, value, _ in zip(positions, values, state.heads, strict=False):
            yield SparseCounts(np.diff(at, prepend=0), value, self.width)

    def _counts(self, one: _Stretch) -> Counts:
        """What a stretch counted; kept until the next pane, for one decision asks many times."""
        found = self._read.get(one.start)
        if found is None:
            found = self._read[one.start] = kept_counts(one.counts, self.width)
        return found

    def _mergeable(self, now: int) -> int | None:
        """Position of the first of two neighbours of one hour whose union is the shortest for its age."""
        best, at = COARSEST, None
        for i, (one, other) in enumerate(pairwise(self._panes)):
            share = (other.start + other.length - one.start) / max(now - one.start, 1)
            # Within an hour only: strata are hours, and counts of two would belong to neither.
            if share < best and self._hour(one) == self._hour(other):
                best, at = share, i
        return at

    def _hour(self, one: _Stretch) -> int:
        return local_ms(one.start, self._timezone) // HOUR_MS

    def _merge(self, at: int) -> None:
        one, other = self._panes[at], self._panes[at + 1]
        head = one.start, other.end - one.start, one.rows + other.rows, one.first, other.last
        made = _Stretch.of(head, merge(kept_packed(one.counts), kept_packed(other.counts), self.width))
        self._bytes += made.size - one.size - other.size
        self._panes[at] = made
        del self._panes[at + 1]


def _or(row: int | None) -> int:
    return -1 if row is None else row


def _none(row: int) -> int | None:
    return None if row < 0 else row
