"""The watch of one (model version, reference digest, segment): closed panes in, verdicts and charts out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.state import State as Kept
from stationkeeper.contracts.times import UTC_ZONE, days_between
from stationkeeper.monitor.core.adoption import AdoptionPeriod, AdoptionState, inherit
from stationkeeper.monitor.core.budget import EFFECT_FLOOR, WARNINGS_A_PAGE, Budget, log_thresholds, split_alpha
from stationkeeper.monitor.core.charts import Chart
from stationkeeper.monitor.core.detect import (
    LABEL_SHIFT_FLOOR,
    DetectorPlan,
    DetectorState,
    Drift,
    LabelShift,
    effect_floor,
    plan_subject,
    tells_label_shift,
)
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
from stationkeeper.monitor.core.performance import (
    APPROVAL,
    RATES,
    TOLERANCE,
    ErrorSize,
    Fairness,
    FairnessRules,
    FairnessState,
    OutcomePane,
    Performance,
    PerformanceState,
    judged,
    judged_answers,
)
from stationkeeper.monitor.core.quality import Quality, QualityState, own_traffic
from stationkeeper.monitor.core.reference import Reference, ReferenceSubject, Task, dump, load
from stationkeeper.monitor.core.subject_charts import SubjectCharts, evidence_of

__all__ = ["IncidentChanges", "Watch", "WatchSettings"]

# Only pages of these kinds can be broken data in disguise: performance and volume are not read from a subject's cells.
_DRIFT_KINDS = frozenset({VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT})
# Of a pane without rows nothing but its silence can be judged.
_JUDGED_EMPTY = frozenset({SubjectType.VOLUME})
# Of a declared day nothing that had warned is over for being silent.
_JUDGED_HOLIDAY = frozenset[SubjectType]()
# Performance is judged when labels arrive (`Watch.learn`), not when a pane of events closes.
_JUDGED = frozenset(SubjectType) - {SubjectType.PERFORMANCE}
# The groups of `budget.SHARES` that have a drift detector each.
_GROUPS = {SubjectType.FEATURE: "features", SubjectType.PREDICTION: "prediction", SubjectType.JOINT: "joint"}


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What a watch is told: the model's budget, its segments, the effect floor and the chart window (clock units).

    ``segments`` are all segments of the model, "" (all traffic) first. ``adoption`` is how long
    everything but quality is held back where the reference's dependence is unknown, until live panes taught it; None
    judges at once. ``ignore`` names data-quality checks that must stay silent;
    ``tolerance`` is how far a quality rate may rise, ``stale_after`` the silence after which data are stale; None keeps
    what is learned. ``learn_traffic`` is how long (ms) live panes teach volume and freshness by hour of
    the week where the reference does not; None leaves them unjudged. ``error_tolerance`` is how far the error rate, and
    the share of positives at a score, may rise unremarked. ``timezone`` is the zone whose clock tells the hours that
    live panes teach; a reference with hours of its own keeps the zone that it was made in.
    ``fairness`` says which dimensions the watch of all traffic compares. ``holidays`` are days after 1970-01-01, by the
    clock of ``timezone``, whose drift and volume are neither judged nor learned from.
    """

    # One page in 30 days of minutes: what somebody on call bears for a model that is well (docs/statistics.md).
    budget: Budget = field(default_factory=lambda: Budget(1.0, 43_200.0, "minutes"))
    segments: tuple[str, ...] = ("",)
    # How many false warnings go with one false page, see `budget`.
    warnings_a_page: float = WARNINGS_A_PAGE
    # How much of the traffic may change cell unremarked.
    delta: float = EFFECT_FLOOR
    # An hour: short enough to show what an incident did, long enough for a few hundred rows of a quiet model.
    window: int = 3_600_000
    adoption: int | None = None
    ignore: tuple[str, ...] = ()
    tolerance: float | None = None
    stale_after: int | None = None
    learn_traffic: int | None = None
    error_tolerance: float = TOLERANCE
    timezone: str = UTC_ZONE
    fairness: FairnessRules | None = None
    holidays: frozenset[int] = frozenset()


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
        self.drifts = plan_drifts(reference, self.settings, segment, self.alphas)
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
        self.patience = Patience(self.drifts)
        self.lifecycle = self._begin_lifecycle()
        self.window = ChartWindow(self.layout.width, self.settings.window)
        self.end: int | None = None
        self.rows = 0
        self.period = adoption_period(reference, self.settings)
        # Before dependence between rows is known, decisions that come in runs would be taken for gaps.
        self.fairness = None if self.adopting else watched_fairness(reference, self.settings, segment, self.alphas)
        self._learned: str | None = None

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
        return _both(back, self.lifecycle.fold(findings, tick))

    def _drift(self, pane: Pane, elapsed: float, findings: list[Finding]) -> list[Finding]:
        """Judge a pane's drift beside the findings of its quality, or learn from it while adopting."""
        if self.period is not None:
            return self._adopt(self.period, pane, findings)
        for drift in self.drifts:
            findings += drift.step(pane, elapsed)
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
        self.performance.hold(drifting, lambda: self.lifecycle.labelled.total(onset))
        return outcome

    def charts(self) -> list[Chart]:
        """Return every subject as of the last pane, in the order of the reference. O(width), in array passes."""
        return self._subject_charts().every()

    def chart(self, name: str) -> Chart:
        """Return one subject: rows since the onset while an incident holds it, else the chart window."""
        return self._subject_charts().one(name)

    def compared(self, name: str) -> ReferenceSubject:
        """Return what the chart of a subject is compared with: see `SubjectCharts.compared`."""
        return self._subject_charts().compared(name)

    def incidents(self) -> list[Incident]:
        """Return the open incidents, oldest first."""
        return sorted(self.lifecycle.incidents.open.values(), key=lambda incident: (incident.opened, incident.id))

    def take_over(self, before: Reference) -> None:
        """Judge at once with what the version before taught of dependence and daily movement, instead of adopting."""
        self._rebase(dump(inherit(self.reference, before)))

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
            learned=self._learned,
            held=dict(self.patience.since),
            fairness=None if self.fairness is None else self.fairness.state(),
        )

    def restore(self, state: WatchState) -> None:
        """Become the watch whose ``state`` this was; raises ``ValueError`` for another reference's state."""
        if state.digest != self.identity.digest:
            raise ValueError(f"watch state belongs to {state.digest}, this watch has {self.identity.digest}")
        if state.learned:
            self._rebase(state.learned)
        if self.period is not None and state.adoption is not None:
            self.period.restore(state.adoption)
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

    def _adopt(self, period: AdoptionPeriod, pane: Pane, findings: list[Finding]) -> list[Finding]:
        """Learn from a pane; only quality speaks, and at the end how live differs from the reference, once."""
        period.add(pane)
        findings = [finding for finding in findings if finding.kind is VerdictKind.DATA_QUALITY]
        if not period.over:
            return findings
        # A segment's reference is live already: what its first hours differ in from the rest is no skew of training.
        skew = None if self.identity.segment else period.skew(self.settings.delta)
        # Through JSON, so that a watch restored from its state has the very numbers of this one.
        self._rebase(dump(period.learned()))
        return findings if skew is None else [*findings, skew]

    def _rebase(self, learned: str) -> None:
        """Judge drift from here on against the reference that the adoption period taught; quality keeps its own."""
        self.reference, self._learned, self.period = load(learned), learned, None
        self.drifts = plan_drifts(self.reference, self.settings, self.identity.segment, self.alphas)
        self.fairness = watched_fairness(self.reference, self.settings, self.identity.segment, self.alphas)
        self.patience = Patience(self.drifts)
        state = self.lifecycle.state()
        self.lifecycle = self._begin_lifecycle()
        self.lifecycle.restore(state)

    def _begin_lifecycle(self) -> IncidentLifecycle:
        # Where the clock counts rows, a day of quiet cannot be told from panes.
        rearm = 0 if self.settings.budget.clock == "rows" else REARM_MS
        return IncidentLifecycle(self.reference, self.identity, self.drifts, partial(margin_of, self), rearm)

    def _subject_charts(self) -> SubjectCharts:
        return SubjectCharts(
            self.reference, self.window, self.lifecycle, self.drifts, came=self.rows > 0, adopting=self.adopting
        )


