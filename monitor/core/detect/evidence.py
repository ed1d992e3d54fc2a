"""One e-detector: fixed and adaptive alternatives of a block of features, and their running evidence."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stationkeeper.monitor.core.detect.alternatives import (
    AdaptiveAlternatives,
    AdaptiveNull,
    Alternative,
    AlternativeTable,
    ReferenceCells,
    adaptive_alternatives,
    build_alternatives,
)
from stationkeeper.monitor.core.detect.conformal import RANK_CELLS
from stationkeeper.monitor.core.detect.evalue import deviation
from stationkeeper.monitor.core.detect.plan import DENSE_ALTERNATIVES
from stationkeeper.monitor.core.detect.quantile import chi2_isf
from stationkeeper.monitor.core.detect.shiryaev_roberts import EvidenceState, ShiryaevRoberts, refuse_other_shape

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Prior weight of the adaptive alternatives together; the fixed ones share the rest. Costs them log(1 / .9) = .1 nats,
# and the adaptive ones 2.3 nats: they are for shapes that no fixed one has, which are rarer.
ADAPTIVE_WEIGHT = 0.1
# Share of a reference's error chance that goes to the adaptive alternatives: their bound (chi-square, for any law)
# moves little with it, while the fixed ones divide what is left by their number.
ADAPTIVE_ETA = 0.25
# A cell joins the adaptive alternatives on its own from this many expected reference rows, below it only pooled: the
# chi-square bound of their margin is Pearson's, whose rule of thumb is 5 to 10 a cell. With half as many the law of
# rare cells is too skewed for it, with twice as many a category of 15 rows is never followed by itself.
RARE_ROWS = 10.0


@dataclass(frozen=True)
class Bets:
    """The bets of an e-detector on one stratum: fixed alternatives, and what the adaptive ones need."""

    table: AlternativeTable
    null: AdaptiveNull

    def lean(self) -> "Bets":
        """Without what only the start of an e-detector and conformal corrections need."""
        return replace(self, table=self.table.lean())


def place_bets(reference: ReferenceCells, kind: str, delta: Floats, phi: Floats, eta: float) -> Bets:
    """Build the bets against a reference; phi [F, D + 2] as in `EDetector`, eta the error share of one feature."""
    p = reference.probabilities
    if reference.exact:
        return Bets(build_alternatives(reference, kind, delta, phi[:, :-1], eta), AdaptiveNull(p))
    table = build_alternatives(reference, kind, delta, phi[:, :-1], (1 - ADAPTIVE_ETA) * eta)
    rare = reference.used & (p * reference.rows[:, None] < RARE_ROWS)
    together = np.where(rare, p, 0.0).sum(-1) * reference.rows
    muted = rare & (together < RARE_ROWS)[:, None]
    degrees = np.maximum(reference.used.sum(-1) - 1, 1)
    quantile = {int(k): chi2_isf(ADAPTIVE_ETA * eta, int(k)) for k in np.unique(degrees)}
    radius = np.array([quantile[int(k)] for k in degrees])
    margin = np.sqrt(radius * phi[:, -1] / reference.rows)[:, None]
    return Bets(table, AdaptiveNull(p, _any(rare & ~muted), _any(muted), margin))


def _any(flags: Flags) -> Flags | None:
    return flags if flags.any() else None


def rank_bets(delta: Floats) -> Bets:
    """Bets of numeric features on their conformal rank cells, whose law is known: they depend on delta [F] alone."""
    values, index = np.unique(delta, return_inverse=True)
    found = _rank_bets(tuple(values.tolist()))
    if len(values) == 1:
        return _each(found, lambda array: np.broadcast_to(array[0], (len(delta), *array.shape[1:])))
    return _each(found, lambda array: array[index])


# Subjects of one shape share a table; a fleet has fewer shapes than this, and a table that fell out is made again.
@lru_cache(maxsize=64)
def _rank_bets(delta: tuple[float, ...]) -> Bets:
    uniform = np.full((len(delta), RANK_CELLS), 1 / RANK_CELLS)
    everything = np.ones(uniform.shape, bool)
    exact = ReferenceCells(uniform, np.full(len(delta), np.inf), everything, everything)
    # The last is the error chance of the reference, of which an exact one has none: any value gives the same bets.
    return place_bets(exact, "numeric", np.array(delta), np.ones((len(delta), DENSE_ALTERNATIVES + 2)), 1.0)


def _each(bets: Bets, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Bets:
    """The bets against exact probabilities with every array changed in the same way."""
    names = ("dense", "inside", "outside", "live", "weight", "spread")
    changed: dict[str, Any] = {name: change(getattr(bets.table, name)) for name in names}
    return Bets(replace(bets.table, **changed), AdaptiveNull(change(bets.null.p)))


class EDetectorState(EvidenceState, frozen=True):
    """The evidence of an e-detector, and the moving averages [F, A, K] that its adaptive alternatives bet on."""

    average: NDArray[np.float64]


class EDetector:
    """The evidence of F features of one kind against one null, conformal or fixed-reference.

    phi [F, D + 2] >= 1 is the variance inflation of the D dense alternatives, the one-cell and the adaptive
    (D = 0 for categorical features); evidence is taken to the power 1/phi, which never hurts validity.
    """

    def __init__(self, bets: Bets, delta: Floats, phi: Floats) -> None:
        """Begin without evidence; weights come from these bets and stay."""
        table = bets.table
        f, dense = table.dense.shape[:2]
        self.adaptive = AdaptiveAlternatives(f, bets.null.p.shape[-1])
        half_lives = self.adaptive.half_lives.size
        self.names = _names(table.rows)
        self._phi = phi if (phi != 1).any() else None
        # The group of phi that each alternative belongs to.
        self._group = np.repeat(np.arange(dense + 2), [*[1] * dense, len(table.rows) - dense, half_lives])
        share = np.full((f, half_lives), ADAPTIVE_WEIGHT / half_lives)
        self.evidence = ShiryaevRoberts(np.concatenate([table.weight * (1 - ADAPTIVE_WEIGHT), share], axis=1))
        self.delta = delta[:1] if len(delta) and (delta == delta[0]).all() else delta

    def step(self, bets: Bets, counts: Floats, elapsed: float, start: int, excess: Floats | None = None) -> None:
        """Bet on a pane, or a part of one, of counts [F, K] that began at start, then learn from it.

        excess [F] is the conformal correction of `Part.excess`; None for independent cells.
        """
        table = bets.table
        adaptive, adaptive_live = self.adaptive.table(bets.null, self.delta)
        fixed = table.live.shape[1]
        log_e = np.empty(self.evidence.log_m.shape)
        table.log_ratios(counts, log_e[:, :fixed])
        log_e[:, fixed:] = np.matmul(adaptive, counts[:, :, None])[:, :, 0]
        if excess is not None and excess.any():
            wide = deviation(np.exp(adaptive), bets.null.p[:, None, :]) ** 2
            log_e -= excess[:, None] * np.concatenate([table.spread, wide], axis=1)
        if self._phi is not None:
            log_e /= self._phi[:, self._group]
        live = np.empty(log_e.shape, np.bool_)
        live[:, :fixed], live[:, fixed:] = table.live, adaptive_live
        self.evidence.step(log_e, elapsed, live, counts.max(axis=-1) > 0, start)
        self.adaptive.learn(counts)

    def reset(self, mask: Flags) -> None:
        """Forget the evidence and the recent past of the features in mask [F]."""
        self.evidence.reset(mask)
        self.adaptive.forget(mask)

    def state(self) -> EDetectorState:
        """Return everything that changes; `restore` gives back the same e-detector bit for bit."""
        own = self.evidence.state()
        return EDetectorState(
            log_m=own.log_m, log_c=own.log_c, restart=own.restart, average=self.adaptive.average.copy()
        )

    def restore(self, state: EDetectorState) -> None:
        """Take over a state; raises ValueError where its shape belongs to another plan."""
        refuse_other_shape("average", state.average, self.adaptive.average)
        self.evidence.restore(state)
        self.adaptive.average[...] = state.average


# As many as `_rank_bets`, for the same reason.
@lru_cache(maxsize=64)
def _names(rows: tuple[Alternative, ...]) -> NDArray[np.object_]:
    """The alternatives of a table with the adaptive ones behind: one array for all e-detectors of one kind."""
    found = rows + adaptive_alternatives()
    names = np.empty(len(found), object)
    names[:] = found
    return names
