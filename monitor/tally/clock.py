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


_STEP_MS = 2 * _ANSWERING_MS
"""What time between two looks counts for at most: a clock that was set forward, or a process that stood still, has not
seen an end for as long. Half would never see the silence of a broker; double makes idle of an end seen twenty seconds
too short."""


@dataclass(slots=True)
class LogEnd:
    """Whether a partition is read to its end, by the wall clock: what makes it idle, so that it holds nobody back."""

    _reached: bool = False
    _looked: int | None = None
    _lain: int | None = None
    _silent: int | None = None

    def reached(self) -> None:
        """See that the broker answers and has nothing more."""
        self._reached = True

    def left(self) -> None:
        """See records behind what was the end."""
        self._reached, self._silent = False, None

    def counted(self) -> None:
        """See events that were counted: the time at the end begins anew.

        Only these move the clock: a partition of nothing but rejected, late or repeated records holds the watermark
        back for nothing, and is idle again as soon as its end is seen.
        """
        self._lain = None

    def at(self, now_ms: int) -> None:
        """Let time pass since the last call, and date what was seen since then."""
        passed = 0 if self._looked is None else min(max(now_ms - self._looked, 0), _STEP_MS)
        self._looked = now_ms
        if self._lain is not None:
            self._lain += passed
        if self._silent is not None:
            self._silent += passed
        if self._reached:
            self._lain, self._silent, self._reached = self._lain or 0, 0, False

    def idle(self, after_ms: int) -> bool:
        """Return whether the partition lay at its end for ``after_ms``, and the broker answered lately."""
        if self._lain is None or self._silent is None or self._silent > _ANSWERING_MS:
            return False
        return self._lain >= after_ms
