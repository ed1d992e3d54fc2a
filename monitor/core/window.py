"""Chart windows: the sum of the latest panes of a rolling stretch, in bounded memory."""

from collections import deque

import numpy as np

from monitor.core.cells import Counts
from monitor.core.dependence import stratum_of
from monitor.core.pane import Pane

MAX_SLOTS = 64


class Window:
    """The running sum over the last ``length`` clock units, kept as at most ``MAX_SLOTS`` partial sums.

    Memory is ``slots + 1`` vectors whatever the pane length; the sum covers between ``length`` and
    ``length * (1 + 1 / slots)``. ``add`` is O(width); an empty pane only moves the clock.
    """

    def __init__(self, width: int, length: int, slots: int = 12) -> None:
        if length < 1 or not 1 <= slots <= MAX_SLOTS:
            raise ValueError(f"a window needs length >= 1 and 1..{MAX_SLOTS} slots, got {length} and {slots}")
        self.width, self.length = width, length
        self._step = max(1, -(-length // slots))
        self._slots: deque[tuple[int, int, Counts]] = deque()
        self.counts: Counts = np.zeros(width, np.int64)
        self.rows = 0
        self.end = 0

    def add(self, pane: Pane) -> None:
        """Take in a closed pane; panes come in order of time."""
        self.advance(pane.end)
        if not pane.rows and not pane.counts.any():
            return
        slot = pane.start // self._step
        if self._slots and self._slots[-1][0] == slot:
            _, rows, counts = self._slots.pop()
            counts += pane.counts
            self._slots.append((slot, rows + pane.rows, counts))
        else:
            self._slots.append((slot, pane.rows, pane.counts.copy()))
        self.counts += pane.counts
        self.rows += pane.rows

    def advance(self, end: int) -> None:
        """Move the clock to ``end`` and let go of what is older than the window."""
        self.end = max(self.end, end)
        while self._slots and (self._slots[0][0] + 1) * self._step <= self.end - self.length:
            _, rows, counts = self._slots.popleft()
            self.counts -= counts
            self.rows -= rows

    def hours(self, strata: int) -> Counts:
        """Return how many rows came from each stratum (hour of the week, or of the day), int64[strata]."""
        found = np.zeros(strata, np.int64)
        for slot, rows, _ in self._slots:
            found[stratum_of(slot * self._step, strata)] += rows
        return found

    def state(self) -> dict[str, object]:
        """Return what ``restore`` needs: plain numbers and int64 arrays."""
        return {
            "end": self.end,
            "slots": np.array([[slot, rows] for slot, rows, _ in self._slots], np.int64).reshape(-1, 2),
            "counts": np.array([counts for *_, counts in self._slots], np.int64).reshape(-1, self.width),
        }

    def restore(self, state: dict[str, object]) -> None:
        """Become the window whose ``state`` this was."""
        self.end = int(str(state["end"]))
        slots, counts = np.asarray(state["slots"], np.int64), np.asarray(state["counts"], np.int64)
        self._slots = deque((int(slot), int(rows), row.copy()) for (slot, rows), row in zip(slots, counts, strict=True))
        self.counts = counts.sum(axis=0) if len(counts) else np.zeros(self.width, np.int64)
        self.rows = int(slots[:, 1].sum())
