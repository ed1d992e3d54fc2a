"""How many different cells a category fills: far more or far fewer than its reference would, with certainty."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from stationkeeper.contracts.column import Floats, Integers
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import CategoricalCells, Counts, Reference

WINDOW_ROWS = 1_000
CERTAIN_NATS = 30.0
FAR = 2.0
FEW_CELLS = 8
_LOWER = 2.0
_ROUNDING = 1e-9


class Spread(NamedTuple):
    """Subject by position, distinct cells in a window of rows, how many were expected, and the window."""

    subject: int
    cells: int
    expected: float
    rows: int
    start: int


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
        self._phi = [float(reference.subjects[i].phi.max(initial=1.0)) for i in chosen]
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

    def step(self, pane: Pane) -> Iterator[Spread]:
        """Take a closed pane with rows; yields the categories whose last full window was far off."""
        if not len(self.subjects):
            return
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
        for k in np.flatnonzero(self.found[:, 2]).tolist():
            cells, expected, rows, start = self.found[k].tolist()
            yield Spread(int(self.subjects[k]), cells, expected / 1_000, rows, start)

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs."""
        return {name: getattr(self, name).copy() for name in ("seen", "rows", "starts", "found")}

    def restore(self, state: dict[str, Any]) -> None:
        """Become what ``state`` was taken from."""
        for name, value in state.items():
            setattr(self, name, np.asarray(value, np.int64).reshape(getattr(self, name).shape).copy())


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
    lower = float(-np.expm1(rows / phi * np.log1p(-np.minimum(present, 0.999_999))).sum())
    if lower < FEW_CELLS or cells > lower / FAR:
        return None
    return lower if len(present) * _divergence(cells, lower, len(present)) >= CERTAIN_NATS else None


def _generous(reference: Counts, rows: int) -> float:
    """Cells expected in so many rows where each cell has one row more than the reference saw; it grows with rows."""
    total = max(int(reference.sum()), 1)
    return float(-np.expm1(rows * np.log1p(-np.minimum((reference + 1) / (total + 1), 0.999_999))).sum())


def _sure(reference: Counts) -> Floats:
    """Rows of each cell less two standard errors, at least 0."""
    return np.asarray(np.maximum(reference - _LOWER * np.sqrt(reference), 0.0), np.float64)


def _divergence(cells: float, expected: float, of: int) -> float:
    """Return the Bernoulli divergence kl(cells / of, expected / of) in nats."""
    x = min(cells / of, 1.0)
    p = float(np.clip(expected / of, 1e-12, 1 - 1e-12))
    hit = x * np.log(x / p) if x > 0 else 0.0
    miss = (1 - x) * np.log((1 - x) / (1 - p)) if x < 1 else 0.0
    return float(hit + miss)
