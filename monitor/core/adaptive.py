"""Adaptive alternatives: the law the last few hundred or thousand events seem to follow, past only."""

import numpy as np
from numpy.typing import NDArray

from monitor.core.dictionary import HALF_LIVES
from monitor.core.evalue import deviation, huber_clip

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Rows of the reference mixed into a moving average, so that a handful of events bets on nothing.
PRIOR_ROWS = 60.0


class AdaptiveRows:
    """Moving averages of past panes as alternatives, for F features, A half-lives and K cells.

    State: average [F, A, K], decayed counts.  The bet on a pane uses earlier panes only, which keeps every
    product of e-values a supermartingale (plug-in method; Shin, Ramdas and Rinaldo, arXiv 2203.03532).
    """

    def __init__(self, features: int, cells: int) -> None:
        """Start with no past."""
        self.half_lives = np.array(HALF_LIVES)
        self.average = np.zeros((features, self.half_lives.size, cells))

    def table(self, p: Floats, pooled: Flags, muted: Flags, delta: Floats, margin: Floats) -> tuple[Floats, Flags]:
        """Log e-values [F, A, K] and live flags [F, A] of the bets on the next pane.

        p [F, K] are the reference probabilities.  pooled [F, K] marks cells too rare to bet on one by one, which
        share one ratio; muted [F, K] those too rare even together, which take no part.  delta [F].  margin [F, A] is
        sqrt(chi2_{K-1} quantile * phi / n_ref), by Cauchy-Schwarz the largest excess of a mean in units of the
        deviation of e, or 0 when p is exact.
        """
        base = p[:, None, :]
        q = self.average + PRIOR_ROWS * base
        q /= q.sum(-1, keepdims=True)
        if pooled.any():
            rare = pooled[:, None, :]
            p_rare = np.where(rare, base, 0.0).sum(-1, keepdims=True)
            q_rare = np.where(rare, q, 0.0).sum(-1, keepdims=True)
            q = np.where(rare, base * (q_rare / np.where(p_rare > 0, p_rare, 1.0)), q)
        if muted.any():
            q = np.where(muted[:, None, :], base, q)
            q /= q.sum(-1, keepdims=True)
        e, live = huber_clip(q, base, delta[:, None])
        log_e = np.log(e)
        if margin.any():
            log_e -= np.log1p(margin * deviation(e, base))[..., None]
        return log_e if live.all() else np.where(live[..., None], log_e, 0.0), live

    def learn(self, counts: Floats) -> None:
        """Add a pane of counts [F, K]; an empty pane changes nothing."""
        n = counts.sum(axis=-1)[:, None]
        self.average *= np.exp2(-n / self.half_lives)[:, :, None]
        self.average += counts[:, None, :]

    def forget(self, mask: Flags) -> None:
        """Drop the past of the features in mask [F]."""
        self.average[mask] = 0.0
