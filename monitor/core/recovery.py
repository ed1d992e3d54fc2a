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
    the reference than half of the drift: a third law is no recovery.
    """

    def __init__(self, reference: Counts, drifted: Counts, phi: float, effect: float) -> None:
        """Test counts int64[K] of the reference against those since the onset; ``effect`` is the drift in TV."""
        self.reference, self.drifted, self.phi, self.effect = reference, drifted, phi, effect
        self.evidence = 0.0
        self.latest: Counts = np.zeros(len(reference), np.int64)
        p = (reference + 0.5) / (reference.sum() + 0.5 * len(reference))
        q = 0.5 * p + 0.5 * (drifted + _PRIOR_ROWS * p) / (drifted.sum() + _PRIOR_ROWS)
        self._log_ratio: Floats = np.log(p) - np.log(q)

    def step(self, counts: Counts) -> bool:
        """Take the cells of a closed pane; returns whether the subject has recovered."""
        if not counts.any():
            return False
        self.evidence = max(0.0, self.evidence + float(counts @ self._log_ratio) / self.phi)
        if self.evidence == 0.0:
            self.latest[:] = 0
            return False
        self.latest += counts
        if self.latest.sum() > _FORGET:
            self.latest //= 2
        return self.evidence >= THRESHOLD and int(self.latest.sum()) >= MIN_ROWS and self._near()

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
    def restore(cls, reference: Counts, state: Mapping[str, Any]) -> "Recovery":
        """Build the test whose ``state`` this was."""
        made = cls(reference, np.asarray(state["drifted"], np.int64), float(state["phi"]), float(state["effect"]))
        made.evidence = float(state["evidence"])
        made.latest = np.asarray(state["latest"], np.int64).copy()
        return made

    def _near(self) -> bool:
        found = distances(self.latest, self.reference, ordered=False)
        return bool(found) and found["tv"].value <= 0.5 * self.effect
