"""Label shift: more or fewer positives, seen from scores alone while each class looks as it did."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stationkeeper.contracts.wire import score_bin
from stationkeeper.monitor.core.detect.evalue import finite_reference, huber_clip
from stationkeeper.monitor.core.detect.plan import ETA
from stationkeeper.monitor.core.detect.quantile import normal_isf
from stationkeeper.monitor.core.detect.rate import OneSided, RateScores
from stationkeeper.monitor.core.reference import Counts, Labels, NumericCells, ReferenceSubject, isotonic

Floats = NDArray[np.float64]

ODDS = (0.5, 0.7, 1.4, 2.0)
"""Alternatives: the odds of a positive times these. From 28 % positives, 1.4 is 35 % and 2 is 44 %. Nearer ones lie
inside the floor of two rows in a hundred for all but near-perfect scores, further ones are found by these at once."""

LABEL_SHIFT_FLOOR = 0.5
"""Of the effect floor of a change of any shape: half. A mixture of two humps moves little when their shares do: 28 % to
40 % positives move 5 % of the scores of a model with an AUC of .8, and 1.2 points of the mass lie beyond a floor of 2 %
(`python -m benchmarks labels`: 13 of 16 nats after two days; at half 16 to 31 hours)."""

# Rounds of estimating the share of positives: each shrinks the error by a constant share, and 50 leave none that shows.
_ROUNDS = 50
# Standard deviations of Pearson's chi-square above its mean from which a mixture of both classes does not fit. At two a
# true label shift would lose its name in one of forty incidents. No bound tells it from inputs that move together:
# six of them by .2 sd, which is half the spread of their score's sum, still fit after 5 000 rows. So what is told
# holds on a condition, and says so.
_UNFIT = 4.0
# The normal quantile of a 95 % interval, as everywhere in charts.
_TWO_SIDED = 1.96
# Stands for 0 in denominators, as in `quantile`.
_TINY = 1e-300
# Labels of each class from which its scores are known: below, a bin's share of positives is noise.
_FEWEST = 50


class PositivesEstimate(NamedTuple):
    """Share of positives on the reference, and now if each class looks as it did; whether that mixture is what came.

    ``low`` to ``high`` is the 95 % interval of ``now`` by the rows of both sides. ``by_score`` is the share now if a
    score means what it did instead: inputs that moved, which scores alone often cannot tell apart.
    """

    before: float
    now: float
    fits: bool
    low: float
    high: float
    by_score: float


def tells_label_shift(subject: ReferenceSubject | None, labels: Labels | None) -> bool:
    """Return whether the reference knows the scores of both classes of a binary model."""
    # What a regression counts by octave of its error looks like counts of two classes.
    if subject is None or labels is None or labels.numeric or not isinstance(subject.cells, NumericCells):
        return False
    return int(labels.scored.sum(0).min()) >= _FEWEST


class LabelShift:
    """One e-detector over four other shares of positives, each a likelihood ratio of the score's cells.

    If the classes keep their scores and only their shares change from pi to pi', a score cell with share c of positives
    grows by e = c pi'/pi + (1 - c)(1 - pi')/(1 - pi) (Lipton, Wang and Smola 2018; Saerens, Latinne and Decaestecker
    2002). The bets lie in this direction alone, so they find a fifth of the movement that a change of any shape must
    have. By hand: c = (.1, .9) at pi = .5 and pi' = .7 give .68 and 1.32.
    """

    def __init__(
        self, subject: ReferenceSubject, labels: Labels, delta: float, log_threshold: float, segments: int = 1
    ) -> None:
        """``subject`` is the prediction's, ``delta`` its effect floor."""
        self._grid = subject.grid
        positives = labels.scored.sum(0)
        self.before = float(positives[1] / positives.sum())
        self._share = _positive_share(subject, labels)
        strata: Counts = subject.strata if len(subject.strata) else subject.counts[None, :]
        counts = self._coarse(strata).astype(np.float64)
        self._pooled = self._coarse(subject.counts[None, :])[0].astype(np.float64)
        p = (counts + 0.5) / (counts + 0.5).sum(1, keepdims=True)
        ratio = self._ratios(_other_shares(self.before))
        q = p[:, None, :] * ratio
        q /= q.sum(2, keepdims=True)
        e, outside = huber_clip(q, p[:, None, :], np.full(q.shape[:2], delta))
        live = np.asarray(outside, np.bool_)
        phi = self._phi = subject.inflation
        z = normal_isf(ETA / (segments * len(ODDS) * len(strata)))
        self._log_e = finite_reference(e, p[:, None, :], counts.sum(1)[:, None], z, phi)
        self._log_e = np.where(live[..., None], self._log_e, 0.0)
        self.detector = OneSided(np.atleast_2d(live.all(0)), log_threshold, phi)

    @property
    def strata(self) -> int:
        """Hours that are told apart."""
        return len(self._log_e)

    def step(self, cells: Counts, stratum: int, start: int, elapsed: float) -> RateScores:
        """Take the prediction's cells int64[cells] of a closed pane."""
        counts = self._coarse(cells[None, :])[0]
        log_e = (self._log_e[stratum] @ counts)[None, :]
        return self.detector.take(log_e, np.array([counts[:-1].sum() > 0]), start, elapsed)

    def estimate(self, cells: Counts) -> PositivesEstimate:
        """Return the share of positives that explains these cells best (maximum likelihood by EM), and how well.

        The interval is the likelihood's: with d = c / pi - (1 - c) / (1 - pi) by cell, a row tells I = sum d^2 p / e
        of the share (p the reference's cells), so the variance is phi (1 / n + 1 / reference rows) / I.
        """
        counts = self._coarse(cells[None, :])[0][:-1].astype(np.float64)
        now, before = counts / max(counts.sum(), 1.0), self._pooled[:-1] / max(self._pooled[:-1].sum(), 1.0)
        share = self.before
        for _ in range(_ROUNDS):
            positive = self._share[:-1] * share / self.before
            negative = (1 - self._share[:-1]) * (1 - share) / (1 - self.before)
            # Inside (0, 1), where the odds are finite; a share of one in a million is none.
            share = float(np.clip(now @ (positive / (positive + negative)), 1e-6, 1 - 1e-6))
        ratio = self._ratios(np.array([share]))[0, :-1]
        mixed = before * ratio
        mixed /= max(mixed.sum(), _TINY)
        per_row = (1 / max(counts.sum(), 1.0) + 1 / max(self._pooled[:-1].sum(), 1.0)) * self._phi
        noise = mixed * per_row
        used = mixed > 0
        misfit = float(((now - mixed)[used] ** 2 / noise[used]).sum())
        # One degree went into the sum of the cells, one into the share that was fitted.
        freedom = max(int(used.sum()) - 2, 1)
        slope = self._share[:-1] / self.before - (1 - self._share[:-1]) / (1 - self.before)
        told = float((before * slope**2 / ratio).sum())
        half = _TWO_SIDED * float(np.sqrt(per_row / max(told, _TINY)))
        return PositivesEstimate(
            before=self.before,
            now=share,
            fits=misfit <= freedom + _UNFIT * np.sqrt(2 * freedom),
            low=max(share - half, 0.0),
            high=min(share + half, 1.0),
            by_score=float(now @ self._share[:-1]),
        )

    def _coarse(self, counts: Counts) -> Counts:
        out = np.zeros((len(counts), int(self._grid.max()) + 1), np.int64)
        np.add.at(out.T, self._grid, counts.T)
        return out

    def _ratios(self, shares: Floats) -> Floats:
        """Growth of each coarse cell at other shares of positives, float64[shares, cells]; missing stays."""
        c, pi, other = self._share[None, :], self.before, shares[:, None]
        ratio = c * other / pi + (1 - c) * (1 - other) / (1 - pi)
        ratio[:, -1] = 1.0
        return np.asarray(ratio, np.float64)


