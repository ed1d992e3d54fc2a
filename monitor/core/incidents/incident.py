"""Incidents: findings that began together are one, latched until every member has recovered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stationkeeper.contracts.identity import incident_id
from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.monitor.core.finding import NONE, PAGE, Dated, Finding
from stationkeeper.monitor.core.reasons import Cause, Check

CO_ONSET_PANES = 10
_CAUSES_ERRORS = frozenset({VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT, VerdictKind.DATA_QUALITY})


@dataclass(frozen=True, slots=True)
class Member:
    """A subject in an incident: what it showed at its page, since when, and whether it has come back."""

    key: str
    subject: str
    type: SubjectType
    kind: VerdictKind
    check: Check | None
    joined: int
    last_seen: int
    effect: float = 0.0
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class Incident:
    """One cause: dated, named by its leader, open until ``closed``.

    ``refusal`` is the reason why it must not be cured by retraining, "" if it may.
    """

    id: str
    model: str
    version: str
    segment: str
    opened: int
    onset: Dated
    leader: str
    kind: VerdictKind
    cause: Cause
    reason: str
    members: Mapping[str, Member] = field(default_factory=dict)
    closed: int | None = None
    refusal: str = ""
    verdict: str = ""

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects in it, leader first."""
        ordered = sorted(self.members.values(), key=lambda m: (m.key != self.leader, m.joined, m.key))
        return tuple(dict.fromkeys(member.subject for member in ordered))

    @property
    def kinds(self) -> frozenset[VerdictKind]:
        """The kinds of verdict it has given so far."""
        return frozenset(member.kind for member in self.members.values())


def choose_leader(findings: Sequence[Finding]) -> Finding:
    """Return the finding that names the incident: broken data explain drift, else the strongest evidence."""
    return max(findings, key=lambda f: (f.kind is VerdictKind.DATA_QUALITY, f.strength, f.key))


