"""Duplicates: the same event id and kind again within the last N offsets of one partition, exactly and in columns."""

import numpy as np
import numpy.typing as npt

from monitor.hashing import mix

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

CHUNK = 8_192
"""Offsets whose hashes share one record of the state topic."""

_SMALLEST = 1 << 12
_NONE = np.int64(-1)


class Seen:
    """The last offset at which each id hash was seen, for the last ``horizon`` offsets: open addressing in numpy.

    Two arrays of ``slots`` (a power of two, at most 70 % full): 16 bytes a slot, about two slots for each record of
    the horizon. What is older than the horizon is dropped when the table is rebuilt, and is no hit before that, because
    a hit counts by its offset. So the answers do not depend on batches or rebuilds.
    """

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self._allocate(_SMALLEST)

    def _allocate(self, slots: int) -> None:
        self._mask = np.int64(slots - 1)
        self._hash: Hashes = np.zeros(slots, np.uint64)
        self._offset: Integers = np.full(slots, _NONE)
        self._used = 0

    def mark(self, hashes: Hashes, offsets: Integers) -> Flags:
        """Return which records repeat an id of the last ``horizon`` offsets, and remember all of them.

        ``offsets`` rise. A record is a duplicate if the latest earlier record of its hash lies at most ``horizon``
        offsets before it. O(n) expected.
        """
        n = len(hashes)
        if not n or not self.horizon:
            return np.zeros(n, np.bool_)
        self._make_room(n, int(offsets[-1]))
        ranked = np.sort(hashes)
        repeated = bool((ranked[1:] == ranked[:-1]).any())
        if not repeated:
            previous = self._swap(hashes, offsets)
            return (previous >= 0) & (offsets - previous <= self.horizon)
        return self._mark_repeated(hashes, offsets)

    def _mark_repeated(self, hashes: Hashes, offsets: Integers) -> Flags:
        order = np.argsort(hashes, kind="stable")
        ranked, at = hashes[order], offsets[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = ranked[1:] != ranked[:-1]
        last = np.ones(len(order), np.bool_)
        last[:-1] = first[1:]
        previous = np.empty(len(order), np.int64)
        previous[1:] = at[:-1]
        previous[first] = self._swap(ranked[first], at[last])
        flags = np.empty(len(order), np.bool_)
        flags[order] = (previous >= 0) & (at - previous <= self.horizon)
        return flags

    def _swap(self, hashes: Hashes, offsets: Integers) -> Integers:
        """Store the offset of each of the distinct hashes and return what was stored before, -1 for nothing."""
        before = np.full(len(hashes), _NONE)
        slot = (mix(hashes) & self._mask.astype(np.uint64)).astype(np.int64)
        rest = np.arange(len(hashes))
        while len(rest):
            here, wanted = slot[rest], hashes[rest]
            stored = self._offset[here]
            free = stored < 0
            same = ~free & (self._hash[here] == wanted)
            hit = rest[same]
            before[hit] = stored[same]
            self._offset[here[same]] = offsets[hit]
            # Several hashes may want one free slot: the last to write it has won it.
            claimants, places = rest[free], here[free]
            self._hash[places] = hashes[claimants]
            self._offset[places] = offsets[claimants]
            won = self._offset[places] == offsets[claimants]
            self._used += int(np.count_nonzero(won))
            lost = np.concatenate([rest[~free & ~same], claimants[~won]])
            slot[lost] = (slot[lost] + 1) & self._mask
            rest = lost
        return before

    def _make_room(self, coming: int, latest: int) -> None:
        slots = int(self._mask) + 1
        if (self._used + coming) * 10 <= slots * 7:
            return
        keep = (self._offset >= 0) & (self._offset >= latest - self.horizon)
        hashes, offsets = self._hash[keep], self._offset[keep]
        wanted = _SMALLEST
        while wanted < (len(hashes) + coming) * 2:
            wanted *= 2
        self._allocate(wanted)
        self._swap(hashes, offsets)

    def restore(self, hashes: Hashes, offsets: Integers) -> None:
        """Take over remembered records, in the order of their offsets."""
        for first in range(0, len(hashes), 65_536):
            self.mark(hashes[first : first + 65_536], offsets[first : first + 65_536])
