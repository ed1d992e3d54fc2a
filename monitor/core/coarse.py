"""Coarse cells: about twenty of near equal reference mass for a number, the cells themselves for a category."""

import numpy as np

from monitor.core.cells import Counts
from monitor.core.reference import Subject


def coarse_cells(subject: Subject, counts: Counts) -> Counts:
    """Return counts int64[..., cells.count] on the coarse cells, int64[..., K]."""
    grid = subject.grid
    size = int(grid.max()) + 1
    if counts.ndim == 1:
        return np.bincount(grid, weights=counts, minlength=size).astype(np.int64)
    out = np.zeros((len(counts), size), np.int64)
    np.add.at(out.T, grid, counts.T)
    return out
