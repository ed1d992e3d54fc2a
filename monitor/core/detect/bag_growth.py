"""What the bags of a detector learned since the reference, stratum by stratum, read only where it is asked for."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Bags = tuple[NDArray[np.uint32], ...]

NOTHING = b""


class BagGrowth:
    """Bags [S, F, m] less the reference's counts; an array to numpy, int64[S, F, m], computed when it is asked for.

    Bags are replaced as they grow and never written to, so that this is what they held when it was made. ``marks`` tell
    a stratum's growth from any other, `NOTHING` that there is none.
    """

    def __init__(self, bags: Bags, reference: Callable[[int], Counts], marks: Sequence[bytes]) -> None:
        """``reference`` gives the reference's counts of a stratum, int64[F, m]."""
        self._bags, self._reference = bags, reference
        self.marks = tuple(marks)

    @property
    def shape(self) -> tuple[int, ...]:
        """Strata, features and fine cells."""
        return len(self._bags), *self._bags[0].shape

    def grown(self) -> Iterator[tuple[int, bytes]]:
        """Yield the strata whose bags have grown, and the mark of each."""
        return ((stratum, mark) for stratum, mark in enumerate(self.marks) if mark != NOTHING)

    def __len__(self) -> int:
        return len(self._bags)

    def __getitem__(self, stratum: int) -> Counts:
        return self._bags[stratum] - self._reference(stratum)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return np.stack([self[stratum] for stratum in range(len(self))]).astype(dtype or np.int64)


def mark_of(growth: NDArray[np.integer]) -> bytes:
    """Return a fingerprint of what a bag grew by, [F, m], of its content alone; `NOTHING` for zeros."""
    # A difference that was negative wraps, and comes out the same each time.
    narrow = np.ascontiguousarray(growth).astype(np.uint32, copy=False)
    return hashlib.blake2b(narrow.data, digest_size=8).digest() if narrow.any() else NOTHING
