"""The watch of one (model version, reference digest, segment): closed panes in, verdicts and charts out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from contracts.messages import Level, State, SubjectType, Verdict, VerdictKind
from monitor.core.budget import Budget, split_alpha
from monitor.core.cause import name_cause
from monitor.core.cells import QUALITY, Counts
from monitor.core.chart import FEW_ROWS, Chart, measure, quality_shares
from monitor.core.decision import Named, recovered_verdict, refusal_of, verdict_of
from monitor.core.drift import Drift, plan_subject
from monitor.core.finding import INFORM, NONE, PAGE, Finding
from monitor.core.incident import Dated, Incident, IncidentBook, choose_leader, co_onset
from monitor.core.pane import Pane
from monitor.core.plan import DetectorPlan
from monitor.core.reasons import Unknown
from monitor.core.recent import Recent
from monitor.core.recovery import Recovery
from monitor.core.reference import Reference
from monitor.core.window import Window

_GROUPS = {SubjectType.FEATURE: "features", SubjectType.PREDICTION: "prediction"}


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What a watch is told: the model's budget, its segments, the effect floor and the chart window (clock units).

    ``segments`` are all segments of the model, "" (all traffic) first. ``adopt`` holds back everything but quality
    while the reference's dependence is unknown.
    """

    budget: Budget = field(default_factory=lambda: Budget(1.0, 43_200.0, "minutes"))
    segments: tuple[str, ...] = ("",)
    delta: float = 0.02
    window: int = 3_600_000
    adopt: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
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


