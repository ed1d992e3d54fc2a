"""Traffic volume by hour of the week: negative-binomial e-SR for outages, drops and surges."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stationkeeper.monitor.core.adoption import VolumeModel
from stationkeeper.monitor.core.detect import OneSided, RateScores

Floats = NDArray[np.float64]

FACTORS = (0.0, 0.25, 0.5, 0.75, 1.35, 2.0, 4.0)
"""Alternatives: expected volume times these, as STATISTICS.md, section 2.7, measured them (mean 100 a pane, r = 20): an
outage is found in 1 pane, half the volume in 5, a third more in 39. Between two of them the nearer bet still grows; a
change below 1.35 or above .75 is left to the neighbours' slower growth."""

TOLERANCE = 0.10
"""How far volume may be from its hour's mean unremarked. STATISTICS.md, section 2.7: at 10 % the run length asked as
200 panes is 11 751. At half, ordinary days page; at double a loss of a fifth of the traffic is never named."""

SMALLEST_MEAN = 1e-6
"""Events a pane that an hour is expected to bring at least, and what the outage alternative expects: the logarithm of
the ratio needs both above zero, and any number far below one event gives the same verdicts."""

SMALLEST_SIZE = 0.5
"""Least size r of the negative binomial: a variance of mu + 2 mu^2. Burstier traffic than that is no stream whose
minutes tell anything; at a smaller r even an outage of hours stays below the threshold, at double bursts of batch jobs
page."""


def negative_binomial_log_ratio(x: ArrayLike, mu1: ArrayLike, mu0: ArrayLike, size: float) -> Floats:
    """log of NB(x; mean mu1) over NB(x; mean mu0), both of this size.

    x log(mu1 (r + mu0) / (mu0 (r + mu1))) + r log((r + mu0) / (r + mu1)).  By hand: x = 0, mu0 = 10, mu1 = 0, r = 10
    gives 10 log 2 = 6.93.
    """
    x, one, zero = (np.asarray(v, np.float64) for v in (x, mu1, mu0))
    step = np.log(size + zero) - np.log(size + one)
    return np.asarray(x * (np.log(one) - np.log(zero) + step) + size * step, np.float64)


class VolumeDetector(OneSided):
    """e-SR for the number of events a pane, against "within the tolerance of what this hour of the week brings".

    The family has a monotone likelihood ratio, so the edge of the tolerance nearest to the alternative gives an e-value
    for the whole interval mean / (1 + tol) .. mean (1 + tol).  An empty pane is evidence here, not silence.
    """

    def __init__(
        self, model: VolumeModel, log_threshold: float, tolerance: float = TOLERANCE, sizes: Floats | None = None
    ) -> None:
        """Watch one stream of panes; ``sizes`` [S] replaces the model's one size by one for each stratum."""
        if tolerance < 0:
            raise ValueError(f"volume tolerance must be at least 0, got {tolerance}")
        self.model, self.sizes = model, sizes
        factors = np.array(FACTORS)
        self.bet = np.maximum(factors, SMALLEST_MEAN)
        self.edge = np.where(factors > 1, 1 + tolerance, 1 / (1 + tolerance))
        outside = np.where(factors > 1, factors > self.edge, factors < self.edge)
        super().__init__(outside[None, :], log_threshold)

    def step(self, events: int, stratum: int, start: int, elapsed: float) -> RateScores:
        """Take the number of events of one closed pane."""
        mu = self.model.mean[stratum]
        size = self.model.size if self.sizes is None else float(self.sizes[stratum])
        log_e = negative_binomial_log_ratio(events, self.bet * mu, self.edge * mu, size)
        return self.take(log_e[None, :], np.ones(1, bool), start, elapsed)
