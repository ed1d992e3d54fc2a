"""The pane starts that running evidence began with, for every row of every feature, in two bytes each."""

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Times = NDArray[np.int64]

_FEW = 32
_SHORT = 1 << 16


class Restarts:
    """int64[F, L] times of which few differ: the numbers of those in use, and for each place which of them it has.

    A pane adds at most one time. Those that no place has any more are dropped when twice as many are known as were in
    use the last time, so that a pane costs what it writes, and memory two bytes a place (four from 65 536 times on).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Begin with 0 everywhere."""
        self._known = np.zeros(_FEW, np.int64)
        self._many = 1
        self._which: NDArray[np.unsignedinteger] = np.zeros(shape, np.uint16)

    def put(self, mask: Flags, time: int) -> None:
        """Hold this time at the places in mask [F, L]."""
        if self._known[self._many - 1] != time:
            if self._many == len(self._known):
                self.replace(self.times())
            self._known[self._many] = time
            self._many += 1
        self._which[mask] = self._many - 1

    def of(self, row: NDArray[np.intp]) -> Times:
        """Return the time of one row of each feature, [F]."""
        return np.asarray(self._known[self._which[np.arange(len(self._which)), row]], np.int64)

    def times(self) -> Times:
        """Return all, int64[F, L]."""
        return np.asarray(self._known[self._which], np.int64)

    def replace(self, times: Times) -> None:
        """Hold these times, int64[F, L], instead."""
        used, which = np.unique(times, return_inverse=True)
        self._known = np.zeros(max(_FEW, 2 * len(used)), np.int64)
        self._known[: len(used)] = used
        self._many = max(len(used), 1)
        short = len(self._known) <= _SHORT
        self._which = which.reshape(times.shape).astype(np.uint16 if short else np.uint32)