def _other_shares(share: float) -> Floats:
    odds = np.array(ODDS) * share / (1 - share)
    return np.asarray(odds / (1 + odds), np.float64)


def _positive_share(subject: ReferenceSubject, labels: Labels) -> Floats:
    """P(positive | coarse cell of the score), float64[coarse], from the labels by shared score bin; rising by score."""
    cells = subject.cells
    if not isinstance(cells, NumericCells):
        raise TypeError(f"{subject.name}: scores are numbers, this subject counts {subject.kind} values")
    pool, positives, rows = isotonic(labels.scored)
    prior = float(positives.sum() / rows.sum())
    # One row of the prior beside those of a pool, so that no score is sure: of a sure one a single row would end a bet.
    by_bin = ((positives + prior) / (rows + 1))[pool]
    # A fine cell lies in the bin of its middle; bins of the tails are wider than cells.
    bounds = np.concatenate([[cells.low], cells.edges, [cells.high]])
    middle = np.clip(0.5 * (bounds[1:] + bounds[:-1]), 0.0, 1.0)
    fine = by_bin[score_bin(middle)]
    # Far below a row, so that a coarse cell without any has the mean of its fine ones.
    mass = subject.counts[:-1] + 1e-9
    at = subject.grid[:-1]
    share = np.bincount(at, weights=mass * fine) / np.bincount(at, weights=mass)
    return np.append(share, prior)
