"""Many subjects at once against their references: what a chart shows of each, in a few array passes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.monitor.core.charts.distance import Distance, by_row, distance_rows, ordered_rows
from stationkeeper.monitor.core.reference import Counts, NumericCells, ReferenceSubject

Found = dict[str, Distance]

# Subjects compared in one pass: their temporaries (64 x 256 cells x 8 B = 128 kB) stay in the second-level cache. Twice
# as many fall out of it, half as many pay numpy's calls twice; the numbers do not change.
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class _CountRows:
    """Counts of F subjects as rows, float64[F, K] each, zeros to the right: the window's and the reference's."""

    window: Floats
    reference: Floats


def compare(subjects: Sequence[ReferenceSubject], counts: Sequence[Counts]) -> list[Mapping[str, Distance]]:
    """Return for each subject what `chart.measure` gives for its ``counts`` int64[cells.count], but for rounding.

    Sums over a row take empty cells along, so the last digit may differ. O(cells), an array pass a block of subjects.
    """
    found: list[Found] = [{} for _ in subjects]
    numeric = [(i, subject.cells) for i, subject in enumerate(subjects) if isinstance(subject.cells, NumericCells)]
    others = [i for i, subject in enumerate(subjects) if not isinstance(subject.cells, NumericCells)]
    for first in range(0, len(numeric), _BLOCK):
        block = [i for i, _ in numeric[first : first + _BLOCK]]
        cells = [cells for _, cells in numeric[first : first + _BLOCK]]
        chosen, windows = [subjects[i] for i in block], [counts[i] for i in block]
        _put(found, block, _coarse(chosen, windows))
        fine = _CountRows(_padded([one[:-1] for one in windows]), _padded([one.counts[:-1] for one in chosen]))
        _put(found, block, fine, _positions(cells, fine.window.shape[1]))
    for first in range(0, len(others), _BLOCK):
        block = others[first : first + _BLOCK]
        _put(
            found, block, _CountRows(_padded([counts[i] for i in block]), _padded([subjects[i].counts for i in block]))
        )
    return [*found]


def _coarse(subjects: Sequence[ReferenceSubject], counts: Sequence[Counts]) -> _CountRows:
    """The counts on the coarse cells of each subject: neighbours of one grid number, so each is one run of cells."""
    sizes = np.array([len(subject.grid) for subject in subjects])
    grid = np.concatenate([subject.grid for subject in subjects])
    begins = np.cumsum(sizes) - sizes
    # A grid begins at 0 and ends with missing alone in its last cell, so neighbours differ where a subject begins, too.
    new = np.diff(grid, prepend=-1) != 0
    starts = np.flatnonzero(new)
    owner = np.repeat(np.arange(len(subjects)), np.add.reduceat(new, begins, dtype=np.int64))
    sides = []
    for side in (counts, [subject.counts for subject in subjects]):
        rows = np.zeros((len(subjects), int(grid.max()) + 1))
        rows[owner, grid[starts]] = np.add.reduceat(np.concatenate(side), starts)
        sides.append(rows)
    return _CountRows(*sides)


def _put(found: list[Found], block: Sequence[int], rows: _CountRows, positions: Floats | None = None) -> None:
    """Add the distances of the rows that have any: given positions those of ordered cells, else the others."""
    filled = np.flatnonzero(rows.window.any(axis=1) & rows.reference.any(axis=1))
    if not len(filled):
        return
    window, reference = rows.window[filled], rows.reference[filled]
    if positions is None:
        distances = distance_rows(window, reference)
    else:
        distances = ordered_rows(window, reference, positions[filled])
    for row, one in zip(filled.tolist(), by_row(distances), strict=True):
        found[block[row]] |= one


def _padded(arrays: Sequence[Counts]) -> Floats:
    out = np.zeros((len(arrays), max(map(len, arrays))))
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out


def _positions(cells: Sequence[NumericCells], width: int) -> Floats:
    """Where each fine cell's mass is put, as `distance.positions_of` says; padding repeats the last place."""
    bounds = np.empty((len(cells), width + 1))
    last = np.array([len(one.edges) for one in cells])
    for row, one, many in zip(bounds, cells, last.tolist(), strict=True):
        row[1 : many + 1] = one.edges
        row[0] = min(one.low, one.edges[0]) if many else one.low
        row[many + 1 :] = max(one.high, one.edges[-1]) if many else one.high
    positions = 0.5 * (bounds[:, :-1] + bounds[:, 1:])
    beyond = np.arange(width) > last[:, None]
    return np.where(beyond, np.take_along_axis(positions, last[:, None], axis=1), positions)
