"""Data-quality rates: shares of rows that must not rise above the reference's, each a Bernoulli e-SR on the budget."""

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.monitor.core.budget import level_of, log_thresholds
from stationkeeper.monitor.core.detect import ETA, EvidenceState, RateDetector, RateScores, effect_floor
from stationkeeper.monitor.core.finding import WARN, Finding
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.core.reference import QUALITY, Counts, NumericCells, Reference, ReferenceSubject

TOLERANCE = 0.005
"""How far a rate may rise unremarked: half a point. STATISTICS.md, section 5: a missing rate of 1 % that rises to 3 %
is found after 4 050 events at the production budget (1 800 without a tolerance), one that rises to 2 % never. Smaller,
the daily wobble of real sources pages; larger, a source that loses one row in a hundred is never seen."""

UNSEEN_TOLERANCE = 0.002
"""The same for values never seen before: smaller, because a new category of half a per cent already leaves the model
without knowledge of it, and because the reference's own rate of new values is in the bound. At double a new value of
.4 % is never named; at half, open sets page for their usual trickle where the reference was small."""

RANGE_TOLERANCE, MOVING_RANGE_TOLERANCE = 0.001, 0.01
"""The same for values outside the reference's range: a row in a thousand where the reference's own days stand still, so
that the top hundredth of an amount that is multiplied by ten is named within hours (`python -m benchmarks joint`; at a
point it never was, at none every new sample of a long-tailed number warns, for it passes the old extremes a little). A
subject that moves from day to day by itself may lie outside by as much as it moves (`effect_floor`), a point at most:
April is warmer than January, and at two points two rows in a hundred pass unnamed."""

DUPLICATES_AND_LATE: Final = {Check.DUPLICATES: ("duplicates", 0.01), Check.LATE: ("late", 0.05)}
"""Counters of the pane as a whole and the share a sound source may show of each; the reference knows neither. Chosen:
producers that retry repeat well under 1 %, and networks delay a few per cent beyond the lateness bound. At half, a
retry storm of seconds pages; at double, a producer that sends every tenth event late does not."""

# The reference knows no duplicates and no late rows, so their allowance is the whole null: zero of so many.
_EXACT_ROWS = 1e9

# Values beyond the range are the world moving (April is warmer than January), so they are drift and not broken data;
# what lies far outside at once is a fault of its own (`rules`). They warn only: the drift detector has the same rows in
# its outer cells, by hour and with the day's own movement, and pages.
_RANGE = frozenset({Check.BELOW, Check.ABOVE})

# Rates whose rows come in runs as the subject's own values do: the sales of a new shop, the flights of a warm hour.
_IN_RUNS = _RANGE | {Check.UNSEEN}

# The positions of these checks among the quality counters.
_UNSEEN, _BEYOND = QUALITY.index(Check.UNSEEN), [QUALITY.index(Check.BELOW), QUALITY.index(Check.ABOVE)]


