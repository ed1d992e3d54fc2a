"""Distances between a window and the reference, from counts in the same cells: they inform, they never decide.

Each is corrected for what sampling alone produces at these numbers of rows, and comes with that noise floor.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numeric = npt.NDArray[np.int64] | npt.NDArray[np.float64]

NAMES = ("psi", "js", "tv", "ks", "wasserstein", "hellinger", "linf", "chi2")
"""The distances by the names people know; ks and wasserstein exist for ordered cells only."""

_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Distance:
    """One distance: as computed, bias-corrected (never below 0), and the noise floor it must exceed to mean anything.

    ``noise`` is about the mean of the distance between two samples of one law with these rows.
    """

    name: str
    raw: float
    value: float
    noise: float


def tv(p: Floats, q: Floats) -> float:
    """Return total variation 1/2 sum |p - q|: the share of rows that moved cell. (1/2, 1/2), (1, 0) -> 1/2."""
    return float(_HALF * np.abs(p - q).sum())


def psi(p: Floats, q: Floats) -> float:
    """Return the population stability index sum (p - q) ln(p / q); both must be positive.

    By hand: (.5, .5) and (.6, .4): .1 ln 1.2 + .1 ln 1.25 = .0405.
    """
    return float(((p - q) * np.log(p / q)).sum())


def js(p: Floats, q: Floats) -> float:
    """Return the Jensen-Shannon distance, base 2, in [0, 1] (``scipy.spatial.distance.jensenshannon``, base=2)."""
    middle = _HALF * (p + q)
    return float(np.sqrt(max(_HALF * (_kl2(p, middle) + _kl2(q, middle)), 0.0)))


def hellinger(p: Floats, q: Floats) -> float:
    """Return the Hellinger distance sqrt(1/2 sum (sqrt p - sqrt q)**2), in [0, 1]."""
    return float(np.sqrt(_HALF * ((np.sqrt(p) - np.sqrt(q)) ** 2).sum()))


def linf(p: Floats, q: Floats) -> float:
    """Return the largest difference of one cell."""
    return float(np.abs(p - q).max())


def ks(p: Floats, q: Floats) -> float:
    """Return the largest difference of the cumulated shares of ordered cells; at most the KS statistic of the rows.

    On raw data it is below scipy's by at most the largest cell's share, because it looks at cell edges only.
    """
    return float(np.abs(np.cumsum(p - q)).max())


def wasserstein(p: Floats, q: Floats, positions: Floats) -> float:
    """Return W1 = sum |P - Q| dx with each cell's mass at its position (ascending), in the feature's own units."""
    gap = np.abs(np.cumsum(p - q))[:-1]
    return float((gap * np.diff(positions)).sum())


def chi2(window: Numeric, reference: Numeric) -> tuple[float, int]:
    """Return Pearson's two-sample chi-square of two count vectors and its degrees of freedom; empty cells drop out.

    Equal to ``scipy.stats.chi2_contingency`` without continuity correction on the cells that hold rows.
    """
    both = np.stack([window, reference]).astype(np.float64)
    both = both[:, both.sum(0) > 0]
    total = both.sum()
    if not both.sum(1).all():
        return 0.0, max(both.shape[1] - 1, 0)
    expected = both.sum(1, keepdims=True) * both.sum(0, keepdims=True) / total
    return float(((both - expected) ** 2 / expected).sum()), both.shape[1] - 1


def distances(window: Numeric, reference: Numeric, *, positions: Floats | None = None) -> Mapping[str, Distance]:
    """Return every distance between counts in the same cells; empty without rows on either side.

    Ordered cells, given their ``positions``, also get ks and wasserstein (in units of the reference's standard
    deviation). Expected bias under no change, with n and m rows and K cells that the reference uses:
    psi (K - 1)(1/n + 1/m); squared js that over 8 ln 2; tv and linf from normal cells; squared hellinger psi / 8;
    ks .87 sqrt(1/n + 1/m) (mean of Kolmogorov's law). Squared distances are corrected by subtraction, the others as
    sqrt(d**2 - noise**2). Psi uses half a row per cell on both sides (Jeffreys), so no empty cell makes it infinite.
    """
    window, reference = np.asarray(window, np.float64), np.asarray(reference, np.float64)
    n, m = float(window.sum()), float(reference.sum())
    if n == 0 or m == 0:
        return {}
    used = (window > 0) | (reference > 0)
    k = int(np.count_nonzero(used))
    p, q = window[used] / n, reference[used] / m
    smooth_p, smooth_q = (window[used] + _HALF) / (n + _HALF * k), (reference[used] + _HALF) / (m + _HALF * k)
    inverse = 1 / n + 1 / m
    pooled = (window[used] + reference[used]) / (n + m)
    spread = np.sqrt(pooled * (1 - pooled) * inverse)
    bias = (k - 1) * inverse
    found = {
        "psi": _less(psi(smooth_p, smooth_q), bias, "psi", squared=True),
        "js": _less(js(p, q), np.sqrt(bias / (8 * np.log(2))), "js"),
        "tv": _less(tv(p, q), float(_HALF * np.sqrt(2 / np.pi) * spread.sum()), "tv"),
        "hellinger": _less(hellinger(p, q), np.sqrt(bias / 8), "hellinger"),
        "linf": _less(linf(p, q), float(spread.max()) * np.sqrt(2 * np.log(max(k, 2))), "linf"),
    }
    statistic, freedom = chi2(window, reference)
    found["chi2"] = _less(statistic, float(freedom), "chi2", squared=True)
    if positions is not None:
        found |= ordered_distances(window, reference, positions)
    return {name: found[name] for name in NAMES if name in found}


def ordered_distances(window: Numeric, reference: Numeric, positions: Floats) -> Mapping[str, Distance]:
    """Return ks and wasserstein alone, which look at every fine cell; empty without rows on either side."""
    window, reference = np.asarray(window, np.float64), np.asarray(reference, np.float64)
    n, m = float(window.sum()), float(reference.sum())
    if n == 0 or m == 0:
        return {}
    p, q, inverse = window / n, reference / m, 1 / n + 1 / m
    return {
        "ks": _less(ks(p, q), 0.8687 * np.sqrt(inverse), "ks"),
        "wasserstein": _wasserstein(p, q, positions, inverse),
    }


def positions_of(edges: Floats, low: float, high: float) -> Floats:
    """Return where each ordered cell's mass is put: its middle, the outer cells at the reference's bounds."""
    inner = (
        np.concatenate([[min(low, edges[0])], edges, [max(high, edges[-1])]]) if len(edges) else np.array([low, high])
    )
    return np.asarray(_HALF * (inner[:-1] + inner[1:]), np.float64)


def _wasserstein(p: Floats, q: Floats, positions: Floats, inverse: float) -> Distance:
    mean = float((q * positions).sum())
    scale = float(np.sqrt(max((q * (positions - mean) ** 2).sum(), 0.0)))
    if scale <= 0:
        return Distance("wasserstein", 0.0, 0.0, 0.0)
    cumulated = np.cumsum(_HALF * (p + q))[:-1]
    spread = np.sqrt(np.maximum(cumulated * (1 - cumulated), 0.0) * inverse)
    noise = float(np.sqrt(2 / np.pi) * (spread * np.diff(positions)).sum()) / scale
    return _less(wasserstein(p, q, positions) / scale, noise, "wasserstein")


def _less(raw: float, noise: float, name: str, *, squared: bool = False) -> Distance:
    value = raw - noise if squared else np.sqrt(max(raw * raw - noise * noise, 0.0))
    return Distance(name, raw, float(max(value, 0.0)), float(noise))


def _kl2(p: Floats, q: Floats) -> float:
    inside = p > 0
    return float((p[inside] * np.log2(p[inside] / q[inside])).sum())
