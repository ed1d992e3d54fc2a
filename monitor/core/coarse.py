"""Coarse cells: about twenty of near equal reference mass for a number, the cells themselves for a category."""

import numpy as np

from monitor.core.cells import Counts, NumericCells, rank_grid
from monitor.core.column import Integers
from monitor.core.reference import Subject


def coarse_grid(subject: Subject) -> Integers:
    """Return the coarse cell of each cell, int64[cells.count]; missing keeps a cell of its own, the last."""
    if not isinstance(subject.cells, NumericCells):
        return np.arange(subject.cells.count)
    grid = rank_grid(subject.counts[:-1])
    return np.append(grid, grid.max() + 1)


def coarse_cells(subject: Subject, counts: Counts) -> Counts:
    """Return counts int64[..., cells.count] on the coarse cells, int64[..., K]."""
    grid = coarse_grid(subject)
    size = int(grid.max()) + 1
    if counts.ndim == 1:
        return np.bincount(grid, weights=counts, minlength=size).astype(np.int64)
    out = np.zeros((len(counts), size), np.int64)
    np.add.at(out.T, grid, counts.T)
    return out
