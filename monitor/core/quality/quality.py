"""Data quality as its own verdicts: rates that must not rise, certain rules, volume, and drift that is a fault."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.adoption import HOUR_MS, VolumeModel
from stationkeeper.monitor.core.budget import level_of, log_thresholds
from stationkeeper.monitor.core.charts import name_cause
from stationkeeper.monitor.core.detect import EvidenceState, OneSided, RateDetector, level_of_score
from stationkeeper.monitor.core.finding import NONE, PAGE, WARN, Finding
from stationkeeper.monitor.core.panes import Pane, stratum_of
from stationkeeper.monitor.core.quality.learned_traffic import QUIET, LearnedTraffic
from stationkeeper.monitor.core.quality.rules import Rules
from stationkeeper.monitor.core.quality.unit_change import unit_change
from stationkeeper.monitor.core.quality.volume import VolumeDetector
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.core.reference import (
    HOURS_OF_WEEK,
    QUALITY,
    Counts,
    NumericCells,
    Reference,
    ReferenceSubject,
)

ETA = 0.01
TOLERANCE = 0.005
UNSEEN_TOLERANCE = 0.002
RANGE_TOLERANCE = 0.01
DUPLICATES_AND_LATE = {Check.DUPLICATES: ("duplicates", 0.01), Check.LATE: ("late", 0.05)}
STALE_NATS = 30.0
USUAL = 1.25
_NEVER_PAGE = frozenset({Check.BELOW, Check.ABOVE})
_FORGET = 0.95
TRAINING = "training"


class Quality:
    """All data-quality checks of one watch; ``alphas`` are its shares "quality" and "volume" of the budget."""

    def __init__(
        self,
        reference: Reference,
        alphas: Mapping[str, float],
        segments: int = 1,
        ignore: Sequence[str] = (),
        tolerance: float | None = None,
        stale_after: int | None = None,
        learn_traffic: int | None = None,
        *,
        whole: bool = True,
    ) -> None:
        """``tolerance`` replaces how far a rate may rise, ``stale_after`` (clock units) the learned silence.

        Traffic of a training set says nothing of production, so it teaches neither volume nor freshness;
        ``learn_traffic`` is then how long live panes teach them, None never. Volume learned so warns and never pages:
        a few weeks know no holiday and no change of the clock. Silence pages only where ``whole``: of all traffic.
        """
        self.reference, self.layout = reference, reference.layout
        self.rules = Rules(reference)
        self._ignored = frozenset(ignore)
        plan = [(i, check) for i, subject in enumerate(reference.subjects) for check in rate_checks(subject)]
        # Where each subject's rates begin; those of the pane as a whole come last.
        self._first = np.cumsum([0, *(len(rate_checks(subject)) for subject in reference.subjects)])
        self._at = np.array([self.layout.places[i].counter(check) for i, check in plan], np.int64)
        hits, trials, slack = zip(
            *(self._baseline(i, check, TOLERANCE if tolerance is None else tolerance) for i, check in plan),
            strict=True,
        )
        pane_checks = list(DUPLICATES_AND_LATE.values())
        self._pane_at = np.array([self.layout.pane_counter(name) for name, _ in pane_checks])
        limits = log_thresholds(alphas["quality"], np.ones(len(plan) + len(pane_checks)))
        eta = ETA / (len(limits) * segments)
        phi = [float(reference.subjects[i].phi.max(initial=1.0)) if check == "unseen" else 1.0 for i, check in plan]
        # Events without duplicates and late ones are what a sound source sends: the allowance is all there is.
        self.rates = RateDetector(
            [*hits, *(0.0 for _ in pane_checks)],
            [*trials, *(1e9 for _ in pane_checks)],
            [*slack, *(allowed for _, allowed in pane_checks)],
            eta,
            limits,
            [*phi, *(1.0 for _ in pane_checks)],
            [*(check in _NEVER_PAGE for _, check in plan), *(False for _ in pane_checks)],
        )
        self.volume: VolumeDetector | None = None
        self._traffic = None if reference.source == TRAINING else reference.traffic
        self._stale_after = stale_after
        self._whole = whole
        if self._traffic is not None and "volume" in alphas:
            per_pane = self._traffic.rows_per_hour * (self._traffic.pane_ms / HOUR_MS)
            model = VolumeModel(np.maximum(per_pane, 1e-6), max(self._traffic.size, 0.5))
            self.volume = VolumeDetector(model, float(log_thresholds(alphas["volume"], [1.0])[0]))
        self.learned_traffic: LearnedTraffic | None = None
        if self._traffic is None and learn_traffic is not None:
            self.learned_traffic = LearnedTraffic(learn_traffic)
            self._volume_limit = float(log_thresholds(alphas["quality"], [1.0])[0])
        self.silent_since: int | None = None
        self.silent_nats = 0.0
        self.came = self.expected = 0.0

    @property
    def volume_usual(self) -> bool:
        """Whether the last half hour or so of panes brought about what it should."""
        return self.expected > 0 and 1 / USUAL <= self.came / self.expected <= USUAL

    def margin(self, subject: str, check: Check) -> float:
        """Return how far a check's evidence lies above its page threshold, in nats; -inf for a rule without any."""
        detector: OneSided | None = self.rates
        at = self._rate_at(subject, check)
        if check is Check.VOLUME:
            detector, at = self.volume, 0
        elif at is None:
            return -np.inf
        return -np.inf if detector is None else float(detector.evidence.score()[at] - detector.log_threshold[at])

    def step(self, pane: Pane, elapsed: float) -> list[Finding]:
        """Take the next closed pane, also one without rows."""
        found = self._volume(pane, elapsed)
        if not pane.volume:
            found += self._freshness(pane)
        else:
            self.silent_since, self.silent_nats = None, 0.0
        if self.learned_traffic is not None and self.learned_traffic.add(pane, odd=bool(found)):
            self._teach(pane.length)
        if not pane.volume:
            return found
        if not pane.rows:
            return found
        counted = np.concatenate([pane.counts[self._at], pane.counts[self._pane_at]])
        duplicates = int(pane.counts[self._pane_at[0]])
        late = int(pane.counts[self._pane_at[1]])
        trials = np.full(len(counted), pane.rows)
        trials[-2:] = (pane.rows + duplicates, pane.rows + late)
        scores = self.rates.step(np.minimum(counted, trials), trials, pane.start, elapsed)
        levels = level_of(scores.score, scores.log_threshold)
        for i in np.flatnonzero(levels).tolist():
            found.append(self._rate_finding(i, int(levels[i]), scores, pane, counted, trials))
        return [f for f in [*found, *self.rules.step(pane)] if str(f.check) not in self._ignored]

    def reinterpret(self, finding: Finding, counts: Counts) -> Finding | None:
        """Return drift as the broken data that explains it, if it does: missing values, or a change of unit.

        ``counts`` int64[width] are the panes since the finding's onset.
        """
        if finding.subject not in self.layout or finding.check is not None:
            return None
        place, subject = self.layout[finding.subject], self.reference.by_name[finding.subject]
        cells, quality = counts[place.histogram], counts[place.quality : place.quality + len(QUALITY)]
        named = name_cause(subject, cells, quality)
        check: Check | None = None
        reason, effect, evidence = named.reason, None, named.evidence
        if named.cause is Cause.MISSING and named.evidence["missing_now"] > named.evidence["missing_before"]:
            check = Check(QUALITY[int(np.argmax(quality[:4]))])
            effect = named.evidence["missing_now"] - named.evidence["missing_before"]
        elif isinstance(subject.cells, NumericCells):
            unit = unit_change(subject, cells, counts[place.octaves])
            if unit is not None:
                check, reason = Check.UNIT, f"{subject.name}: values are {unit.name} of what they were"
                evidence = {**evidence, "factor": unit.factor, "left": unit.left}
                effect = unit.moved
        if check is None or str(check) in self._ignored:
            return None
        return Finding(
            subject=finding.subject,
            type=finding.type,
            kind=VerdictKind.DATA_QUALITY,
            level=finding.level,
            score=finding.score,
            threshold=finding.threshold,
            onset=finding.onset,
            rows=finding.rows,
            cause=Cause.QUALITY,
            reason=reason,
            check=check,
            effect=effect,
            evidence=evidence,
        )

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs."""
        return {
            "rates": self.rates.state(),
            "rules": self.rules.state(),
            "volume": self.volume.state() if self.volume else None,
            "silent_since": self.silent_since,
            "silent_nats": self.silent_nats,
            "came": [self.came, self.expected],
            "lesson": None
            if self.learned_traffic is None
            else [self._traffic and self._traffic.pane_ms, self.learned_traffic.state()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the checks whose ``state`` this was."""
        self.rates.restore(state_of(state["rates"], EvidenceState))
        self.rules.restore(state["rules"])
        if self.learned_traffic is not None and state.get("lesson"):
            length, lesson = state["lesson"]
            self.learned_traffic.restore(lesson)
            if length:
                self._teach(int(length))
        if self.volume is not None and state["volume"] is not None:
            self.volume.restore(state_of(state["volume"], EvidenceState))
        self.silent_since = state["silent_since"]
        self.silent_nats = float(state["silent_nats"])
        self.came, self.expected = (float(value) for value in state["came"])

    def _teach(self, pane: int) -> None:
        """Judge volume and freshness by what the lesson learned; evidence so far is kept."""
        self._traffic = None if self.learned_traffic is None else self.learned_traffic.traffic(pane)
        if self.learned_traffic is None or self._traffic is None:
            return
        before, model = self.volume, VolumeModel(np.maximum(self.learned_traffic.mean, 1e-6), self.learned_traffic.size)
        self.volume = VolumeDetector(model, self._volume_limit, self.learned_traffic.tolerance)
        if before is not None:
            self.volume.restore(before.state())

    def _baseline(self, i: int, check: str, tolerance: float) -> tuple[float, float, float]:
        """Successes, trials and tolerance of a rate. New values were counted on every other row of the reference."""
        subject = self.reference.subjects[i]
        rows = max(subject.rows, 1)
        hits = float(min(int(subject.quality[QUALITY.index(check)]), rows))
        if check == "unseen":
            return min(hits, float(max(rows // 2, 1))), float(max(rows // 2, 1)), UNSEEN_TOLERANCE
        return hits, float(rows), RANGE_TOLERANCE if check in {"below", "above"} else tolerance

    def _rate_at(self, subject: str, check: Check) -> int | None:
        """Position of a subject's rate, None where a check is not watched as one."""
        if subject == "events" and check in DUPLICATES_AND_LATE:
            return int(self._first[-1]) + list(DUPLICATES_AND_LATE).index(check)
        if subject not in self.layout:
            return None
        owner = self.layout.names.index(subject)
        checks = rate_checks(self.reference.subjects[owner])
        return int(self._first[owner]) + checks.index(str(check)) if str(check) in checks else None

    def _rate_finding(self, i: int, level: int, scores: Any, pane: Pane, counted: Counts, trials: Counts) -> Finding:
        share = float(counted[i] / max(int(trials[i]), 1))
        limit = float(self.rates.null_rate[i])
        kind, cause = VerdictKind.DATA_QUALITY, Cause.QUALITY
        if i < self._first[-1]:
            owner = int(np.searchsorted(self._first, i, side="right")) - 1
            subject = self.reference.subjects[owner]
            name, type_, check = subject.name, subject.type, Check(rate_checks(subject)[i - int(self._first[owner])])
            if check is Check.UNSEEN:
                # A value the model never saw is the world changing, and a new model may cure it.
                drift = type_ is SubjectType.PREDICTION
                kind = VerdictKind.PREDICTION_DRIFT if drift else VerdictKind.DATA_DRIFT
                cause = Cause.NEW_CATEGORY
            elif check in _NEVER_PAGE:
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
            reason=f"{name}: {check} in {share:.2%} of this minute's rows, at most {limit:.2%} is usual",
            check=check,
            evidence={"share": share, "limit": limit},
        )

    def _volume(self, pane: Pane, elapsed: float) -> list[Finding]:
        if self.volume is None or self._traffic is None or pane.length != self._traffic.pane_ms:
            return []
        strata = len(self._traffic.rows_per_hour)
        stratum = stratum_of(pane.start, HOURS_OF_WEEK) if strata == HOURS_OF_WEEK else 0
        if self.learned_traffic is not None and self.volume.model.mean[stratum] < QUIET:
            return []
        scores = self.volume.step(pane.volume, stratum, pane.start, elapsed)
        level = level_of_score(float(scores.score[0]), float(scores.log_threshold[0]))
        usual = float(self.volume.model.mean[stratum])
        self.came, self.expected = _FORGET * self.came + pane.volume, _FORGET * self.expected + usual
        if level == PAGE:
            self.came, self.expected = float(pane.rows), usual
        if level == NONE:
            return []
        level = level if self.learned_traffic is None else min(level, WARN)
        return [
            Finding(
                subject="volume",
                type=SubjectType.VOLUME,
                kind=VerdictKind.DATA_QUALITY,
                level=level,
                score=float(scores.score[0]),
                threshold=float(scores.log_threshold[0]),
                onset=int(scores.onset[0]),
                rows=pane.volume,
                cause=Cause.VOLUME,
                reason=f"{pane.volume} events in a pane that usually brings {usual:.1f}",
                check=Check.VOLUME,
                effect=pane.volume / usual - 1,
            )
        ]

    def _freshness(self, pane: Pane) -> list[Finding]:
        self.silent_since = pane.start if self.silent_since is None else self.silent_since
        silence = pane.end - self.silent_since
        score, limit = 0.0, STALE_NATS
        if self._stale_after is not None:
            score, limit = float(silence), float(self._stale_after)
        elif self._traffic is not None:
            strata = len(self._traffic.rows_per_hour)
            stratum = stratum_of(pane.start, HOURS_OF_WEEK) if strata == HOURS_OF_WEEK else 0
            usual = float(self._traffic.rows_per_hour[stratum]) * pane.length / HOUR_MS
            size = max(self._traffic.size, 0.5)
            # The chance that a negative binomial pane is empty is (r / (r + mu))**r.
            self.silent_nats += size * float(np.log1p(usual / size))
            score = self.silent_nats
        if score < limit or limit <= 0:
            return []
        return [
            Finding(
                subject="events",
                type=SubjectType.QUALITY,
                kind=VerdictKind.DATA_QUALITY,
                level=PAGE if self._whole else WARN,
                score=score,
                threshold=limit,
                onset=self.silent_since,
                rows=0,
                cause=Cause.QUALITY,
                reason=f"no event for {silence / 60_000:.0f} minutes",
                check=Check.FRESHNESS,
                effect=1.0,
                budgeted=False,
            )
        ]


def rate_checks(subject: ReferenceSubject) -> tuple[str, ...]:
    """Return the quality counters of a subject that are watched as rates."""
    checks = ("absent", "null", "wrong_type", "not_finite")
    if isinstance(subject.cells, NumericCells):
        return (*checks, "below", "above")
    known = subject.distinct <= len(subject.cells.known) or subject.cells.boolean
    return (*checks, "unseen") if known else checks


def rate_count(reference: Reference) -> int:
    """Return how many rates share the quality budget."""
    return sum(len(rate_checks(subject)) for subject in reference.subjects) + len(DUPLICATES_AND_LATE)
