"""A hash table of 64-bit hashes to row numbers in numpy: a batch is looked up and stored in a few array passes."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Marks a free slot: values are row numbers, which are never negative.
NOTHING = np.int64(-1)
# 64 KiB at the start, chosen: half saves nothing anybody sees, twice costs the same in each of many partitions.
_SMALLEST = 1 << 12
# At most 7 of 10 slots are used. Linear steps grow as 1 / (1 - load)^2 (Knuth 1973, 6.4): some 6 for an absent hash at
# .7, 50 at .9; a lower share costs memory instead.
_FULL, _WIDE = 7, 10
# 2^64 over the golden ratio: its multiples spread hashes evenly, also those that differ in few bits (Knuth, there).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# A rebuild sorts slot and row number in one 64-bit word: 32 bits each, so up to 4 billion entries.
_INDEX_BITS = np.uint64(32)
_INDEX = np.uint64(2**32 - 1)


class HashTable:
    """Open addressing with linear steps: 16 bytes a slot, at most 70 % full, about two slots an entry when rebuilt.

    Values are not negative. Nothing is deleted: the owner tells by the value whether an entry still counts, and a
    rebuild leaves out the others.
    """

    def __init__(self) -> None:
        self._value: Integers = np.empty(0, np.int64)
        self._allocate(_SMALLEST)

    def _allocate(self, slots: int) -> None:
        """Begin empty; a rebuild in the same size keeps its memory, for new pages cost as much as filling them."""
        if slots != len(self._value):
            self._mask = np.int64(slots - 1)
            # Of a product's 64 bits those that number 2^k slots: 64 - k, and such a number has k + 1 bits itself.
            self._shift = np.uint64(65 - slots.bit_length())
            # A slot's hash and value lie side by side: a slot of a large table then costs one cache miss and not two.
            cells = np.zeros((slots, 2), np.int64)
            self._hash: Hashes = cells[:, 0].view(np.uint64)
            self._value = cells[:, 1]
        self._value[:] = NOTHING
        self._used = 0

    def __len__(self) -> int:
        return self._used

    @property
    def nbytes(self) -> int:
        """Memory of the slots."""
        return self._hash.nbytes + self._value.nbytes

    def find(self, hashes: Hashes) -> Integers:
        """Return the value of each hash, -1 for none. O(n) expected."""
        found = np.full(len(hashes), NOTHING)
        slot = self._slots(hashes)
        rest = np.arange(len(hashes))
        while len(rest):
            here = slot[rest]
            stored = self._value[here]
            same = (stored >= 0) & (self._hash[here] == hashes[rest])
            found[rest[same]] = stored[same]
            rest = rest[(stored >= 0) & ~same]
            slot[rest] = (slot[rest] + 1) & self._mask
        return found

    def swap(self, hashes: Hashes, values: Integers) -> Integers:
        """Store a value for each of the distinct hashes and return what was stored before, -1 for none. O(n) expected.

        The values of one call are distinct, too. There must be room (``make_room``).
        """
        before = np.full(len(hashes), NOTHING)
        rest: Integers | None = None
        here, wanted, coming = self._slots(hashes), hashes, values
        while len(here):
            stored = self._value[here]
            taken, free = np.flatnonzero(stored >= 0), np.flatnonzero(stored < 0)
            same = self._hash[here[taken]] == wanted[taken]
            hit = taken[same]
            if len(hit):
                before[hit if rest is None else rest[hit]] = stored[hit]
                self._value[here[hit]] = coming[hit]
            # Several hashes may want one free slot: the last to write it has won it.
            places, claims = here[free], coming[free]
            self._hash[places] = wanted[free]
            self._value[places] = claims
            lost = free[self._value[places] != claims]
            self._used += len(free) - len(lost)
            again = np.concatenate([taken[~same], lost])
            rest = again if rest is None else rest[again]
            here, wanted, coming = (here[again] + 1) & self._mask, wanted[again], coming[again]
        return before

    def make_room(self, coming: int, counts: Callable[[Integers], Flags]) -> None:
        """Make sure that ``coming`` entries fit; a rebuild keeps the entries whose values ``counts`` accepts."""
        slots = int(self._mask) + 1
        if (self._used + coming) * _WIDE <= slots * _FULL:
            return
        taken = np.flatnonzero(self._value >= 0)
        taken = taken[counts(self._value[taken])]
        hashes, values = self._hash[taken], self._value[taken]
        wanted = _SMALLEST
        while wanted < (len(hashes) + coming) * 2:
            wanted *= 2
        self._allocate(wanted)
        self._fill(hashes, values)

    def _fill(self, hashes: Hashes, values: Integers) -> None:
        """Store distinct hashes in the empty table. O(n log n), in the order of memory: a third less than by ``swap``.

        Taken in the order of the slots that they want, each stands there or right behind the one before, whichever
        comes later; so nothing between the slot it wants and its own is free.
        """
        order = np.sort(self._slots(hashes).astype(np.uint64) << _INDEX_BITS | np.arange(len(hashes), dtype=np.uint64))
        at = (order & _INDEX).astype(np.int64)
        steps = np.arange(len(at))
        slot = np.maximum.accumulate((order >> _INDEX_BITS).astype(np.int64) - steps) + steps
        inside = int(np.searchsorted(slot, self._mask, side="right"))
        here, mine = slot[:inside], at[:inside]
        self._hash[here], self._value[here] = hashes[mine], values[mine]
        self._used = inside
        self.swap(hashes[at[inside:]], values[at[inside:]])

    def _slots(self, hashes: Hashes) -> Integers:
        """Where each hash wants to stand: the highest bits of its product with the golden ratio (Knuth 1973, 6.4)."""
        return (hashes * _GOLDEN >> self._shift).astype(np.int64)
