"""Whether a model that answers one of two or several is wrong more often, or its scores mean something else."""

import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.state import State
from stationkeeper.contracts.wire import SCORE_EDGES
from stationkeeper.monitor.core.budget import log_thresholds
from stationkeeper.monitor.core.detect import (
    ETA,
    EvidenceState,
    Flags,
    RateDetector,
    RateScores,
    RunningRate,
    RunningRateState,
    level_of_score,
)
from stationkeeper.monitor.core.finding import NONE, WARN, Finding
from stationkeeper.monitor.core.performance.calibration import Calibration, CalibrationState
from stationkeeper.monitor.core.performance.estimate import with_scores
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import Counts, Labels, rank_grid

ERROR_RATE = "error_rate"
CALIBRATION = "calibration"
"""The subjects of findings: how often the model is wrong, and P(positive | score)."""

REGIONS = 8
"""Score regions in which P(positive | score) is watched, each with about an eighth of the labels. 500 labels leave an
error of 13 points each (docs/statistics.md, "Labels"). At half a change at high scores alone is diluted; at double each
region learns half as fast, and the budget is split twice as often."""

TOLERANCE = 0.01
"""How far a rate of errors or positives may rise unremarked: a point. STATISTICS.md, section 5: without tolerance a
rise from .10 to .15 is found after 441 labels at 1/alpha 1e4, with .02 after 1 056. At half, the reference's own wear
pages; at double, two points of accuracy are lost unseen."""

CONCEPT_FLOOR = 0.005
"""Share of all labelled traffic whose truth may change within one score region before the concept has: a region of a
hundredth of the traffic would otherwise page for rows that nobody misses (it did, on a day without any shift)."""

# For a region below a hundredth of the labels the floor would pass .5 and leave no rate that is too high.
_MOST_FLOOR = 0.5

MIN_LABELS = 50
"""Labels below which performance is shown as unknown: a rate of 10 % is then known to lie between 4 % and 21 %.
At half its upper end is 28 %; at double a model with ten labels a day says nothing for ten days."""


@dataclass(frozen=True, slots=True, eq=False)
class OutcomePane:
    """Predictions of one cohort that met their label: counts add.

    ``start`` and ``end`` are the clock units of the labels' arrival; ``scored`` int64[32, 2] by shared score bin and
    label; ``confusion`` int64[4] true positive, false positive, false negative, true negative. ``selective`` says that
    labels come for some scores rather than others: then the error rate of the labelled is not that of all, while the
    share of positives at each score still holds.
    """

    start: int
    end: int
    scored: Counts
    confusion: Counts
    last_row: int | None = None
    first_row: int | None = None
    selective: bool = False

    @property
    def rows(self) -> int:
        """Labelled predictions."""
        return int(self.confusion.sum())


class PerformanceState(State, frozen=True):
    """Evidence of both detectors; builds before the running rate lack its state, and it starts from the reference.

    So does the calibration, which those before December 2026 lack.
    ``labels`` is the mark of the labelled reference that it speaks of (``labels_mark``); builds before told none.
    """

    error: EvidenceState
    concept: EvidenceState
    running: RunningRateState | None = None
    labels: int | None = None
    calibration: CalibrationState | None = None


def labels_mark(labels: Labels) -> int:
    """Return a number that tells labelled references apart, 32 bits: the digest of a reference leaves them out.

    Neither phi, which is learned, nor sums, which nothing is judged by, are in it.
    """
    return zlib.crc32(labels.scored.tobytes() + labels.confusion.tobytes())


