"""The alternatives that are bet on: fixed and adaptive laws of many features, their log e-values and weights."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from stationkeeper.monitor.core.detect.evalue import (
    deviation,
    equal_cells,
    finite_reference,
    huber_clip,
    huber_clip_within,
    lower_share,
    upper_share,
)
from stationkeeper.monitor.core.detect.quantile import normal_cdf, normal_isf, normal_ppf

Floats = NDArray[np.float64]

# The grid of alternatives (docs/statistics.md). A bet on d grows by r (2 - r) of the best bet's nats where the shift is
# d / r, so a grid that doubles keeps 8/9 of the growth for every shift between its points; one that quadruples keeps
# .64, one twice as fine only splits the prior. Below .1 sd (TV .04) the default floor of .02 leaves little to find;
# from 1.6 sd on every law is found within a pane.
SHIFTS = (0.1, 0.2, 0.4, 0.8, 1.6)
# The same for spread, symmetric in its logarithm (.6 = 1 / 1.67, .8 = 1 / 1.25).
SCALES = (0.6, 0.8, 1.25, 1.67)
# Mass added to one cell of a number: a default or stuck value. 2 % is the default floor, 10 % what a page should name
# at once; the mass of a cell between them is found by both, more slowly.
SPIKES = (0.02, 0.1)
# Mass a category gains, by threes. Measured for 1, 5 and 10 % (docs/statistics.md): 5 % of 100 000 values is found in
# 200 events with 20 + 64 cells.
CONTAMINATIONS = (0.01, 0.03, 0.1, 0.3)
# What is left of a category that dries up. A quarter also finds one that vanishes; nearer to 0 a single late row would
# ruin the bet.
DRY = 0.25
# Events in which an adaptive alternative forgets half: the shorter follows within a few panes, the longer sees what a
# slow ramp left. Together they weigh a tenth (`evidence.ADAPTIVE_WEIGHT`).
HALF_LIVES = (300.0, 3000.0)


@dataclass(frozen=True)
class Alternative:
    """One law that a feature may follow after a change.

    kind is one of shift, scale, cell, adaptive; size is the shift in reference standard deviations, the
    factor of the scale, the mass added to a cell (negative: the share of its own mass that is left), or
    the half-life in events.  cell is -1 unless kind is cell.
    """

    kind: str
    size: float
    cell: int = -1

    def __str__(self) -> str:
        if self.kind == "shift":
            return f"shift {self.size:+g} sd"
        if self.kind == "scale":
            return f"scale x{self.size:g}"
        if self.kind == "cell":
            change = f"+{self.size:.0%}" if self.size > 0 else f"x{-self.size:g}"
            return f"cell {self.cell} {change}"
        return f"adaptive {self.size:g}"


def ordered_alternatives(p: Floats) -> tuple[Floats, tuple[Alternative, ...]]:
    """Shift and scale alternatives of ordered cells on the normal-score scale of p, so they need no units.

    p has shape [..., K] and may hold zeros (padding).  Returns q [..., D, K] and the D alternatives: for a cell between
    normal scores a < b, q = Phi(b - d) - Phi(a - d) for a shift d and Phi(b/s) - Phi(a/s) for a scale s.
    By hand: two cells of mass .5 and d = .5 give q = (Phi(-.5), 1 - Phi(-.5)) = (.3085, .6915).
    """
    edges = np.clip(np.cumsum(p, axis=-1), 0, 1)
    edges[..., -1:] = 1.0
    # Padding after the last real cell must stay empty whatever the rounding of the sum.
    edges = np.where(edges > 1 - 1e-12, 1.0, edges)
    scores = normal_ppf(np.concatenate([np.zeros_like(edges[..., :1]), edges], axis=-1))
    rows = [Alternative("shift", sign * d) for d, sign in product(SHIFTS, (1.0, -1.0))]
    q = [np.diff(normal_cdf(scores - row.size), axis=-1) for row in rows]
    rows += [Alternative("scale", s) for s in SCALES]
    q += [np.diff(normal_cdf(scores / s), axis=-1) for s in SCALES]
    return np.stack(q, axis=-2), tuple(rows)


# A table a kind and number of cells, shared by all subjects of that shape; a fleet has a few dozen shapes.
@lru_cache(maxsize=256)
def cell_alternatives(kind: str, cells: int) -> tuple[Floats, tuple[Alternative, ...]]:
    """Levels and names of the one-cell alternatives, level by level and cell by cell within a level.

    numeric: a stuck or default value adds mass SPIKES to one cell.  categorical: a value gains mass
    CONTAMINATIONS, or dries up to DRY of itself (level -DRY).  Returns levels [G] and G * cells alternatives, the same
    for every table of this size.
    """
    levels = SPIKES if kind == "numeric" else (*CONTAMINATIONS, -DRY)
    rows = tuple(Alternative("cell", level, j) for level in levels for j in range(cells))
    return np.array(levels), rows


def adaptive_alternatives() -> tuple[Alternative, ...]:
    """The adaptive alternatives: moving averages of the past with these half-lives in events."""
    return tuple(Alternative("adaptive", half_life) for half_life in HALF_LIVES)


Flags = NDArray[np.bool_]

# Prior weights of the alternatives, from the table of benchmarks/detection: large changes are found within a pane
# whatever their weight, so the weight goes to small ones. A weight halved costs log 2 = .7 nats of delay.
# All one-cell alternatives together weigh as much as one shift: there are up to five for each cell.
CELL_WEIGHT = 1.0
# Share of a reference's error chance that goes to cells having been rarer than they look: a cell that rises is the one
# to find (a new value), and its bound may be the tighter, the more chance it has. The bound moves with the logarithm of
# this share, so .5 or .9 change little.
UP_SHARE = 0.8
# By size in standard deviations, and by factor of the spread.
SHIFT_WEIGHTS = {0.1: 5.0, 0.2: 2.0, 0.4: 1.0, 0.8: 1.0, 1.6: 0.25}
SCALE_WEIGHTS = {0.6: 1.0, 0.8: 2.0, 1.25: 2.0, 1.67: 1.0}
# One-cell alternatives by level: a nat is worth most where each event brings least of it.
LEVEL_WEIGHTS = {0.01: 4.0, 0.02: 1.0, 0.03: 2.0, 0.1: 1.0, 0.3: 0.5, -0.25: 1.0}


def prior_weight(row: Alternative) -> float:
    """Prior weight of a shift or scale."""
    return SHIFT_WEIGHTS[abs(row.size)] if row.kind == "shift" else SCALE_WEIGHTS[row.size]


@dataclass(frozen=True)
class CellColumns:
    """The two values of G levels of one-cell alternatives, once for all cells that have the same ones.

    outside [U, G] elsewhere, apart [U, G] what its own cell adds to that, and which [F, K] of them each cell has: cells
    without a reference row, as most hash buckets of a category are, differ in nothing.
    """

    apart: Floats
    outside: Floats
    which: NDArray[np.unsignedinteger]

    @classmethod
    def of(cls, inside: Floats, outside: Floats) -> "CellColumns | None":
        """Return the columns of inside and outside [F, G, K]; None where fewer than half of the cells are alike."""
        levels = inside.shape[1]
        # Rows differ where one of their values does: this alone tells the cells of most numbers from each other.
        if 2 * len(np.unique(inside[:, 0])) > inside[:, 0].size:
            return None
        values = np.concatenate([inside - outside, outside], axis=1)
        rows = np.moveaxis(values, 1, 2).reshape(-1, 2 * levels)
        # As bytes, so that only the same values are one.
        names = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * 2 * levels))).ravel()
        _, first, which = np.unique(names, return_index=True, return_inverse=True)
        if 2 * len(first) > len(rows):
            return None
        # As many as two bytes number.
        short = np.uint16 if len(first) <= 1 << 16 else np.uint32
        columns: NDArray[np.unsignedinteger] = which.reshape(inside.shape[0], -1).astype(short)
        return cls(rows[first, :levels].copy(), rows[first, levels:].copy(), columns)

    def log_ratios(self, counts: Floats) -> Floats:
        """Sum of log e over a pane of counts [F, K] for every alternative, level by level: [F, G K]."""
        cells = self.apart[self.which]
        cells *= counts[:, :, None]
        cells += counts.sum(axis=-1)[:, None, None] * self.outside[self.which]
        return np.asarray(np.moveaxis(cells, 2, 1).reshape(len(counts), -1), np.float64)


@dataclass(frozen=True)
class AlternativeTable:
    """Log e-values of the alternatives of F features: D dense ones over K cells, and G levels of one-cell ones.

    dense [F, D, K]; inside and outside [F, G, K] hold the two values a one-cell one takes on its own cell and
    elsewhere.  live [F, D + G K] is False where one lies inside the null.  weight [F, D + G K] sums to 1
    over the live ones of a feature (0 everywhere where none is live).  spread [F, D + G K] is the variance of
    each e-value under exact cell probabilities, which the conformal correction needs; else empty.
    """

    dense: Floats
    inside: Floats
    outside: Floats
    live: Flags
    weight: Floats
    spread: Floats
    rows: tuple[Alternative, ...]
    columns: CellColumns | None = None

    def lean(self) -> "AlternativeTable":
        """Without what only the start of an e-detector and conformal corrections need; alike cells are held once."""
        nothing, columns = np.empty((0, 0)), CellColumns.of(self.inside, self.outside)
        made = replace(self, weight=nothing, spread=nothing, rows=(), columns=columns)
        return made if columns is None else replace(made, inside=nothing, outside=nothing)

    def matrix(self) -> Floats:
        """Return log e of every alternative of the first feature in each of its cells, [D + G K, K]."""
        cells = np.repeat(self.outside[0][:, :, None], self.outside.shape[2], axis=2)
        at = np.arange(self.outside.shape[2])
        cells[:, at, at] = self.inside[0]
        return np.concatenate([self.dense[0], cells.reshape(-1, len(at))])

    def log_ratios(self, counts: Floats, out: Floats) -> None:
        """Put the sums of log e of every alternative over counts [F, K] into out [F, D + G K]; O(F K (D + G))."""
        dense = self.dense.shape[1]
        if dense:
            out[:, :dense] = np.matmul(self.dense, counts[:, :, None])[:, :, 0]
        if self.columns is not None:
            out[:, dense:] = self.columns.log_ratios(counts)
            return
        cells = self.inside - self.outside
        cells *= counts[:, None, :]
        cells += counts.sum(axis=-1)[:, None, None] * self.outside
        out[:, dense:] = cells.reshape(len(counts), -1)


@dataclass(frozen=True)
class ReferenceCells:
    """What is known of the cells of F features: counts [F, K] and rows [F]; exact when rows is infinite.

    counts are then probabilities.  used [F, K] marks real cells (False: padding).  ordered [F, K] marks the
    cells that lie on the feature's axis (False: missing, or any cell of a categorical feature).
    """

    counts: Floats
    rows: Floats
    used: Flags
    ordered: Flags

    @property
    def exact(self) -> bool:
        """True where the cell probabilities are known, as for conformal ranks."""
        return bool(np.all(np.isinf(self.rows)))

    @property
    def probabilities(self) -> Floats:
        """Smoothed cell probabilities [F, K]: half a row added to every real cell (Jeffreys), 0 in padding."""
        if self.exact:
            return self.counts
        smooth = np.where(self.used, self.counts + 0.5, 0.0)
        return np.asarray(smooth / smooth.sum(-1, keepdims=True), np.float64)


def exact_alternatives(reference: ReferenceCells, kind: str) -> AlternativeTable:
    """Return the table of one feature against its cell probabilities as if they were known, without a floor."""
    exact = ReferenceCells(reference.probabilities, np.full(1, np.inf), reference.used, reference.ordered)
    groups = len(SHIFTS) * 2 + len(SCALES) + 1 if kind == "numeric" else 1
    # The last is the error chance of the reference; an exact one has none, and any value gives the same table.
    return build_alternatives(exact, kind, np.zeros(1), np.ones((1, groups)), 0.01)


def build_alternatives(
    reference: ReferenceCells, kind: str, delta: Floats, phi: Floats, eta: float
) -> AlternativeTable:
    """The table of a block of features of one kind, valid for TV(p, p_ref) <= delta.

    delta [F]; phi [F, D + 1] holds the variance inflation of each dense alternative and, last, of the one-cell ones;
    eta is the chance that the reference of one feature misleads any of them, split evenly between dense and
    one-cell ones.  O(F D K log K).
    """
    p = reference.probabilities
    blocks = [_dense(reference, p, delta, phi[:, :-1], eta / 2)] if kind == "numeric" else []
    levels, names = cell_alternatives(kind, p.shape[-1])
    cell_eta = eta / 2 if blocks else eta
    inside, outside, cell_live = _cells(reference, p, levels, delta, phi[:, -1], cell_eta)
    flat_live = cell_live.reshape(len(p), -1)
    level_weight = np.array([LEVEL_WEIGHTS[level] for level in levels.tolist()])
    cell_weight = (cell_live * _cell_prior(reference)[:, None, :] * level_weight[:, None]).reshape(len(p), -1)
    # Where no cell is live all weights are 0, and stay so.
    cell_weight *= CELL_WEIGHT / np.maximum(cell_weight.sum(-1, keepdims=True), 1e-300)
    spread = np.empty((0, 0))
    # Only ranks, whose probabilities are exact, are corrected by it.
    if reference.exact:
        mean = p[:, None, :] * np.exp(inside) + (1 - p[:, None, :]) * np.exp(outside)
        spread = p[:, None, :] * np.exp(2 * inside) + (1 - p[:, None, :]) * np.exp(2 * outside) - mean**2
        spread = np.maximum(spread.reshape(len(p), -1), 0)
    if blocks:
        dense, live, dense_names = blocks[0]
        if reference.exact:
            e = np.exp(dense)
            dense_mean = (e * p[:, None, :]).sum(-1)
            dense_spread = (e * e * p[:, None, :]).sum(-1) - dense_mean**2
            spread = np.concatenate([np.maximum(dense_spread, 0), spread], axis=1)
        base = np.array([prior_weight(row) for row in dense_names])
        weight = np.concatenate([live * base, cell_weight], axis=1)
        live = np.concatenate([live, flat_live], axis=1)
        names = dense_names + names
    else:
        dense = np.zeros((len(p), 0, p.shape[-1]))
        weight, live = cell_weight, flat_live
    total = weight.sum(-1, keepdims=True)
    weight = weight / np.where(total > 0, total, 1.0)
    return AlternativeTable(dense, inside, outside, live, weight, spread, names)


def _cell_prior(reference: ReferenceCells) -> Floats:
    """Prior weight of each cell [F, K].

    Cells without a reference row, where new values land, get half of it on top of their even part, for what is new is
    what is looked for.
    """
    if reference.exact:
        return np.ones(reference.counts.shape)
    empty = reference.used & (reference.counts == 0)
    number = empty.sum(-1, keepdims=True)
    return np.where(empty, 1 + reference.used.sum(-1, keepdims=True) / np.maximum(number, 1), 1.0)


def _dense(
    reference: ReferenceCells, p: Floats, delta: Floats, phi: Floats, eta: float
) -> tuple[Floats, Flags, tuple[Alternative, ...]]:
    on_axis = np.where(reference.ordered, p, 0.0)
    mass = on_axis.sum(-1, keepdims=True)
    q, names = ordered_alternatives(on_axis / np.where(mass > 0, mass, 1.0))
    # Cells off the axis keep their mass: a shift says nothing about missing values.
    q = q * mass[:, None, :] + np.where(reference.ordered, 0.0, p)[:, None, :]
    q = np.where(p[:, None, :] > 0, q, 0.0)
    q /= q.sum(-1, keepdims=True)
    e, live = huber_clip(q, p[:, None, :], np.broadcast_to(delta[:, None], q.shape[:-1]))
    z = normal_isf(eta / len(names)) if not reference.exact else 0.0
    log_e = finite_reference(e, p[:, None, :], reference.rows[:, None], z, phi)
    return np.where(live[..., None], log_e, 0.0), live, names


def _cells(
    reference: ReferenceCells, p: Floats, levels: Floats, delta: Floats, phi: Floats, eta: float
) -> tuple[Floats, Floats, Flags]:
    """One-cell alternatives as Bernoulli likelihood ratios against the edge of the null: exact for any count."""
    f, k = p.shape
    if reference.exact:
        lower = upper = p
    else:
        inflation = np.maximum(phi, 1.0)[:, None]
        # One bound a side and cell serves all its levels; rising cells matter more, and get most of eta.
        counts, rows = reference.counts / inflation, reference.rows[:, None] / inflation
        upper = upper_share(counts, rows, UP_SHARE * eta / k)
        # Only what dries up lies below; of a number no cell is watched for that.
        lower = lower_share(counts, rows, (1 - UP_SHARE) * eta / k) if (levels < 0).any() else upper
    level = levels[None, :, None]
    up = level > 0
    q = np.where(up, (1 - level) * p[:, None, :] + level, -level * p[:, None, :])
    edge = np.where(up, (upper + delta[:, None])[:, None, :], (lower - delta[:, None])[:, None, :])
    # A bet this near to its edge gains nothing in any number of events, and rounding could put it on either side.
    live = np.where(up, q > edge * 1.0001, q < edge * 0.9999) & (edge > 0) & (edge < 1) & (q < 1)
    live = live & reference.used[:, None, :] & np.ones((f, 1, 1), bool)
    safe_q, safe_edge = np.where(live, q, 0.5), np.where(live, edge, 0.5)
    return np.log(safe_q / safe_edge), np.log((1 - safe_q) / (1 - safe_edge)), live


# Rows of the reference mixed into a moving average, so that a handful of events bets on nothing (docs/statistics.md).
# Three rows a cell of twenty: half as many bet on noise after a page's reset, twice as many learn a strong change
# later.
PRIOR_ROWS = 60.0


@dataclass(frozen=True)
class AdaptiveNull:
    """What adaptive alternatives bet against, for F features of K cells.

    p [F, K] are the reference probabilities.  pooled [F, K] marks cells too rare to bet on one by one, which share one
    ratio; muted [F, K] those too rare even together, which take no part.  margin [F, 1] is sqrt(chi2_{K-1} quantile *
    phi / n_ref), by Cauchy-Schwarz the largest excess of a mean in units of the deviation of e.  None stands for no
    such cell, and for a p that is exact.
    """

    p: Floats
    pooled: Flags | None = None
    muted: Flags | None = None
    margin: Floats | None = None
    whole: bool = field(init=False)
    equal: bool = field(init=False)

    def __post_init__(self) -> None:
        """Look once whether cells are padding, and whether all are alike."""
        object.__setattr__(self, "whole", bool((self.p > 0).all()))
        object.__setattr__(self, "equal", equal_cells(self.p))


class AdaptiveAlternatives:
    """Moving averages of past panes as alternatives, for F features, A half-lives and K cells.

    State: average [F, A, K], decayed counts.  The bet on a pane uses earlier panes only, which keeps every
    product of e-values a supermartingale (plug-in method; Shin, Ramdas and Rinaldo, arXiv 2203.03532).
    """

    def __init__(self, features: int, cells: int) -> None:
        """Start with no past."""
        self.half_lives = np.array(HALF_LIVES)
        self.average = np.zeros((features, self.half_lives.size, cells))

    def table(self, null: AdaptiveNull, delta: Floats) -> tuple[Floats, Flags]:
        """Log e-values [F, A, K] and live flags [F, A] of the bets on the next pane; delta [F], or [1] for all."""
        base = null.p[:, None, :]
        q = self.average + PRIOR_ROWS * base
        q /= q.sum(-1, keepdims=True)
        if null.pooled is not None:
            rare = null.pooled[:, None, :]
            p_rare = np.where(rare, base, 0.0).sum(-1, keepdims=True)
            q_rare = np.where(rare, q, 0.0).sum(-1, keepdims=True)
            q = np.where(rare, base * (q_rare / np.where(p_rare > 0, p_rare, 1.0)), q)
        if null.muted is not None:
            q = np.where(null.muted[:, None, :], base, q)
            q /= q.sum(-1, keepdims=True)
        e, live = huber_clip_within(q, base, delta[:, None], whole=null.whole, equal=null.equal)
        if null.margin is None:
            log_e = np.log(e, out=e)
        else:
            short = np.log1p(null.margin * deviation(e, base))[..., None]
            log_e = np.log(e, out=e)
            log_e -= short
        return log_e if live.all() else np.where(live[..., None], log_e, 0.0), live

    def learn(self, counts: Floats) -> None:
        """Add a pane of counts [F, K]; an empty pane changes nothing."""
        self.average *= np.exp2(-counts.sum(axis=-1)[:, None] / self.half_lives)[:, :, None]
        self.average += counts[:, None, :]

    def forget(self, mask: Flags) -> None:
        """Drop the past of the features in mask [F]."""
        self.average[mask] = 0.0
