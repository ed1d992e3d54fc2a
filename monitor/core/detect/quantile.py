"""Distribution and quantile functions the detectors need, exact to about 1e-12, on numpy alone.

scipy would give all of them, but its import costs the daemon seconds at every start; the tests compare
each function here with scipy's.
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_F = TypeVar("_F", float, Floats)

_NORMAL = NormalDist()
# Stands for 0 in logs and denominators: near the smallest normal float (2.2e-308), with room for a division.
_TINY = 1e-300
# Terms of the continued fraction: it needs about sqrt(max(a, b)), so that counts up to 250 000 converge to 1e-15;
# beyond them digits are lost.
_STEPS = 500


def _each(function: Callable[[float], float], x: ArrayLike) -> Floats:
    """A function of numbers of each element: over a list, which takes half of the time of numpy's `frompyfunc`."""
    x = np.asarray(x, np.float64)
    return np.fromiter(map(function, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)


def _lgamma(x: ArrayLike) -> Floats:
    return _each(math.lgamma, x)


def normal_cdf(x: ArrayLike) -> Floats:
    """Standard normal distribution function, elementwise; accurate in both tails."""
    return 0.5 * _each(math.erfc, -np.asarray(x, np.float64) / math.sqrt(2))


def normal_ppf(p: ArrayLike) -> Floats:
    """Standard normal quantile, elementwise; 0 and 1 give -inf and +inf (Wichura, AS 241)."""
    p = np.asarray(p, np.float64)
    inside = ~((p <= 0) | (p >= 1))
    found = np.where(p <= 0, -math.inf, math.inf)
    found[inside] = _each(_NORMAL.inv_cdf, p[inside])
    return found


def normal_isf(p: float) -> float:
    """Upper normal quantile: P(Z > normal_isf(p)) = p, exact for p down to 1e-300."""
    return -_NORMAL.inv_cdf(p)


def gamma_tail(a: float, x: float) -> float:
    """Regularised upper incomplete gamma Q(a, x) (Abramowitz and Stegun 6.5.29 and 6.5.31).

    Series below a + 1, Lentz continued fraction above.  a > 0, x >= 0.
    """
    if x <= 0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1.0 / a
        # Both series end at float64's last digit (1e-16) after some sqrt(a) terms; the bound only ends a wrong call.
        for k in range(1, 10_000):
            term *= x / (a + k)
            total += term
            if term < total * 1e-16:
                break
        return 1.0 - front * total
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    h = d
    for k in range(1, 10_000):
        an = -k * (k - a)
        b += 2
        d = 1 / (an * d + b)
        c = b + an / c
        h *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return front * h


def chi2_isf(p: float, df: float) -> float:
    """Upper quantile of chi-square with df degrees of freedom: Newton steps on the exact tail, in a shrinking bracket.

    Raises ValueError unless 0 < p < 1 and df > 0.
    """
    if not (0 < p < 1 and df > 0):
        raise ValueError(f"chi2_isf needs 0 < p < 1 and df > 0, got p={p}, df={df}")
    half = df / 2
    log_norm = math.lgamma(half) + math.log(2)
    # The cube root is nearly normal (Wilson and Hilferty 1931): two or three digits of the quantile.
    spread = 2 / (9 * df)
    x = max(df * (1 - spread + normal_isf(p) * math.sqrt(spread)) ** 3, df * 1e-3)
    low, high = 0.0, math.inf
    # A step doubles the digits, and five mostly are enough; two hundred halvings reach the last digit from any start.
    for _ in range(200):
        tail = gamma_tail(half, x / 2)
        low, high = (x, high) if tail > p else (low, x)
        # On the logarithm, on which the tail is nearly straight; where none of it is left, the bracket decides.
        density = math.exp((half - 1) * math.log(x / 2) - x / 2 - log_norm)
        step = x + math.log(tail / p) * tail / density if tail > 0 and density > 0 else high
        new = step if low < step < high else min(0.5 * (low + high), 2 * x)
        # Below, the rounding of the tail itself decides.
        if abs(new - x) <= 1e-14 * x:
            return new
        x = new
    return x


def beta_cdf(x: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    """Regularised incomplete beta I_x(a, b), elementwise, by Lentz's continued fraction (A&S 26.5.8).

    a, b > 0, 0 <= x <= 1; O(sqrt(max(a, b))) terms.
    """
    x, a, b = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (x, a, b)))
    swap = x > (a + 1) / (a + b + 2)
    y, a, b = np.where(swap, 1 - x, x), np.where(swap, b, a), np.where(swap, a, b)
    inside = (y > 0) & (y < 1)
    y_in = np.where(inside, y, 0.5)
    log_front = a * np.log(y_in) + b * np.log1p(-y_in) - np.log(a)
    log_front += _lgamma(a + b) - _lgamma(a) - _lgamma(b)
    # Of one value in plain numbers, which are the same to the last bit and take a twentieth of the time.
    one = y_in.size == 1
    h = np.full(y_in.shape, _fraction(y_in.item(), a.item(), b.item())) if one else _fraction(y_in, a, b)
    value = np.where(inside, np.exp(log_front) * h, np.clip(y, 0.0, 1.0))
    return np.asarray(np.clip(np.where(swap, 1 - value, value), 0, 1), dtype=np.float64)


