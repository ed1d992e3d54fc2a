"""The alternatives a detector bets on: what a drifted feature may look like, expressed on its own cells."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from monitor.core.quantile import normal_cdf, normal_ppf

Floats = NDArray[np.float64]

SHIFTS = (0.1, 0.2, 0.4, 0.8, 1.6)
SCALES = (0.6, 0.8, 1.25, 1.67)
SPIKES = (0.02, 0.1)
CONTAMINATIONS = (0.01, 0.03, 0.1, 0.3)
DRY = 0.25
HALF_LIVES = (300.0, 3000.0)


@dataclass(frozen=True)
class Alternative:
    """One row of a dictionary.

    kind is one of shift, scale, cell, adaptive; size is the shift in reference standard deviations, the
    factor of the scale, the mass added to a cell (negative: the share of its own mass that is left), or
    the half-life in events.  cell is -1 unless kind is cell.
    """

    kind: str
    size: float
    cell: int = -1

    def __str__(self) -> str:
        if self.kind == "shift":
            return f"shift {self.size:+g} sd"
        if self.kind == "scale":
            return f"scale x{self.size:g}"
        if self.kind == "cell":
            change = f"+{self.size:.0%}" if self.size > 0 else f"x{-self.size:g}"
            return f"cell {self.cell} {change}"
        return f"adaptive {self.size:g}"


def ordered_rows(p: Floats) -> tuple[Floats, tuple[Alternative, ...]]:
    """Shift and scale alternatives of ordered cells on the normal-score scale of p, so they need no units.

    p has shape [..., K] and may hold zeros (padding).  Returns q [..., D, K] and the D rows: for a cell between
    normal scores a < b, q = Phi(b - d) - Phi(a - d) for a shift d and Phi(b/s) - Phi(a/s) for a scale s.
    By hand: two cells of mass .5 and d = .5 give q = (Phi(-.5), 1 - Phi(-.5)) = (.3085, .6915).
    """
    edges = np.clip(np.cumsum(p, axis=-1), 0, 1)
    edges[..., -1:] = 1.0
    # Padding after the last real cell must stay empty whatever the rounding of the sum.
    edges = np.where(edges > 1 - 1e-12, 1.0, edges)
    scores = normal_ppf(np.concatenate([np.zeros_like(edges[..., :1]), edges], axis=-1))
    rows = [Alternative("shift", sign * d) for d, sign in product(SHIFTS, (1.0, -1.0))]
    q = [np.diff(normal_cdf(scores - row.size), axis=-1) for row in rows]
    rows += [Alternative("scale", s) for s in SCALES]
    q += [np.diff(normal_cdf(scores / s), axis=-1) for s in SCALES]
    return np.stack(q, axis=-2), tuple(rows)


@lru_cache(maxsize=256)
def cell_rows(kind: str, cells: int) -> tuple[Floats, tuple[Alternative, ...]]:
    """Levels and names of the one-cell alternatives, level by level and cell by cell within a level.

    numeric: a stuck or default value adds mass SPIKES to one cell.  categorical: a value gains mass
    CONTAMINATIONS, or dries up to DRY of itself (level -DRY).  Returns levels [G] and G * cells rows, the same ones
    for every table of this size.
    """
    levels = SPIKES if kind == "numeric" else (*CONTAMINATIONS, -DRY)
    rows = tuple(Alternative("cell", level, j) for level in levels for j in range(cells))
    return np.array(levels), rows


def adaptive_rows() -> tuple[Alternative, ...]:
    """The adaptive rows: moving averages of the past with these half-lives in events."""
    return tuple(Alternative("adaptive", half_life) for half_life in HALF_LIVES)