class QualityRates:
    """One Bernoulli e-SR a quality counter, over all subjects and the pane as a whole; state is their evidence."""

    def __init__(self, reference: Reference, alpha: float, segments: int, tolerance: float | None) -> None:
        """``alpha`` is the share of the budget, ``tolerance`` replaces ``TOLERANCE``."""
        self._reference, self._layout = reference, reference.layout
        subjects = reference.subjects
        checks = [_counters(rate_checks(subject)) for subject in subjects]
        # Where each subject's rates begin; those of the pane as a whole come last.
        self._first = np.cumsum([0, *map(len, checks)])
        owner = np.repeat(np.arange(len(checks)), np.diff(self._first))
        counter = np.concatenate([_counters(()), *checks])
        self._at = np.array([place.quality for place in self._layout.places], np.int64)[owner] + counter
        self._pane_at = np.array([self._layout.pane_counter(name) for name, _ in DUPLICATES_AND_LATE.values()])
        allowed = [share for _, share in DUPLICATES_AND_LATE.values()]
        hits, trials, slack = _baseline(subjects, owner, counter, TOLERANCE if tolerance is None else tolerance)
        held = np.isin(counter, _BEYOND)
        runs = np.array([subject.inflation for subject in subjects], np.float64)[owner]
        phi = np.where(held | (counter == _UNSEEN), runs, 1.0)
        self._moving = np.append(held | (counter == _UNSEEN), [False] * len(allowed))
        limits = log_thresholds(alpha, np.ones(len(self._moving)))
        self.detector = RateDetector(
            np.append(hits, [0.0] * len(allowed)),
            np.append(trials, [_EXACT_ROWS] * len(allowed)),
            np.append(slack, allowed),
            ETA / (len(limits) * segments),
            limits,
            np.append(phi, [1.0] * len(allowed)),
            np.append(held, [False] * len(allowed)),
        )

    def step(self, pane: Pane, elapsed: float, *, holiday: bool = False) -> list[Finding]:
        """Take a closed pane with rows; of a ``holiday`` nothing is learned of rates that are drift."""
        counted = np.concatenate([pane.counts[self._at], pane.counts[self._pane_at]])
        trials = np.full(len(counted), pane.rows)
        # Duplicates and late rows are not among the pane's rows: each is a share of the rows and itself.
        trials[-len(self._pane_at) :] += counted[-len(self._pane_at) :]
        if holiday:
            trials[self._moving] = 0
        scores = self.detector.step(np.minimum(counted, trials), trials, pane.start, elapsed)
        levels = level_of(scores.score, scores.log_threshold)
        return [
            self._finding(i, int(levels[i]), scores, pane, float(counted[i] / max(int(trials[i]), 1)))
            for i in np.flatnonzero(levels).tolist()
        ]

    def margin(self, subject: str, check: Check) -> float:
        """Return how far a rate's evidence lies above its page threshold, in nats; -inf where it is not watched."""
        at = self._index(subject, check)
        return -np.inf if at is None else float(self.detector.evidence.score()[at] - self.detector.log_threshold[at])

    def state(self) -> EvidenceState:
        """Return the evidence of all rates."""
        return self.detector.state()

    def restore(self, state: EvidenceState) -> None:
        """Take over the evidence that ``state`` gave."""
        self.detector.restore(state)

    def _index(self, subject: str, check: Check) -> int | None:
        """Position of a subject's rate, None where a check is not watched as one."""
        if subject == "events" and check in DUPLICATES_AND_LATE:
            return int(self._first[-1]) + list(DUPLICATES_AND_LATE).index(check)
        if subject not in self._layout:
            return None
        owner = self._layout.names.index(subject)
        checks = rate_checks(self._reference.subjects[owner])
        return int(self._first[owner]) + checks.index(str(check)) if str(check) in checks else None

    def _finding(self, i: int, level: int, scores: RateScores, pane: Pane, share: float) -> Finding:
        limit = float(self.detector.null_rate[i])
        kind, cause = VerdictKind.DATA_QUALITY, Cause.QUALITY
        if i < self._first[-1]:
            owner = int(np.searchsorted(self._first, i, side="right")) - 1
            subject = self._reference.subjects[owner]
            name, type_, check = subject.name, subject.type, Check(rate_checks(subject)[i - int(self._first[owner])])
            if check in _IN_RUNS:
                # Values the model never saw are the world changing, and a new model may cure it.
                drift = type_ is SubjectType.PREDICTION
                kind = VerdictKind.PREDICTION_DRIFT if drift else VerdictKind.DATA_DRIFT
                cause = Cause.NEW_CATEGORY if check is Check.UNSEEN else Cause.OUT_OF_RANGE
            if check in _RANGE:
                level = min(level, WARN)
        else:
            name, type_, check = "events", SubjectType.QUALITY, list(DUPLICATES_AND_LATE)[i - int(self._first[-1])]
        return Finding(
            subject=name,
            type=type_,
            kind=kind,
            level=level,
            score=float(scores.score[i]),
            threshold=float(scores.log_threshold[i]),
            onset=int(scores.onset[i]),
            rows=pane.rows,
            cause=cause,
            reason=f"{name}: {check} in {share:.2%} of the {pane.rows} rows of a pane, at most {limit:.2%} is usual",
            check=check,
            evidence={"share": share, "limit": limit},
        )


# Subjects watch one of a few lists of checks.
@cache
def _counters(checks: tuple[str, ...]) -> Counts:
    """The positions of checks among the quality counters."""
    return np.array([QUALITY.index(check) for check in checks], np.int64)


def _baseline(
    subjects: Sequence[ReferenceSubject], owner: Counts, counter: Counts, tolerance: float
) -> tuple[Floats, Floats, Floats]:
    """Successes, trials and tolerance of each rate: ``counter`` int64[R] of the subjects ``owner`` int64[R]."""
    trials = np.array([max(subject.rows, 1) for subject in subjects], np.int64)[owner]
    # New values were counted on every other row of the reference.
    trials = np.where(counter == _UNSEEN, np.maximum(trials // 2, 1), trials)
    counted = np.array([subject.quality for subject in subjects], np.int64).reshape(-1, len(QUALITY))
    hits = np.minimum(counted[owner, counter], trials)
    moved = [min(effect_floor(RANGE_TOLERANCE, s.day_floor or 0.0), MOVING_RANGE_TOLERANCE) for s in subjects]
    beyond = np.isin(counter, _BEYOND)
    # One value of the reference is its extreme; the next of the same law lies beyond with chance 1 / (n + 1).
    hits = np.where(beyond, np.maximum(hits, 1), hits)
    slack = np.where(counter == _UNSEEN, UNSEEN_TOLERANCE, tolerance)
    slack = np.where(beyond, np.array(moved, np.float64)[owner], slack)
    return hits.astype(np.float64), trials.astype(np.float64), slack


def rate_checks(subject: ReferenceSubject) -> tuple[str, ...]:
    """Return the quality counters of a subject that are watched as rates.

    New values only where the reference knows all its values: beyond ``KNOWN_VALUES`` every rare one would be "new".
    """
    checks = ("absent", "null", "wrong_type", "not_finite")
    if isinstance(subject.cells, NumericCells):
        return (*checks, "below", "above")
    known = subject.distinct <= len(subject.cells.known) or subject.cells.boolean
    return (*checks, "unseen") if known else checks


def rate_count(reference: Reference) -> int:
    """Return how many rates share the quality budget."""
    return sum(len(rate_checks(subject)) for subject in reference.subjects) + len(DUPLICATES_AND_LATE)