class Watch:
    """Everything for one (model version, digest, segment): step it with closed panes, in order, and read it.

    Pure: the same reference, settings and panes give the same verdicts bit for bit, in one run or restored in the
    middle. A pane without rows costs microseconds; one with rows costs a detector step.
    """

    def __init__(self, reference: Reference, segment: str = "", settings: WatchSettings | None = None) -> None:
        self.reference = reference
        self.settings = settings or WatchSettings()
        self.named = Named(reference.model, reference.version, segment, reference.digest)
        self.layout = reference.layout
        self.alphas = self._alphas()
        self.drifts = tuple(self._drift(type_) for type_ in _GROUPS if self._of(type_))
        self.book = IncidentBook(reference.model, reference.version, segment)
        self.recent = Recent(self.layout.width)
        self.window = Window(self.layout.width, self.settings.window)
        self.end: int | None = None
        self.rows = 0
        self._latched: dict[str, int] = {}
        self._recoveries: dict[str, Recovery] = {}
        self._since: dict[str, tuple[int, int, Counts]] = {}
        self._released: dict[str, int] = {}

    @property
    def adopting(self) -> bool:
        """Whether drift is held back because dependence between rows is not known."""
        return self.settings.adopt and not self.reference.adopted

    def step(self, pane: Pane) -> Outcome:
        """Take the next closed pane; its vector is the reference's layout. Raises ``ValueError`` out of order."""
        if self.end is not None and pane.start < self.end:
            raise ValueError(f"pane at {pane.start} comes after the one that ended at {self.end}; panes go in order")
        self.end = pane.end
        self.window.advance(pane.end)
        if not pane.rows:
            return Outcome()
        self.rows += pane.rows
        self.recent.add(pane)
        self.window.add(pane)
        elapsed = self.settings.budget.elapsed(pane.rows, pane.length)
        findings = [finding for drift in self.drifts for finding in drift.step(pane, elapsed)]
        for incident, (start, rows, counts) in list(self._since.items()):
            self._since[incident] = (start, rows + pane.rows, counts + pane.counts)
        if self.adopting:
            findings = [replace(f, level=min(f.level, INFORM)) for f in findings]
        closed = tuple(self._recover(pane))
        outcome = self._fold(findings, pane)
        verdicts = tuple(
            recovered_verdict(self.named, i, now=pane.end, rows=pane.rows, last_row=pane.last_row) for i in closed
        )
        return replace(outcome, verdicts=verdicts + outcome.verdicts, closed=closed)

    def charts(self) -> list[Chart]:
        """Return every subject as of the last pane, in the order of the reference. O(width)."""
        return [self.chart(name) for name in self.layout.names]

    def chart(self, name: str) -> Chart:
        """Return one subject: rows since the onset while an incident holds it, else the chart window."""
        place, subject = self.layout[name], self.reference.by_name[name]
        incident = self.book.of_subject(name)
        since = self._since.get(incident.id) if incident else None
        start, rows, counts = since or (self.window.end - self.window.length, self.window.rows, self.window.counts)
        cells = counts[place.histogram]
        found = measure(subject, cells)
        evidence, threshold = self._evidence(name)
        unknown = self._unknown(rows)
        return Chart(
            subject=name,
            type=subject.type,
            state=self._state(name, incident, unknown),
            rows=int(cells.sum()),
            since=start,
            effect=found["tv"].value if found else 0.0,
            noise=found["tv"].noise if found else 0.0,
            evidence=evidence,
            threshold=threshold,
            distances=found,
            quality=quality_shares(counts[place.quality : place.quality + len(QUALITY)], rows),
            incident=incident.id if incident else None,
            unknown=unknown,
        )

    def incidents(self) -> list[Incident]:
        """Return the open incidents, oldest first."""
        return sorted(self.book.open.values(), key=lambda incident: (incident.opened, incident.id))

    def state(self) -> dict[str, Any]:
        """Return all that changes: JSON values and numpy arrays, nested in dicts and lists."""
        return {
            "digest": self.named.digest,
            "end": self.end,
            "rows": self.rows,
            "latched": dict(self._latched),
            "released": dict(self._released),
            "book": self.book.state(),
            "recent": self.recent.state(),
            "window": self.window.state(),
            "drifts": {drift.type.value: drift.state() for drift in self.drifts},
            "since": {key: [start, rows, counts.copy()] for key, (start, rows, counts) in self._since.items()},
            "recoveries": {key: test.state() for key, test in self._recoveries.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the watch whose ``state`` this was; raises ``ValueError`` for another reference's state."""
        if state["digest"] != self.named.digest:
            raise ValueError(f"watch state belongs to {state['digest']}, this watch has {self.named.digest}")
        self.end = state["end"]
        self.rows = int(state["rows"])
        self._latched = {str(key): int(level) for key, level in state["latched"].items()}
        self._released = {str(key): int(time) for key, time in state["released"].items()}
        self.book.restore(state["book"])
        self.recent.restore(state["recent"])
        self.window.restore(state["window"])
        for drift in self.drifts:
            drift.restore(state["drifts"][drift.type.value])
        self._since = {
            key: (int(start), int(rows), np.asarray(counts, np.int64).copy())
            for key, (start, rows, counts) in state["since"].items()
        }
        self._recoveries = {
            key: Recovery.restore(self.reference.by_name[key.split("\n")[1]], value)
            for key, value in state["recoveries"].items()
        }

    def _fold(self, findings: Sequence[Finding], pane: Pane) -> Outcome:
        pages = [f for f in findings if f.level == PAGE]
        opened: dict[str, Incident] = {}
        changed: dict[str, Incident] = {}
        verdicts: list[Verdict] = []
        taken: set[str] = set()
        while remaining := [f for f in pages if f.key not in taken]:
            leader = choose_leader(remaining)
            incident = self.book.holder(leader, pane.end, pane.length)
            if incident is not None:
                taken.add(leader.key)
                verdicts += self._join(incident, leader, pane)
                changed[incident.id] = self.book.open[incident.id]
                continue
            together = co_onset([f for f in findings if f.key not in taken], leader, pane.end, pane.length)
            taken |= {f.key for f in together}
            incident, verdict = self._open(leader, together, pane)
            opened[incident.id] = incident
            verdicts.append(verdict)
        verdicts += self._whispers([f for f in findings if f.level < PAGE and f.key not in taken], pane)
        return Outcome(tuple(verdicts), tuple(opened.values()), tuple(v for k, v in changed.items() if k not in opened))

    def _open(self, leader: Finding, together: Sequence[Finding], pane: Pane) -> tuple[Incident, Verdict]:
        onset = self._date(leader, pane)
        rows, counts = self.recent.total(onset.time)
        leader, effect, seen = self._explain(leader, counts, rows)
        incident = self.book.open_new(leader, onset, pane.end, refusal_of(leader))
        self._since[incident.id] = (onset.time, rows, counts)
        effects = {}
        for finding in together:
            effects[finding.subject] = effect if finding.key == leader.key else self._effect(finding, counts)
            incident = self.book.join(incident, finding, pane.end, effects[finding.subject])
        self._hold(incident, [f.subject for f in together], onset.time, counts, effects)
        verdict = verdict_of(
            self.named,
            leader,
            now=pane.end,
            level=PAGE,
            effect=effect,
            rows=seen,
            onset=onset,
            incident=incident,
            last_row=pane.last_row,
            evidence={
                "subjects": [f.subject for f in together],
                "effects": {name: round(value, 6) for name, value in effects.items()},
            },
        )
        return self.book.amend(incident, verdict=verdict.id), verdict

    def _join(self, incident: Incident, finding: Finding, pane: Pane) -> Iterator[Verdict]:
        """A subject joins an open incident: it speaks once, and only a new kind is worth a warning."""
        known = incident.members.get(finding.key)
        if known is not None and not known.recovered:
            self.book.join(incident, finding, pane.end, known.effect)
            return
        new_kind = finding.kind not in incident.kinds
        start, rows, counts = self._since[incident.id]
        finding, effect, seen = self._explain(finding, counts, rows)
        self.book.join(incident, finding, pane.end, effect)
        self._hold(incident, [finding.subject], max(start, finding.onset), counts, {finding.subject: effect})
        verdict = verdict_of(
            self.named,
            finding,
            now=pane.end,
            level=PAGE,
            effect=effect,
            rows=seen,
            onset=self._date(finding, pane),
            incident=incident,
            last_row=pane.last_row,
            evidence={"joined": True},
        )
        yield verdict.model_copy(update={"level": Level.WARN if new_kind else Level.INFORM})

    def _whispers(self, findings: Sequence[Finding], pane: Pane) -> Iterator[Verdict]:
        """Verdicts below a page: once when a subject reaches a level, again only after its evidence was gone."""
        present = {f.key: f for f in findings}
        self._latched = {key: level for key, level in self._latched.items() if key in present}
        for key, finding in present.items():
            if self.book.of_subject(finding.subject) is not None or finding.level <= self._latched.get(key, NONE):
                continue
            self._latched[key] = finding.level
            onset = Dated(finding.onset, finding.onset, pane.end, self.recent.first_row(finding.onset))
            rows, counts = self.recent.total(finding.onset)
            finding, effect, seen = self._explain(finding, counts, rows)  # noqa: PLW2901 - the same finding, explained
            yield verdict_of(
                self.named,
                finding,
                now=pane.end,
                level=finding.level,
                effect=effect,
                rows=seen,
                onset=onset,
                incident=None,
                last_row=pane.last_row,
                evidence={},
            )

    def _recover(self, pane: Pane) -> Iterator[Incident]:
        for key, test in list(self._recoveries.items()):
            incident_id, subject = key.split("\n")
            if not test.step(pane.counts[self.layout[subject].histogram]):
                continue
            del self._recoveries[key]
            incident = self.book.open[incident_id]
            for member in [m.key for m in incident.members.values() if m.subject == subject]:
                incident = self.book.recover(incident, member, pane.end)
            for drift in self.drifts:
                drift.release([subject])
            self._released[subject] = pane.end
            if incident.closed is not None:
                self._since.pop(incident.id, None)
                yield incident

    def _hold(
        self, incident: Incident, subjects: Sequence[str], onset: int, counts: Counts, effects: Mapping[str, float]
    ) -> None:
        for name in dict.fromkeys(subjects):
            if name not in self.layout:
                continue
            panes = list(self.recent.since(max(onset, self._released.get(name, onset))))
            for drift in self.drifts:
                drift.hold([name], panes)
            subject = self.reference.by_name[name]
            phi = float(subject.phi.max()) if len(subject.phi) else 1.0
            drifted = counts[self.layout[name].histogram]
            self._recoveries[f"{incident.id}\n{name}"] = Recovery(subject, drifted, phi, effects.get(name, 0.0))

    def _explain(self, finding: Finding, counts: Counts, rows: int) -> tuple[Finding, float, int]:
        """Name the cause from the rows since the onset; returns finding, effect and rows as the chart shows them."""
        if finding.type not in _GROUPS or finding.subject not in self.layout:
            return finding, finding.effect or 0.0, finding.rows
        place, subject = self.layout[finding.subject], self.reference.by_name[finding.subject]
        quality = counts[place.quality : place.quality + len(QUALITY)]
        named = name_cause(subject, counts[place.histogram], quality)
        evidence = {**finding.evidence, **named.evidence}
        explained = replace(finding, cause=named.cause, reason=named.reason, evidence=evidence)
        return explained, self._effect(finding, counts), int(counts[place.histogram].sum()) or rows

    def _effect(self, finding: Finding, counts: Counts) -> float:
        if finding.subject not in self.layout:
            return finding.effect or 0.0
        found = measure(self.reference.by_name[finding.subject], counts[self.layout[finding.subject].histogram])
        return found["tv"].value if found else 0.0

    def _date(self, finding: Finding, pane: Pane) -> Dated:
        rough = max(finding.onset, self._released.get(finding.subject, finding.onset))
        for drift in self.drifts:
            if drift.type is finding.type:
                return drift.date(finding, self.recent, rough, pane.end)
        return Dated(rough, rough, pane.end, self.recent.first_row(rough))

    def _evidence(self, name: str) -> tuple[float, float]:
        wanted = self.reference.by_name[name].type
        return next(drift.evidence(name) for drift in self.drifts if drift.type is wanted)

    def _unknown(self, rows: int) -> Unknown | None:
        if not rows:
            return Unknown.STALE if self.rows else Unknown.NO_ROWS
        if self.adopting:
            return Unknown.ADOPTING
        return Unknown.FEW_ROWS if rows < FEW_ROWS else None

    def _state(self, name: str, incident: Incident | None, unknown: Unknown | None) -> State:
        if incident is not None:
            kinds = {m.kind for m in incident.members.values() if m.subject == name}
            if VerdictKind.DATA_QUALITY in kinds:
                return State.BROKEN
            test = self._recoveries.get(f"{incident.id}\n{name}")
            return State.RECOVERING if test is not None and test.evidence > 0.0 else State.DRIFTING
        return State.UNKNOWN if unknown is not None else State.STEADY

    def _of(self, type_: SubjectType) -> list[str]:
        return [subject.name for subject in self.reference.subjects if subject.type is type_]

    def _alphas(self) -> Mapping[str, float]:
        groups = [name for type_, name in _GROUPS.items() if self._of(type_)]
        split = split_alpha(self.settings.budget.alpha, groups, self.settings.segments)
        return {group: split[group, self.named.segment] for group in groups}

    def _drift(self, type_: SubjectType) -> Drift:
        chosen = [subject for subject in self.reference.subjects if subject.type is type_]
        plan = DetectorPlan(
            self.named.model,
            self.named.version,
            self.named.segment,
            tuple(plan_subject(subject, self.settings.delta) for subject in chosen),
            self.alphas[_GROUPS[type_]],
            segments=len(self.settings.segments),
        )
        return Drift(self.reference, type_, plan)
