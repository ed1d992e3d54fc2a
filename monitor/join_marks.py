"""How far back the label join still has to read: offsets by the time that their records can reach at most."""

from collections import deque
from collections.abc import Sequence

STEPS = 1_000
"""Marks of one horizon at most: a rebuild reads up to a thousandth of the horizon more than it needs."""


class Marks:
    """(offset, highest time so far) of one joins partition, one mark a ``STEPS``-th of the horizon (ms).

    A mark says that no record up to its offset is younger than its time. Of the records of one step the last one's mark
    stands for all: it says the same of more records and a time that is at most a step later, so nothing is let go that
    may still meet its other side.
    """

    def __init__(self, horizon: int) -> None:
        self._step = max(horizon // STEPS, 1)
        self._marks: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._marks)

    def put(self, offset: int, clock: int) -> None:
        """See a record after which the highest time is ``clock``, which never falls."""
        if self._marks and self._marks[-1][1] // self._step == clock // self._step:
            self._marks.pop()
        self._marks.append((offset, clock))

    def passed(self, before: int) -> int | None:
        """Let go of marks older than ``before``; returns the first offset behind the last of them, None without one."""
        base = None
        while self._marks and self._marks[0][1] < before:
            base = self._marks.popleft()[0] + 1
        return base

    def state(self) -> list[tuple[int, int]]:
        """Return what ``load`` needs."""
        return list(self._marks)

    def load(self, state: Sequence[tuple[int, int]]) -> None:
        """Become what ``state`` was taken from; that of an older version may have a mark a record."""
        self._marks.clear()
        for offset, clock in state:
            self.put(offset, clock)
