"""The clock of one input partition: the highest accepted event time, and what it makes of each record."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

UNSET = np.iinfo(np.int64).min
"""The clock before the first accepted event."""


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
