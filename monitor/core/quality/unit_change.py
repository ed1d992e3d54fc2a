"""A change of unit: every value multiplied by one well-known factor."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.monitor.core.charts import positions_of
from stationkeeper.monitor.core.reference import OCTAVES, CategoricalCells, Counts, ReferenceSubject, octave

FACTORS: Mapping[str, float] = {
    "x1000": 1e3,
    "x100": 1e2,
    "x10": 10.0,
    "x1e6": 1e6,
    "x1e9": 1e9,
    "x60": 60.0,
    "x3600": 3600.0,
    "x24": 24.0,
    "x12": 12.0,
    "x7": 7.0,
    "x1024": 1024.0,
    "x2.54 (inch to cm)": 2.54,
    "x1.609 (mile to km)": 1.609344,
    "x2.205 (kg to lb)": 2.20462,
    "x3.281 (m to ft)": 3.28084,
    "x-1 (sign)": -1.0,
}
"""Factors that units differ by; each is tried both ways. Powers of ten are money, metric prefixes and time stamps, then
time, bytes, and the four imperial units met most; a rarer factor shows as drift by scale, with its effect."""

CLOSE = 0.1
"""TV between the window and the scaled reference below which the factor explains it: coarse cells of 5 % leave about
that by themselves. At half a true change of unit with a little drift beside it is missed; at double factors 10 and 12
explain each other's windows."""

FAR = 0.3
"""TV from the unscaled reference that a change of unit must show: a factor of two or more on ordinary spreads moves far
more. At half ordinary drift of a wide feature is tried against the factors; at double a change of inches to centimetres
in a wide feature is missed."""

MIN_ROWS = 30
"""Rows to try at all. The noise of twenty cells alone is then about .3 of TV: what is far must come close again once a
factor is taken out: that carries the decision. A unit changes for all rows at once, so few suffice; at double the page
is named by the drift instead."""

PLAIN = 7.0
MILD_ROWS = 300
"""Factors between 1/7 and 7, and a changed sign, look like drift on few rows: they need this many. 7 is the first
factor of time (days a week), above every imperial one; at 30 rows a doubled scale fits 2.2 (kg to lb) by chance, while
at double the rows half an hour more passes before such a fault is named."""

# Fewer edges than this hold a handful of values, whose coarse cells any factor can match.
_FEW_EDGES = 8

# The scaled reference must be at least twice as near as the plain one, else the factor is no explanation.
_HALVED = 0.5


class UnitChange(NamedTuple):
    """The factor that explains a window: its name, its value, and how far the window is with and without it (TV)."""

    name: str
    factor: float
    left: float
    moved: float


def unit_change(subject: ReferenceSubject, counts: Counts, octaves: Counts) -> UnitChange | None:
    """Return the factor by which the reference must be multiplied to give the window, or None if none does.

    ``counts`` int64[cells] and ``octaves`` int64[64] (values outside the reference's range) are those since the onset.
    The window must lie ``FAR`` from the reference and within ``CLOSE`` (less what few rows explain) of the scaled one,
    both in TV over coarse cells and, outside the range, octaves. O(factors cells), asked once an incident.
    """
    cells = subject.cells
    rows = int(counts[:-1].sum())
    if isinstance(cells, CategoricalCells) or rows < MIN_ROWS or len(cells.edges) < _FEW_EDGES:
        return None
    positions = positions_of(cells.edges, cells.low, cells.high)
    share = subject.counts[:-1] / max(int(subject.counts[:-1].sum()), 1)
    grid = subject.grid[:-1]
    inside = counts[:-1].astype(np.float64)
    outside = octaves.astype(np.float64)
    # Out-of-range values sit in the outer cells too; where they are known by octave, they count there alone.
    inside = _without(inside, outside.sum(), cells.index(np.array([cells.low, cells.high])))
    window = np.concatenate([np.bincount(grid, weights=inside, minlength=int(grid.max()) + 1), outside]) / rows
    plain = _expected(positions, share, grid, cells.low, cells.high, cells.edges)
    moved = 0.5 * float(np.abs(window - plain).sum())
    if moved < FAR:
        return None
    noise = 0.5 * np.sqrt(2 / np.pi) * float(np.sqrt(plain * (1 - plain) / rows).sum())
    found: list[UnitChange] = []
    for name, factor in FACTORS.items():
        mild = factor < PLAIN
        if mild and rows < MILD_ROWS:
            continue
        for label, k in ((name, factor), (f"1/{name[1:]}", 1 / factor)):
            scaled = _expected(positions * k, share, grid, cells.low, cells.high, cells.edges)
            left = 0.5 * float(np.abs(window - scaled).sum())
            if left <= CLOSE + noise and left < _HALVED * moved:
                found.append(UnitChange(label, k, left, moved))
    return min(found, key=lambda unit: unit.left, default=None)


def _expected(positions: Floats, share: Floats, grid: Counts, low: float, high: float, edges: Floats) -> Floats:
    """The reference's mass, put at ``positions``: by coarse cell inside [low, high], by octave outside."""
    within = (positions >= low) & (positions <= high)
    cell = np.minimum(np.searchsorted(edges, positions, side="left"), len(grid) - 1)
    inside = np.bincount(grid[cell[within]], weights=share[within], minlength=int(grid.max()) + 1)
    return np.concatenate([inside, np.bincount(octave(positions[~within]), weights=share[~within], minlength=OCTAVES)])


def _without(inside: Floats, outside: float, outer: Counts) -> Floats:
    """Take the out-of-range rows from the outermost cells: the first and last, where they were counted."""
    out = inside.copy()
    for cell in (0, len(out) - 1, *outer.tolist()):
        taken = min(out[cell], outside)
        out[cell] -= taken
        outside -= taken
    return out
