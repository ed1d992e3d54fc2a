"""E-values for the null "this feature stayed within delta of its reference", from cell probabilities.

An e-value is a non-negative function of a cell whose mean is at most 1 under every law of the null.  The
null here is a ball: every p with total variation distance TV(p, p_ref) <= delta, where p_ref itself is
known only from n_ref rows.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stationkeeper.monitor.core.detect.quantile import normal_ppf

Floats = NDArray[np.float64]


# Rounding of sums over at most a few hundred cells stays below this: what lies nearer to 1 (or 0) is 1 (or 0).
_ROUNDING = 1e-12
# Stands for 0 in logs and denominators, as in `quantile`; the largest float64 below 1 for 1 in the log of what is left.
_TINY, _BELOW_ONE = 1e-300, 1 - 1e-16
# Bounds are widened by some digits above the rounding of a float64, 1e-16; the square of the small step lies below it.
_LAST_DIGITS, _SMALL_STEP = 4e-15, 1e-8


def huber_clip(q: ArrayLike, p: ArrayLike, delta: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """The best e-value for the alternative q against the ball of radius delta around p.

    q and p have shape [..., K] and sum to 1 over K; cells with p = 0 must have q = 0 (padding) and get e = 1.
    delta has shape [...].  Returns e [..., K] and live [...]: False where q lies inside the ball, so that no
    evidence is possible and e = 1.

    e = clip(q/p, lo, hi) with sum (q - hi p)+ = hi delta and sum (lo p - q)+ = lo delta: the likelihood ratio
    of the least favourable pair (Huber 1965), equal to the reverse information projection (Saha and Ramdas,
    arXiv 2408.14015).  Both bounds have closed forms over the cells sorted by q/p, hi = max Q_S / (P_S + delta)
    over upper sets and lo = min Q_S / (P_S - delta) over lower sets, so one sort gives them exactly:
    O(K log K).  By hand: p = (.5, .5), q = (.9, .1), delta = .1 gives hi = .9/.6 = 1.5, lo = .1/.4 = .25.
    """
    q, p = np.asarray(q, np.float64), np.asarray(p, np.float64)
    return huber_clip_within(q, p, np.asarray(delta, np.float64), whole=bool((p > 0).all()), equal=equal_cells(p))


def equal_cells(p: Floats) -> bool:
    """Return whether all cells have one probability, as those of conformal ranks do."""
    return bool(p.size) and bool(p.min() == p.max())


def huber_clip_within(
    q: Floats, p: Floats, radius: Floats, *, whole: bool, equal: bool
) -> tuple[Floats, NDArray[np.bool_]]:
    """`huber_clip` where it is known whether no cell is padding (``whole``), and whether all are `equal_cells`.

    A radius of shape [1, ...] stands for all features, and saves what depends on it alone.
    """
    ratio = q / p if whole else np.divide(q, p, out=np.ones(np.broadcast_shapes(q.shape, p.shape)), where=p > 0)
    if not (radius > 0).any():
        live = np.any(np.abs(ratio - 1) > _ROUNDING, axis=-1)
        return ratio, live
    cells = ratio.shape[-1]
    if whole and equal and q.shape == ratio.shape:
        # Equal cells, as of conformal ranks: q alone need be sorted.
        q_below = np.sort(q, axis=-1).cumsum(axis=-1)
        p_below = np.arange(1, cells + 1) * p.flat[0]
    else:
        # Flat positions: an order of magnitude faster than take_along_axis for many short rows.
        order = ratio.reshape(-1, cells).argsort(axis=1)
        order += np.arange(0, ratio.size, cells)[:, None]
        q_below = _flat(q, ratio.shape)[order].cumsum(axis=1).reshape(ratio.shape)
        p_below = _flat(p, ratio.shape)[order].cumsum(axis=1).reshape(ratio.shape)
    radius = radius[..., None]
    room = p_below - radius
    inside = room > 0
    np.maximum(room, _TINY, out=room)
    low = _cells_first(np.where(inside, q_below / room, np.inf)).min(axis=0)
    # The upper set of all cells gives 1 / (1 + delta) < 1 and can be left out.
    q_above, p_above = np.subtract(1.0, q_below[..., :-1]), np.subtract(1.0, p_below[..., :-1])
    # An upper set made of rounding error alone would read 0/0 as a huge ratio when delta = 0.
    q_above *= p_above > _ROUNDING
    above = p_above + radius
    q_above /= np.maximum(above, _TINY, out=above)
    high = _cells_first(q_above).max(axis=0)
    live = (high > 1 + _ROUNDING) & (low < 1 - _ROUNDING)
    if not live.all():
        low, high = np.where(live, low, 1.0), np.where(live, high, 1.0)
    e = np.maximum(ratio, low[..., None], out=ratio)
    np.minimum(e, high[..., None], out=e)
    return e if whole else np.where(p > 0, e, 1.0), live


def _cells_first(values: Floats) -> Floats:
    """The same values by cell: the extremes of many short rows are found cell by cell in a fraction of the time."""
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


def _flat(values: Floats, shape: tuple[int, ...]) -> Floats:
    return (values if values.shape == shape else np.broadcast_to(values, shape)).reshape(-1)


def deviation(e: Floats, p: Floats) -> Floats:
    """Standard deviation of e under p, over the last axis."""
    mean = (e * p).sum(-1)
    return np.asarray(np.sqrt(np.maximum((e * e * p).sum(-1) - mean * mean, 0)), np.float64)


def finite_reference(e: Floats, p: Floats, n_ref: ArrayLike, z: ArrayLike, phi: ArrayLike) -> Floats:
    """log e [..., K] of `huber_clip`, divided by what its mean can reach when p was estimated from n_ref rows.

    The mean under the true reference exceeds the mean under p by at most z sd_p(e) sqrt(phi / n_ref), outside
    an event whose probability z was chosen for; phi >= 1 is the variance inflation of dependent rows.  For a
    clipped e the supremum over the ball around p is exactly 1, so the divisor is 1 plus that term.
    n_ref, z and phi broadcast with [...].
    """
    margin = np.asarray(z, np.float64) * deviation(e, p) * np.sqrt(np.asarray(phi) / np.asarray(n_ref))
    return np.asarray(np.log(e) - np.log1p(margin)[..., None], np.float64)


def share_bounds(counts: ArrayLike, total: ArrayLike, eta: ArrayLike) -> tuple[Floats, Floats]:
    """Bounds (lower, upper) of each cell's probability, each wrong with chance at most eta, for every n and count.

    The tighter of two proven forms: n kl(x/n, u) = log(1/eta) (Chernoff 1952), exact at x = 0, and
    2 n kl((x + 1)/n, u) = z^2 with P(Z > z) = eta (Zubkov and Serov 2013), within one count of Clopper-Pearson
    elsewhere.  Both invert tests that reject for small counts, so the smaller of two upper bounds is still valid.
    Fast enough for every cell of a model, where Clopper-Pearson takes seconds.  counts and total broadcast; eta is
    below 1/2.  By hand: x = 0 gives upper 1 - eta**(1/n).
    """
    return lower_share(counts, total, eta), upper_share(counts, total, eta)


def upper_share(counts: ArrayLike, total: ArrayLike, eta: ArrayLike) -> Floats:
    """The upper one of `share_bounds` alone, at half the cost."""
    x, n, chernoff, serov = _targets(counts, total, eta)
    more = np.minimum(x + 1, n) / n
    return np.minimum(_divergence_root(x / n, chernoff, up=True), _divergence_root(more, serov, up=True))


def lower_share(counts: ArrayLike, total: ArrayLike, eta: ArrayLike) -> Floats:
    """The lower one of `share_bounds` alone, at half the cost."""
    x, n, chernoff, serov = _targets(counts, total, eta)
    less = np.maximum(x - 1, 0) / n
    return np.maximum(_divergence_root(x / n, chernoff, up=False), _divergence_root(less, serov, up=False))


def _targets(counts: ArrayLike, total: ArrayLike, eta: ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
    """Counts, rows, and the divergence of either form of `share_bounds`."""
    x, n = np.broadcast_arrays(np.asarray(counts, np.float64), np.asarray(total, np.float64))
    chance = np.asarray(eta, np.float64)
    return x, n, np.asarray(-np.log(chance) / n), np.asarray(0.5 * normal_ppf(chance) ** 2 / n)


def _divergence_root(share: Floats, target: Floats, *, up: bool) -> Floats:
    """The u above (or below) share with kl(share, u) = target, on the safe side; Newton's method to rounding.

    kl is convex in u, so that from a start outside the root each step stays outside it.
    """
    share, target = np.broadcast_arrays(share, target)
    rest = 1 - share
    known = share * np.log(np.maximum(share, _TINY)) + rest * np.log(np.maximum(rest, _TINY))
    # Two bounds outside the root, the nearer is taken: kl(p, u) >= (u - p)^2 / (2 max(u, p)), and kl without the term
    # of the side that shrinks.
    reach = np.sqrt(2 * share * target) + 2 * target
    if up:
        u = np.minimum(share + reach, -np.expm1((known - target) / np.maximum(rest, _TINY)))
        u = np.where(rest > 0, np.minimum(u, _BELOW_ONE), 1.0)
    else:
        u = np.maximum(share - reach, np.exp((known - target) / np.maximum(share, _TINY)))
        u = np.where(share > 0, np.maximum(u, _TINY), 0.0)
    todo = np.flatnonzero((u > 0) & (u < 1))
    root, share, rest, goal = u.ravel(), share.ravel()[todo], rest.ravel()[todo], (known - target).ravel()[todo]
    # Each step doubles the digits, and six most often are enough; forty-eight halve any interval to the last digit.
    for _ in range(48):
        at = root[todo]
        excess = goal - share * np.log(at) - rest * np.log1p(-at)
        step = excess * at * (1 - at) / (at - share)
        root[todo] = np.clip(at - step, _TINY, _BELOW_ONE)
        # The error after a step is about the square of the step against its room; a turn back is rounding alone.
        room = np.minimum(np.abs(at - share), np.minimum(at, 1 - at))
        further = (np.abs(step) > _SMALL_STEP * room) & (excess > 0)
        if not further.any():
            break
        todo, share, rest, goal = todo[further], share[further], rest[further], goal[further]
    # Outwards by the rounding of the last step.
    wider = root * (1 + _LAST_DIGITS) if up else root * (1 - _LAST_DIGITS)
    return np.asarray(np.minimum(wider, 1.0).reshape(u.shape), np.float64)
