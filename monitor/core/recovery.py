"""Whether a drifted subject came back: a sequential test of the reference against what it had drifted to."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from monitor.core.cells import Counts
from monitor.core.column import Floats
from monitor.core.distance import distances

THRESHOLD = math.log(1_000.0)
MIN_ROWS = 200
_PRIOR_ROWS = 20.0
_FORGET = 2_000


class Recovery:
    """A CUSUM of log p / q over cells, R <- max(0, R + sum N log(p/q) / phi): p the reference, q halfway to the drift.

    While at least half of the drift seen at the page lasts, it crosses ``THRESHOLD`` falsely about once in a thousand
    tries; halfway, because what paged was seen at its worst. The latest ``MIN_ROWS`` or more must also lie nearer to
    the reference than half of the drift: a third law is no recovery. With strata, p is that of the pane's hour and q is
    p tilted by what the drift did to the hours it was seen in: the cells' ratio of drifted to expected.
    """

    def __init__(self, reference: Counts, drifted: Counts, weights: Counts, phi: float) -> None:
        """Test against the reference's counts int64[S, K] by stratum.

        ``drifted`` int64[K] came since the onset, ``weights`` int64[S] rows of it from each stratum.
        """
        self.drifted, self.weights, self.phi = drifted, weights, phi
        self.evidence = 0.0
        self.latest: Counts = np.zeros(reference.shape[1], np.int64)
        self.latest_weights: Counts = np.zeros(len(reference), np.int64)
        self._rows = int(reference.sum())
        rows = reference.sum(1, keepdims=True)
        self._p: Floats = (reference + 0.5) / (rows + 0.5 * reference.shape[1])
        usual = self._mixture(weights)
        tilt = (drifted + _PRIOR_ROWS * usual) / (drifted.sum() + _PRIOR_ROWS) / usual
        q = self._p * tilt
        q /= q.sum(1, keepdims=True)
        self._log_ratio: Floats = np.log(self._p) - np.log(0.5 * self._p + 0.5 * q)
        self.effect = 0.5 * float(np.abs(drifted / max(int(drifted.sum()), 1) - usual).sum())

    @property
    def likely(self) -> bool:
        """Whether the evidence is half way to a recovery: above zero it is half of the time while the drift lasts."""
        return self.evidence >= 0.5 * THRESHOLD

    def step(self, counts: Counts, stratum: int = 0) -> bool:
        """Take the cells of a closed pane of a stratum; returns whether the subject has recovered."""
        if not counts.any():
            return False
        self.evidence = max(0.0, self.evidence + float(counts @ self._log_ratio[stratum]) / self.phi)
        if self.evidence == 0.0:
            self.latest[:] = 0
            self.latest_weights[:] = 0
            return False
        self.latest += counts
        self.latest_weights[stratum] += int(counts.sum())
        if self.latest.sum() > _FORGET:
            self.latest //= 2
            self.latest_weights //= 2
        return self.evidence >= THRESHOLD and int(self.latest.sum()) >= MIN_ROWS and self._near()

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs."""
        return {
            "drifted": self.drifted.copy(),
            "weights": self.weights.copy(),
            "phi": self.phi,
            "evidence": self.evidence,
            "latest": self.latest.copy(),
            "latest_weights": self.latest_weights.copy(),
        }

    @classmethod
    def restore(cls, reference: Counts, state: Mapping[str, Any]) -> "Recovery":
        """Build the test whose ``state`` this was."""
        drifted, weights = np.asarray(state["drifted"], np.int64), np.asarray(state["weights"], np.int64)
        made = cls(reference, drifted, weights, float(state["phi"]))
        made.evidence = float(state["evidence"])
        made.latest = np.asarray(state["latest"], np.int64).copy()
        made.latest_weights = np.asarray(state["latest_weights"], np.int64).copy()
        return made

    def _mixture(self, weights: Counts) -> Floats:
        """Cell probabilities of rows that came from the strata in these proportions."""
        if not weights.any():
            return np.asarray(self._p.mean(0), np.float64)
        return np.asarray(weights @ self._p / weights.sum(), np.float64)

    def _near(self) -> bool:
        found = distances(self.latest, self._mixture(self.latest_weights) * self._rows)
        return bool(found) and found["tv"].value <= 0.5 * self.effect
