"""Traces: shares of rows without a value that rise by less than a page tolerates, named within days."""

import numpy as np

from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.budget import level_of, log_thresholds
from stationkeeper.monitor.core.detect import RateScores, RunningRate, RunningRateState
from stationkeeper.monitor.core.finding import WARN, Finding
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.core.reference import QUALITY, Counts, Reference

TRACE_SHARE = 0.2
"""Share of the quality budget: a fifth costs the rates that page log 1.25 = .22 nats and traces log 5 = 1.6, which
they have days for."""

TRACE_TOLERANCE = 0.0005
"""How far such a share may rise unremarked: half a row in a thousand. Nulls of .1 % that become .5 % are then told
within a day at 1 000 rows an hour (`python -m benchmarks joint`); at double after days, at none for a row in ten
thousand, which nobody mends."""

_CHECKS = (Check.ABSENT, Check.NULL)

# Rows that are judged together: a step over hundreds of rates costs half a millisecond whatever it holds, which a pane
# of one minute is not worth. Chosen: at half the cost doubles, at double a quiet model's rise is dated a day late.
_TOGETHER = 500


class TracesState(State, frozen=True):
    """The running rates; int64[3, rates]: when what speaks for a rise began, and hits and rows since then.

    ``waiting`` int64[rates] are hits of panes not judged yet, with their rows, budget time and first start.
    """

    rates: RunningRateState
    since: Counts
    waiting: Counts
    rows: int
    elapsed: float
    start: int


class Traces:
    """Running rates of the absent and the null rows of each subject, beside the rates that page; they only warn.

    The rates that page tolerate half a point, for sources wobble by that much. These say what lies below, once, so that
    a source that loses one row in two hundred is not lost itself. They compare with all rows before and not with the
    reference: ten nulls in 10 000 rows may stand for three in a thousand, which would hide what is looked for.
    """

    def __init__(self, reference: Reference, alpha: float, key: bytes) -> None:
        """``alpha`` is the share of the budget; ``key`` names the draws."""
        self._plan = [(subject, check) for subject in reference.subjects for check in _CHECKS]
        self._at = np.array([place.counter(check) for place in reference.layout.places for check in _CHECKS], np.int64)
        rows = [max(subject.rows, 1) for subject, _ in self._plan]
        known = zip(self._plan, rows, strict=True)
        hits = [min(int(subject.quality[QUALITY.index(check)]), most) for (subject, check), most in known]
        many = len(self._plan)
        limits = log_thresholds(alpha, np.ones(many))
        self.detector = RunningRate(hits, rows, TRACE_TOLERANCE, limits, key=key)
        self._since: Counts = np.zeros((3, many), np.int64)
        self._begin()

    def _begin(self) -> None:
        self._waiting: Counts = np.zeros(len(self._plan), np.int64)
        self._rows, self._elapsed, self._start = 0, 0.0, 0

    def step(self, pane: Pane, elapsed: float) -> list[Finding]:
        """Take a closed pane with rows; they are judged ``_TOGETHER`` and more at a time."""
        if not self._rows:
            self._start = pane.start
        self._waiting += np.minimum(pane.counts[self._at], pane.rows)
        self._rows += pane.rows
        self._elapsed += elapsed
        return self._judge() if self._rows >= _TOGETHER else []

    def _judge(self) -> list[Finding]:
        hits, trials = self._waiting, self._rows
        scores = self.detector.step(hits, np.full(len(hits), trials), self._start, self._elapsed)
        onset, counted, rows = self._since
        begun = scores.onset != onset
        self._since = np.stack([scores.onset, np.where(begun, 0, counted) + hits, np.where(begun, 0, rows) + trials])
        self._begin()
        levels = level_of(scores.score, scores.log_threshold)
        # The draws that make ranks fair may speak for a rise where no row is missing; that is nothing to tell anybody.
        told = (levels > 0) & (self._since[1] > 0)
        return [self._finding(i, int(levels[i]), scores) for i in np.flatnonzero(told).tolist()]

    def state(self) -> TracesState:
        """Return what ``restore`` needs."""
        waiting = self._waiting.copy()
        return TracesState(self.detector.state(), self._since.copy(), waiting, self._rows, self._elapsed, self._start)

    def restore(self, state: TracesState) -> None:
        """Take over what ``state`` gave."""
        self.detector.restore(state.rates)
        self._since, self._waiting = np.array(state.since, np.int64), np.array(state.waiting, np.int64)
        self._rows, self._elapsed, self._start = state.rows, state.elapsed, state.start

    def _finding(self, i: int, level: int, scores: RateScores) -> Finding:
        subject, check = self._plan[i]
        usual, hits, rows = self._usual(i), int(self._since[1, i]), max(int(self._since[2, i]), 1)
        return Finding(
            subject=subject.name,
            type=subject.type,
            kind=VerdictKind.DATA_QUALITY,
            level=min(level, WARN),
            score=float(scores.score[i]),
            threshold=float(scores.log_threshold[i]),
            onset=int(scores.onset[i]),
            rows=rows,
            cause=Cause.QUALITY,
            reason=f"{subject.name}: {check} in {hits / rows:.2%} of the last {rows} rows, {usual:.2%} is usual",
            check=check,
            evidence={"share": hits / rows, "usual": usual},
        )

    def _usual(self, i: int) -> float:
        """The share of a rate before the rise began."""
        before = np.maximum(self.detector.rows[i] - self._since[2, i], 1)
        return float((self.detector.hits[i] - self._since[1, i]) / before)
