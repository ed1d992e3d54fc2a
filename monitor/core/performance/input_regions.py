"""Whether a score means something else in a part of the inputs, though not on the whole: P(positive | score, input)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.wire import SCORE_EDGES
from stationkeeper.monitor.core.budget import log_thresholds
from stationkeeper.monitor.core.detect import (
    CEILING,
    ETA,
    FACTOR_WEIGHTS,
    FACTORS,
    EvidenceState,
    OneSided,
    clopper_pearson_upper,
    level_of_score,
)
from stationkeeper.monitor.core.finding import NONE, Finding
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import Counts, Labels, isotonic, rank_grid

CALIBRATION_BY_INPUT = "calibration by input"
"""The subject of findings: P(positive | score) within a group of a feature."""

SCORE_REGIONS = 4
"""Score regions within each group of a feature: half of those of all rows, as each group has a quarter of the labels.
At half a change at high scores alone is diluted; at double each cell learns half as fast."""

# A rate can rise by half of the rows at most: a cell below a hundredth of the labels would else have no rate that is
# too high.
_MOST_FLOOR = 0.5
# A share of none has no logarithm; a millionth is below every share that some rows could show.
_NOTHING = 1e-6


class InputRegions:
    """Bernoulli e-SR on P(positive | score region, group of a feature), both ways, against the labelled reference.

    Rows move between cells, and between the scores of a cell, freely under a covariate shift; at a score and within a
    group the share of positives cannot change as long as P(y | score, input) holds. So a change is found that leaves
    the error rate and P(y | score) as they were, such as a feature that begins to mean its opposite.

    The null of a row of score bin b in a cell is a share of at most h = m c: c the reference's isotonic share of the
    bin, m what a cell of the reference has of positives at most (Clopper-Pearson, its tolerance added) over what its
    scores let expect. A bet on q = g h multiplies by q / h for a positive and (1 - q) / (1 - h) for another. By hand:
    c = .2, a cell of the reference with .3 at most where .25 is expected: h = .24; a bet on twice that brings log 2 for
    a positive. ``table`` int64[F, 4, R, 2] are the reference's labelled rows by feature, group, score region and label.
    """

    def __init__(
        self, labels: Labels, names: Sequence[str], alpha: float, segments: int, tolerance: float, floor: float
    ) -> None:
        """``names`` are the groups, feature after feature; ``alpha`` is the share of the budget of pages.

        ``floor`` is the share of all labelled traffic whose truth may change within one cell before anything is said.
        """
        self._names, self._several = names, labels.several
        self._grid = score_grid(labels)
        self.table = region_table(labels)
        hits, rows = _rates(self.table)
        self._known = rows > 0
        pool, positives, of = isotonic(labels.scored)
        # Jeffreys' share: a pool without positives is not sure to have none.
        share = ((positives + 0.5) / (of + 1.0))[pool]
        both = np.stack([share, 1 - share])
        self._edge = self._edges(labels, both, hits, rows, segments, np.maximum(tolerance, _least(labels, rows, floor)))
        bet = np.minimum(np.array(FACTORS) * self._edge[..., None], np.maximum(CEILING, self._edge[..., None]))
        self._log_hit = np.log(bet / self._edge[..., None])
        self._log_miss = np.log1p(-bet) - np.log1p(-self._edge[..., None])
        live = self._by_region(bet - self._edge[..., None]) > 0
        self.detector = OneSided(
            live & self._known[:, None], log_thresholds(alpha, np.ones(len(hits)), 1), labels.phi, FACTOR_WEIGHTS
        )

    def cells(self, regions: Counts) -> Counts:
        """Return rows int64[F, 4, 32, 2] by score region, as ``table`` has them."""
        return by_score_region(regions, self._grid)

    def step(self, regions: Counts, start: int, rows: int, elapsed: float) -> list[Finding]:
        """Take the labels int64[F, 4, 32, 2] of one pane; at most one finding, of the cell with most evidence."""
        _, of = _rates(self.cells(regions))
        # Positives for what may rise, then the others for what may fall, beside all that are not they.
        hit = np.stack([regions[..., 1], regions[..., 0]])[..., None]
        log_e = self._by_region(hit * self._log_hit + hit[::-1] * self._log_miss)
        scores = self.detector.take(log_e, self._known & (of > 0), start, elapsed)
        i = int(np.argmax(scores.score - scores.log_threshold))
        level = level_of_score(float(scores.score[i]), float(scores.log_threshold[i]))
        if level == NONE:
            return []
        return [
            Finding(
                subject=CALIBRATION_BY_INPUT,
                type=SubjectType.PERFORMANCE,
                kind=VerdictKind.CONCEPT_DRIFT,
                level=level,
                score=float(scores.score[i]),
                threshold=float(scores.log_threshold[i]),
                onset=int(scores.onset[i]),
                rows=rows,
                cause=Cause.CONCEPT,
                evidence={"region": self.name(i), "cell": i % (self.table.size // 2)},
            )
        ]

    def _edges(
        self, labels: Labels, share: Floats, hits: Counts, rows: Counts, segments: int, tolerance: Floats
    ) -> Floats:
        """The most a row's share of positives may be, float64[2, F, 4, 32]: both ways, by feature, group, bin."""
        seen = labels.sums.regions.sum(-1)
        expected = _over_regions((seen * share[:, None, None, :])[..., None], self._grid)[..., 0]
        eta = ETA / (2 * segments * len(hits))
        upper = clopper_pearson_upper(hits / labels.phi, np.maximum(rows, 1) / labels.phi, eta) + tolerance
        most = upper * np.maximum(rows, 1) / np.maximum(expected.reshape(-1), _NOTHING)
        edge = share[:, None, None, :] * most.reshape(expected.shape)[..., self._grid]
        return np.asarray(np.clip(edge, _NOTHING, CEILING), np.float64)

    def _by_region(self, values: Floats) -> Floats:
        """Values by direction, feature, group, bin and bet, summed over the bins of a region: float64[cells, bets]."""
        return _over_regions(values, self._grid).reshape(-1, values.shape[-1])

    def margin(self) -> float:
        """Return how far the evidence of the leading cell lies above its page threshold, in nats."""
        return float((self.detector.evidence.score() - self.detector.log_threshold).max())

    def name(self, i: int) -> str:
        """Return a rate as a person reads it: the group, which of its scores, and which way."""
        down, cell = divmod(i, self.table.size // 2)
        group, region = divmod(cell, self.table.shape[2])
        edges, bins = [0.0, *SCORE_EDGES.tolist(), 1.0], np.flatnonzero(self._grid == region)
        what = "right answers" if self._several else "positives"
        scores = f"scores {edges[bins[0]]:.3g} to {edges[bins[-1] + 1]:.3g}"
        return f"{self._names[group]}, {scores}: {'fewer' if down else 'more'} {what}"

    def state(self) -> EvidenceState:
        """Return what ``restore`` needs."""
        return self.detector.state()

    def restore(self, state: EvidenceState) -> None:
        """Take over the evidence whose ``state`` this was; that of other regions begins anew."""
        if state.log_m.shape == self.detector.evidence.log_m.shape:
            self.detector.restore(state)


def score_grid(labels: Labels) -> Counts:
    """Return the score region of each shared score bin, int64[32]: at most ``SCORE_REGIONS`` of about equal mass."""
    return rank_grid(labels.scored.sum(1), SCORE_REGIONS)


def by_score_region(regions: Counts, grid: Counts) -> Counts:
    """Return rows int64[F, 4, 32, 2] by score region int64[F, 4, R, 2]."""
    return np.rint(_over_regions(regions.astype(np.float64), grid)).astype(np.int64)


def _over_regions(values: Floats, grid: Counts) -> Floats:
    """Values float64[..., 32, k] by score bin, summed over the bins of each region."""
    hot = (grid[:, None] == np.arange(int(grid.max()) + 1)).astype(np.float64)
    return np.asarray(np.einsum("...bk,br->...rk", values, hot), np.float64)


def region_table(labels: Labels) -> Counts:
    """Return the reference's labelled rows int64[F, 4, R, 2] by feature, group, score region and label."""
    return by_score_region(labels.sums.regions, score_grid(labels))


def explain_by_input(labels: Labels, cells: Counts, cell: int, region: str) -> tuple[str, float, Mapping[str, Any]]:
    """Return the sentence, the change of the share of positives, and the numbers, of one cell of the regions.

    ``cells`` int64[F, 4, R, 2] are the labelled rows since the onset. By hand: 41 of 100 on the reference and 62 of 100
    now: "positive in 62.0% of 100 labelled rows, 41.0% on the reference".
    """
    usual, now = (table.reshape(-1, 2)[cell] for table in (region_table(labels), cells))
    before, met = (float(one[1]) / max(int(one.sum()), 1) for one in (usual, now))
    what = "right" if labels.several else "positive"
    text = f"{region}: {what} in {met:.1%} of {now.sum()} labelled rows, {before:.1%} on the reference"
    return text, met - before, {"positive_before": before, "positive_now": met, "labels": int(now.sum())}


def _least(labels: Labels, rows: Counts, floor: float) -> Floats:
    """The share of each cell's rows that ``floor`` of all labelled rows is, float64[cells]."""
    return np.asarray(np.minimum(floor * max(labels.rows, 1) / np.maximum(rows, 1), _MOST_FLOOR), np.float64)


def _rates(table: Counts) -> tuple[Counts, Counts]:
    """Positives, then negatives, of each cell, int64[2 F 4 R], and the rows behind them."""
    flat = table.reshape(-1, 2)
    rows = flat.sum(1)
    return np.concatenate([flat[:, 1], flat[:, 0]]), np.concatenate([rows, rows])
