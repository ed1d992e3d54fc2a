"""Byte strings of a fetch that are cut out only when somebody asks for one."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


class Pieces(Sequence[bytes | None]):
    """The byte strings ``data[first[i]:last[i]]``, None where ``last`` lies before ``first``.

    For what is there with every record and hardly ever looked at, as its key: to cut all of them out costs as much as
    half of what else a record's layout takes. Keeps ``data`` for as long as it lives.
    """

    __slots__ = ("_data", "_first", "_last")

    def __init__(self, data: bytes, first: Integers, last: Integers) -> None:
        self._data, self._first, self._last = data, first, last

    def __len__(self) -> int:
        return len(self._first)

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...
    @overload
    def __getitem__(self, at: slice) -> "Pieces": ...
    def __getitem__(self, at: int | slice) -> "Pieces | bytes | None":
        if isinstance(at, slice):
            return Pieces(self._data, self._first[at], self._last[at])
        first, last = int(self._first[at]), int(self._last[at])
        return None if last < first else self._data[first:last]

    def __iter__(self) -> Iterator[bytes | None]:
        data, places = self._data, zip(self._first.tolist(), self._last.tolist(), strict=True)
        if (self._last >= self._first).all():
            return iter([data[first:last] for first, last in places])
        return iter([None if last < first else data[first:last] for first, last in places])
