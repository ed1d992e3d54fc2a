"""What was counted since the last flush, by pane: whole vectors of large panes, touched positions of small ones."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.wire import MOST_STEPS, PaneDelta, narrowest, sparse
from stationkeeper.events import Integers
from stationkeeper.monitor.core.reference import Counts, NewValues, added, plain_new

MERGE_FROM = 1 << 21
"""Positions that wait unsorted at most (16 MiB of int64): half sorts twice as often, double holds 16 MiB more."""


class PaneOwner(NamedTuple):
    """Whose panes these are."""

    model: str
    version: str
    digest: str
    source: str


class OpenPanes:
    """The open panes of one owner, each a slot; ``rows`` and counts of a slot only grow until ``deltas`` takes them.

    A pane's vector has ``width`` counts. Batches of few groups add whole vectors; of many, positions alone
    (``slot * width + position``, one for each count), which are sorted and summed once a flush: time and memory then
    follow the events and not panes times width.
    """

    def __init__(self, owner: PaneOwner, width: int, merge_from: int = MERGE_FROM) -> None:
        self.owner, self.width = owner, width
        self._merge_from = merge_from
        self._slots: dict[tuple[int, str], int] = {}
        # For the panes of a first batch; it grows by what comes.
        self._rows = np.zeros(16, np.int64)
        self._vectors: dict[int, Counts] = {}
        self._new: dict[int, NewValues] = {}
        self._waiting: list[npt.NDArray[np.integer]] = []
        self._positions: Integers = np.empty(0, np.int64)
        self._counts: Counts = np.empty(0, np.int64)
        self._held = 0

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def cells(self) -> int:
        """Numbers held."""
        return len(self._vectors) * self.width + self._held + 2 * len(self._positions)

    def slots(self, panes: Sequence[tuple[int, str]]) -> Integers:
        """Return the slot of each (start, segment), int64[panes]; new ones are begun."""
        known = self._slots
        found = np.fromiter((known.setdefault(pane, len(known)) for pane in panes), np.int64, len(panes))
        if len(known) > len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros(len(known), np.int64)])
        return found

    def add_rows(self, slots: Integers, rows: Counts) -> None:
        """Count events of distinct slots."""
        self._rows[slots] += rows

    def vector(self, slot: int) -> Counts:
        """Return a slot's whole vector, to be added to."""
        found = self._vectors.get(slot)
        if found is None:
            found = self._vectors[slot] = np.zeros(self.width, np.int64)
        return found

    def add_new(self, slot: int, values: NewValues) -> None:
        """Count values that the reference never saw, by name."""
        self._new[slot] = added(self._new.get(slot, {}), values)

    def begins(self, slots: Integers) -> npt.NDArray[np.integer]:
        """Return where the positions of slots begin; int32 while that holds all, for half the bytes sort in half."""
        short = len(self._slots) * self.width <= np.iinfo(np.int32).max
        return (slots * self.width).astype(np.int32 if short else np.int64)

    def add(self, positions: npt.NDArray[np.integer]) -> None:
        """Count one at each of these positions, which may repeat. O(n), now and then O(n log n)."""
        self._waiting.append(positions)
        self._held += len(positions)
        if self._held >= self._merge_from:
            self._merge()

    def _merge(self) -> None:
        if not self._waiting:
            return
        ranked: npt.NDArray[np.integer] = np.concatenate(self._waiting)
        ranked.sort()
        first = _begins(ranked)
        positions, counts = ranked[first].astype(np.int64), np.diff(first, append=len(ranked))
        if len(self._positions):
            positions = np.concatenate([self._positions, positions])
            counts = np.concatenate([self._counts, counts])
            order = np.argsort(positions, kind="stable")
            positions, counts = positions[order], counts[order]
            first = _begins(positions)
            positions, counts = positions[first], np.add.reduceat(counts, first)
        self._positions, self._counts = positions, counts
        self._waiting, self._held = [], 0

    def deltas(self, length: int) -> Iterator[PaneDelta]:
        """Yield what was counted as records, by start and segment; ``length`` is that of a pane (ms)."""
        self._merge()
        ends = np.searchsorted(self._positions, np.arange(len(self._slots) + 1) * self.width).tolist()
        inside = self._positions % max(self.width, 1)
        steps = inside.copy()
        steps[1:] -= inside[:-1]
        begun = [first for first, end in pairwise(ends) if first < end]
        steps[begun] = inside[begun]
        kind = np.dtype(narrowest(self._counts))
        # All panes at once: what is left for each is two slices.
        packed_steps, packed_counts = steps.astype("<u2").tobytes(), self._counts.astype(kind).tobytes()
        short, bytes_, rows = self.width <= MOST_STEPS, kind.itemsize, self._rows.tolist()
        model, version, digest, source = self.owner
        # Sorted, so that neighbours compress well and the same counts are the same bytes.
        for (start, segment), slot in sorted(self._slots.items()):
            head = (model, version, digest, source, segment, start, length, rows[slot])
            vector, first, end = self._vectors.get(slot), ends[slot], ends[slot + 1]
            if vector is None and short:
                counts, steps_of = packed_counts[first * bytes_ : end * bytes_], packed_steps[2 * first : 2 * end]
                yield PaneDelta(*head, 0, self.width, counts, self.width, steps_of, plain_new(self._new.get(slot, {})))
                continue
            whole = np.zeros(self.width, np.int64) if vector is None else vector.copy()
            whole[inside[first:end]] += self._counts[first:end]
            for at in range(0, max(self.width, 1), MOST_STEPS):
                new = plain_new(self._new.get(slot, {})) if at == 0 else {}
                yield PaneDelta(*head, at, self.width, *sparse(whole[at : at + MOST_STEPS]), new)


def _begins(ranked: npt.NDArray[np.integer]) -> Integers:
    """Where each distinct value begins in sorted values."""
    new = np.ones(len(ranked), np.bool_)
    np.not_equal(ranked[1:], ranked[:-1], out=new[1:])
    return np.flatnonzero(new)
