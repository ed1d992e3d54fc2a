"""Replicated streams of one numeric feature with a reference of its own each, as subjects of one detector."""

import os

# One core, as the bars say; must be set before numpy starts its threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from stationkeeper.monitor.core.detect import DetectorPlan, DriftDetector, PlannedSubject, Scores

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

CHANGES: tuple[tuple[str, float, float], ...] = (
    (".1 sd", 0.1, 1.0),
    (".25", 0.25, 1.0),
    (".5", 0.5, 1.0),
    ("1.0", 1.0, 1.0),
    ("sd x1.5", 0.0, 1.5),
    ("x1.2", 0.0, 1.2),
    ("x.7", 0.0, 0.7),
)
"""The columns of the table: name, mean and standard deviation after the change of a standard normal."""

FINE = 256
PRODUCTION_PANES = 1.3e7
"""300 features, one false page in 30 days of one-minute panes: 300 * 43200."""


class World:
    """R independent streams whose true law is normal, each cut at the quantiles of its own reference sample."""

    def __init__(
        self,
        replicates: int,
        n_ref: int,
        seed: int,
        *,
        delta: float = 0.0,
        phi: float | list[Floats] = 1.0,
        fine: int = FINE,
        alpha: float = 1e-30,
    ) -> None:
        """With the default alpha nothing pages or resets: scores are compared with thresholds outside."""
        self.rng = np.random.default_rng(seed)
        ref = np.sort(self.rng.standard_normal((replicates, n_ref)), axis=1)
        cells = min(fine, n_ref)
        at = np.ceil(np.arange(1, cells) / cells * n_ref).astype(int) - 1
        self.edges = ref[:, at]
        counts = np.append(np.diff(np.concatenate([[0], at + 1, [n_ref]])), 0)[None]
        self.subjects = tuple(
            PlannedSubject(f"f{i}", "numeric", counts, delta, phi[i] if isinstance(phi, list) else phi)
            for i in range(replicates)
        )
        self.plan = DetectorPlan("benchmark", "1", str(seed), self.subjects, alpha)
        self.detector = DriftDetector(self.plan)
        self.time = 0

    def shares(self, mean: float = 0.0, sd: float = 1.0) -> Floats:
        """Chances of the fine cells, [R, cells]."""
        below = ndtr((self.edges - mean) / sd)
        ends = np.zeros((len(below), 1))
        return np.diff(np.concatenate([ends, below, ends + 1], axis=1), axis=1)

    def draw(self, shares: Floats, events: int) -> Counts:
        """A pane of so many events, flat."""
        return self.flat(self.rng.multinomial(events, shares))

    def count(self, values: Floats) -> Counts:
        """A pane of these values [R, B], flat."""
        cells = np.stack(
            [np.bincount(np.searchsorted(e, v), minlength=len(e) + 1) for e, v in zip(self.edges, values, strict=True)]
        )
        return self.flat(cells)

    @staticmethod
    def flat(cells: Counts) -> Counts:
        """Append the empty missing cell and lay out as the plan does."""
        return np.concatenate([cells, np.zeros((len(cells), 1), np.int64)], axis=1).ravel()

    def step(self, flat: Counts, elapsed: float) -> Scores:
        """One pane."""
        scores = self.detector.step(flat, self.time, 0, elapsed)
        self.time += 1
        return scores


def run_length(first: Floats, horizon: float) -> float:
    """Average run length from first crossing times (inf: none by the horizon), as exposure over alarms."""
    return float(np.minimum(first, horizon).sum() / max(np.isfinite(first).sum(), 0.5))


def cell(delays: Floats) -> str:
    """Median delay, with the share found where it is below 99 %."""
    found = np.isfinite(delays).mean()
    middle = np.median(delays)
    text = f"{middle:.0f}" if np.isfinite(middle) else "inf"
    return text if found >= 0.99 else f"{text} ({found:.0%})"


def row(name: str, arl: str, cells: list[str]) -> str:
    """One line of a markdown table."""
    return f"| {name} | {arl} | " + " | ".join(cells) + " |"


def header(first: str) -> str:
    """The head of a table with the columns of CHANGES."""
    names = [first, "ARL", *(name for name, _, _ in CHANGES)]
    return "| " + " | ".join(names) + " |\n|" + "---|" * len(names)
