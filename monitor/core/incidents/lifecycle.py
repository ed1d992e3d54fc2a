"""The life of incidents: opened, joined, measured since the onset, recovered, closed; one page each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from stationkeeper.contracts.messages import Level, SubjectType, Verdict
from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.detect import Drift
from stationkeeper.monitor.core.finding import PAGE, Dated, Finding
from stationkeeper.monitor.core.incidents.explanation import DRIFTS, Explainer, explained_by_faults, follows
from stationkeeper.monitor.core.incidents.held import HeldSubjects
from stationkeeper.monitor.core.incidents.hysteresis import WarnedSubject, Warnings
from stationkeeper.monitor.core.incidents.incident import Incident, Member, OpenIncidents, choose_leader, co_onset
from stationkeeper.monitor.core.incidents.new_value_shares import NewValueShares, NewValueWeights
from stationkeeper.monitor.core.incidents.recovery import RecoveryState, RecoveryTests, is_tested, moved_since
from stationkeeper.monitor.core.incidents.verdict import (
    DecisionTime,
    WatchIdentity,
    explained_verdict,
    recovered_verdict,
    refusal_of,
)
from stationkeeper.monitor.core.panes import Pane, Recent, RecentState
from stationkeeper.monitor.core.performance import LabelledPaneState, OutcomePane, RecentOutcomes
from stationkeeper.monitor.core.reasons import Check
from stationkeeper.monitor.core.reference import Counts, Reference

Waiting = Callable[[Member], bool]


@dataclass(frozen=True, slots=True)
class IncidentChanges:
    """What a step did: verdicts to publish, and the incidents that opened, changed or closed in it."""

    verdicts: tuple[Verdict, ...] = ()
    opened: tuple[Incident, ...] = ()
    changed: tuple[Incident, ...] = ()
    closed: tuple[Incident, ...] = ()

    def verdict_for(self, incident: Incident) -> Verdict:
        """Return the verdict that opened an incident in this step; raises ``KeyError`` if none did."""
        for verdict in self.verdicts:
            if verdict.id == incident.verdict:
                return verdict
        raise KeyError(incident.id)


class LifecycleState(State, frozen=True):
    """What the incidents of a watch keep; ``since`` holds start, rows and counts by incident.

    ``recent`` is None where its panes are stored in records of their own.
    """

    book: list[Incident]
    labelled: list[LabelledPaneState]
    latched: dict[str, WarnedSubject]
    released: dict[str, int]
    held: list[str]
    since: dict[str, tuple[int, int, Counts]]
    recoveries: list[tuple[str, str, RecoveryState]]
    recent: RecentState | None = None
    new_values: dict[str, NewValueWeights] = {}


class OnsetCounts:
    """What each open incident saw since its onset: what a page and the charts measure its effect on.

    Sums and not panes, because an incident may stay open for months and only the latest panes are remembered.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, int, Counts]] = {}

    def begin(self, incident: Incident, start: int, rows: int, counts: Counts) -> None:
        """Begin with the panes since ``start``, those of before the incident opened."""
        self._sums[incident.id] = start, rows, counts

    def add(self, pane: Pane) -> None:
        """Add a closed pane to every open incident; new arrays, because verdicts hold the old ones."""
        for name, (start, rows, counts) in list(self._sums.items()):
            self._sums[name] = start, rows + pane.rows, counts + pane.counts

    def of(self, incident: Incident) -> tuple[int, int, Counts]:
        """Return start, rows and counts int64[width] of the panes since an open incident's onset."""
        return self._sums[incident.id]

    def end(self, incident: Incident) -> None:
        """Let a closed incident's go."""
        self._sums.pop(incident.id, None)

    def state(self) -> dict[str, tuple[int, int, Counts]]:
        """Return start, rows and counts by incident."""
        return {name: (start, rows, counts.copy()) for name, (start, rows, counts) in self._sums.items()}

    def restore(self, state: Mapping[str, tuple[int, int, Counts]]) -> None:
        """Take over what ``state`` gave."""
        self._sums = {name: (start, rows, np.array(counts, np.int64)) for name, (start, rows, counts) in state.items()}


