"""Duplicates: an event id and kind again, with no other value, within N offsets of a partition, in columns."""

import numpy as np
import numpy.typing as npt

from stationkeeper.monitor.hashtable import HashTable

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Values = npt.NDArray[np.uint16]
Flags = npt.NDArray[np.bool_]

CHUNK = 8_192
"""Offsets whose hashes share one record of the state topic (128 KiB): the open one is rewritten with each flush, so
that double writes twice as much; half makes twice as many keys. It is part of the keys: another size orphans stored
hashes."""

_HASH_BITS = 16
"""Low bits of a stored number, which hold a hash of the label's value beside its offset: fewer would miss more
contradictions (at 16 one of 65 535 is, and counts as a duplicate), more would leave less than the 140 trillion offsets
above them."""

# The bits below the offset, by the number above.
_HASH = np.int64((1 << _HASH_BITS) - 1)

_RESTORE = 65_536
"""Hashes put into the table at once while state is read back, so that temporary arrays stay small; no result depends
on it."""


class Seen:
    """The last offset at which each id hash was seen, and a hash of the value then, for the last ``horizon`` offsets.

    A label of another value than the last is a correction and no duplicate; 0 stands for no value, as of predictions,
    features and the ids that older builds stored.

    What is older than the horizon is no hit, because a hit counts by its offset, and leaves the table when that is
    rebuilt. So the answers do not depend on batches or rebuilds.
    """

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self._table = HashTable()

    def mark(self, hashes: Hashes, offsets: Integers, value_hashes: Values | int = 0) -> Flags:
        """Return which records repeat an id of the last ``horizon`` offsets, and remember all of them.

        ``offsets`` rise. A record is a duplicate if the latest earlier record of its hash lies at most ``horizon``
        offsets before it with the same value, or one of the two has none. E.g. labels 0, 1, 1, 0 of one id: the
        third is a duplicate, the second and the last are corrections. O(n) expected.
        """
        n = len(hashes)
        if not n or not self.horizon:
            return np.zeros(n, np.bool_)
        oldest = int(offsets[0]) - self.horizon
        # Before the batch goes in: what is older than its first record's horizon can be no hit for any of them.
        self._table.make_room(n, lambda stored: stored >> _HASH_BITS >= oldest)
        values = offsets << _HASH_BITS | value_hashes
        ranked = np.sort(hashes)
        # Without repeats within the batch, nearly always, one swap tells all; the table takes each key once a call.
        if not (ranked[1:] == ranked[:-1]).any():
            return self._repeats(values, self._table.swap(hashes, values))
        return self._mark_repeated(hashes, values)

    def _repeats(self, values: Integers, previous: Integers) -> Flags:
        near: Flags = (previous >= 0) & ((values >> _HASH_BITS) - (previous >> _HASH_BITS) <= self.horizon)
        # Nearly always nothing repeats, and their values need not be looked at.
        if not near.any():
            return near
        value, before = values & _HASH, previous & _HASH
        near &= (value == before) | (value == 0) | (before == 0)
        return near

    def _mark_repeated(self, hashes: Hashes, values: Integers) -> Flags:
        # Stable: equal hashes stay in the order of the log, so that each meets the one before it.
        order = np.argsort(hashes, kind="stable")
        ranked, at = hashes[order], values[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = ranked[1:] != ranked[:-1]
        last = np.ones(len(order), np.bool_)
        last[:-1] = first[1:]
        previous = np.empty(len(order), np.int64)
        previous[1:] = at[:-1]
        previous[first] = self._table.swap(ranked[first], at[last])
        flags = np.empty(len(order), np.bool_)
        flags[order] = self._repeats(at, previous)
        return flags

    def restore(self, hashes: Hashes, offsets: Integers, value_hashes: Values) -> None:
        """Take over remembered records, in the order of their offsets."""
        for first in range(0, len(hashes), _RESTORE):
            part = slice(first, first + _RESTORE)
            self.mark(hashes[part], offsets[part], value_hashes[part])
