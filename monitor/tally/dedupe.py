"""Duplicates: the same event id and kind again within the last N offsets of one partition, exactly and in columns."""

import numpy as np
import numpy.typing as npt

from stationkeeper.monitor.hashtable import HashTable

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

CHUNK = 8_192
"""Offsets whose hashes share one record of the state topic (128 KiB): the open one is rewritten with each flush, so
that double writes twice as much; half makes twice as many keys. It is part of the keys: another size orphans stored
hashes."""

_RESTORE = 65_536
"""Hashes put into the table at once while state is read back, so that temporary arrays stay small; no result depends
on it."""


class Seen:
    """The last offset at which each id hash was seen, for the last ``horizon`` offsets.

    What is older than the horizon is no hit, because a hit counts by its offset, and leaves the table when that is
    rebuilt. So the answers do not depend on batches or rebuilds.
    """

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self._table = HashTable()

    def mark(self, hashes: Hashes, offsets: Integers) -> Flags:
        """Return which records repeat an id of the last ``horizon`` offsets, and remember all of them.

        ``offsets`` rise. A record is a duplicate if the latest earlier record of its hash lies at most ``horizon``
        offsets before it. O(n) expected.
        """
        n = len(hashes)
        if not n or not self.horizon:
            return np.zeros(n, np.bool_)
        oldest = int(offsets[0]) - self.horizon
        # Before the batch goes in: what is older than its first record's horizon can be no hit for any of them.
        self._table.make_room(n, lambda stored: stored >= oldest)
        ranked = np.sort(hashes)
        # Without repeats within the batch, nearly always, one swap tells all; the table takes each key once a call.
        if not (ranked[1:] == ranked[:-1]).any():
            previous = self._table.swap(hashes, offsets)
            return (previous >= 0) & (offsets - previous <= self.horizon)
        return self._mark_repeated(hashes, offsets)

    def _mark_repeated(self, hashes: Hashes, offsets: Integers) -> Flags:
        # Stable: equal hashes stay in the order of the log, so that each meets the one before it.
        order = np.argsort(hashes, kind="stable")
        ranked, at = hashes[order], offsets[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = ranked[1:] != ranked[:-1]
        last = np.ones(len(order), np.bool_)
        last[:-1] = first[1:]
        previous = np.empty(len(order), np.int64)
        previous[1:] = at[:-1]
        previous[first] = self._table.swap(ranked[first], at[last])
        flags = np.empty(len(order), np.bool_)
        flags[order] = (previous >= 0) & (at - previous <= self.horizon)
        return flags

    def restore(self, hashes: Hashes, offsets: Integers) -> None:
        """Take over remembered records, in the order of their offsets."""
        for first in range(0, len(hashes), _RESTORE):
            self.mark(hashes[first : first + _RESTORE], offsets[first : first + _RESTORE])
