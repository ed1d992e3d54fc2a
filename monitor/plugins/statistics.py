"""The statistics other tools put a threshold on, from cell counts, with their own logarithms and zero rules."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stationkeeper.monitor.core.detect import gamma_tail

Floats = NDArray[np.float64]

Statistic = Callable[["CountPair"], float]
EMPTY = 1e-4
"""What Evidently puts into an empty bin."""


@dataclass(frozen=True)
class CountPair:
    """A window's counts beside the reference's [K], with representative values [K] of a number's cells."""

    window: Floats
    reference: Floats
    values: Floats | None = None

    @property
    def p(self) -> Floats:
        """Shares of the reference."""
        return np.asarray(self.reference / self.reference.sum(), np.float64)

    @property
    def q(self) -> Floats:
        """Shares of the window."""
        return np.asarray(self.window / self.window.sum(), np.float64)

    @property
    def scale(self) -> float:
        """Rows n m / (n + m) of the two-sample tests."""
        n, m = float(self.window.sum()), float(self.reference.sum())
        return n * m / (n + m)

    def filled(self) -> tuple[Floats, Floats]:
        """Shares with empty cells at EMPTY on both sides, not scaled back to 1: Evidently's rule."""
        return np.where(self.p > 0, self.p, EMPTY), np.where(self.q > 0, self.q, EMPTY)

    def merged(self, bins: int) -> "CountPair":
        """The same with ordered cells merged into about this many of equal reference mass; categories stay."""
        if self.values is None or self.reference.size <= bins:
            return self
        middle = (np.cumsum(self.reference) - self.reference / 2) / self.reference.sum()
        group = np.minimum((middle * bins).astype(np.int64), bins - 1)
        return CountPair(
            np.bincount(group, weights=self.window, minlength=bins).astype(np.float64),
            np.bincount(group, weights=self.reference, minlength=bins).astype(np.float64),
            np.zeros(bins),
        )


def psi(s: CountPair) -> float:
    """Population stability index sum (q - p) log(q / p)."""
    p, q = s.filled()
    return float(((q - p) * np.log(q / p)).sum())


def kl_divergence(s: CountPair) -> float:
    """Kullback-Leibler divergence of the window from the reference, natural logarithm."""
    p, q = s.filled()
    return float((q * np.log(q / p)).sum())


def jensen_shannon_distance(s: CountPair) -> float:
    """Square root of the Jensen-Shannon divergence with the natural logarithm (Evidently; at most .83)."""
    return math.sqrt(_jensen_shannon(s))


def jensen_shannon_distance_2(s: CountPair) -> float:
    """Square root of the Jensen-Shannon divergence in bits (NannyML; at most 1)."""
    return math.sqrt(_jensen_shannon(s) / math.log(2))


def jensen_shannon_divergence_2(s: CountPair) -> float:
    """Jensen-Shannon divergence in bits (TFDV and Vertex; at most 1)."""
    return _jensen_shannon(s) / math.log(2)


def hellinger(s: CountPair) -> float:
    """Hellinger distance, at most 1."""
    return float(np.sqrt(0.5 * ((np.sqrt(s.p) - np.sqrt(s.q)) ** 2).sum()))


def total_variation(s: CountPair) -> float:
    """Half the sum of absolute differences."""
    return float(0.5 * np.abs(s.p - s.q).sum())


def l_infinity(s: CountPair) -> float:
    """Largest difference: of the distribution functions for a number, of the shares for a category."""
    difference = s.q - s.p
    return float(np.abs(difference if s.values is None else np.cumsum(difference)).max())


def l_infinity_robust(s: CountPair) -> float:
    """SageMaker's Robust form: max(0, L-infinity - 1.8 sqrt((n + m) / (n m)))."""
    # 1.8 is theirs (SageMaker Clarify, "LInfinity", Robust).
    return max(0.0, l_infinity(s) - 1.8 / math.sqrt(s.scale))


def wasserstein_normed(s: CountPair) -> float:
    """First Wasserstein distance over the reference's standard deviation, at least .001 (Evidently)."""
    if s.values is None:
        raise ValueError("the Wasserstein distance needs a numeric subject")
    mean = float(s.p @ s.values)
    spread = math.sqrt(float(s.p @ (s.values - mean) ** 2))
    gap = np.abs(np.cumsum(s.q - s.p))[:-1]
    # A constant column has no spread; Evidently's own floor, so that both print one number.
    return float((gap * np.diff(s.values)).sum()) / max(spread, 0.001)


def kolmogorov_smirnov_p(s: CountPair) -> float:
    """Asymptotic p-value of the two-sample Kolmogorov-Smirnov test on the cells (conservative with ties)."""
    if s.values is None:
        raise ValueError("the Kolmogorov-Smirnov test needs a numeric subject")
    root = math.sqrt(s.scale) * l_infinity(s)
    # Below .2 Kolmogorov's tail is 1 to twelve digits and its series converges too slowly to show it.
    if root < 0.2:
        return 1.0
    # At .2 the hundredth term is exp(-800): nothing follows.
    k = np.arange(1, 101)
    return float(np.clip(2 * (np.where(k % 2, 1.0, -1.0) * np.exp(-2 * k**2 * root**2)).sum(), 0, 1))


def chi_square_p(s: CountPair) -> float:
    """p-value of the chi-square goodness of fit of the window to the reference's shares (Evidently)."""
    known = s.p > 0
    expected = s.p[known] * s.window.sum()
    if s.window[~known].any():
        return 0.0
    value = float(((s.window[known] - expected) ** 2 / expected).sum())
    degrees = int(known.sum()) - 1
    return gamma_tail(degrees / 2, value / 2) if degrees else 1.0


def _jensen_shannon(s: CountPair) -> float:
    p, q = s.p, s.q
    middle = (p + q) / 2

    def part(x: Floats) -> float:
        on = x > 0
        return float((x[on] * np.log(x[on] / middle[on])).sum())

    return max(0.0, (part(p) + part(q)) / 2)
