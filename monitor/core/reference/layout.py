"""Where everything a pane counts stands in one flat vector, as a reference's cells prescribe it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.column import Categories, Column, Floats, Integers, Numbers, Status
from stationkeeper.contracts.wire import PART_BYTES
from stationkeeper.monitor.core.reference.cells import (
    OCTAVES,
    QUALITY,
    CategoricalCells,
    Cells,
    Counts,
    NumericCells,
    octave,
)
from stationkeeper.monitor.core.reference.pairs import Pair, PairCounter, PlacedPair

PANE_COUNTERS = ("duplicates", "late", "unseen_fields", "mistimed")
"""Counters of the pane as a whole, at the end of the vector, before the weight octaves."""

WEIGHT_OCTAVES = 32
"""Powers of two of the sampling weights, from 2**-17 up; the last holds everything from 2**14, one row in 16 384,
on. Chosen: half as many would fold one row in 100 and one in 10 000 together; heavier weights are rare."""

# Counters of eight bytes that fit one part of a pane's record.
_BLOCK = PART_BYTES // 8

_SIDE_BY_SIDE = 64
"""Rows a group from which on numeric columns are sorted group by group; below, each row's cell is looked up. Time
alone: the counts are the same."""

_TOGETHER = 32
"""Numeric columns counted in one pass: what that touches then stays in the second-level cache (a batch of a thousand
rows is 256 kB). Time alone."""


Marked = tuple[Any, Any]
"""Rows (their numbers, or a slice of all) and the position where they count: one for all of them, or one each."""

_ALL = slice(None)

Flags = npt.NDArray[np.bool_]
_BELOW, _ABOVE = QUALITY.index("below"), QUALITY.index("above")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one subject stands: cells at [first, quality), then quality counters, then octaves up to ``last``."""

    name: str
    first: int
    quality: int
    last: int
    cells: Cells

    @property
    def missing(self) -> int:
        """Position of the missing cell."""
        return self.quality - 1

    @property
    def histogram(self) -> slice:
        """The cells, missing last."""
        return slice(self.first, self.quality)

    @property
    def octaves(self) -> slice:
        """Out-of-range values by octave; empty for categories."""
        return slice(self.quality + len(QUALITY), self.last)

    def counter(self, check: str) -> int:
        """Return the position of a quality counter; raises ``ValueError`` for a name not in ``QUALITY``."""
        return self.quality + QUALITY.index(check)


class CellRows:
    """Subjects of a plan whose cells stand one behind the other, read as [F, width] with zeros to the right.

    Neighbours of one size are read in one piece, so nothing is kept for each cell.
    """

    def __init__(self, offsets: Counts, subjects: npt.NDArray[np.intp], left_out: int = 0) -> None:
        """``offsets`` as `DetectorPlan.offsets`; ``left_out`` cells at the end of each subject are not read."""
        self._offsets, self._subjects, self._left_out = offsets, subjects, left_out
        sizes = np.diff(offsets)[subjects]
        self.width = int(sizes.max(initial=left_out)) - left_out
        new = np.flatnonzero((np.diff(subjects, prepend=-2) != 1) | (np.diff(sizes, prepend=-1) != 0))
        ends = np.append(new, len(subjects))[1:]
        self._runs = [
            (first, last, int(offsets[subjects[first]]), int(sizes[first]))
            for first, last in zip(new.tolist(), ends.tolist(), strict=True)
        ]

    def read(self, flat: Counts) -> Counts:
        """Return the rows of a flat pane, int64[F, width]."""
        out = np.zeros((len(self._subjects), self.width), np.int64)
        for first, last, begin, size in self._runs:
            block = flat[begin : begin + (last - first) * size].reshape(-1, size)
            out[first:last, : size - self._left_out] = block[:, : size - self._left_out]
        return out

    def real(self) -> Flags:
        """Return which places hold a cell, bool[F, width]; the others are padding."""
        sizes = np.diff(self._offsets)[self._subjects] - self._left_out
        return np.asarray(np.arange(self.width)[None, :] < sizes[:, None], np.bool_)

    def only(self, mask: Flags) -> "CellRows":
        """Return the rows of the subjects in ``mask`` bool[F] alone, as wide as all."""
        made = CellRows(self._offsets, self._subjects[mask], self._left_out)
        made.width = self.width
        return made


