"""The watch of one (model version, reference digest, segment): closed panes in, verdicts and charts out."""

import math
from dataclasses import replace
from functools import cached_property, partial

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.state import State as Kept
from stationkeeper.monitor.core.adoption import AdoptionPeriod, AdoptionState, SlowSeason, SlowSeasonState, inherit
from stationkeeper.monitor.core.charts import Chart
from stationkeeper.monitor.core.detect import DetectorState, Drift
from stationkeeper.monitor.core.finding import PAGE, Finding
from stationkeeper.monitor.core.incidents import (
    REARM_MS,
    DecisionTime,
    Incident,
    IncidentChanges,
    IncidentLifecycle,
    LifecycleState,
    WarnedSubject,
    WatchIdentity,
)
from stationkeeper.monitor.core.panes import ChartWindow, Pane, WindowState
from stationkeeper.monitor.core.patience import Patience
from stationkeeper.monitor.core.performance import FairnessState, OutcomePane, PerformanceState, judged_answers
from stationkeeper.monitor.core.quality import Quality, QualityState
from stationkeeper.monitor.core.reference import Reference, Task, dump, load
from stationkeeper.monitor.core.subject_charts import SubjectCharts, evidence_of
from stationkeeper.monitor.core.watch_plan import (
    WatchSettings,
    adoption_period,
    declared,
    plan_drifts,
    slow_season,
    split_budget,
    watched_fairness,
    watched_performance,
)

__all__ = ["IncidentChanges", "Watch", "WatchSettings"]

# Only pages of these kinds can be broken data in disguise: performance and volume are not read from a subject's cells.
_DRIFT_KINDS = frozenset({VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT})
# Of a pane without rows nothing but its silence can be judged.
_JUDGED_EMPTY = frozenset({SubjectType.VOLUME})
# Of a declared day nothing that had warned is over for being silent.
_JUDGED_HOLIDAY = frozenset[SubjectType]()
# Performance is judged when labels arrive (`Watch.learn`), not when a pane of events closes.
_JUDGED = frozenset(SubjectType) - {SubjectType.PERFORMANCE}


class WatchState(Kept, frozen=True):
    """What a watch keeps, by part; ``learned`` is the reference an adoption period taught, as JSON.

    States of builds before the adoption period lack its two, those before seasons had patience ``held``.
    """

    digest: str
    end: int | None
    rows: int
    desk: LifecycleState
    window: WindowState
    drifts: dict[str, DetectorState]
    performance: PerformanceState | None
    quality: QualityState
    adoption: AdoptionState | None = None
    learned: str | None = None
    held: dict[str, int] = {}
    fairness: FairnessState | None = None
    season: SlowSeasonState | None = None


