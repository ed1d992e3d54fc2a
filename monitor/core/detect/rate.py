"""Rates that must not rise: missing, unseen, out of range, invalid, wrong (0/1 loss), and bounded losses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stationkeeper.monitor.core.budget import level_of
from stationkeeper.monitor.core.detect.quantile import clopper_pearson_upper
from stationkeeper.monitor.core.detect.shiryaev_roberts import EvidenceState, ShiryaevRoberts


def level_of_score(score: float, threshold: float) -> int:
    """Return the level that one log e-value reaches, as `budget.level_of`."""
    return int(level_of(np.float64(score), np.float64(threshold)))


Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Times = NDArray[np.int64]

# A rate's grid of alternatives, dense where a rise is small, and 8 and 30 for rare faults: each hit of a burst brings
# 3.4 nats to a bet on 30, and 1.1 to one on 3.
FACTORS = (1.1, 1.2, 1.35, 1.5, 2.0, 3.0, 8.0, 30.0)
"""Alternatives of a rate: its null edge times these, at most `CEILING`."""

# The smallest rise brings the least evidence an event, so a nat of prior saves it the most events; 8 and 30 are found
# within a few hits whatever they weigh.
FACTOR_WEIGHTS = (2.0, 1.5, 1.0, 1.0, 0.8, 0.8, 0.1, 0.1)
# No bet goes beyond: at 1 a single success of the good kind would ruin it for good.
CEILING = 0.95


@dataclass(frozen=True)
class RateScores:
    """What a pane did to F one-sided detectors: log e-SR before any reset, pages, onset and the leading row."""

    score: Floats
    log_threshold: Floats
    paged: Flags
    onset: Times
    row: NDArray[np.intp]


class OneSided:
    """e-SR over fixed bets, for F subjects that page on their own and are then reset."""

    def __init__(
        self,
        live: Flags,
        log_threshold: ArrayLike,
        phi: ArrayLike = 1.0,
        prior: ArrayLike = 1.0,
        holds: ArrayLike = 0,
    ) -> None:
        """live [F, bets] marks bets outside the null; the others take no part, else they would grow like t on nothing.

        prior [bets] weighs the bets; the live ones are scaled to sum to 1.  log_threshold [F] comes from
        `budget.log_thresholds`; phi [F] >= 1 is the variance inflation.  Subjects that never page (holds [F]) keep
        the threshold as their evidence when they cross it, so that one lasting excess does not climb to it again.
        """
        self.holds = np.broadcast_to(np.asarray(holds, np.bool_), (len(live),)).copy()
        subjects = len(live)
        self.live = live
        weight = np.where(live, np.asarray(prior, np.float64), 0.0)
        total = weight.sum(axis=1, keepdims=True)
        self.evidence = ShiryaevRoberts(weight / np.where(total > 0, total, 1.0))
        self.log_threshold = np.broadcast_to(np.asarray(log_threshold, np.float64), (subjects,)).copy()
        self.phi = np.broadcast_to(np.asarray(phi, np.float64), (subjects,)).copy()
        self._plain = bool((self.phi == 1).all())

    def take(self, log_e: Floats, active: Flags, start: int, elapsed: float) -> RateScores:
        """Step with log e-values [F, bets] of one pane; inactive subjects keep their evidence."""
        self.evidence.step(log_e if self._plain else log_e / self.phi[:, None], elapsed, self.live, active, start)
        score = self.evidence.score()
        paged = score >= self.log_threshold
        winner = self.evidence.winner()
        scores = RateScores(score, self.log_threshold, paged, self.evidence.onset(winner), winner)
        if paged.any():
            self.evidence.reset(paged & ~self.holds)
            self._cap(paged & self.holds, score)
        return scores

    def _cap(self, mask: Flags, score: Floats) -> None:
        """Scale the evidence of these subjects down to their threshold: less evidence is valid evidence."""
        limit = self.log_threshold[mask, None]
        self.evidence.log_m[mask] -= score[mask, None] - limit
        self.evidence.log_c[mask] = np.minimum(self.evidence.log_c[mask], limit)

    def state(self) -> EvidenceState:
        """Return all that changes."""
        return self.evidence.state()

    def restore(self, state: EvidenceState) -> None:
        """Take over a state bit for bit; raises ValueError where its shape belongs to other subjects."""
        self.evidence.restore(state)


class RateDetector(OneSided):
    """Bernoulli e-SR for F rates against "the rate is at most its reference plus a tolerance".

    The null edge is the Clopper-Pearson upper bound of the reference rate plus the tolerance: the normal bound is 0
    at 0 of n.  For counts x of n the bet on q costs log e = x log(q/p) + (n - x) log((1-q)/(1-p)).  By hand: p = .1,
    q = .2, x = 3, n = 10 gives 3 log 2 + 7 log(8/9) = 1.255.
    """

    def __init__(
        self,
        successes: ArrayLike,
        trials: ArrayLike,
        tolerance: ArrayLike,
        eta: float,
        log_threshold: ArrayLike,
        phi: ArrayLike = 1.0,
        holds: ArrayLike = 0,
    ) -> None:
        """Reference successes [F] of trials [F]; eta is the error chance of one subject's bound."""
        x = np.atleast_1d(np.asarray(successes, np.float64))
        phi_f = np.broadcast_to(np.asarray(phi, np.float64), x.shape)
        n = np.broadcast_to(np.asarray(trials, np.float64), x.shape)
        if (x < 0).any() or (x > n).any() or (n <= 0).any():
            raise ValueError(f"a reference rate needs 0 <= successes <= trials and trials > 0, got {x} of {n}")
        upper = clopper_pearson_upper(x / phi_f, n / phi_f, eta)
        self.null_rate = np.minimum(upper + np.asarray(tolerance, np.float64), CEILING)
        # Rates that start from one count share their bets, as most of hundreds of features do.
        edges, self._bets = np.unique(self.null_rate, return_inverse=True)
        edge = edges[:, None]
        bet = np.minimum(np.array(FACTORS) * edge, np.maximum(CEILING, edge))
        self._log_hit = np.log(bet / edge)
        self._log_miss = np.log1p(-bet) - np.log1p(-edge)
        super().__init__((bet > edge)[self._bets], log_threshold, phi_f, FACTOR_WEIGHTS, holds)

    @property
    def log_hit(self) -> Floats:
        """Log e-value of a success for every bet, [F, bets]."""
        return np.asarray(self._log_hit[self._bets], np.float64)

    @property
    def log_miss(self) -> Floats:
        """Log e-value of a failure for every bet, [F, bets]."""
        return np.asarray(self._log_miss[self._bets], np.float64)

    def step(self, successes: ArrayLike, trials: ArrayLike, start: int, elapsed: float) -> RateScores:
        """Take the counts [F] of one pane; subjects without trials keep their evidence and get no start."""
        n = np.asarray(trials, np.float64)
        x = np.asarray(successes, np.float64)
        log_e = self.log_miss
        log_e *= (n - x)[:, None]
        # Of hundreds of rates few have a hit in a pane.
        hits = np.flatnonzero(x)
        log_e[hits] += x[hits, None] * self._log_hit[self._bets[hits]]
        return self.take(log_e, n > 0, start, elapsed)