class _Histograms:
    """Counts the numeric subjects of one layout, all in one pass over a batch.

    Sorting a value costs a tenth of searching its cell, and what is left for each column is one look-up of its edges;
    all else is done for all columns at once, so that a thousand columns in short batches cost as much each as ten.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = tuple(places)
        self._keys = [place.cells.keys for place in places if isinstance(place.cells, NumericCells)]
        sizes = np.array([len(keys) for keys in self._keys], np.int64)
        # All columns' keys stand one behind the other, so that one subtraction serves a thousand columns.
        ends = np.cumsum(sizes)
        self._first = ends - sizes
        self._slices = [slice(first, end) for first, end in zip(self._first.tolist(), ends.tolist(), strict=True)]
        # The keys of a column are its edges, infinity, and the two ends of the reference's range; the order is that of
        # ``NumericCells.keys``, and the last two are read from behind.
        self._ranges = ends - 2
        cells = [np.arange(span.start, span.stop - 2) for span in self._slices]
        self._of = np.concatenate([np.empty(0, np.int64), *cells])
        at = [np.arange(place.first, place.first + place.cells.count - 1) for place in self._places]
        self._at = np.concatenate([np.empty(0, np.int64), *at])
        self._quality = np.array([place.quality for place in self._places], np.int64)

    def tally(self, columns: Mapping[str, Column], group: Integers, groups: int, out: Counts) -> frozenset[str]:
        """Add columns of n numbers to ``out`` int64[groups, width]; returns the names of those that were counted.

        ``group`` int64[n] tells each row's group. A column with a value that is not finite is left to the caller.
        O(n log n) a column and O(cells log n) a column and group.
        """
        which, values = [], []
        for at, place in enumerate(self._places):
            column = columns.get(place.name)
            # A column with statuses has absent or null rows, which count in quality counters that this pass has not.
            if isinstance(column, Numbers) and column.status is None:
                which.append(at)
                values.append(column.values)
        if not which:
            return frozenset()
        matrix = np.stack(values)
        finite: Flags = np.asarray(np.isfinite(matrix).all(axis=1))
        # Sorted, NaN would stand last and be counted as above the range.
        if not finite.all():
            matrix, which = matrix[finite], [which[at] for at in np.flatnonzero(finite).tolist()]
        present = np.zeros(len(self._places), np.bool_)
        present[which] = True
        for g in range(groups):
            ranked = np.sort(matrix if groups == 1 else matrix[:, group == g], axis=1)
            self._count(ranked, which, present, out[g])
        return frozenset(self._places[at].name for at in which)

    def _count(self, ranked: Floats, which: Sequence[int], present: Flags, out: Counts) -> None:
        n = ranked.shape[1]
        ends = np.zeros(self._slices[-1].stop, np.int64)
        for at, values in zip(which, ranked, strict=True):
            ends[self._slices[at]] = values.searchsorted(self._keys[at], side="right")
        steps = ends.copy()
        steps[1:] -= ends[:-1]
        # The first key of a column has no key before it: what was subtracted there belongs to its neighbour.
        steps[self._first] = ends[self._first]
        out[self._at] += steps[self._of]
        below = ends[self._ranges]
        # A column that is not in the batch has zero ends: without this it would count every row as above.
        above = np.where(present, n - ends[self._ranges + 1], 0)
        out[self._quality + _BELOW] += below
        out[self._quality + _ABOVE] += above
        # Few columns have such values: only those pay for the look at octaves.
        outside = np.flatnonzero(below + above)
        if not len(outside):
            return
        row = np.cumsum(present) - 1
        for at in outside.tolist():
            values = ranked[row[at]]
            odd = np.concatenate([values[: below[at]], values[n - above[at] :]])
            first = int(self._quality[at]) + len(QUALITY)
            out[first : first + OCTAVES] += np.bincount(octave(odd), minlength=OCTAVES)


class Layout:
    """The flat int64 vector of one reference: every subject's cells and quality counters, then the pane's own.

    ``places`` follow the reference's order, ``pairs`` of subjects come after all of them. Two vectors of one layout
    add; nothing else merges panes.
    """

    def __init__(
        self, subjects: Iterable[tuple[str, Cells]], pairs: Iterable[tuple[str, CategoricalCells, Pair]] = ()
    ) -> None:
        """``subjects`` are names, each once, and the frozen cells of each; ``pairs`` are of two of them."""
        places, at = [], 0
        both = list(pairs)
        # In the order of the reference, which its digest fixes: panes of two processes add by position alone.
        for name, of in [*subjects, *((name, of) for name, of, _ in both)]:
            quality = at + of.count
            last = quality + len(QUALITY) + (OCTAVES if isinstance(of, NumericCells) else 0)
            places.append(Place(name, at, quality, last, of))
            at = last
        self.places = tuple(places[: len(places) - len(both)])
        self.pairs = tuple(places[len(places) - len(both) :])
        alone = {place.name: place.cells for place in self.places}
        self.pair_counter = PairCounter(
            PlacedPair(pair, (alone[pair.first.feature], alone[pair.second.feature]), place.first, name, cells.values)
            for place, (name, cells, pair) in zip(self.pairs, both, strict=True)
        )
        self.pane = at
        self.weights = slice(at + len(PANE_COUNTERS), at + len(PANE_COUNTERS) + WEIGHT_OCTAVES)
        self.width = self.weights.stop
        self._by_name = {place.name: place for place in places}

    @cached_property
    def _histograms(self) -> tuple[_Histograms, ...]:
        """What counts numbers; who only reads vectors, as the judge does, needs none."""
        numeric = [place for place in self.places if isinstance(place.cells, NumericCells)]
        parts = [numeric[first : first + _TOGETHER] for first in range(0, len(numeric), _TOGETHER)]
        return tuple(map(_Histograms, parts))

    def __len__(self) -> int:
        return self.width

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Place:
        return self._by_name[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Subject names in order."""
        return tuple(place.name for place in self.places)

    def zeros(self) -> Counts:
        """Return an empty vector, int64[width]."""
        return np.zeros(self.width, np.int64)

    def pane_counter(self, name: str) -> int:
        """Return the position of one of ``PANE_COUNTERS``."""
        return self.pane + PANE_COUNTERS.index(name)

    def tally(
        self, columns: Mapping[str, Column], group: Integers, rows: Counts, *, skip: frozenset[str] = frozenset()
    ) -> Counts:
        """Return the vectors of a batch by group of rows, int64[groups, width].

        ``columns`` hold one column of n values a subject; ``group`` int64[n] says to which pane (and version and
        segment) a row belongs and ``rows`` int64[groups] how many each has. A subject without a column is absent,
        unless its name is in ``skip``: these events do not carry it (the prediction, in feature events). Columns
        that the reference does not know are unseen fields. O(values).
        """
        groups = len(rows)
        out = np.zeros((groups, self.width), np.int64)
        counted: set[str] = set()
        if groups == 1 or len(group) >= _SIDE_BY_SIDE * groups:
            for histograms in self._histograms:
                counted |= histograms.tally(columns, group, groups, out)
        for place in self.places:
            column = columns.get(place.name)
            if place.name in counted:
                continue
            if column is not None:
                out[:, place.first : place.last] = place.cells.tally(column, group, groups)
            # Absent rows are missing too: cells sum to the rows, so that shares need no second denominator.
            elif place.name not in skip:
                out[:, place.missing] = rows
                out[:, place.counter("absent")] = rows
        self.pair_counter.tally(columns, group, groups, skip, out)
        unseen = self.pane_counter("unseen_fields")
        for name, column in columns.items():
            if name not in self._by_name:
                # A batch has a column as soon as one of its events has the field: the others do not count.
                present = column.codes != Status.ABSENT if isinstance(column, Categories) else _present(column)
                out[:, unseen] += np.bincount(group[present], minlength=groups)
        return out

    def marks(self, columns: Mapping[str, Column], *, skip: frozenset[str] = frozenset()) -> list[Marked]:
        """Return where each row counts, as ``tally`` does but for each row: for many groups of few rows.

        A row counts once at each of the positions it is given. O(n) look-ups a column.
        """
        found: list[Marked] = []
        for place in self.places:
            column = columns.get(place.name)
            if column is not None:
                cell, more = place.cells.marks(column)
                found.append((_ALL, place.first + cell))
                found += [(rows, place.first + position) for rows, position in more]
            elif place.name not in skip:
                found += [(_ALL, place.missing), (_ALL, place.counter("absent"))]
        # Without any column every row counts at the same positions.
        rows = len(next(iter(columns.values()))) if columns else 1
        found += [(_ALL, position) for position in self.pair_counter.marks(columns, rows, skip)]
        unseen = self.pane_counter("unseen_fields")
        for name, column in columns.items():
            if name not in self._by_name:
                present = column.codes != Status.ABSENT if isinstance(column, Categories) else _present(column)
                found.append((np.flatnonzero(present), unseen))
        return found

    def blocks(self) -> Iterator[slice]:
        """Yield the parts a vector is sent in: at most ``PART_BYTES`` each."""
        for first in range(0, self.width, _BLOCK):
            yield slice(first, min(first + _BLOCK, self.width))


def _present(column: Numbers) -> npt.NDArray[np.bool_]:
    if column.status is None:
        return np.ones(len(column), np.bool_)
    present: npt.NDArray[np.bool_] = column.status != Status.ABSENT
    return present


def weight_octave(weights: Floats) -> Counts:
    """Return counts of positive sampling weights by octave, int64[WEIGHT_OCTAVES]: 1.0 falls in bucket 17."""
    bucket = np.clip(np.frexp(weights)[1] + WEIGHT_OCTAVES // 2, 0, WEIGHT_OCTAVES - 1)
    return np.bincount(bucket, minlength=WEIGHT_OCTAVES).astype(np.int64)