class Watch:
    """Everything for one (model version, digest, segment): step it with closed panes, in order, and read it.

    Pure: the same reference, settings and panes give the same verdicts bit for bit, in one run or restored in the
    middle. A pane without rows costs microseconds; one with rows costs a detector step.
    """

    def __init__(self, reference: Reference, segment: str = "", settings: WatchSettings | None = None) -> None:
        self.reference = reference
        self.settings = settings or WatchSettings()
        self.identity = WatchIdentity(reference.model, reference.version, segment, reference.digest)
        self.layout = reference.layout
        self.alphas = split_budget(reference, self.settings, segment)
        self.performance = watched_performance(reference, segment, self.alphas, self.settings)
        self.quality = Quality(
            reference,
            self.alphas,
            len(self.settings.segments),
            self.settings.ignore,
            self.settings.tolerance,
            self.settings.stale_after,
            self.settings.learn_traffic,
            timezone=self.settings.timezone,
            whole=not segment,
        )
        self.period = adoption_period(reference, self.settings)
        self.season = None if self.adopting else slow_season(reference, self.settings)
        self.window = ChartWindow(self.layout.width, self.settings.window)
        self.end: int | None = None
        self.rows = 0
        # Before dependence between rows is known, decisions that come in runs would be taken for gaps.
        self.fairness = None if self.adopting else watched_fairness(reference, self.settings, segment, self.alphas)
        self.learned: str | None = None

    @cached_property
    def drifts(self) -> tuple[Drift, ...]:
        """The detectors of drift, made when first asked for: what is restored may judge by another reference."""
        return plan_drifts(self.reference, self.settings, self.identity.segment, self.alphas)

    @cached_property
    def patience(self) -> Patience:
        """What holds back drift of an evening, a day or a slow season."""
        return Patience(self.drifts)

    @cached_property
    def lifecycle(self) -> IncidentLifecycle:
        """The incidents, and the panes that they are dated by."""
        return first_lifecycle(self)

    @property
    def adopting(self) -> bool:
        """Whether drift is held back because dependence between rows is not known."""
        return self.period is not None

    def step(self, pane: Pane, beside: Finding | None = None) -> IncidentChanges:
        """Take the next closed pane; its vector is the reference's layout. Raises ``ValueError`` out of order.

        ``beside`` is what was found of the pane elsewhere, as that labels are late.
        """
        if self.end is not None and pane.start < self.end:
            raise ValueError(f"pane at {pane.start} comes after the one that ended at {self.end}; panes go in order")
        self.end = pane.end
        self.window.advance(pane.end)
        elapsed = self.settings.budget.elapsed(pane.rows, pane.length)
        if pane.rows:
            follow(self, pane.start)
        # Quality goes first: drift that is broken data in truth is recognised by what quality knows of the same pane.
        holiday = declared(self.settings, pane)
        findings = [*self.quality.step(pane, elapsed, holiday=holiday), *([] if beside is None else [beside])]
        if self.fairness is not None:
            findings += self.fairness.step(elapsed)
        if pane.rows:
            self.rows += pane.rows
            self.window.add(pane)
            # Charts show a declared day; evidence, dates and what is learned pass it over.
            if not holiday:
                self.lifecycle.add(pane)
                findings = self._drift(pane, elapsed, findings)
        elif not findings and not self.lifecycle.incidents.open:
            return IncidentChanges()
        # First what evidence warns by its budget, then what must wait: that is not raised again.
        findings = [self._hold(one.levelled(self.settings.warnings_a_page), pane.end) for one in findings]
        # Recovery goes before new findings: a subject that comes back at this pane starts anew with the next.
        judged_types = _JUDGED if pane.rows else _JUDGED_EMPTY
        tick = DecisionTime(pane.end, pane.length, pane.last_row, _JUDGED_HOLIDAY if holiday else judged_types)
        firing = frozenset(f.key for f in findings)
        # What a declared day brings is no sign of what the days before drifted to, or came back to.
        usual = self.quality.volume_usual
        back = IncidentChanges() if holiday else self.lifecycle.recover(pane, firing, volume_usual=usual)
        return settled(self, pane, _both(back, self.lifecycle.fold(findings, tick)), holiday=holiday)

    def _drift(self, pane: Pane, elapsed: float, findings: list[Finding]) -> list[Finding]:
        """Judge a pane's drift beside the findings of its quality, or learn from it while adopting."""
        if self.period is not None:
            return adopt_pane(self, self.period, pane, findings)
        drifting = [one for drift in self.drifts for one in drift.step(pane, elapsed)]
        findings += drifting if self.season is None else [with_followed(one, self.season) for one in drifting]
        return findings + broken_in_truth(self, findings, pane.end)

    def learn(self, pane: OutcomePane) -> IncidentChanges:
        """Take the labels that became known in a closed stretch of time: performance and concept."""
        if self.performance is None or self.adopting or not pane.rows:
            return IncidentChanges()
        if self.reference.task is Task.MULTICLASS:
            pane = judged_answers(pane, self.performance.labels)
        elapsed = self.settings.budget.elapsed(pane.rows, pane.end - pane.start)
        self.lifecycle.labelled.add(pane)
        findings = [f.levelled(self.settings.warnings_a_page) for f in self.performance.step(pane, elapsed)]
        back = self.lifecycle.recover_performance(pane)
        tick = DecisionTime(pane.end, pane.end - pane.start, pane.last_row, frozenset({SubjectType.PERFORMANCE}))
        outcome = _both(back, self.lifecycle.fold(findings, tick))
        drifting, onset = self.lifecycle.incidents.drifting(SubjectType.PERFORMANCE)
        self.performance.hold(drifting, onset, lambda: self.lifecycle.labelled.total(onset))
        return outcome

    def charts(self) -> list[Chart]:
        """Return every subject as of the last pane, in the order of the reference. O(width), in array passes."""
        return self._subject_charts().every()

    def chart(self, name: str) -> Chart:
        """Return one subject: rows since the onset while an incident holds it, else the chart window."""
        return self._subject_charts().one(name)

    def incidents(self) -> list[Incident]:
        """Return the open incidents, oldest first."""
        return sorted(self.lifecycle.incidents.open.values(), key=lambda incident: (incident.opened, incident.id))

    def take_over(self, before: Reference) -> None:
        """Judge at once with what the version before taught of dependence and daily movement, instead of adopting."""
        self.rebase(dump(inherit(self.reference, before)))

    def state(self) -> WatchState:
        """Return all that changes."""
        return WatchState(
            digest=self.identity.digest,
            end=self.end,
            rows=self.rows,
            desk=self.lifecycle.state(),
            window=self.window.state(),
            drifts={drift.type.value: drift.state() for drift in self.drifts},
            performance=self.performance.state() if self.performance else None,
            quality=self.quality.state(),
            adoption=self.period.state() if self.period else None,
            learned=self.learned,
            held=dict(self.patience.since),
            fairness=None if self.fairness is None else self.fairness.state(),
            season=None if self.season is None else self.season.state(),
        )

    def restore(self, state: WatchState) -> None:
        """Become the watch whose ``state`` this was; raises ``ValueError`` for another reference's state."""
        if state.digest != self.identity.digest:
            raise ValueError(f"watch state belongs to {state.digest}, this watch has {self.identity.digest}")
        if state.learned:
            begin_by(self, taught(self, state.learned))
        if self.period is not None and state.adoption is not None:
            self.period.restore(state.adoption)
        if self.season is not None and state.season is not None:
            self.season.restore(state.season)
            if self.season.steps:
                begin_by(self, self.season.reference())
        self.end, self.rows = state.end, state.rows
        self.lifecycle.restore(state.desk)
        self.window.restore(state.window)
        for drift in self.drifts:
            drift.restore(state.drifts[drift.type.value])
        if self.performance is not None and state.performance is not None:
            self.performance.restore(state.performance)
        self.quality.restore(state.quality)
        self.patience.since = dict(state.held)
        if self.fairness is not None and state.fairness is not None:
            self.fairness.restore(state.fairness)

    def _hold(self, finding: Finding, now: int) -> Finding:
        """What an evening or a slow season explains, a level lower; not of an incident that is open."""
        lowered = self.quality.arrivals.hold(finding, now)
        if self.lifecycle.incidents.of_subject(finding.subject):
            return finding
        return self.patience.hold(lowered, now, lambda begin: self.lifecycle.seen_since(finding, begin))

    def rebase(self, learned: str) -> None:
        """Judge drift from here on against the reference that the adoption period taught; quality keeps its own."""
        self.judge_by(taught(self, learned))

    def judge_by(self, reference: Reference) -> None:
        """Judge drift from here on against another reference of the same cells, with evidence that begins anew."""
        held, state = self.patience.since, self.lifecycle.state()
        begin_by(self, reference)
        self.patience.since = held
        self.lifecycle.restore(state)

    def _subject_charts(self) -> SubjectCharts:
        return SubjectCharts(
            self.reference, self.window, self.lifecycle, self.drifts, came=self.rows > 0, adopting=self.adopting
        )


