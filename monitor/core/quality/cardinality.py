"""How many different cells a category fills: far more or far fewer than its reference would, with certainty."""

from typing import NamedTuple

import numpy as np

from stationkeeper.contracts.column import Floats, Integers
from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import CategoricalCells, Counts, Reference

WINDOW_ROWS = 1_000
"""Rows of a window: enough for an open set to fill all 64 hash buckets, so that "more values" shows at once. At half,
30 nats need a wider gap; at double a slow source is judged half as often, and open sets look alike all the same."""

CERTAIN_NATS = 30.0
"""A window warns when chance gives its cells with probability below exp(-30), about 1e-13, so it needs no budget. At
half a thousand categories judged each minute warn by chance every few days; at double only gross changes do."""

FAR = 2.0
"""Cells must be this factor from what the reference allows: large windows make any small change certain, and a fifth
more colours is no fault. At 1.4 assortments that grow by the season warn; at 4 a doubled set of values never does."""

FEW_CELLS = 8
"""Fewer expected cells are too few to halve with meaning: three of five values in a window are ordinary. At half, small
sets warn when two values pause; at double, sets of a dozen are never judged downward."""

# Standard errors by which a cell's share may be lower than it was counted: 2.3 % of cells lie beyond, a generous bound.
_LOWER = 2.0

# Slack for the sum's rounding, so that the quick bounds never call a window usual which ``unusual`` would not.
_ROUNDING = 1e-9

# Largest share of one cell, so that log(1 - p) stays finite for a constant category.
_ALMOST_ALL = 0.999_999


class UnusualCardinality(NamedTuple):
    """Subject by position, distinct cells in a window of rows, how many were expected, and the window."""

    subject: int
    cells: int
    expected: float
    rows: int
    start: int


class CardinalityState(State, frozen=True):
    """Occupied cells, rows and start of each category's window, and what its last full one found, int64[C, 4]."""

    seen: Counts
    rows: Counts
    starts: Counts
    found: Counts


class Cardinality:
    """Counts the occupied cells (top values and hash buckets) of each category over windows of ``WINDOW_ROWS`` rows.

    Far is a factor ``FAR`` beyond what the reference allows, and so unlikely that chance gives it with probability
    below exp(-30). A window of 1000 rows of an open set fills all 64 buckets: more values than that look alike.
    """

    def __init__(self, reference: Reference) -> None:
        self._layout = reference.layout
        chosen = [
            i
            for i, subject in enumerate(reference.subjects)
            if isinstance(subject.cells, CategoricalCells) and not subject.cells.boolean and subject.rows
        ]
        self.subjects: Integers = np.array(chosen, np.int64)
        places = [self._layout.places[i] for i in chosen]
        self._slices = [slice(place.first, place.missing) for place in places]
        self._missing = np.array([place.missing for place in places], np.int64)
        self._counts = [reference.subjects[i].counts[:-1] for i in chosen]
        self._phi = [reference.subjects[i].inflation for i in chosen]
        # Bounds that hold for every window, which has these rows or more: between them nothing is unusual.
        self._many = [FAR * _generous(counts, WINDOW_ROWS) * (1 - _ROUNDING) for counts in self._counts]
        self._few = [int(np.count_nonzero(_sure(counts))) / FAR for counts in self._counts]
        sizes = [place.missing - place.first for place in places]
        self._cuts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.seen: Counts = np.zeros(int(self._cuts[-1]), np.int64)
        self.rows: Counts = np.zeros(len(chosen), np.int64)
        self.starts: Counts = np.zeros(len(chosen), np.int64)
        # What the last full window found: subject's cells and expected cells in thousandths, 0 where it was usual.
        self.found: Counts = np.zeros((len(chosen), 4), np.int64)

    def step(self, pane: Pane) -> list[UnusualCardinality]:
        """Take a closed pane with rows; returns the categories whose last full window was far off."""
        if not len(self.subjects):
            return []
        self.starts = np.where(self.rows == 0, pane.start, self.starts)
        self.seen += np.concatenate([pane.counts[part] for part in self._slices])
        self.rows += pane.rows - pane.counts[self._missing]
        for k in np.flatnonzero(self.rows >= WINDOW_ROWS).tolist():
            mine = slice(int(self._cuts[k]), int(self._cuts[k + 1]))
            rows, cells = int(self.rows[k]), int(np.count_nonzero(self.seen[mine]))
            usual = self._few[k] < cells < self._many[k]
            expected = None if usual else unusual(self._counts[k], cells, rows, self._phi[k])
            self.found[k] = 0 if expected is None else (cells, round(1_000 * expected), rows, self.starts[k])
            self.seen[mine], self.rows[k] = 0, 0
        return [
            UnusualCardinality(int(subject), cells, expected / 1_000, rows, start)
            for subject, (cells, expected, rows, start) in zip(self.subjects, self.found.tolist(), strict=True)
            if rows
        ]

    def state(self) -> CardinalityState:
        """Return what ``restore`` needs."""
        return CardinalityState(
            seen=self.seen.copy(), rows=self.rows.copy(), starts=self.starts.copy(), found=self.found.copy()
        )

    def restore(self, state: CardinalityState) -> None:
        """Take over what ``state`` gave."""
        self.seen, self.rows, self.starts = state.seen.copy(), state.rows.copy(), state.starts.copy()
        self.found = state.found.reshape(self.found.shape).copy()