def _fraction(y: _F, a: _F, b: _F) -> _F:
    """The continued fraction of `beta_cdf`."""
    c = y * 0 + 1
    h = d = 1 / _away_from_zero(1 - (a + b) * y / (a + 1))
    for k in range(1, _STEPS):
        even = k * (b - k) * y / ((a + 2 * k - 1) * (a + 2 * k))
        odd = -(a + k) * (a + b + k) * y / ((a + 2 * k) * (a + 2 * k + 1))
        for step in (even, odd):
            d = 1 / _away_from_zero(1 + step * d)
            c = _away_from_zero(1 + step / c)
            h = h * c * d
        if _is_small(c * d - 1):
            break
    return h


def beta_ppf(p: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    """Quantile of Beta(a, b), elementwise: Newton steps kept inside a shrinking bracket.

    For upper tails use `beta_isf`: 1 - 1e-17 is not a float, 1e-17 is.
    """
    p, a, b = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (p, a, b)))
    return _beta_solve(p, a, b)


def beta_isf(p: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    """Upper quantile of Beta(a, b), elementwise: P(X > beta_isf(p)) = p, for small p exactly."""
    p, a, b = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (p, a, b)))
    return np.asarray(1 - _beta_solve(p, b, a), dtype=np.float64)


def clopper_pearson(successes: ArrayLike, trials: ArrayLike, eta: ArrayLike) -> tuple[Floats, Floats]:
    """Exact one-sided confidence bounds (lower, upper) of a probability, each wrong with chance <= eta.

    Clopper and Pearson 1934.  By hand: 0 of n gives upper 1 - eta**(1/n), n of n gives lower eta**(1/n).
    """
    x, n, eta = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (successes, trials, eta)))
    lower = np.where(x > 0, beta_ppf(eta, np.maximum(x, 0.5), n - x + 1), 0.0)
    return np.asarray(lower, np.float64), clopper_pearson_upper(x, n, eta)


def clopper_pearson_upper(successes: ArrayLike, trials: ArrayLike, eta: ArrayLike) -> Floats:
    """The upper one of `clopper_pearson` alone: solved once for counts that are alike, in closed form for none."""
    x, n, eta = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (successes, trials, eta)))
    upper = np.where(x < n, -np.expm1(np.log(eta) / np.maximum(n, 0.5)), 1.0)
    hard = np.flatnonzero((x > 0) & (x < n))
    if hard.size:
        rows = np.stack([v.ravel()[hard] for v in (x, n, eta)], axis=1)
        (x, n, eta), which = (part.T for part in np.unique(rows, axis=0, return_inverse=True))
        upper.ravel()[hard] = beta_isf(eta, x + 1, np.maximum(n - x, 0.5))[which.ravel()]
    return upper


def _away_from_zero(x: _F) -> _F:
    if isinstance(x, float):
        return x if abs(x) >= _TINY else _TINY
    return np.where(np.abs(x) < _TINY, _TINY, x)


def _is_small(x: _F) -> bool:
    # A few last digits of a float64: the products round at each step, so that none comes nearer.
    if isinstance(x, float):
        return abs(x) < 1e-15
    return bool((np.abs(x) < 1e-15).all())


def _beta_solve(p: Floats, a: Floats, b: Floats) -> Floats:
    """x with I_x(a, b) = p; works in log p so that tails converge as fast as the middle."""
    shape = p.shape
    p, a, b = (np.atleast_1d(v).ravel() for v in (p, a, b))
    low, high = np.zeros_like(p), np.ones_like(p)
    # From the mean, inside the open interval in which logarithms are finite.
    x = np.clip(a / (a + b), 1e-12, 1 - 1e-12)
    log_norm = _lgamma(a + b) - _lgamma(a) - _lgamma(b)
    target = np.log(np.maximum(p, _TINY))
    todo = np.arange(p.size)
    # Newton's steps double the digits and mostly end after ten; a hundred halvings reach the last digit from any start.
    for _ in range(100):
        xt, at, bt = x[todo], a[todo], b[todo]
        cdf = np.maximum(beta_cdf(xt, at, bt), _TINY)
        error = np.log(cdf) - target[todo]
        low[todo] = np.where(error < 0, xt, low[todo])
        high[todo] = np.where(error >= 0, xt, high[todo])
        log_density = log_norm[todo] + (at - 1) * np.log(xt) + (bt - 1) * np.log1p(-xt)
        # exp(600) still is a float64; a step that wild falls outside the bracket, and the middle is taken instead.
        step = xt - error / np.exp(np.clip(log_density - np.log(cdf), -600, 600))
        inside = (step > low[todo]) & (step < high[todo])
        new = np.clip(np.where(inside, step, 0.5 * (low[todo] + high[todo])), _TINY, 1 - 1e-16)
        x[todo] = new
        # Ten times finer than what is promised above (1e-12).
        todo = todo[np.abs(new - xt) > 1e-13 * xt]
        if todo.size == 0:
            break
    return np.asarray(np.where(p <= 0, 0.0, np.where(p >= 1, 1.0, x)).reshape(shape), np.float64)
