"""Where findings become incidents and verdicts: opened, joined, measured since the onset, recovered, closed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stationkeeper.contracts.messages import Level, SubjectType, Verdict, VerdictKind
from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.charts.cause import name_cause
from stationkeeper.monitor.core.charts.chart import measure
from stationkeeper.monitor.core.detect.drift import Drift
from stationkeeper.monitor.core.finding import PAGE, Dated, Finding
from stationkeeper.monitor.core.incidents.cause import explained_by_faults
from stationkeeper.monitor.core.incidents.hysteresis import WarnedSubject, WarningHysteresis
from stationkeeper.monitor.core.incidents.incident import Incident, Member, OpenIncidents, choose_leader, co_onset
from stationkeeper.monitor.core.incidents.recovery import (
    Recovery,
    member_counts,
    member_expected,
    member_phi,
    strata_weights,
)
from stationkeeper.monitor.core.incidents.verdict import WatchIdentity, recovered_verdict, refusal_of, verdict_of
from stationkeeper.monitor.core.panes.pane import Pane, stratum_of
from stationkeeper.monitor.core.panes.recent import Recent, RecentState
from stationkeeper.monitor.core.performance import OutcomePane, RecentOutcomes, explain_errors
from stationkeeper.monitor.core.quality import RULES
from stationkeeper.monitor.core.reasons import Check
from stationkeeper.monitor.core.reference import QUALITY, Counts, Reference

_DRIFTS = frozenset({VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT})


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


@dataclass(frozen=True, slots=True)
class DecisionTime:
    """The closed pane a decision is made at: its end and length in clock units, and its last row if numbered.

    ``judged`` are the types of the subjects that were judged in it.
    """

    end: int
    length: int
    last_row: int | None
    judged: frozenset[SubjectType] = frozenset()


class IncidentLifecycle:
    """The incidents of one watch with what they need: panes since the onset, recovery tests, latched whispers."""

    def __init__(
        self,
        reference: Reference,
        named: WatchIdentity,
        drifts: Sequence[Drift],
        margin: Callable[[WarnedSubject], float],
    ) -> None:
        """``margin`` tells how far the evidence of a subject lies above its page threshold, in nats."""
        self._margin = margin
        self.reference, self.identity, self.drifts = reference, named, tuple(drifts)
        self.layout = reference.layout
        self.incidents = OpenIncidents(named.model, named.version, named.segment)
        self.recent = Recent(self.layout.width)
        self.labelled = RecentOutcomes()
        self.recoveries: dict[tuple[str, str], Recovery] = {}
        self._since: dict[str, tuple[int, int, Counts]] = {}
        self._latch = WarningHysteresis()
        self._released: dict[str, int] = {}
        self._held: set[str] = set()

    def since(self, incident: Incident) -> tuple[int, int, Counts]:
        """Return start, rows and counts int64[width] of the panes since the incident's onset."""
        return self._since[incident.id]

    def add(self, pane: Pane) -> None:
        """Remember a closed pane with rows."""
        self.recent.add(pane)
        for incident, (start, rows, counts) in list(self._since.items()):
            self._since[incident] = (start, rows + pane.rows, counts + pane.counts)

    def fold(self, findings: Sequence[Finding], tick: DecisionTime) -> IncidentChanges:
        """Turn the findings of a closed pane into incidents and verdicts; one page an incident.

        A subject that recovered at this very pane starts anew at the next: its evidence was for the drift that ended.
        """
        findings = [f for f in findings if self._released.get(f.subject) != tick.end]
        pages = [f for f in findings if f.level == PAGE]
        opened: dict[str, Incident] = {}
        changed: dict[str, Incident] = {}
        verdicts: list[Verdict] = []
        taken: set[str] = set()
        while remaining := [f for f in pages if f.key not in taken]:
            leader = choose_leader(remaining)
            onset = self._date(leader, tick)
            incident = self.incidents.holder(leader, onset, tick.length)
            if incident is not None:
                taken.add(leader.key)
                verdicts += self._join(incident, leader, onset, tick)
                changed[incident.id] = self.incidents.open[incident.id]
                continue
            together = co_onset([f for f in findings if f.key not in taken], leader, tick.end, tick.length)
            taken |= {f.key for f in together}
            incident, verdict = self._open(leader, together, onset, tick)
            opened[incident.id] = incident
            verdicts.append(verdict)
        verdicts += self._whispers([f for f in findings if f.level < PAGE and f.key not in taken], tick)
        return IncidentChanges(
            tuple(verdicts), tuple(opened.values()), tuple(v for k, v in changed.items() if k not in opened)
        )

    def recover(self, pane: Pane, firing: frozenset[str], *, volume_usual: bool = True) -> IncidentChanges:
        """Step the recovery tests of a closed pane; ``firing`` are the keys of rules that still speak.

        Rules end with their last word; volume when ``volume_usual``.
        """
        tick = DecisionTime(pane.end, pane.length, pane.last_row)
        closed: list[Incident] = []
        for incident in list(self.incidents.open.values()):
            for member in incident.members.values():
                if member.recovered or member.type is SubjectType.PERFORMANCE:
                    continue
                if member.check in RULES:
                    back = member.key not in firing
                elif member.check is Check.VOLUME:
                    back = volume_usual
                else:
                    test = self.recoveries[incident.id, member.key]
                    stratum = stratum_of(pane.start, len(test.weights))
                    back = test.step(member_counts(self.reference, member, pane), stratum)
                if back:
                    closed += self._come_back(incident.id, member, tick)
        return self._closing(closed, tick, pane.rows)

    def recover_performance(self, pane: OutcomePane) -> IncidentChanges:
        """Step the recovery tests of performance subjects with newly labelled rows."""
        tick = DecisionTime(pane.end, pane.end - pane.start, pane.last_row)
        closed: list[Incident] = []
        for incident in list(self.incidents.open.values()):
            for member in incident.members.values():
                waiting = member.type is SubjectType.PERFORMANCE and not member.recovered
                if waiting and self.recoveries[incident.id, member.key].step(pane.scored.ravel()):
                    closed += self._come_back(incident.id, member, tick)
        return self._closing(closed, tick, pane.rows)

    def state(self) -> dict[str, Any]:
        """Return all that changes: JSON values and arrays."""
        return {
            "book": self.incidents.state(),
            "recent": self.recent.state(),
            "labelled": self.labelled.state(),
            "latched": self._latch.state(),
            "released": dict(self._released),
            "held": sorted(self._held),
            "since": {key: [start, rows, counts.copy()] for key, (start, rows, counts) in self._since.items()},
            "recoveries": [[*key, test.state()] for key, test in self.recoveries.items()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the desk whose ``state`` this was."""
        self.incidents.restore(state["book"])
        self.recent.restore(state_of(state["recent"], RecentState))
        self.labelled.restore(state["labelled"])
        self._latch.restore(state["latched"])
        self._released = {str(key): int(time) for key, time in state["released"].items()}
        self._held = {str(name) for name in state["held"]}
        self._since = {
            key: (int(start), int(rows), np.asarray(counts, np.int64).copy())
            for key, (start, rows, counts) in state["since"].items()
        }
        self.recoveries = {
            (incident, key): Recovery.restore(
                member_expected(self.reference, self.incidents.open[incident].members[key]), value
            )
            for incident, key, value in state["recoveries"]
        }

    def effect(self, finding: Finding, counts: Counts) -> float:
        """Return the effect of a finding given the panes since its onset: what the chart of its subject shows."""
        if finding.effect is not None or finding.subject not in self.layout:
            return finding.effect or 0.0
        if finding.check is not None and finding.check in QUALITY:
            place, subject = self.layout[finding.subject], self.reference.by_name[finding.subject]
            rows = int(counts[place.histogram].sum())
            usual = float(subject.quality[QUALITY.index(finding.check)]) / max(subject.rows, 1)
            return int(counts[place.counter(finding.check)]) / max(rows, 1) - usual
        found = measure(self.reference.by_name[finding.subject], counts[self.layout[finding.subject].histogram])
        return found["tv"].value if found else 0.0

    def _open(
        self, leader: Finding, together: Sequence[Finding], onset: Dated, tick: DecisionTime
    ) -> tuple[Incident, Verdict]:
        rows, counts = self.recent.total(onset.time)
        leader, effect, seen = self._explain(leader, counts, onset.time)
        incident = self.incidents.open_new(leader, onset, tick.end, refusal_of(leader))
        self._since[incident.id] = (onset.time, rows, counts)
        effects = {f.subject: effect if f.key == leader.key else self.effect(f, counts) for f in together}
        for finding in together:
            incident = self.incidents.join(incident, finding, tick.end, effects[finding.subject])
        self._hold(incident, together, onset.time, counts)
        verdict = verdict_of(
            self.identity,
            leader,
            now=tick.end,
            level=PAGE,
            effect=effect,
            rows=seen,
            onset=onset,
            incident=incident,
            last_row=tick.last_row,
            evidence={
                "subjects": list(effects),
                "effects": {name: round(value, 6) for name, value in effects.items()},
            },
        )
        return self.incidents.amend(incident, verdict=verdict.id), verdict

    def _join(self, incident: Incident, finding: Finding, onset: Dated, tick: DecisionTime) -> Iterator[Verdict]:
        """A subject joins an open incident: it speaks once, and only a new kind is worth a warning.

        Drift that is nothing but what is known to be broken in its subject says nothing new.
        """
        known = incident.members.get(finding.key)
        if known is not None and not known.recovered:
            self.incidents.join(incident, finding, tick.end, known.effect)
            return
        new_kind = finding.kind not in incident.kinds
        start, _, counts = self._since[incident.id]
        finding, effect, seen = self._explain(finding, counts, start)
        incident = self.incidents.join(incident, finding, tick.end, effect)
        self._hold(incident, [finding], max(start, finding.onset), counts)
        broken = [member for member in incident.members.values() if not member.recovered]
        if explained_by_faults(broken, self.reference, finding, effect, counts):
            return
        verdict = verdict_of(
            self.identity,
            finding,
            now=tick.end,
            level=PAGE,
            effect=effect,
            rows=seen,
            onset=onset,
            incident=incident,
            last_row=tick.last_row,
            evidence={"joined": True},
        )
        yield verdict.model_copy(update={"level": Level.WARN if new_kind else Level.INFORM})

    def _whispers(self, findings: Sequence[Finding], tick: DecisionTime) -> Iterator[Verdict]:
        """Verdicts below a page: each level once an episode of its subject."""
        present = {f.key: f for f in findings}
        self._latch.rest(present, tick.judged, self._margin)
        for finding in present.values():
            if self.incidents.of_subject(finding.subject) is not None or not self._latch.admit(finding):
                continue
            _, counts = self.recent.total(finding.onset)
            explained, effect, seen = self._explain(finding, counts, finding.onset)
            if explained_by_faults(present.values(), self.reference, finding, effect, counts):
                continue
            yield verdict_of(
                self.identity,
                explained,
                now=tick.end,
                level=finding.level,
                effect=effect,
                rows=seen,
                onset=self._date(finding, tick),
                incident=None,
                last_row=tick.last_row,
                evidence={},
            )

    def _come_back(self, incident_id: str, member: Member, tick: DecisionTime) -> list[Incident]:
        self.recoveries.pop((incident_id, member.key), None)
        incident = self.incidents.recover(self.incidents.open[incident_id], member.key, tick.end)
        drifting = any(m.subject == member.subject and not m.recovered for m in incident.members.values())
        if not drifting:
            for drift in self.drifts:
                drift.release([member.subject])
            self._released[member.subject] = tick.end
            self._latch.release(member.subject)
            self._held.discard(member.subject)
        if incident.closed is None:
            return []
        self._since.pop(incident.id, None)
        return [incident]

    def _closing(self, closed: Sequence[Incident], tick: DecisionTime, rows: int) -> IncidentChanges:
        verdicts = tuple(
            recovered_verdict(self.identity, incident, now=tick.end, rows=rows, last_row=tick.last_row)
            for incident in closed
        )
        return IncidentChanges(verdicts, closed=tuple(closed))

    def _hold(self, incident: Incident, findings: Sequence[Finding], onset: int, counts: Counts) -> None:
        """Keep what drifted out of the bags and start a recovery test for each member that has counts."""
        for finding in findings:
            drifts = finding.kind in _DRIFTS or finding.check is Check.UNIT
            if drifts and finding.subject not in self._held:
                self._held.add(finding.subject)
                begin = max(onset, self._released.get(finding.subject, onset))
                for drift in self.drifts:
                    drift.hold([finding.subject], list(self.recent.since(begin)))
            if finding.check in RULES or finding.check is Check.VOLUME:
                continue
            member = incident.members[finding.key]
            expected = member_expected(self.reference, member)
            if finding.type is SubjectType.PERFORMANCE:
                drifted = self.labelled.total(onset)[0].ravel()
            else:
                drifted = member_counts(
                    self.reference, member, Pane(onset, 0, int(self._since[incident.id][1]), counts)
                )
            weights = strata_weights(self.recent.since(onset), len(expected))
            phi = member_phi(self.reference, member)
            self.recoveries[incident.id, finding.key] = Recovery(expected, drifted, weights, phi)

    def _explain(self, finding: Finding, counts: Counts, start: int) -> tuple[Finding, float, int]:
        """Name the cause from what came since ``start``; returns finding, effect and rows as the chart shows them."""
        if finding.type is SubjectType.PERFORMANCE and self.reference.labels is not None:
            confusion = self.labelled.total(start)[1]
            text, change, numbers = explain_errors(self.reference.labels, confusion)
            evidence = {**finding.evidence, **numbers}
            reason = f"{finding.subject}: {text}"
            return replace(finding, reason=reason, evidence=evidence), change, int(confusion.sum())
        explained_already = finding.kind not in _DRIFTS or finding.subject not in self.layout
        if explained_already:
            return finding, self.effect(finding, counts), finding.rows
        place, subject = self.layout[finding.subject], self.reference.by_name[finding.subject]
        cells = counts[place.histogram]
        named = name_cause(subject, cells, counts[place.quality : place.quality + len(QUALITY)])
        evidence = {**finding.evidence, **named.evidence}
        explained = replace(finding, cause=named.cause, reason=named.reason, evidence=evidence)
        return explained, self.effect(finding, counts), int(cells.sum())

    def _date(self, finding: Finding, tick: DecisionTime) -> Dated:
        rough = max(finding.onset, self._released.get(finding.subject, finding.onset))
        if finding.type is SubjectType.PERFORMANCE:
            return Dated(rough, rough, tick.end, self.labelled.first_row(rough))
        for drift in self.drifts:
            if finding.check is None and drift.type is finding.type:
                return drift.date(finding, self.recent, rough, tick.end)
        return Dated(rough, rough, tick.end, self.recent.first_row(rough))
