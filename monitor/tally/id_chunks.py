"""The ids that a partition must know again after a restart, in chunks of offsets under a ring of keys."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from stationkeeper.contracts.state import State
from stationkeeper.monitor.tally.dedupe import CHUNK, Hashes, Integers, Values

_FAR: Final = 1 << 62
"""Further back than any horizon: what lies there is too old at once."""


class IdChunk(State, frozen=True, array_like=True):
    """Id hashes of one stretch of ``CHUNK`` offsets: uint64 and int64, little-endian.

    ``said`` is what each said, uint16, little-endian; empty where none said anything, as in those of older builds.
    """

    index: int
    hashes: bytes
    offsets: bytes
    said: bytes = b""


_Ids = tuple[Hashes, Integers, Values]


class IdChunks:
    """The chunk records of one partition: which are open, which changed, and which of other rings wait to go.

    ``owner`` is the partition's own key, which begins theirs; ``horizon`` is how many offsets back an id is a
    repetition; 0 keeps none.
    """

    def __init__(self, owner: bytes, horizon: int) -> None:
        self.prefix, self._horizon = owner + b"/ids/", horizon
        # Two more than the horizon holds: it begins within a chunk, and one is being filled.
        self._ring = horizon // CHUNK + 2
        self._open: dict[int, list[_Ids]] = {}
        self._dirty: set[int] = set()
        self._foreign: dict[bytes, int] = {}

    def _key(self, index: int) -> bytes:
        """One of a ring of keys; its size is in them, so that no ring of another horizon loses a chunk to this one."""
        return self.prefix + f"{self._ring}/{index % self._ring}".encode()

    def remember(self, hashes: Hashes, offsets: Integers, said: Values) -> None:
        """Note records whose ids must be known again after a restart; ``offsets`` rise."""
        if not len(hashes) or not self._horizon:
            return
        index = offsets // CHUNK
        for one in range(int(index[0]), int(index[-1]) + 1):
            low, high = np.searchsorted(index, [one, one + 1])
            if low < high:
                self._open.setdefault(one, []).append((hashes[low:high], offsets[low:high], said[low:high]))
                self._dirty.add(one)

    def discard(self, key: bytes) -> None:
        """Take a stored record away with the next ``records``: it is of a topic that is gone."""
        self._foreign[key] = -_FAR

    def records(self, next_offset: int) -> Iterator[tuple[bytes, IdChunk | None]]:
        """Yield the key and chunk (None: a tombstone) of each chunk that changed, for a state at ``next_offset``."""
        for index in sorted(self._dirty):
            parts = self._open[index]
            hashes, offsets, said = (np.concatenate(column) for column in zip(*parts, strict=True))
            # One piece from now on, or each flush would copy all the pieces since the chunk began.
            self._open[index] = [(hashes, offsets, said)]
            ids = hashes.astype("<u8").tobytes()
            told = said.astype("<u2").tobytes() if said.any() else b""
            places = offsets.astype("<i8").tobytes()
            yield self._key(index), IdChunk(index=index, hashes=ids, offsets=places, said=told)
        # Older chunks are full and stored: no record of them will change again.
        latest = max(self._open, default=0)
        self._open = {index: parts for index, parts in self._open.items() if index >= latest}
        self._dirty.clear()
        for key in [key for key, last in self._foreign.items() if last < self._oldest(next_offset)]:
            del self._foreign[key]
            yield key, None

    def _oldest(self, next_offset: int) -> int:
        """The lowest offset whose id may still be repeated."""
        return next_offset - self._horizon - 1

    def restore(self, stored: Iterable[tuple[bytes, IdChunk]], next_offset: int) -> list[_Ids]:
        """Take over the chunks of this horizon's ring, of another horizon's, and of the format that did not name it.

        Those of other rings are nobody's to overwrite: each gets its tombstone once all of its ids are too old.
        Returns the hashes, offsets and what was said of those that may still be repeated, chunk by chunk in order.
        """
        latest: dict[int, _Ids] = {}
        for key, chunk in stored:
            hashes = np.frombuffer(chunk.hashes, "<u8").astype(np.uint64)
            offsets = np.frombuffer(chunk.offsets, "<i8").astype(np.int64)
            said = (
                np.frombuffer(chunk.said, "<u2").astype(np.uint16) if chunk.said else np.zeros(len(offsets), np.uint16)
            )
            if key != self._key(chunk.index):
                self._foreign[key] = int(offsets[-1])
            # A chunk that was begun under one horizon and filled under the next is there twice.
            if chunk.index not in latest or latest[chunk.index][1][-1] < offsets[-1]:
                latest[chunk.index] = hashes, offsets, said
        if latest:
            # The last may be only begun: what comes is written with what it holds.
            self._open[max(latest)] = [latest[max(latest)]]
        found = [latest[index] for index in sorted(latest)]
        kept = [(ids, ids[1] >= self._oldest(next_offset)) for ids in found]
        return [(hashes[fresh], offsets[fresh], said[fresh]) for (hashes, offsets, said), fresh in kept]