def taught(watch: Watch, learned: str) -> Reference:
    """End the adoption period of a watch; return the reference that it taught."""
    watch.learned, watch.period = learned, None
    reference = load(learned)
    watch.fairness = watched_fairness(reference, watch.settings, watch.identity.segment, watch.alphas)
    watch.season = slow_season(reference, watch.settings)
    return reference


def begin_by(watch: Watch, reference: Reference) -> None:
    """Judge drift by another reference with nothing seen; what was made for the one before is let go."""
    watch.reference = reference
    for made in ("drifts", "patience", "lifecycle"):
        watch.__dict__.pop(made, None)


def first_lifecycle(watch: Watch) -> IncidentLifecycle:
    """Return the incidents of a watch before the first one."""
    # Where the clock counts rows, a day of quiet cannot be told from panes.
    rearm = 0 if watch.settings.budget.clock == "rows" else REARM_MS
    renewed = {} if watch.season is None else watch.season.renewed()
    return IncidentLifecycle(watch.reference, watch.identity, watch.drifts, partial(margin_of, watch), rearm, renewed)


def adopt_pane(watch: Watch, period: AdoptionPeriod, pane: Pane, findings: list[Finding]) -> list[Finding]:
    """Learn from a pane; only quality speaks, and at the end how live differs from the reference, once."""
    period.add(pane)
    findings = [finding for finding in findings if finding.kind is VerdictKind.DATA_QUALITY]
    if not period.over:
        return findings
    # A segment's reference is live already: what its first hours differ in from the rest is no skew of training.
    skew = None if watch.identity.segment else period.skew(watch.settings.delta)
    # Through JSON, so that a watch restored from its state has the very numbers of this one.
    watch.rebase(dump(period.learned()))
    return findings if skew is None else [*findings, skew]


