"""Chart windows: the sum of the latest panes of a rolling stretch, in bounded memory."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stationkeeper.contracts.state import State, expand, squeeze
from stationkeeper.contracts.times import UTC_ZONE
from stationkeeper.monitor.core.panes.packed import PackedRows, pack, unpack
from stationkeeper.monitor.core.panes.pane import HOUR_MS, Pane, stratum_of
from stationkeeper.monitor.core.reference import Counts

# More slots sharpen the window's edge (12 leave it up to a twelfth too long) and cost one packed vector each. The judge
# stores slots under 256 places (`judge.state.RING`), which must be more than this.
MAX_SLOTS = 64
# Widths of counters, narrowest first: a minute's counts fit two bytes, an hour of busy panes four.
_TYPES = (np.uint16, np.uint32, np.int64)


class WindowState(State, frozen=True):
    """The slots of a chart window: number and rows int64[slots, 2], and counts int64[slots, width].

    ``counts`` are `PackedRows` when they were just taken, rows as narrow as they were stored when they were read back.
    """

    end: int
    slots: Counts
    counts: Any = None


class ChartWindow:
    """The running sum over the last ``length`` clock units, kept as at most ``MAX_SLOTS`` partial sums.

    Memory is ``slots`` packed and squeezed vectors (`packed.pack`), whatever the pane length, the sum and the slot that
    still grows, both in the narrowest type that holds them. The sum covers between ``length`` and
    ``length * (1 + 1 / slots)``.
    ``add`` is O(width); an empty pane only moves the clock.
    """

    # Twelve slots: a window of an hour moves in steps of five minutes and keeps at most a twelfth too much.
    def __init__(self, width: int, length: int, slots: int = 12) -> None:
        if length < 1 or not 1 <= slots <= MAX_SLOTS:
            raise ValueError(f"a window needs length >= 1 and 1..{MAX_SLOTS} slots, got {length} and {slots}")
        self.width, self.length = width, length
        self._step = max(1, -(-length // slots))
        self._slots: deque[tuple[int, int, bytes]] = deque()
        self._open: tuple[int, int] | None = None
        self._growing = Tight(width)
        self._total = Tight(width)
        self.rows = 0
        self.end = 0

    @property
    def counts(self) -> Counts:
        """The sum over the window, int64[width]."""
        return self._total.read(slice(None))

    def part(self, where: slice) -> Counts:
        """Return a stretch of the sum, int64."""
        return self._total.read(where)

    def add(self, pane: Pane) -> None:
        """Take in a closed pane; panes come in order of time."""
        self.advance(pane.end)
        if not pane.rows and not pane.counts.any():
            return
        slot = pane.start // self._step
        if self._open is not None and self._open[0] != slot:
            self._close(*self._open)
        rows = 0 if self._open is None else self._open[1]
        self._open = slot, rows + pane.rows
        bounds = int(pane.counts.min()), int(pane.counts.max())
        self._growing.add(pane.counts, *bounds)
        self._total.add(pane.counts, *bounds)
        self.rows += pane.rows

    def advance(self, end: int) -> None:
        """Move the clock to ``end`` and let go of what is older than the window."""
        self.end = max(self.end, end)
        oldest = self.end - self.length
        if self._open is not None and (self._open[0] + 1) * self._step <= oldest:
            self._close(*self._open)
        while self._slots and (self._slots[0][0] + 1) * self._step <= oldest:
            _, rows, counts = self._slots.popleft()
            self._total.subtract(unpack(expand(counts), self.width))
            self.rows -= rows

    def hours(self, strata: int, timezone: str = UTC_ZONE) -> Counts:
        """Return how many rows came from each stratum (hour of the week, or of the day), int64[strata].

        Of a slot longer than an hour, as a window of a day or a week has, they are spread evenly over its hours: in
        which of them each row came is not kept.
        """
        found = np.zeros(strata, np.int64)
        hours = max(-(-self._step // HOUR_MS), 1)
        for slot, rows in [*((slot, rows) for slot, rows, _ in self._slots), *([self._open] if self._open else [])]:
            for hour in range(hours):
                # Differences of rounded sums, so that the rows of a slot stay whole numbers and none is lost.
                share = rows * (hour + 1) // hours - rows * hour // hours
                found[stratum_of(slot * self._step + hour * HOUR_MS, strata, timezone)] += share
        return found

    def state(self) -> WindowState:
        """Return what ``restore`` needs."""
        heads = [(slot, rows) for slot, rows, _ in self._slots]
        counts = [counts for *_, counts in self._slots]
        if self._open is not None:
            heads.append(self._open)
            counts.append(squeeze(pack(self._growing.read(slice(None)))))
        slots = np.array(heads, np.int64).reshape(-1, 2)
        return WindowState(end=self.end, slots=slots, counts=PackedRows(tuple(counts), self.width))

    def restore(self, state: WindowState) -> None:
        """Become the window whose ``state`` this was."""
        self.end = state.end
        self._slots.clear()
        self._growing, self._total, self._open = Tight(self.width), Tight(self.width), None
        newest = len(state.slots) - 1
        for i, ((slot, rows), row) in enumerate(zip(state.slots.tolist(), state.counts, strict=True)):
            bounds = int(row.min(initial=0)), int(row.max(initial=0))
            self._total.add(row, *bounds)
            if i == newest:
                self._open = slot, rows
                self._growing.add(row, *bounds)
            else:
                self._slots.append((slot, rows, squeeze(pack(row))))
        self.rows = int(state.slots[:, 1].sum())

    def _close(self, slot: int, rows: int) -> None:
        """Pack the slot that grew: nothing more falls into it."""
        self._slots.append((slot, rows, squeeze(pack(self._growing.read(slice(None))))))
        self._open, self._growing = None, Tight(self.width)


class Tight:
    """A sum of vectors in the narrowest type that surely holds it: two bytes a counter, then four, then eight."""

    def __init__(self, width: int) -> None:
        self._sum: NDArray[np.integer] = np.zeros(width, _TYPES[0])
        self._most = 0

    def add(self, counts: NDArray[np.integer], least: int, most: int) -> None:
        """Add integers [width] whose smallest and largest values are ``least`` and ``most``."""
        self._most += most
        if least < 0 or self._most > np.iinfo(self._sum.dtype).max:
            self._widen(least, most)
        # Narrowed first: numpy would widen the sum to add, and both wrap alike.
        self._sum += counts.astype(self._sum.dtype)

    def subtract(self, counts: Counts) -> None:
        """Take back what was added before."""
        self._sum -= counts.astype(self._sum.dtype)

    def read(self, where: slice) -> Counts:
        """Return a part of the sum, int64."""
        return self._sum[where].astype(np.int64)

    def _widen(self, least: int, most: int) -> None:
        """Look how large the sum is in truth, and take the type that holds it with what comes."""
        self._most = int(self._sum.max(initial=0)) + most
        holds = [dtype for dtype in _TYPES if least >= 0 and self._most <= np.iinfo(dtype).max]
        needed = holds[0] if holds else np.int64
        self._sum = self._sum.astype(np.promote_types(needed, self._sum.dtype))
