"""The clocks of one input partition: the highest accepted event time, and since when it is read to its end."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

UNSET = np.iinfo(np.int64).min
"""The clock before the first accepted event: below every time, so that a maximum needs no case of its own."""

_ANSWERING_MS = 5_000
"""How long an answer of the broker holds that there is nothing more. The loop asks about once a second: half allows
two lost answers, double lets a partition count as idle ten seconds after the broker fell silent."""


@dataclass(slots=True)
class PartitionClock:
    """The highest accepted event time (ms) of a partition's log prefix."""

    now: int = UNSET

    def advance(self, times: Integers, lateness: Integers | int) -> tuple[Flags, Integers]:
        """Return which of these events are late, and the clock at each, in offset order; the clock passes all of them.

        Late means older than the clock before the event by more than ``lateness``. A late event is older than the
        clock, so it never moves it, and the running maximum over all events is the clock. O(n).
        """
        if not len(times):
            return np.zeros(0, np.bool_), np.zeros(0, np.int64)
        highest = np.maximum(np.maximum.accumulate(times), self.now)
        before = np.empty_like(highest)
        before[0] = self.now
        before[1:] = highest[:-1]
        self.now = int(highest[-1])
        floor = np.where(before == UNSET, UNSET, before - lateness)
        return times < floor, highest


@dataclass(slots=True)
class LogEnd:
    """Whether a partition is read to its end, by the wall clock: what makes it idle, so that it holds nobody back."""

    _reached: bool = False
    _since: int | None = None
    _seen: int | None = None

    def reached(self) -> None:
        """See that the broker answers and has nothing more."""
        self._reached = True

    def left(self) -> None:
        """See records behind what was the end."""
        self._reached, self._seen = False, None

    def counted(self) -> None:
        """See events that were counted: the time at the end begins anew.

        Only these move the clock: a partition of nothing but rejected, late or repeated records holds the watermark
        back for nothing, and is idle again as soon as its end is seen.
        """
        self._since = None

    def at(self, now_ms: int) -> None:
        """Date what was seen since the last call."""
        if self._reached:
            self._since = now_ms if self._since is None else min(self._since, now_ms)
            self._seen, self._reached = now_ms, False

    def idle(self, now_ms: int, after_ms: int) -> bool:
        """Return whether the partition lay at its end for ``after_ms``, and the broker answered lately."""
        if self._since is None or self._seen is None or now_ms - self._seen > _ANSWERING_MS:
            return False
        return now_ms - self._since >= after_ms