def unusual(reference: Counts, cells: int, rows: int, phi: float = 1.0) -> float | None:
    """Return how many cells of ``reference`` int64[K] were expected in ``rows`` where ``cells`` is far off, else None.

    E = sum_k 1 - (1 - p_k)^n. Occupied cells are negatively associated, so Chernoff's bound for independent ones holds:
    P(at least, or at most, x of K) <= exp(-K kl(x/K, E/K)). p is taken generously: upward each cell has one row more
    than the reference saw, downward two standard errors fewer and n / ``phi`` rows. By hand: 20 cells of 500 rows each
    give E = 20.0 in 1000 rows; 8 of them are far off (kl is infinite in practice), 11 are not.
    """
    upper = _generous(reference, rows)
    if cells >= FAR * upper:
        return upper if len(reference) * _divergence(cells, upper, len(reference)) >= CERTAIN_NATS else None
    sure = _sure(reference) / max(int(reference.sum()), 1)
    present = sure[sure > 0]
    lower = float(-np.expm1(rows / phi * np.log1p(-np.minimum(present, _ALMOST_ALL))).sum())
    if lower < FEW_CELLS or cells > lower / FAR:
        return None
    return lower if len(present) * _divergence(cells, lower, len(present)) >= CERTAIN_NATS else None


def _generous(reference: Counts, rows: int) -> float:
    """Cells expected in so many rows where each cell has one row more than the reference saw; it grows with rows."""
    total = max(int(reference.sum()), 1)
    return float(-np.expm1(rows * np.log1p(-np.minimum((reference + 1) / (total + 1), _ALMOST_ALL))).sum())


def _sure(reference: Counts) -> Floats:
    """Rows of each cell less two standard errors, at least 0."""
    return np.asarray(np.maximum(reference - _LOWER * np.sqrt(reference), 0.0), np.float64)


def _divergence(cells: float, expected: float, of: int) -> float:
    """Return the Bernoulli divergence kl(cells / of, expected / of) in nats."""
    x = min(cells / of, 1.0)
    # Off 0 and 1, where the logarithm ends: a pane has far fewer cells than 1e12, so that none is told apart by it.
    p = float(np.clip(expected / of, 1e-12, 1 - 1e-12))
    hit = x * np.log(x / p) if x > 0 else 0.0
    miss = (1 - x) * np.log((1 - x) / (1 - p)) if x < 1 else 0.0
    return float(hit + miss)