def co_onset(findings: Iterable[Finding], leader: Finding, now: int, pane: int) -> list[Finding]:
    """Return the findings that began with the leader, strongest first: those that e-d-BH names, k-th at -log k.

    Onsets agree within ``CO_ONSET_PANES`` panes or half of the time since the leader's, whichever is longer: the
    estimate of a small change is that wide.
    """
    slack = max(CO_ONSET_PANES * pane, (now - leader.onset) // 2)
    near = [f for f in findings if f.level > NONE and abs(f.onset - leader.onset) <= slack]
    near.sort(key=lambda f: (-f.strength, f.key))
    named = [k for k, finding in enumerate(near, start=1) if finding.strength >= -np.log(k)]
    chosen = near[: max(named)] if named else []
    return chosen if leader in chosen else [leader, *(f for f in chosen if f.level == PAGE)]


class OpenIncidents:
    """The open incidents of one watch, and the last ``KEPT`` closed ones."""

    KEPT = 20

    def __init__(self, model: str, version: str, segment: str) -> None:
        self.model, self.version, self.segment = model, version, segment
        self.open: dict[str, Incident] = {}
        self.closed: list[Incident] = []

    def holder(self, finding: Finding, onset: Dated, pane: int) -> Incident | None:
        """Return the open incident a page belongs to: it holds the subject, or began when the finding did.

        Errors that rise while inputs or predictions drift belong to that drift, whenever labels show them.
        """
        for incident in self.open.values():
            if finding.key in incident.members or any(
                m.subject == finding.subject and m.kind is VerdictKind.DATA_QUALITY for m in incident.members.values()
            ):
                return incident
        for incident in self.open.values():
            if onset.time <= incident.opened + CO_ONSET_PANES * pane:
                return incident
            if finding.type is SubjectType.PERFORMANCE and incident.kinds & _CAUSES_ERRORS:
                return incident
        return None

    def open_new(self, leader: Finding, onset: Dated, now: int, refusal: str) -> Incident:
        """Open an incident led by ``leader`` without members yet."""
        incident = Incident(
            id=incident_id(self.model, self.version, onset.time, f"{self.segment}/{leader.key}"),
            model=self.model,
            version=self.version,
            segment=self.segment,
            opened=now,
            onset=onset,
            leader=leader.key,
            kind=leader.kind,
            cause=leader.cause,
            reason=leader.reason,
            refusal=refusal,
        )
        self.open[incident.id] = incident
        return incident

    def join(self, incident: Incident, finding: Finding, now: int, effect: float) -> Incident:
        """Put a subject into an incident, or mark that it is still drifting."""
        known = incident.members.get(finding.key)
        member = Member(finding.key, finding.subject, finding.type, finding.kind, finding.check, now, now, effect)
        if known is not None:
            member = replace(known, last_seen=now, recovered=False)
        return self._put(replace(incident, members={**incident.members, finding.key: member}))

    def amend(self, incident: Incident, **changes: Any) -> Incident:
        """Change fields of an open incident."""
        return self._put(replace(incident, **changes))

    def recover(self, incident: Incident, key: str, now: int) -> Incident:
        """Mark a member as recovered; the incident closes with its last member."""
        members = {**incident.members, key: replace(incident.members[key], recovered=True)}
        incident = self._put(replace(incident, members=members))
        if all(member.recovered for member in members.values()):
            incident = replace(incident, closed=now)
            del self.open[incident.id]
            self.closed = [*self.closed, incident][-self.KEPT :]
        return incident

    def of_subject(self, subject: str) -> Incident | None:
        """Return the open incident in which this subject has not recovered."""
        for incident in self.open.values():
            if any(m.subject == subject and not m.recovered for m in incident.members.values()):
                return incident
        return None

    def drifting(self, type_: SubjectType) -> tuple[frozenset[str], int]:
        """Return the subjects of a type that have not recovered, and the earliest onset of their incidents (else 0)."""
        found = {
            member.subject: incident.onset.time
            for incident in self.open.values()
            for member in incident.members.values()
            if member.type is type_ and not member.recovered
        }
        return frozenset(found), min(found.values(), default=0)

    def _put(self, incident: Incident) -> Incident:
        if incident.id in self.open:
            self.open[incident.id] = incident
        return incident

    def state(self) -> list[dict[str, Any]]:
        """Return the open incidents as JSON values."""
        return [_plain(incident) for incident in (*self.open.values(), *self.closed)]

    def restore(self, state: Iterable[Mapping[str, Any]]) -> None:
        """Become the book whose ``state`` this was."""
        incidents = [_incident(item) for item in state]
        self.open = {incident.id: incident for incident in incidents if incident.closed is None}
        self.closed = [incident for incident in incidents if incident.closed is not None]


def merge(incidents: Sequence[Incident], slack: int) -> list[list[Incident]]:
    """Group incidents of several segments whose onset intervals, widened by ``slack``, meet: one cause, one page.

    By hand: onsets 10..20 and 18..30 meet; 50..60 stays alone. O(n log n).
    """
    ordered = sorted(incidents, key=lambda i: (i.onset.low, i.id))
    groups: list[list[Incident]] = []
    reach = 0
    for incident in ordered:
        if groups and incident.onset.low - slack <= reach:
            groups[-1].append(incident)
            reach = max(reach, incident.onset.high)
        else:
            groups.append([incident])
            reach = incident.onset.high
    return groups


def _plain(incident: Incident) -> dict[str, Any]:
    members = [
        [m.key, m.subject, m.type, m.kind, m.check, m.joined, m.last_seen, m.effect, m.recovered]
        for m in incident.members.values()
    ]
    onset = incident.onset
    return {
        "id": incident.id,
        "model": incident.model,
        "version": incident.version,
        "segment": incident.segment,
        "opened": incident.opened,
        "onset": [onset.time, onset.low, onset.high, onset.row],
        "leader": incident.leader,
        "kind": incident.kind,
        "cause": incident.cause,
        "reason": incident.reason,
        "closed": incident.closed,
        "refusal": incident.refusal,
        "verdict": incident.verdict,
        "members": members,
    }


def _incident(item: Mapping[str, Any]) -> Incident:
    members = [
        Member(key, subject, SubjectType(type_), VerdictKind(kind), Check(check) if check else None, *rest)
        for key, subject, type_, kind, check, *rest in item["members"]
    ]
    fields = {key: value for key, value in item.items() if key not in {"members", "onset", "kind", "cause"}}
    return Incident(
        **fields,
        onset=Dated(*item["onset"]),
        kind=VerdictKind(item["kind"]),
        cause=Cause(item["cause"]),
        members={member.key: member for member in members},
    )
