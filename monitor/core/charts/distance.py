"""Distances between a window and the reference, from counts in the same cells: they inform, they never decide.

Each is corrected for what sampling alone produces at these numbers of rows, and comes with that noise floor.
"""

from collections.abc import Mapping
from itertools import repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stationkeeper.monitor.core.reference import Counts, ReferenceSubject


def coarse_cells(subject: ReferenceSubject, counts: Counts) -> Counts:
    """Return counts int64[..., cells.count] on the coarse cells, int64[..., K]."""
    grid = subject.grid
    size = int(grid.max()) + 1
    if counts.ndim == 1:
        return np.bincount(grid, weights=counts, minlength=size).astype(np.int64)
    out = np.zeros((len(counts), size), np.int64)
    np.add.at(out.T, grid, counts.T)
    return out


Floats = npt.NDArray[np.float64]
Numeric = npt.NDArray[np.int64] | npt.NDArray[np.float64]

# The order in which distances are shown.
NAMES = ("psi", "js", "tv", "ks", "wasserstein", "hellinger", "linf", "chi2")
"""The distances by the names people know; ks and wasserstein exist for ordered cells only."""

# Total variation, Jensen-Shannon and Hellinger carry this factor, which makes their largest value 1; as half a row in
# every cell it is Jeffreys' prior, and keeps PSI finite.
_HALF = 0.5
# The mean of Kolmogorov's law, sqrt(pi / 2) log 2: what sqrt(n) KS is on average between equal laws.
_KOLMOGOROV_MEAN = 0.8687


class Distance(NamedTuple):
    """One distance: as computed, bias-corrected (never below 0), and the noise floor it must exceed to mean anything.

    ``noise`` is about the mean of the distance between two samples of one law with these rows.
    """

    name: str
    raw: float
    value: float
    noise: float


Rows = Mapping[str, tuple[Floats, Floats, Floats]]
"""One distance of F pairs of counts by name: raw, value and noise of `Distance`, float64[F] each."""


def tv(p: Floats, q: Floats) -> Floats:
    """Return total variation 1/2 sum |p - q|: the share of rows that moved cell. (1/2, 1/2), (1, 0) -> 1/2."""
    return np.asarray(_HALF * np.abs(p - q).sum(-1), np.float64)


def psi(p: Floats, q: Floats) -> Floats:
    """Return the population stability index sum (p - q) ln(p / q); both must be positive.

    By hand: (.5, .5) and (.6, .4): .1 ln 1.2 + .1 ln 1.25 = .0405.
    """
    return np.asarray(((p - q) * np.log(p / q)).sum(-1), np.float64)


def js(p: Floats, q: Floats) -> Floats:
    """Return the Jensen-Shannon distance, base 2, in [0, 1] (``scipy.spatial.distance.jensenshannon``, base=2)."""
    middle = _HALF * (p + q)
    return np.asarray(np.sqrt(np.maximum(_HALF * (_kl2(p, middle) + _kl2(q, middle)), 0.0)), np.float64)


def hellinger(p: Floats, q: Floats) -> Floats:
    """Return the Hellinger distance sqrt(1/2 sum (sqrt p - sqrt q)**2), in [0, 1]."""
    return np.asarray(np.sqrt(_HALF * ((np.sqrt(p) - np.sqrt(q)) ** 2).sum(-1)), np.float64)


def linf(p: Floats, q: Floats) -> Floats:
    """Return the largest difference of one cell."""
    return np.asarray(np.abs(p - q).max(-1), np.float64)


def ks(p: Floats, q: Floats) -> Floats:
    """Return the largest difference of the cumulated shares of ordered cells; at most the KS statistic of the rows.

    On raw data it is below scipy's by at most the largest cell's share, because it looks at cell edges only.
    """
    return np.asarray(np.abs(np.cumsum(p - q, axis=-1)).max(-1), np.float64)


def wasserstein(p: Floats, q: Floats, positions: Floats) -> Floats:
    """Return W1 = sum |P - Q| dx with each cell's mass at its position (ascending), in the feature's own units."""
    gap = np.abs(np.cumsum(p - q, axis=-1))[..., :-1]
    return np.asarray((gap * np.diff(positions)).sum(-1), np.float64)


