"""Values that a reference never saw, by name: counted exactly for the first few by hash, in any order of events."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from stationkeeper.contracts.column import Categories, Column, Integers, Status
from stationkeeper.monitor.core.reference.cells import CategoricalCells
from stationkeeper.monitor.core.reference.reference import Reference, ReferenceSubject

NewValues = Mapping[str, Mapping[str, int]]
"""Events by subject and value."""

MOST_NAMES = 8
"""Values of a subject and pane that are named. A new payment method or a changed code brings one or a few; beyond eight
no name says more than their number does. Half may miss the one that matters among four; double doubles the bytes."""

LONGEST_NAME = 64
"""Characters of a value that is named: longer ones are text, which a sentence to a person has no room for."""


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows of a batch with a new value of one subject: ``place`` int64[n] of each row's among ``names``."""

    subject: str
    rows: Integers
    place: Integers
    names: tuple[str, ...]


def may_name(subject: ReferenceSubject, hidden: Collection[str] = ()) -> bool:
    """Return whether a subject's new values may be named: not if it is sensitive, nor where rare ones count as new."""
    cells = subject.cells
    if subject.sensitive or subject.name in hidden or not isinstance(cells, CategoricalCells):
        return False
    return cells.boolean or subject.distinct <= len(cells.known)


def new_rows(reference: Reference, columns: Mapping[str, Column], hidden: Collection[str] = ()) -> list[NewRows]:
    """Return the rows of each subject whose value the reference never saw, names in the order of their hash.

    ``hidden`` are further subjects that must not be named. O(distinct values) where nothing is new.
    """
    found = []
    for subject in reference.subjects:
        column, cells = columns.get(subject.name), subject.cells
        if not isinstance(column, Categories) or not isinstance(cells, CategoricalCells):
            continue
        # Asked first: where rare values count as new, an id for instance, each row would be looked up for nothing.
        unseen = np.flatnonzero(cells.lookup(column.keys)[1]).tolist() if may_name(subject, hidden) else []
        if not unseen:
            continue
        keys = column.keys
        order = sorted((_rank(keys[at]), at) for at in unseen if len(keys[at]) <= LONGEST_NAME)
        ranked = [at for _, at in order]
        # A status is a negative code, so it indexes these last ones from the end.
        place = np.full(len(keys) + len(Status), -1)
        place[ranked] = np.arange(len(ranked))
        of = place[column.codes]
        rows = np.flatnonzero(of >= 0)
        if len(rows):
            found.append(NewRows(subject.name, rows, of[rows], tuple(keys[at] for at in ranked)))
    return found


def count_new(found: Collection[NewRows], group: Integers) -> dict[int, dict[str, dict[str, int]]]:
    """Return the new values of each group of rows that has any: by group, subject and value, ``MOST_NAMES`` at most.

    The first by hash are kept. A value that is among the first of a whole is so in each of its parts, so its count is
    exact however events are cut into batches and ``added`` again. O(rows log rows).
    """
    out: dict[int, dict[str, dict[str, int]]] = {}
    for one in found:
        number = len(one.names)
        pairs, counts = np.unique(group[one.rows].astype(np.int64) * number + one.place, return_counts=True)
        first = np.searchsorted(pairs // number, pairs // number)
        # `pairs` are sorted by group, then by hash, so that the place within a group is its rank.
        kept = np.arange(len(pairs)) - first < MOST_NAMES
        for pair, count in zip(pairs[kept].tolist(), counts[kept].tolist(), strict=True):
            at, place = divmod(pair, number)
            out.setdefault(at, {}).setdefault(one.subject, {})[one.names[place]] = count
    return out


def added(one: NewValues, other: NewValues) -> NewValues:
    """Return the sum of two parts, ``MOST_NAMES`` of each subject at most: the first by hash, exactly."""
    if not one or not other:
        return one or other
    out: dict[str, Mapping[str, int]] = {}
    for subject in sorted({*one, *other}):
        mine, theirs = one.get(subject, {}), other.get(subject, {})
        names = sorted({*mine, *theirs}, key=_rank)[:MOST_NAMES]
        out[subject] = {name: mine.get(name, 0) + theirs.get(name, 0) for name in names}
    return out


def plain_new(values: NewValues) -> dict[str, dict[str, int]]:
    """Return them as a record carries them, in one order, so that the same counts are the same bytes."""
    return {subject: dict(sorted(values[subject].items())) for subject in sorted(values)}


def _rank(name: str) -> tuple[int, str]:
    # The hash orders, not the name: values that begin alike would else crowd out all others. The name settles equal
    # hashes.
    return crc32(name.encode("utf-8", "surrogatepass")), name
