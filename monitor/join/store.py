"""Rows that wait for their other side: predictions without label, labels without prediction."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stationkeeper.monitor.hashtable import HashTable
from stationkeeper.monitor.tally import UNSET

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.void]

WAITING_ROW = np.dtype(
    [
        ("key", "<u8"),
        ("time", "<i8"),
        ("score", "<f4"),
        ("label", "<f4"),
        ("decision", "u1"),
        ("bin", "u1"),
        ("owner", "<i4"),
        # Behind which record a rebuild must begin to meet the row again.
        ("offset", "<i8"),
    ]
)
"""One waiting row in 38 bytes: key (id and model), event time, score, label, decision, bin, owner code, its record."""

CODED = np.uint8(8)
"""The bit of a kept row's ``decision`` that says that the latest label is the code of a class; those below are the
prediction's, or the first label's, in ``contracts.wire``."""

_FIRST = 1 << 12
"""Rows of an empty store (156 kB): a power of two, as the store doubles; half saves what nobody misses."""

_LOADED = 1 << 16
"""Rows put into the hash table at once while loading, so that the temporary arrays stay in the cache."""

MOST_ROWS = 5_000_000
"""Rows that one side of one joins partition keeps at most, unless ``join.rows`` says otherwise: at about 70 bytes a row
350 MB; half crowds out the rows of slow labels sooner, double needs that much more memory a partition."""


class Owner(NamedTuple):
    """Whose prediction a row is: ``segments`` beside all traffic; ``action`` is what was done upon the answer."""

    model: str
    version: str
    segments: tuple[str, ...]
    action: str = ""


class Waiting:
    """Rows by key, first come; taken out when their other side comes, let go when they are too old or too many.

    A row counts as gone from the record on whose clock passed its horizon, whenever it is swept out, so that sweeps,
    batches and restarts change nothing. About 70 bytes a row, at most ``most`` rows after ``evict``.
    """

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._rows: Rows = np.zeros(_FIRST, WAITING_ROW)
        self._alive: Flags = np.zeros(_FIRST, np.bool_)
        self._used = 0
        self.alive = 0
        self.crowded = 0
        self._table = HashTable()

    def __len__(self) -> int:
        return self.alive

    def put(self, rows: Rows, before: int = UNSET, *, distinct: bool = True) -> tuple[Flags, Rows]:
        """Keep rows that are not waiting yet; returns which are, and the rows that wait, which stay.

        What is older than ``before`` waits no longer. Where keys are not ``distinct``, the first row of a key waits and
        those behind it find it waiting.
        """
        found = self._table.find(rows["key"])
        known, at = self._waiting(found, before)
        keep, there = np.flatnonzero(~known), self._rows[at[known]]
        if not distinct:
            place = keep
            seat = place[_seats(rows[place], before)]
            keep, behind = place[seat == place], seat < place
            # In the order of the rows: those that waited already, and those behind the first of their key.
            seats = np.zeros(len(rows), WAITING_ROW)
            seats[known], seats[place[behind]] = there, rows[seat[behind]]
            known[place[behind]] = True
            there = seats[known]
        fresh = rows[keep]
        # What was too old and comes again takes the place of its key.
        stale = at[keep][found[keep] >= 0]
        self.alive -= int(np.count_nonzero(self._alive[stale]))
        # Its place is not used again before the store is refilled: rows lie in the order they came, by which they are
        # evicted.
        self._alive[stale] = False
        self._reserve(len(fresh))
        # Dead rows lose their place in the table when it grows, and only then.
        self._table.make_room(len(fresh), lambda stored: self._alive[stored])
        place = np.arange(self._used, self._used + len(fresh))
        self._rows[place] = fresh
        self._alive[place] = True
        self._used += len(fresh)
        self.alive += len(fresh)
        self._table.swap(fresh["key"], place)
        return known, there

    def take(self, keys: Hashes, before: int = UNSET) -> tuple[Flags, Rows]:
        """Return which of the distinct ``keys`` were waiting, and their rows, which wait no longer."""
        hit, at = self._waiting(self._table.find(keys), before)
        at = at[hit]
        self._alive[at] = False
        self.alive -= len(at)
        return hit, self._rows[at]

    def amend(self, value: str, labels: Rows, classes: Flags, before: int = UNSET) -> tuple[Flags, Rows]:
        """Write labels over the column ``value`` of rows that are here; returns which, as each label found its row.

        ``classes`` says which labels are the code of a class, a bit of ``decision`` (``CODED``). Of labels of one key
        the last one stays, and each finds what the one before it wrote. O(n log n).
        """
        hit, at = self._waiting(self._table.find(labels["key"]), before)
        at = at[hit]
        were, said = self._rows[at], labels["label"][hit]
        decision = were["decision"] & ~CODED | np.where(classes[hit], CODED, 0).astype(np.uint8)
        # Stable: labels of one row stay in the order of the log.
        order = np.argsort(at, kind="stable")
        same = at[order[1:]] == at[order[:-1]]
        later, one_before = order[1:][same], order[:-1][same]
        were[value][later], were["decision"][later] = said[one_before], decision[one_before]
        # Where a place comes twice numpy keeps the last value, which is what the latest label said.
        self._rows[value][at] = said
        self._rows["decision"][at] = decision
        return hit, were

    def find(self, keys: Hashes, before: int = UNSET) -> tuple[Flags, Rows]:
        """Return which of the keys have a row here, and a copy of those rows, which stay."""
        hit, at = self._waiting(self._table.find(keys), before)
        return hit, self._rows[at[hit]]

    def _waiting(self, found: Integers, before: int) -> tuple[Flags, Integers]:
        # Place 0 stands in for a key that was not found (-1), so that one index serves all; the first condition drops
        # it.
        at = np.maximum(found, 0)
        return (found >= 0) & self._alive[at] & (self._rows["time"][at] >= before), at

    def evict(self, before: int = UNSET) -> Rows:
        """Let the first come go where too many wait; returns them, first come first.

        A sixteenth of the room at once, so that it is not done with every record.
        """
        if self.alive > self._most:
            self.expire(before)
        if self.alive <= self._most:
            return self._rows[:0]
        # Not just below the limit, or each record would evict again: 6 % at once. Half of it evicts twice as often, at
        # double an eighth of the room is lost right after.
        excess = self.alive - (self._most - self._most // 16)
        # The first come go: what waited longest is the least likely to be met yet.
        gone = np.flatnonzero(self._alive[: self._used])[:excess]
        self._drop(int(gone[-1]) + 1)
        return self._rows[gone]

    def evict_to(self, key: int, offset: int) -> None:
        """Let go of what came before the waiting row with ``key`` of the record at ``offset``, and of that row."""
        rows = self._rows[: self._used]
        found = np.flatnonzero(self._alive[: self._used] & (rows["key"] == key) & (rows["offset"] == offset))
        if len(found):
            self._drop(int(found[-1]) + 1)

    def _drop(self, end: int) -> None:
        count = int(np.count_nonzero(self._alive[:end]))
        self._alive[:end] = False
        self.alive -= count
        self.crowded += count

    def expire(self, before: int) -> int:
        """Let go of rows older than ``before``; returns how many."""
        old = self._alive[: self._used] & (self._rows["time"][: self._used] < before)
        count = int(np.count_nonzero(old))
        self._alive[: self._used][old] = False
        self.alive -= count
        return count

    def rows(self) -> Rows:
        """Return a copy of the waiting rows, first come first."""
        return self._rows[: self._used][self._alive[: self._used]]

    def load(self, rows: Rows) -> None:
        """Begin with these rows, as ``rows`` gave them."""
        self._refill(rows, len(rows))

    def _reserve(self, coming: int) -> None:
        if self._used + coming > len(self._rows):
            self._refill(self.rows(), coming)

    def _refill(self, rows: Rows, coming: int) -> None:
        size = _FIRST
        # Twice, so that a full store is not copied again with the next batch.
        while size < 2 * (len(rows) + coming):
            size *= 2
        self._rows = np.zeros(size, WAITING_ROW)
        self._alive = np.zeros(size, np.bool_)
        self._rows[: len(rows)] = rows
        self._alive[: len(rows)] = True
        self._used = self.alive = len(rows)
        self._table = HashTable()
        self._table.make_room(len(rows), lambda stored: stored >= 0)
        for first in range(0, len(rows), _LOADED):
            part = slice(first, first + _LOADED)
            self._table.swap(rows["key"][part], np.arange(len(rows))[part])


def first_of_each(keys: Hashes) -> Flags:
    """Return which places hold a key for the first time. O(n log n)."""
    is_first = np.zeros(len(keys), np.bool_)
    is_first[np.unique(keys, return_index=True)[1]] = True
    return is_first


def _seats(rows: Rows, before: int) -> Integers:
    """Return for each row the place of that row of its key which waits in the end, had they come one by one.

    It is the first that is not older than ``before``: it takes the place of older ones, those behind it repeat it. Of
    old ones alone it is the last. O(n log n).
    """
    place, old = np.arange(len(rows)), rows["time"] < before
    order = np.lexsort((np.where(old, -place, place), old, rows["key"]))
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = rows["key"][order[1:]] != rows["key"][order[:-1]]
    seats = np.empty(len(rows), np.int64)
    seats[order] = order[begins][np.cumsum(begins) - 1]
    return seats


class Owners:
    """Codes of owners in the order they were first seen."""

    def __init__(self) -> None:
        self._codes: dict[Owner, int] = {}
        self.names: list[Owner] = []

    def codes(self, owners: Sequence[Owner]) -> Integers:
        """Return the code of each owner."""
        out = []
        for owner in owners:
            code = self._codes.get(owner)
            if code is None:
                code = self._codes[owner] = len(self.names)
                self.names.append(owner)
            out.append(code)
        return np.array(out, np.int64)
