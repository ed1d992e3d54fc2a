"""The latest closed panes in sparse form, so that what happened since an onset can be summed, and taken back."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from monitor.core.cells import Counts
from monitor.core.pane import Pane

MAX_PANES = 240
MAX_ENTRIES = 1_000_000


class Recent:
    """Up to ``MAX_PANES`` panes with rows, at most ``MAX_ENTRIES`` non-zero counts in all (16 bytes each)."""

    def __init__(self, width: int, panes: int = MAX_PANES, entries: int = MAX_ENTRIES) -> None:
        self.width, self._most, self._limit = width, panes, entries
        self._panes: deque[tuple[tuple[int, int, int, int, int], Counts, Counts]] = deque()
        self._entries = 0

    def __len__(self) -> int:
        return len(self._panes)

    def add(self, pane: Pane) -> None:
        """Remember a pane with rows and forget the oldest beyond the limits."""
        at = np.flatnonzero(pane.counts)
        head = (pane.start, pane.length, pane.rows, _or(pane.first_row), _or(pane.last_row))
        self._panes.append((head, at, pane.counts[at]))
        self._entries += len(at)
        while len(self._panes) > 1 and (len(self._panes) > self._most or self._entries > self._limit):
            self._entries -= len(self._panes.popleft()[1])

    def since(self, start: int) -> Iterator[Pane]:
        """Yield the panes that start at ``start`` or later, in order."""
        for (begin, length, rows, first, last), at, values in self._panes:
            if begin >= start:
                counts = np.zeros(self.width, np.int64)
                counts[at] = values
                yield Pane(begin, length, rows, counts, _none(last), _none(first))

    def total(self, start: int) -> tuple[int, Counts]:
        """Return rows and counts of the panes that start at ``start`` or later, int64[width]."""
        counts, total = np.zeros(self.width, np.int64), 0
        for (begin, _, rows, _, _), at, values in self._panes:
            if begin >= start:
                counts[at] += values
                total += rows
        return total, counts

    def first_row(self, start: int) -> int | None:
        """Return the row number with which the first pane at ``start`` or later begins, where rows are numbered."""
        return next((_none(head[3]) for head, *_ in self._panes if head[0] >= start), None)

    def oldest(self) -> int | None:
        """Return the start of the oldest pane kept."""
        return self._panes[0][0][0] if self._panes else None

    def state(self) -> dict[str, Any]:
        """Return heads int64[T, 5] and the concatenated positions and values."""
        nothing = np.empty(0, np.int64)
        return {
            "heads": np.array([(*head, len(at)) for head, at, _ in self._panes], np.int64).reshape(-1, 6),
            "at": np.concatenate([nothing, *(at for _, at, _ in self._panes)]),
            "values": np.concatenate([nothing, *(values for *_, values in self._panes)]),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what ``state`` was taken from."""
        self._panes.clear()
        heads = np.asarray(state["heads"], np.int64).reshape(-1, 6)
        cuts = np.cumsum(heads[:, 5])[:-1]
        positions = np.split(np.asarray(state["at"], np.int64), cuts)
        values = np.split(np.asarray(state["values"], np.int64), cuts)
        for head, at, value in zip(heads.tolist(), positions, values, strict=False):
            start, length, rows, first, last, _ = head
            self._panes.append(((start, length, rows, first, last), at, value))
        self._entries = int(heads[:, 5].sum())


def _or(row: int | None) -> int:
    return -1 if row is None else row


def _none(row: int) -> int | None:
    return None if row < 0 else row