def declared(settings: WatchSettings, pane: Pane) -> bool:
    """Return whether a pane lies in part on a day that was declared to be none like the others."""
    # Panes are aligned to UTC: one of a day holds parts of two days of most zones.
    days = days_between(pane.start, pane.end, settings.timezone) if settings.holidays else ()
    return any(day in settings.holidays for day in days)


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


def adoption_period(reference: Reference, settings: WatchSettings) -> AdoptionPeriod | None:
    """Return the period that teaches a reference without order of time, None where it needs none or nobody wants it."""
    if settings.adoption is None or reference.adopted:
        return None
    return AdoptionPeriod(reference, settings.adoption, settings.timezone)


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


def split_budget(reference: Reference, settings: WatchSettings, segment: str) -> Mapping[str, float]:
    """Return the false pages per unit of the clock of each group of subjects that a watch judges in a segment."""
    groups = [name for type_, name in _GROUPS.items() if any(s.type is type_ for s in reference.watched)]
    if tells_label_shift(reference.prediction, reference.labels):
        groups.append("label_shift")
    if judged(reference) is not None:
        groups.append("performance")
    if compares(reference, settings, segment):
        groups.append("fairness")
    groups.append("quality")
    # What live panes teach of traffic warns and spends nothing; only a reference's own may page.
    if own_traffic(reference) is not None:
        groups.append("volume")
    split = split_alpha(settings.budget.alpha, groups, settings.segments)
    return {group: split[group, segment] for group in groups}


