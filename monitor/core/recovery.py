"""Whether a drifted subject came back: a sequential test of the reference against what it had drifted to."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from monitor.core.cells import Counts, NumericCells, rank_grid
from monitor.core.column import Floats
from monitor.core.distance import distances
from monitor.core.reference import Subject

THRESHOLD = math.log(1_000.0)
_PRIOR_ROWS = 20.0
_FORGET = 2_000


class Recovery:
    """A CUSUM of log p_reference / p_drifted over coarse cells, R <- max(0, R + sum N log(p/q) / phi).

    It crosses ``THRESHOLD`` falsely about once in a thousand tries while the drift lasts. Both laws are mixed with a
    tenth of each other, so that one odd cell cannot decide. The latest rows must also lie nearer to the reference than
    half of the drift: a third law is no recovery.
    """

    def __init__(self, subject: Subject, drifted: Counts, phi: float, effect: float) -> None:
        self._subject = subject
        self._grid = _grid(subject)
        self.drifted, self.phi, self.effect = drifted, phi, effect
        self.evidence = 0.0
        self.latest: Counts = np.zeros(int(self._grid.max()) + 1, np.int64)
        reference = self._group(subject.counts)
        p = (reference + 0.5) / (reference.sum() + 0.5 * len(reference))
        since = self._group(drifted)
        q = (since + _PRIOR_ROWS * p) / (since.sum() + _PRIOR_ROWS)
        self._reference = reference
        self._log_ratio: Floats = np.log(0.9 * p + 0.1 * q) - np.log(0.1 * p + 0.9 * q)

    def step(self, counts: Counts) -> bool:
        """Take the subject's cells of a closed pane; returns whether it has recovered."""
        grouped = self._group(counts)
        if not grouped.any():
            return False
        self.evidence = max(0.0, self.evidence + float(grouped @ self._log_ratio) / self.phi)
        if self.evidence == 0.0:
            self.latest[:] = 0
            return False
        self.latest += grouped
        if self.latest.sum() > _FORGET:
            self.latest //= 2
        return self.evidence >= THRESHOLD and self._near()

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs."""
        return {
            "drifted": self.drifted.copy(),
            "phi": self.phi,
            "effect": self.effect,
            "evidence": self.evidence,
            "latest": self.latest.copy(),
        }

    @classmethod
    def restore(cls, subject: Subject, state: Mapping[str, Any]) -> "Recovery":
        """Build the recovery test whose ``state`` this was."""
        made = cls(subject, np.asarray(state["drifted"], np.int64), float(state["phi"]), float(state["effect"]))
        made.evidence = float(state["evidence"])
        made.latest = np.asarray(state["latest"], np.int64).copy()
        return made

    def _near(self) -> bool:
        found = distances(self.latest, self._reference, ordered=False)
        return bool(found) and found["tv"].value <= 0.5 * self.effect

    def _group(self, counts: Counts) -> Counts:
        return np.bincount(self._grid, weights=counts, minlength=int(self._grid.max()) + 1).astype(np.int64)


def _grid(subject: Subject) -> Counts:
    """Coarse cells of a subject: about twenty for numbers, the cells themselves for categories; missing is its own."""
    if not isinstance(subject.cells, NumericCells):
        return np.arange(subject.cells.count)
    grid = rank_grid(subject.counts[:-1])
    return np.append(grid, grid.max() + 1)
