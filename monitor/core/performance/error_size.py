"""Whether the errors of a regression grew: bets on the mean of a bounded loss, counted by octave of the error."""

import math
from collections.abc import Callable, Collection

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.monitor.core.budget import log_thresholds
from stationkeeper.monitor.core.detect import ETA, FACTOR_WEIGHTS, FACTORS, OneSided, level_of_score
from stationkeeper.monitor.core.finding import NONE, Finding
from stationkeeper.monitor.core.performance.performance import OutcomePane, PerformanceState, labels_mark
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import (
    Counts,
    Labels,
    error_middles,
    error_tops,
)

ABSOLUTE_ERROR = "absolute_error"
"""The subject of findings on a regression: how far off the model is."""

GROWTH = 0.05
"""How much of itself the mean error may grow unremarked, as a share: a twentieth, about what a point of errors is to a
model that is wrong in a fifth. At half, the reference's own wear pages; at double, errors that grew by a tenth stay
unseen."""

_CAP_SHARE = 0.99
_CAP_OCTAVES = 1
"""The loss stops growing one octave above the one that 99 % of the reference's errors lie below. A single absurd label
then counts at most twice what a large error does; an octave more halves what every bet can win from the usual ones, one
less is blind to errors that double where they are largest."""

# No bet goes beyond: at 1 a row without error would ruin it for good.
_CEILING = 0.95


def capped_loss(scored: Counts) -> Floats:
    """Return the loss of each octave of the error, float64[64]: its middle over the cap, at most 1.

    By hand: errors all in one octave give it .375 (its middle, .75 of its top, over the cap of twice that).
    """
    counts, tops = scored.ravel(), error_tops()
    known = np.searchsorted(np.cumsum(counts), _CAP_SHARE * counts.sum())
    cap = tops[min(int(known) + _CAP_OCTAVES, len(tops) - 1)]
    return np.asarray(np.minimum(error_middles() / cap, 1.0), np.float64)


def mean_bound(counts: Counts, loss: Floats, rows: float, eta: float) -> float:
    """Return the upper bound of a mean loss in [0, 1] that holds with chance 1 - eta: empirical Bernstein.

    ``mean + sqrt(2 v log(2 / eta) / n) + 7 log(2 / eta) / (3 (n - 1))`` (Maurer and Pontil, COLT 2009), with n the
    effective ``rows``. By hand: 101 rows, half 0 and half 1, eta .02: .5 + .152 + .107 is .759.
    """
    total = max(int(counts.sum()), 1)
    mean = float(counts @ loss) / total
    variance = float(counts @ (loss - mean) ** 2) / max(total - 1, 1)
    log = math.log(2 / eta)
    return min(mean + math.sqrt(2 * variance * log / max(rows, 1)) + 7 * log / (3 * max(rows - 1, 1)), _CEILING)


class ErrorSize:
    """e-SR on "the mean loss is at most the reference's plus a twentieth", for numbers; the face of ``Performance``.

    A bet multiplies by 1 + b (x - m) for a row of loss x, m the edge of the null: its mean is at most 1 whatever the
    distribution (Waudby-Smith and Ramdas, JRSS B 2024). The bets are those of a rate that rises to q,
    b = (q / m - 1) / (1 - m), which is that of ``RateDetector`` where the loss is 0 or 1. Counts by octave are all it
    reads, so panes add and batches change nothing.
    """

    def __init__(self, labels: Labels, alpha: float, segments: int = 1) -> None:
        self.labels = labels
        counts = labels.scored.ravel()
        self._loss = capped_loss(labels.scored)
        rows = max(int(counts.sum()), 1)
        self._usual = float(counts @ self._loss) / rows
        bound = mean_bound(counts, self._loss, rows / labels.phi, ETA / segments)
        # The bound and not the mean: a reference of few rows may lie low by chance, and its luck must not page.
        edge = min(bound + GROWTH * self._usual, _CEILING)
        bets = np.minimum(np.array(FACTORS) * edge, max(_CEILING, edge))
        stake = (bets / edge - 1) / (1 - edge)
        self._log_e = np.log1p(stake[:, None] * (self._loss - edge)[None, :])
        threshold = log_thresholds(alpha, [1.0])
        self.error = OneSided((bets > edge)[None, :], threshold, labels.phi, FACTOR_WEIGHTS)

    def step(self, pane: OutcomePane, elapsed: float) -> list[Finding]:
        """Take the labels that arrived in one closed pane."""
        # Labels that come for some scores only are no sample of the errors.
        if not pane.rows or pane.selective:
            return []
        counts = pane.scored.ravel()
        scores = self.error.take(
            np.asarray(self._log_e @ counts, np.float64)[None, :], np.array([True]), pane.start, elapsed
        )
        score, threshold = float(scores.score[0]), float(scores.log_threshold[0])
        level = level_of_score(score, threshold)
        if level == NONE:
            return []
        return [
            Finding(
                subject=ABSOLUTE_ERROR,
                type=SubjectType.PERFORMANCE,
                kind=VerdictKind.PERFORMANCE,
                level=level,
                score=score,
                threshold=threshold,
                onset=int(scores.onset[0]),
                rows=pane.rows,
                cause=Cause.ERROR_SIZE,
            )
        ]

    def margin(self, subject: str) -> float:
        """Return how far the evidence lies above its page threshold, in nats; ``subject`` is the only one."""
        del subject
        return float((self.error.evidence.score() - self.error.log_threshold).max())

    def hold(self, subjects: Collection[str], onset: int, since: Callable[[], tuple[Counts, Counts]]) -> None:
        """Keep nothing back: nothing is learned from what was seen."""

    def state(self) -> PerformanceState:
        """Return what ``restore`` needs; what a rate has beside, numbers do not."""
        # Twice, because the field has no default: a state without it could not be read by builds before.
        mine = self.error.state()
        return PerformanceState(error=mine, concept=mine, labels=labels_mark(self.labels))

    def restore(self, state: PerformanceState) -> None:
        """Take over the detector whose ``state`` this was; evidence against other labels is none against these."""
        if state.labels in {None, labels_mark(self.labels)}:
            self.error.restore(state.error)
