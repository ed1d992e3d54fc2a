"""Adaptive alternatives: the law the last few hundred or thousand events seem to follow, past only."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stationkeeper.monitor.core.detect.alternatives import HALF_LIVES
from stationkeeper.monitor.core.detect.evalue import deviation, equal_cells, huber_clip_within

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Rows of the reference mixed into a moving average, so that a handful of events bets on nothing.
PRIOR_ROWS = 60.0


@dataclass(frozen=True)
class AdaptiveNull:
    """What adaptive rows bet against, for F features of K cells.

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


class AdaptiveRows:
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