def follow(watch: Watch, start: int) -> None:
    """Follow a slow season before the first pane of a week: of subjects that are in no incident and near no warning."""
    season = watch.season
    if season is None or not season.over(start):
        return
    loud = {name for drift in watch.drifts for name in drift.loud()} | watch.lifecycle.incidents.subjects()
    if season.step(start, frozenset(watch.reference.by_name) - loud):
        refit(watch, season)


def with_followed(finding: Finding, season: SlowSeason) -> Finding:
    """Return a finding that says by which share its reference has followed a season: a person has it as it was made."""
    moved = season.moved(finding.subject)
    return replace(finding, evidence={**finding.evidence, "followed": round(moved, 4)}) if moved else finding


def settled(watch: Watch, pane: Pane, changes: IncidentChanges, *, holiday: bool) -> IncidentChanges:
    """Return the changes of a pane, after which the week counts it, and what drifts is as it was when that began."""
    season = watch.season
    if season is None or season.still or not pane.rows:
        return changes
    onsets = {m.subject: one.onset.time for one in (*changes.opened, *changes.changed) for m in one.drifting}
    if onsets and season.withdraw(onsets, pane.end):
        refit(watch, season)
    if not holiday:
        season.add(pane, frozenset(watch.lifecycle.incidents.subjects()))
    return changes


def refit(watch: Watch, season: SlowSeason) -> None:
    """Judge by the reference as it is followed now: evidence stays, and bags begin anew where it has moved."""
    before = watch.drifts
    states = [drift.renewed(season.changed) for drift in before]
    watch.judge_by(season.reference())
    for drift, state, told in zip(watch.drifts, states, before, strict=True):
        drift.restore(state)
        # What the pane said is still what the last pane said.
        drift.scores, drift.shifted = told.scores, told.shifted


def broken_in_truth(watch: Watch, findings: list[Finding], now: int) -> list[Finding]:
    """Return the pages of drift that are broken data in truth, said as such beside the drift they explain."""
    found = []
    for finding in findings:
        if (
            finding.level == PAGE
            and finding.kind in _DRIFT_KINDS
            and not watch.lifecycle.incidents.of_subject(finding.subject)
            and not watch.patience.slow(finding, now)
        ):
            fault = watch.quality.reinterpret(finding, watch.lifecycle.recent.total(finding.onset)[1])
            if fault is not None:
                found.append(fault)
    return found


def margin_of(watch: Watch, spoken: WarnedSubject) -> float:
    """Return how far the evidence of what was said lies above its page threshold, in nats."""
    if spoken.type is SubjectType.PERFORMANCE:
        return -math.inf if watch.performance is None else watch.performance.margin(spoken.subject)
    if spoken.type is SubjectType.FAIRNESS:
        return -math.inf if watch.fairness is None else watch.fairness.margin(spoken.subject)
    if spoken.check is not None:
        return watch.quality.margin(spoken.subject, spoken.check)
    evidence, threshold = evidence_of(watch.drifts, watch.reference.by_name[spoken.subject])
    return evidence - threshold


def _both(first: IncidentChanges, second: IncidentChanges) -> IncidentChanges:
    return IncidentChanges(
        first.verdicts + second.verdicts,
        first.opened + second.opened,
        first.changed + second.changed,
        first.closed + second.closed,
    )