def watched_performance(
    reference: Reference, segment: str, alphas: Mapping[str, float], settings: WatchSettings
) -> Performance | ErrorSize | None:
    """Return what judges the labels of a reference: of answers, of numbers, or None where it has none."""
    labels = judged(reference)
    if labels is None:
        return None
    if labels.numeric:
        return ErrorSize(labels, alphas["performance"], len(settings.segments))
    key = b"\0".join(part.encode() for part in (reference.model, reference.version, segment))
    return Performance(labels, alphas["performance"], len(settings.segments), settings.error_tolerance, key)


def compares(reference: Reference, settings: WatchSettings, segment: str) -> bool:
    """Return whether a watch compares segments: that of all traffic, of a model that decides between two answers."""
    return settings.fairness is not None and not segment and reference.task in {None, Task.BINARY}


def watched_fairness(
    reference: Reference, settings: WatchSettings, segment: str, alphas: Mapping[str, float]
) -> Fairness | None:
    """Return what compares the segments of a watch, None where nothing is declared or it decides nothing."""
    if settings.fairness is None or not compares(reference, settings, segment):
        return None
    # Decisions and errors lean on each other as the scores and the labelled rows of the reference do.
    labelled = 1.0 if reference.labels is None else reference.labels.phi
    decided = 1.0 if reference.prediction is None else reference.prediction.inflation
    phi = {name: decided if k == APPROVAL else labelled for k, name in enumerate(RATES)}
    return Fairness(settings.fairness, alphas["fairness"], phi)


def plan_drifts(
    reference: Reference, settings: WatchSettings, segment: str, alphas: Mapping[str, float]
) -> tuple[Drift, ...]:
    """Return the drift detectors of a reference: for its features, prediction and pairs, where it has them."""
    drifts = []
    for type_, group in _GROUPS.items():
        chosen = [subject for subject in reference.watched if subject.type is type_]
        if chosen:
            planned = tuple(plan_subject(subject, settings.delta) for subject in chosen)
            plan = DetectorPlan(
                reference.model,
                reference.version,
                segment,
                planned,
                alphas[group],
                segments=len(settings.segments),
            )
            shift = _label_shift(reference, settings, alphas) if type_ is SubjectType.PREDICTION else None
            drifts.append(Drift(reference, type_, plan, shift))
    return tuple(drifts)


def _label_shift(reference: Reference, settings: WatchSettings, alphas: Mapping[str, float]) -> LabelShift | None:
    """The detector of more or fewer positives, where the reference knows the scores of both classes."""
    subject, labels = reference.prediction, reference.labels
    if "label_shift" not in alphas or subject is None or labels is None:
        return None
    floor = effect_floor(LABEL_SHIFT_FLOOR * settings.delta, subject.day_floor or 0.0)
    limit = float(log_thresholds(alphas["label_shift"], [1.0])[0])
    return LabelShift(subject, labels, floor, limit, len(settings.segments))


def _both(first: IncidentChanges, second: IncidentChanges) -> IncidentChanges:
    return IncidentChanges(
        first.verdicts + second.verdicts,
        first.opened + second.opened,
        first.changed + second.changed,
        first.closed + second.closed,
    )
