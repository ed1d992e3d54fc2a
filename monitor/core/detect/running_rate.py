"""Rates against everything seen before them: what `rate.RateDetector` cannot see while its reference is small."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stationkeeper.monitor.core.detect.conformal import PART_SHARE, pane_generator
from stationkeeper.monitor.core.detect.rate import CEILING, FACTOR_WEIGHTS, FACTORS, OneSided, RateScores
from stationkeeper.monitor.core.detect.shiryaev_roberts import EvidenceState

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Parts a pane is cut into at most. Each grows the bag by a twentieth, so 64 parts take in 1.05^64 = 22 times the rows
# before; what a nearly empty reference leaves over is learned without a bet. Half as many would do so from 5 times on.
_MOST_PARTS = 64


class RunningRateState(EvidenceState, frozen=True):
    """The evidence of F running rates, and the successes and rows [F] that they learned from."""

    hits: Counts
    rows: Counts
    frozen: Flags


class RunningRate(OneSided):
    """e-SR for F rates against "the rate is what it was, give or take a tolerance", whatever it was.

    A row's rank among all earlier ones is uniform while rows are exchangeable: a success lies at or above
    1 - (x + 1) / (n + 1) for x successes in n earlier rows, a failure below 1 - x / (n + 1).  Any bet fixed before the
    row is then fair, here the likelihood ratio of q against the share c = (x + 1/2) / (n + 1) plus the tolerance, with
    the cut drawn where the two ranges meet (Vovk et al., arXiv 2102.10439).  A fixed reference of 500 labels must allow
    for its own error, 13 points in a region of 60; ranks need not, and learn from every label since.  What changes
    slowly is absorbed: `rate.RateDetector` watches beside it.
    """

    def __init__(
        self,
        successes: ArrayLike,
        trials: ArrayLike,
        tolerance: ArrayLike,
        log_threshold: ArrayLike,
        phi: ArrayLike = 1.0,
        key: bytes = b"",
    ) -> None:
        """Begin with the reference's successes [F] of trials [F]; key names the draws."""
        self.hits: Counts = np.atleast_1d(np.asarray(successes, np.int64)).copy()
        self.rows: Counts = np.broadcast_to(np.asarray(trials, np.int64), self.hits.shape).copy()
        if (self.hits < 0).any() or (self.hits > self.rows).any():
            raise ValueError(f"a running rate needs 0 <= successes <= trials, got {self.hits} of {self.rows}")
        self.tolerance = np.broadcast_to(np.asarray(tolerance, np.float64), self.hits.shape).copy()
        self.frozen = np.zeros(len(self.hits), bool)
        self._key = key
        super().__init__(np.ones((len(self.hits), len(FACTORS)), bool), log_threshold, phi, FACTOR_WEIGHTS)

    def step(self, successes: ArrayLike, trials: ArrayLike, start: int, elapsed: float) -> RateScores:
        """Take the counts [F] of one pane; a pane larger than a twentieth of what came before is taken in parts."""
        hits, rows = np.asarray(successes, np.int64).copy(), np.asarray(trials, np.int64).copy()
        rng = pane_generator(self._key, 0, start)
        active = rows > 0
        log_e = np.zeros(self.live.shape)
        edge, bet = self._bets()
        self.live = bet > edge
        for _ in range(_MOST_PARTS):
            quota = np.maximum(self.rows * PART_SHARE, 1.0)
            chance = np.minimum(quota / np.maximum(rows, 1), 1.0)
            good, bad = rng.binomial(hits, chance), rng.binomial(rows - hits, chance)
            log_e += self._bet(good, bad, rng)
            grown = ~self.frozen
            self.hits[grown] += good[grown]
            self.rows[grown] += (good + bad)[grown]
            hits, rows = hits - good, rows - good - bad
            if not rows.any():
                break
        else:
            # Next to no reference: what is left of the pane is learned without a bet.
            self.hits += np.where(self.frozen, 0, hits)
            self.rows += np.where(self.frozen, 0, rows)
        return self.take(log_e, active, start, elapsed)

    def retract(self, successes: Counts, trials: Counts, mask: Flags) -> None:
        """Take counts [F] that came since an onset out of what was learned, and stop learning, where mask [F]."""
        self.hits[mask] = np.maximum(self.hits - successes, 0)[mask]
        self.rows[mask] = np.maximum(self.rows - trials, self.hits)[mask]
        self.frozen |= mask

    def state(self) -> RunningRateState:
        """Return all that changes."""
        own = self.evidence.state()
        return RunningRateState(
            log_m=own.log_m,
            log_c=own.log_c,
            restart=own.restart,
            hits=self.hits.copy(),
            rows=self.rows.copy(),
            frozen=self.frozen.copy(),
        )

    def restore(self, state: EvidenceState) -> None:
        """Take over a state bit for bit; raises ValueError where its shape belongs to other subjects."""
        if not isinstance(state, RunningRateState):
            raise TypeError("this is the evidence of a rate against its reference, not of a running rate")
        super().restore(state)
        self.hits, self.rows = np.array(state.hits, np.int64), np.array(state.rows, np.int64)
        self.frozen = np.array(state.frozen, bool)

    def _bet(self, good: Counts, bad: Counts, rng: np.random.Generator) -> Floats:
        """Log e [F, bets] of one part, against what came before it."""
        n, x = self.rows, self.hits
        # The share between the ranges of a failure and a success; a value whose rank is drawn across it changes side.
        across = rng.binomial(good, 0.5 / (x + 1.0)), rng.binomial(bad, 0.5 / (n - x + 1.0))
        above = (good - across[0] + across[1]).astype(np.float64)
        below = (bad + across[0] - across[1]).astype(np.float64)
        share = (x + 0.5) / (n + 1.0)
        edge, bet = self._bets()
        up, down = bet / edge, (1 - bet) / (1 - edge)
        spread = (share * (1 - share))[:, None] * (up - down) ** 2
        events = good + bad
        excess = events * np.maximum(events - 1, 0) / (2 * np.maximum(n, 1))
        ratio = above[:, None] * np.log(up) + below[:, None] * np.log(down)
        return np.asarray(np.where(bet > edge, ratio - excess[:, None] * spread, 0.0), np.float64)

    def _bets(self) -> tuple[Floats, Floats]:
        """The edge of the null [F, 1] and the bets [F, bets], as of what came before."""
        edge = np.minimum((self.hits + 0.5) / (self.rows + 1.0) + self.tolerance, CEILING)[:, None]
        return edge, np.minimum(np.array(FACTORS) * edge, np.maximum(CEILING, edge))