class IncidentLifecycle:
    """The incidents of one watch with what they need: panes since the onset, recovery tests, hysteresis of warnings."""

    def __init__(
        self,
        reference: Reference,
        identity: WatchIdentity,
        drifts: Sequence[Drift],
        margin: Callable[[WarnedSubject], float],
        rearm: int = 0,
        renewed: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """``margin`` tells how far the evidence of a subject lies above its page threshold, in nats.

        ``rearm`` is the quiet, in clock units, after which a subject may be warned of again; ``renewed`` since when the
        bags of some subjects hold panes, where they were emptied.
        """
        self.reference, self.identity, self.drifts = reference, identity, tuple(drifts)
        self.incidents = OpenIncidents(identity.model, identity.version, identity.segment)
        self.recent = Recent(reference.layout.width, timezone=reference.timezone)
        self.labelled = RecentOutcomes()
        self.recoveries = RecoveryTests(reference)
        self.new_values = NewValueShares(reference)
        self._explainer = Explainer(reference, self.drifts, self.recent, self.labelled, self.new_values)
        self.since_onset = OnsetCounts()
        self._warnings = Warnings(identity, self._explainer, margin, rearm)
        self._held = HeldSubjects(self.drifts, self.recent, renewed)

    def add(self, pane: Pane) -> None:
        """Remember a closed pane with rows."""
        self.recent.add(pane)
        self.new_values.add(pane)
        self.since_onset.add(pane)

    def fold(self, findings: Sequence[Finding], at: DecisionTime) -> IncidentChanges:
        """Turn the findings of a closed pane into incidents and verdicts; one page an incident.

        A subject that recovered at this very pane starts anew at the next: its evidence was for the drift that ended.
        """
        findings = [f for f in findings if not self._held.came_back_at(f.subject, at.end)]
        findings, beside = self._explainer.without_followers(findings, self.incidents)
        pages = [f for f in findings if f.level == PAGE]
        opened: dict[str, Incident] = {}
        changed: dict[str, Incident] = {}
        verdicts: list[Verdict] = []
        taken: set[str] = set()
        # Strongest first, until every page has its incident: one cause takes its weaker subjects with it.
        while remaining := [f for f in pages if f.key not in taken]:
            leader = choose_leader(remaining)
            onset = self._date(leader, at)
            incident = self.incidents.holder(leader, onset, at.length)
            if incident is not None:
                taken.add(leader.key)
                verdicts += self._join(incident, leader, onset, at)
                changed[incident.id] = self.incidents.open[incident.id]
                continue
            # What stands in an open incident stays there, though it pages again.
            free = [f for f in findings if f.key not in taken | beside | self.incidents.keys()]
            together = co_onset(free, leader, at.end, at.length)
            taken |= {f.key for f in together}
            incident, verdict = self._open(leader, together, onset, at)
            opened[incident.id] = incident
            verdicts.append(verdict)
        below = [f for f in findings if f.level < PAGE and f.key not in taken]
        verdicts += self._warnings.step(below, at, self.incidents, self._date)
        only_changed = tuple(incident for key, incident in changed.items() if key not in opened)
        return IncidentChanges(tuple(verdicts), tuple(opened.values()), only_changed)

    def recover(self, pane: Pane, firing: frozenset[str], *, volume_usual: bool = True) -> IncidentChanges:
        """Step the recovery tests of a closed pane; ``firing`` are the keys of rules that still hold."""

        def back(incident: Incident, member: Member) -> bool:
            return self.recoveries.back(incident.id, member, pane, firing, volume_usual=volume_usual)

        at = DecisionTime(pane.end, pane.length, pane.last_row)
        return self._recovered(lambda m: m.type is not SubjectType.PERFORMANCE, back, at, pane.rows)

    def recover_performance(self, pane: OutcomePane) -> IncidentChanges:
        """Step the recovery tests of performance subjects with newly labelled rows."""

        def back(incident: Incident, member: Member) -> bool:
            return self.recoveries.step_labelled(incident.id, member, pane.scored)

        at = DecisionTime(pane.end, pane.end - pane.start, pane.last_row)
        return self._recovered(lambda m: m.type is SubjectType.PERFORMANCE, back, at, pane.rows)

    def seen_since(self, finding: Finding, begin: int) -> tuple[int, float]:
        """Return the remembered rows since a time, and how far the subject of a finding moved in them (TV)."""
        panes = list(self.recent.since(begin))
        return sum(pane.rows for pane in panes), moved_since(self.reference, finding.subject, panes)

    def state(self) -> LifecycleState:
        """Return all that changes."""
        released, held = self._held.state()
        return LifecycleState(
            book=self.incidents.state(),
            recent=self.recent.state(),
            labelled=self.labelled.state(),
            latched=self._warnings.hysteresis.state(),
            released=released,
            held=held,
            since=self.since_onset.state(),
            recoveries=self.recoveries.state(),
            new_values=dict(self.new_values.weights),
        )

    def restore(self, state: LifecycleState) -> None:
        """Take over what ``state`` gave."""
        self.incidents.restore(state.book)
        if state.recent is not None:
            self.recent.restore(state.recent)
        self.labelled.restore(state.labelled)
        self._warnings.hysteresis.restore(state.latched)
        self._held.restore(state.released, state.held)
        self.since_onset.restore(state.since)
        self.recoveries.restore(state.recoveries, self.incidents.open)
        self.new_values.weights = dict(state.new_values)

    def _open(
        self, leader: Finding, together: Sequence[Finding], onset: Dated, at: DecisionTime
    ) -> tuple[Incident, Verdict]:
        rows, counts = self.recent.total(onset.time)
        explained = self._explainer.explain(leader, counts, onset.time)
        leader, effect = explained.finding, explained.effect
        incident = self.incidents.open_new(leader, onset, at.end, refusal_of(leader))
        self.since_onset.begin(incident, onset.time, rows, counts)
        effects = {f.subject: effect if f.key == leader.key else self._explainer.effect(f, counts) for f in together}
        for finding in together:
            incident = self.incidents.join(incident, finding, at.end, effects[finding.subject])
        # From the onset on, not from the page: what came between lies in the bags already.
        self._hold(incident, together, onset.time, counts)
        named = {"subjects": list(effects), "effects": {name: round(value, 6) for name, value in effects.items()}}
        verdict = explained_verdict(self.identity, explained, PAGE, onset, at, incident, named)
        return self.incidents.amend(incident, verdict=verdict.id), verdict

    def _join(self, incident: Incident, finding: Finding, onset: Dated, at: DecisionTime) -> list[Verdict]:
        """A subject joins an open incident: it has one verdict, and only a new kind is worth a warning.

        Drift that is nothing but what is known to be broken in its subject says nothing new.
        """
        known = incident.member(finding.key)
        if known is not None and not known.recovered:
            self.incidents.join(incident, finding, at.end, known.effect)
            return []
        new_kind = finding.kind not in incident.kinds
        start, _, counts = self.since_onset.of(incident)
        explained = self._explainer.explain(finding, counts, start)
        incident = self.incidents.join(incident, explained.finding, at.end, explained.effect)
        self._hold(incident, [explained.finding], max(start, finding.onset), counts)
        if follows(explained.finding) or explained_by_faults(
            incident.drifting, self.reference, explained.finding, explained.effect, counts
        ):
            return []
        verdict = explained_verdict(self.identity, explained, PAGE, onset, at, incident, {"joined": True})
        return [verdict.model_copy(update={"level": Level.WARN if new_kind else Level.INFORM})]

    def _recovered(
        self, waiting: Waiting, back: Callable[[Incident, Member], bool], at: DecisionTime, rows: int
    ) -> IncidentChanges:
        """Ask whether each drifting member that is ``waiting`` is ``back``, and close incidents without any other."""
        closed: list[Incident] = []
        for incident in list(self.incidents.open.values()):
            for member in incident.drifting:
                if waiting(member) and back(incident, member):
                    now = self._come_back(incident.id, member, at)
                    closed += [now] if now.closed is not None else []
        verdicts = [
            recovered_verdict(self.identity, one, now=at.end, rows=rows, last_row=at.last_row) for one in closed
        ]
        return IncidentChanges(tuple(verdicts), closed=tuple(closed))

    def _come_back(self, incident_id: str, member: Member, at: DecisionTime) -> Incident:
        self.recoveries.end(incident_id, member)
        incident = self.incidents.recover(self.incidents.open[incident_id], member.key, at.end)
        if not any(m.subject == member.subject for m in incident.drifting):
            self._held.release(member.subject, at.end)
            self._warnings.hysteresis.release(member.subject)
        if incident.closed is not None:
            self.since_onset.end(incident)
        return incident

    def _hold(self, incident: Incident, findings: Sequence[Finding], onset: int, counts: Counts) -> None:
        """Keep what drifted out of the bags and start a recovery test for each member that has counts."""
        for finding in findings:
            # A change of unit is a quality rule, but it is the cells that moved.
            if finding.kind in DRIFTS or finding.check is Check.UNIT:
                self._held.hold(finding.subject, onset)
            member = incident.member(finding.key)
            if member is None or not is_tested(member):
                continue
            seen = Pane(onset, 0, self.since_onset.of(incident)[1], counts)
            labelled = self.labelled.total(onset)[0] if finding.type is SubjectType.PERFORMANCE else None
            self.recoveries.start(incident.id, member, seen, labelled, self.recent.since(onset))

    def _date(self, finding: Finding, at: DecisionTime) -> Dated:
        return self._explainer.date(finding, self._held.since(finding), at.end)
