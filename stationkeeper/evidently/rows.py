"""Rows that a reference could have come from: Evidently wants rows, and a reference keeps only counts in cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stationkeeper.contracts.column import Floats, Integers
from stationkeeper.monitor.core.reference import (
    CategoricalCells,
    Cells,
    Kind,
    NumericCells,
    Reference,
    ReferenceSubject,
)

# Shares are right to 1 in 20 000. Chosen: half doubles that error, double doubles what Evidently reads; a reference of
# fewer rows gives no more than it has.
MOST_ROWS = 20_000


def rows_of(reference: Reference, most: int = MOST_ROWS) -> dict[str, list[Any]]:
    """Return columns of equally many values, whose shares in each subject's cells are those of the reference.

    Each column is right by itself to 1 in ``most`` rows; what columns have to do with each other is not in a
    reference and not in these rows. Within a numeric cell values are spread evenly between its edges.
    """
    count = max(min(reference.rows, most), 1)
    # Any seed; fixed, so that one reference always gives the same report.
    dice = np.random.default_rng(1)
    return {subject.name: _column(subject, count, dice) for subject in reference.subjects}


def _column(subject: ReferenceSubject, count: int, dice: np.random.Generator) -> list[Any]:
    per_cell = apportion(subject.counts.astype(np.float64), count)
    cells = subject.cells
    values: list[Any] = []
    for cell, number in enumerate(per_cell[:-1].tolist()):
        if not number:
            continue
        if isinstance(cells, NumericCells):
            values += _spread(cells, cell, number).tolist()
        elif cell < len(_values(cells)):
            values += [_values(cells)[cell]] * number
        else:
            values += [subject.cell_name(cell)] * number
    values += [None] * int(per_cell[-1])
    if subject.kind is not Kind.NUMERIC:
        values = [value if value is None else str(value) for value in values]
    # Mixed, so that columns are not sorted alike: their correlation would be drawn from nothing.
    order = dice.permutation(count)
    return [values[place] for place in order]


def _values(cells: Cells) -> Sequence[Any]:
    return cells.values if isinstance(cells, CategoricalCells) else ()


def _spread(cells: NumericCells, cell: int, number: int) -> Floats:
    """Return values in (low, high] of a cell; the outermost cells end at the reference's extremes."""
    low = cells.edges[cell - 1] if cell > 0 else cells.low
    high = cells.edges[cell] if cell < len(cells.edges) else cells.high
    low, high = min(low, high), max(low, high)
    return np.asarray(np.clip(low + (high - low) * np.arange(1, number + 1) / number, low, high))


def apportion(weights: Floats, total: int) -> Integers:
    """Return whole numbers that sum to ``total`` in proportion to weights, largest remainders first (Hamilton)."""
    if weights.sum() <= 0:
        return np.where(np.arange(len(weights)) == len(weights) - 1, total, 0).astype(np.int64)
    exact = weights * (total / weights.sum())
    whole: Integers = np.floor(exact).astype(np.int64)
    left = total - int(whole.sum())
    whole[np.argsort(-(exact - whole), kind="stable")[:left]] += 1
    return whole
