"""Row weights that undo how a training set was rebalanced, and counts of weighted rows."""

from collections.abc import Mapping

import numpy as np

from stationkeeper.contracts.column import Categories, Floats, Integers
from stationkeeper.monitor.core.reference.cells import Counts

# How far from 1 shares may sum by rounding, and how much the effective rows are lifted before they are rounded down:
# equal weights must give n, not n - 1.
_CLOSE = 1e-9


def prior_weights(labels: Categories, prior: Mapping[str, float]) -> Floats:
    """Return a weight for each row so that each class in ``prior`` has its stated share, float64[n], mean 1.

    The classes not named share what is left in their present proportion. Raises ``ValueError`` for a class that no
    row has, a share outside (0, 1), or shares that cannot sum to 1. By hand: 5 of 10 rows positive and prior
    {"1": .1} weigh positives .2 and negatives 1.8.
    """
    names = list(labels.keys)
    rows = np.bincount(labels.codes[labels.codes >= 0], minlength=len(names)).astype(np.float64)
    # Their share of the traffic is not known, so no weight would be right.
    if (labels.codes < 0).any():
        raise ValueError("prior: some rows have no label; profile labelled rows only")
    share = rows / rows.sum()
    wanted = np.full(len(names), np.nan)
    # Twenty of them tell what labels look like.
    for name, value in prior.items():
        if name not in names:
            raise ValueError(f"prior: no row has the label {name!r}; labels are {', '.join(sorted(names)[:20])}")
        if not 0 < value < 1:
            raise ValueError(f"prior {name}={value}: must be between 0 and 1, a share of the traffic")
        wanted[names.index(name)] = value
    rest = np.isnan(wanted)
    left = 1.0 - float(np.nansum(wanted))
    if (rest.any() and left <= 0) or (not rest.any() and abs(left) > _CLOSE):
        raise ValueError(f"prior: the shares sum to {1 - left:g}; they must sum to 1, or less if classes are left out")
    if rest.any():
        wanted[rest] = left * share[rest] / share[rest].sum()
    return np.asarray((wanted / share)[labels.codes], np.float64)


def effective_rows(weights: Floats) -> int:
    """Return Kish's effective sample size (sum w)**2 / sum w**2, rounded down; n for equal weights."""
    return int(weights.sum() ** 2 / (weights**2).sum() + _CLOSE)


def weighted_counts(cell: Integers, weights: Floats, cells: int) -> Counts:
    """Return whole counts int64[cells] that sum to the effective rows, in proportion to the weight in each cell.

    Remainders go to the cells that lost most by rounding down, so that the sum is exact.
    """
    mass = np.bincount(cell, weights=weights, minlength=cells)
    rows = effective_rows(weights)
    exact = mass / mass.sum() * rows
    counts: Counts = np.floor(exact).astype(np.int64)
    # Stable, so that equal remainders go to the same cells on every machine: the digest names the counts.
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: rows - int(counts.sum())]] += 1
    return counts