def chi2(window: Numeric, reference: Numeric) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return Pearson's two-sample chi-square of count vectors and its degrees of freedom; empty cells drop out.

    Of two rows both expected counts of a cell follow from its sum, so that the statistic is
    n m sum (x / n - y / m)**2 / (x + y). Equal to ``scipy.stats.chi2_contingency`` without continuity correction.
    """
    x, y = np.asarray(window, np.float64), np.asarray(reference, np.float64)
    n, m = x.sum(-1, keepdims=True), y.sum(-1, keepdims=True)
    both = x + y
    used = both > 0
    gap = x / np.maximum(n, 1.0) - y / np.maximum(m, 1.0)
    statistic = (n * m)[..., 0] * (gap * gap / np.where(used, both, 1.0)).sum(-1)
    return np.asarray(statistic, np.float64), np.maximum(np.count_nonzero(used, axis=-1) - 1, 0)


def distances(window: Numeric, reference: Numeric, *, positions: Floats | None = None) -> Mapping[str, Distance]:
    """Return every distance between counts in the same cells; empty without rows on either side.

    Ordered cells, given their ``positions``, also get ks and wasserstein (in units of the reference's standard
    deviation). `distance_rows` says what each is corrected for.
    """
    window, reference = np.asarray(window, np.float64), np.asarray(reference, np.float64)
    if not window.any() or not reference.any():
        return {}
    used = (window > 0) | (reference > 0)
    found = only_row(distance_rows(window[None, used], reference[None, used]))
    if positions is not None:
        found |= ordered_distances(window, reference, positions)
    return {name: found[name] for name in NAMES if name in found}


def ordered_distances(window: Numeric, reference: Numeric, positions: Floats) -> Mapping[str, Distance]:
    """Return ks and wasserstein alone, which look at every fine cell; empty without rows on either side."""
    window, reference = np.asarray(window, np.float64), np.asarray(reference, np.float64)
    if not window.any() or not reference.any():
        return {}
    return only_row(ordered_rows(window[None], reference[None], positions[None]))


def distance_rows(window: Floats, reference: Floats) -> Rows:
    """Return all distances but ks and wasserstein between counts [F, K], row by row; both sides of a row hold rows.

    Cells that are empty on both sides take no part. Expected bias under no change, with n and m rows and K cells in
    use: psi (K - 1)(1/n + 1/m); squared js that over 8 ln 2; tv and linf from normal cells; squared hellinger psi / 8.
    Squared distances are corrected by subtraction, the others as sqrt(d**2 - noise**2). Psi uses half a row per cell on
    both sides (Jeffreys), so no empty cell makes it infinite. O(F K).
    """
    n, m = window.sum(-1, keepdims=True), reference.sum(-1, keepdims=True)
    both = window + reference
    used = both > 0
    k = np.count_nonzero(used, axis=-1)
    p, q = window / n, reference / m
    wide = _HALF * k[:, None]
    smooth_p = np.where(used, (window + _HALF) / (n + wide), 1.0)
    smooth_q = np.where(used, (reference + _HALF) / (m + wide), 1.0)
    inverse = 1 / n + 1 / m
    pooled = both / (n + m)
    spread = np.sqrt(pooled * (1 - pooled) * inverse)
    bias = (k - 1) * inverse[:, 0]
    statistic, freedom = chi2(window, reference)
    return {
        "psi": _less(psi(smooth_p, smooth_q), bias, squared=True),
        "js": _less(js(p, q), np.sqrt(bias / (8 * np.log(2)))),
        "tv": _less(tv(p, q), _HALF * np.sqrt(2 / np.pi) * spread.sum(-1)),
        "hellinger": _less(hellinger(p, q), np.sqrt(bias / 8)),
        "linf": _less(linf(p, q), spread.max(-1) * np.sqrt(2 * np.log(np.maximum(k, 2)))),
        "chi2": _less(statistic, freedom.astype(np.float64), squared=True),
    }


def ordered_rows(window: Floats, reference: Floats, positions: Floats) -> Rows:
    """Return ks and wasserstein between counts of ordered cells [F, K], row by row; both sides of a row hold rows.

    ``positions`` [F, K] ascend; padding repeats the last one. The mean of Kolmogorov's law, .87 sqrt(1/n + 1/m), is
    the noise of ks. O(F K).
    """
    n, m = window.sum(-1, keepdims=True), reference.sum(-1, keepdims=True)
    p, q, inverse = window / n, reference / m, 1 / n + 1 / m
    mean = (q * positions).sum(-1, keepdims=True)
    scale = np.sqrt((q * (positions - mean) ** 2).sum(-1))
    flat = scale <= 0
    cumulated = np.cumsum(_HALF * (p + q), axis=-1)[:, :-1]
    spread = np.sqrt(np.maximum(cumulated * (1 - cumulated), 0.0) * inverse)
    per = np.where(flat, 0.0, 1 / np.where(flat, 1.0, scale))
    noise = np.sqrt(2 / np.pi) * (spread * np.diff(positions)).sum(-1)
    return {
        "ks": _less(ks(p, q), _KOLMOGOROV_MEAN * np.sqrt(inverse[:, 0])),
        "wasserstein": _less(wasserstein(p, q, positions) * per, noise * per),
    }


def by_row(rows: Rows) -> list[dict[str, Distance]]:
    """Return the distances of each row by name."""
    columns = [map(Distance, repeat(name), *(part.tolist() for part in parts)) for name, parts in rows.items()]
    return [dict(zip(rows, found, strict=True)) for found in zip(*columns, strict=True)]


def only_row(rows: Rows) -> dict[str, Distance]:
    """Return the distances of the one row there is."""
    return by_row(rows)[0]


def positions_of(edges: Floats, low: float, high: float) -> Floats:
    """Return where each ordered cell's mass is put: its middle, the outer cells at the reference's bounds."""
    inner = (
        np.concatenate([[min(low, edges[0])], edges, [max(high, edges[-1])]]) if len(edges) else np.array([low, high])
    )
    return np.asarray(_HALF * (inner[:-1] + inner[1:]), np.float64)


def _less(raw: Floats, noise: Floats, *, squared: bool = False) -> tuple[Floats, Floats, Floats]:
    value = raw - noise if squared else np.sqrt(np.maximum(raw * raw - noise * noise, 0.0))
    return raw, np.maximum(value, 0.0), noise


def _kl2(p: Floats, q: Floats) -> Floats:
    inside = p > 0
    return np.asarray((p * np.log2(np.where(inside, p, 1.0) / np.where(inside, q, 1.0))).sum(-1), np.float64)
