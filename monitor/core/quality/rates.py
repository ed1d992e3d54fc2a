"""Data-quality rates: shares of rows that must not rise above the reference's, each a Bernoulli e-SR on the budget."""

from typing import Final

import numpy as np

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.monitor.core.budget import level_of, log_thresholds
from stationkeeper.monitor.core.detect import ETA, EvidenceState, RateDetector, RateScores, effect_floor
from stationkeeper.monitor.core.finding import WARN, Finding
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.core.reference import QUALITY, NumericCells, Reference, ReferenceSubject

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


class QualityRates:
    """One Bernoulli e-SR a quality counter, over all subjects and the pane as a whole; state is their evidence."""

    def __init__(self, reference: Reference, alpha: float, segments: int, tolerance: float | None) -> None:
        """``alpha`` is the share of the budget, ``tolerance`` replaces ``TOLERANCE``."""
        self._reference, self._layout = reference, reference.layout
        checks = [rate_checks(subject) for subject in reference.subjects]
        plan = [(i, check) for i, mine in enumerate(checks) for check in mine]
        # Where each subject's rates begin; those of the pane as a whole come last.
        self._first = np.cumsum([0, *map(len, checks)])
        self._at = np.array([self._layout.places[i].counter(check) for i, check in plan], np.int64)
        self._pane_at = np.array([self._layout.pane_counter(name) for name, _ in DUPLICATES_AND_LATE.values()])
        allowed = [share for _, share in DUPLICATES_AND_LATE.values()]
        known = [self._baseline(i, check, TOLERANCE if tolerance is None else tolerance) for i, check in plan]
        hits, trials, slack = zip(*known, *((0.0, _EXACT_ROWS, share) for share in allowed), strict=True)
        self._moving = np.array([check in _IN_RUNS for _, check in plan] + [False] * len(allowed))
        limits = log_thresholds(alpha, np.ones(len(hits)))
        runs = [float(subject.phi.max(initial=1.0)) for subject in reference.subjects]
        phi = [runs[i] if check in _IN_RUNS else 1.0 for i, check in plan]
        held = [check in _RANGE for _, check in plan]
        self.detector = RateDetector(
            hits,
            trials,
            slack,
            ETA / (len(limits) * segments),
            limits,
            [*phi, *(1.0 for _ in allowed)],
            [*held, *(False for _ in allowed)],
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

    def _baseline(self, i: int, check: str, tolerance: float) -> tuple[float, float, float]:
        """Successes, trials and tolerance of a rate. New values were counted on every other row of the reference."""
        subject = self._reference.subjects[i]
        rows = max(subject.rows, 1)
        hits = float(min(int(subject.quality[QUALITY.index(check)]), rows))
        if check == "unseen":
            half = float(max(rows // 2, 1))
            return min(hits, half), half, UNSEEN_TOLERANCE
        if check in _RANGE:
            slack = effect_floor(RANGE_TOLERANCE, subject.day_floor or 0.0)
            # One value of the reference is its extreme; the next of the same law lies beyond with chance 1 / (n + 1).
            return max(hits, 1.0), float(rows), min(slack, MOVING_RANGE_TOLERANCE)
        return hits, float(rows), tolerance

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