class Performance:
    """Bernoulli e-SR on the error rate, and on P(positive | score region) both ways, against the labelled reference.

    The error rate can rise from new inputs alone (kind ``performance``); a region's positive share cannot, as long as
    P(y | score) holds, so it means a changed concept (kind ``concept_drift``). Half of the budget each; of that,
    half to the reference as it was counted and half to all labels so far (`running_rate.RunningRate`), which finds more
    where the reference had few.
    """

    def __init__(
        self, labels: Labels, alpha: float, segments: int = 1, tolerance: float = TOLERANCE, key: bytes = b""
    ) -> None:
        """``key`` names the draws: model, version and segment."""
        self.labels = labels
        eta = ETA / (2 * segments)
        # Half to the error rate, half to the concept; each has a fixed and a running reference.
        threshold = log_thresholds(alpha / 2, [1.0], 2)
        wrong = int(labels.confusion[1] + labels.confusion[2])
        self.error = RateDetector([wrong], [labels.rows], [tolerance], eta, threshold, labels.phi)
        told = with_scores(labels.scored, labels)
        totals = told.sum(1)
        self._region = rank_grid(totals, REGIONS)
        self.regions = int(self._region.max()) + 1
        hits, rows = self._successes(told)
        usable = rows > 0
        limits = log_thresholds(alpha / 2, np.ones(len(hits)), 2)
        # A region without reference rows gets a rate that nothing exceeds, so that positions stay what they are.
        edge = np.where(usable, hits, 1)
        floor = np.minimum(CONCEPT_FLOOR * max(labels.rows, 1) / np.maximum(rows, 1), _MOST_FLOOR)
        self.concept = RateDetector(
            edge, np.maximum(rows, 1), np.maximum(tolerance, floor), eta / len(hits), limits, labels.phi
        )
        self._known = usable
        self.running = RunningRate(
            np.append(wrong, np.where(usable, hits, 0)),
            np.append(labels.rows, rows),
            np.append(tolerance, np.maximum(tolerance, floor)),
            np.append(threshold, limits),
            labels.phi,
            key,
        )
        self.calibration = Calibration(labels, tolerance)

    def step(self, pane: OutcomePane, elapsed: float) -> list[Finding]:
        """Take the labels that arrived in one closed pane."""
        if not pane.rows:
            return []
        counted, of = self._counts(pane.scored, pane.confusion)
        if pane.selective:
            counted[0] = of[0] = 0
        running = self.running.step(counted, of, pane.start, elapsed)
        error = self.error.step(counted[:1], of[:1], pane.start, elapsed)
        found = _leading(error, running, slice(0, 1))
        out = self._findings(found, (ERROR_RATE,), VerdictKind.PERFORMANCE, Cause.ERROR_RATE, pane)
        concept = self.concept.step(counted[1:], of[1:], pane.start, elapsed)
        concept = _leading(concept, running, slice(1, None))
        # All regions are one subject: the verdict names the one with most evidence.
        named = self._findings(concept, self._names(), VerdictKind.CONCEPT_DRIFT, Cause.CONCEPT, pane)
        out += sorted(named, key=lambda f: -f.strength)[:1]
        self.calibration.add(pane.start, pane.scored, calm=all(one.level < WARN for one in out))
        return out

    def margin(self, subject: str) -> float:
        """Return how far a subject's evidence lies above its page threshold, in nats; of the region with most."""
        detector, part = (self.error, slice(0, 1)) if subject == ERROR_RATE else (self.concept, slice(1, None))
        score = np.maximum(detector.evidence.score(), self.running.evidence.score()[part])
        return float((score - detector.log_threshold).max())

    def hold(self, subjects: Collection[str], onset: int, since: Callable[[], tuple[Counts, Counts]]) -> None:
        """Keep what these subjects drifted to out of what is learned; ``since`` gives the labels since the onset."""
        if subjects:
            self.calibration.withdraw(onset)
        mask = self._mask(subjects)
        new = mask & ~self.running.frozen
        if new.any():
            self.running.retract(*self._counts(*since()), new)
        over = self.running.frozen & ~mask
        if over.any():
            self.running.evidence.reset(over)
        self.running.frozen = mask

    def _mask(self, subjects: Collection[str]) -> Flags:
        mask = np.full(len(self.running.hits), CALIBRATION in subjects)
        mask[0] = ERROR_RATE in subjects
        return mask

    def _counts(self, scored: Counts, confusion: Counts) -> tuple[Counts, Counts]:
        """Errors, then positives and negatives of the known regions, and the rows behind each."""
        hits, rows = self._successes(with_scores(scored, self.labels))
        wrong, total = confusion[1] + confusion[2], confusion.sum()
        return np.append(wrong, np.where(self._known, hits, 0)), np.append(total, np.where(self._known, rows, 0))

    def state(self) -> PerformanceState:
        """Return what ``restore`` needs."""
        return PerformanceState(
            error=self.error.state(),
            concept=self.concept.state(),
            running=self.running.state(),
            labels=labels_mark(self.labels),
            calibration=self.calibration.state(),
        )

    def restore(self, state: PerformanceState) -> None:
        """Take over the detectors whose ``state`` this was; evidence against other labels is none against these."""
        # Of builds that told no labels the shape alone says that they were others.
        other = state.concept.log_m.shape != self.concept.evidence.log_m.shape
        if other or state.labels not in {None, labels_mark(self.labels)}:
            return
        self.error.restore(state.error)
        self.concept.restore(state.concept)
        # Evidence of builds before it starts from the reference, as on the first day.
        if state.running is not None:
            self.running.restore(state.running)
        if state.calibration is not None:
            self.calibration.restore(state.calibration)

    def _findings(
        self, scores: RateScores, names: tuple[str, ...], kind: VerdictKind, cause: Cause, pane: OutcomePane
    ) -> list[Finding]:
        out = []
        for i, name in enumerate(names):
            level = level_of_score(float(scores.score[i]), float(scores.log_threshold[i]))
            if level == NONE:
                continue
            subject = ERROR_RATE if kind is VerdictKind.PERFORMANCE else CALIBRATION
            out.append(
                Finding(
                    subject=subject,
                    type=SubjectType.PERFORMANCE,
                    kind=kind,
                    level=level,
                    score=float(scores.score[i]),
                    threshold=float(scores.log_threshold[i]),
                    onset=int(scores.onset[i]),
                    rows=pane.rows,
                    cause=cause,
                    evidence={"region": name} if subject == CALIBRATION else {},
                )
            )
        return out

    def _successes(self, scored: Counts) -> tuple[Counts, Counts]:
        """Positives, then negatives, of each score region: int64[2 R], and the rows behind them."""
        table = np.zeros((self.regions, 2), np.int64)
        # `np.add.at`, because several bins fall into one region: plain indexing would keep the last alone.
        np.add.at(table, self._region, scored)
        rows = table.sum(1)
        return np.concatenate([table[:, 1], table[:, 0]]), np.concatenate([rows, rows])

    def _names(self) -> tuple[str, ...]:
        edges = [0.0, *SCORE_EDGES.tolist(), 1.0]
        names = []
        for region in range(self.regions):
            bins = np.flatnonzero(self._region == region)
            names.append(f"scores {edges[bins[0]]:.3g} to {edges[bins[-1] + 1]:.3g}")
        what = "right answers" if self.labels.several else "positives"
        return tuple([f"{name}: more {what}" for name in names] + [f"{name}: fewer {what}" for name in names])


def _leading(fixed: RateScores, running: RateScores, part: slice) -> RateScores:
    """The scores of whichever of two detectors with one threshold has more evidence, subject by subject."""
    # The leading one, and its own onset with it: that of the other would date another change. Both have half of the
    # budget, so that the larger of the two keeps to the whole.
    ahead = running.score[part] > fixed.score
    return RateScores(
        np.where(ahead, running.score[part], fixed.score),
        fixed.log_threshold,
        fixed.paged | running.paged[part],
        np.where(ahead, running.onset[part], fixed.onset),
        np.where(ahead, running.row[part], fixed.row),
    )
