"""How far back the label join still has to read: where steps of its clock began in the topic."""

from collections import deque
from collections.abc import Sequence

from monitor.clock import UNSET

STEPS = 64
"""Steps of one horizon: a rebuild reads up to a sixty-fourth of the horizon more than it needs."""


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
        """Become what ``state`` was taken from, or the begin of a rebuild from ``base``."""
        self._marks = deque(state)
        self.start = state[-1][0] if state else base
