"""Incidents: findings that began together are one, latched until every member has recovered."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from stationkeeper.contracts.identity import incident_id
from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.state import State, replaced
from stationkeeper.monitor.core.finding import NONE, PAGE, Dated, Finding
from stationkeeper.monitor.core.reasons import Cause, Check

CO_ONSET_PANES = 10
"""Panes within which two onsets are one: a shift of .25 sd is dated to 102 events in the mean, within 250 in nine of
ten (STATISTICS.md, section 5), so to five panes of 50, on either side. At half, one cause opens two incidents and pages
twice where a weak subject is dated late; at double, two faults of twenty minutes are one incident with one request."""

KEPT_CLOSED = 20
"""Closed incidents kept for the status page: months of them for most models. More only grow the state; at half, a bad
week hides the one before. Older ones are in the verdicts topic."""

# What can make errors rise: a page on the error rate joins such an incident instead of opening its own.
_CAUSES_ERRORS = frozenset({VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT, VerdictKind.DATA_QUALITY})


class Member(State, frozen=True, array_like=True):
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
    parts: tuple[str, ...] = ()


class Incident(State, frozen=True):
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
    members: tuple[Member, ...] = ()
    closed: int | None = None
    refusal: str = ""
    verdict: str = ""

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects in it: the leader, features, then the pairs that moved with them."""
        ordered = sorted(self.members, key=lambda m: (m.key != self.leader, bool(m.parts), m.joined, m.key))
        return tuple(dict.fromkeys(member.subject for member in ordered))

    @property
    def kinds(self) -> frozenset[VerdictKind]:
        """The kinds of verdict it has given so far."""
        return frozenset(member.kind for member in self.members)

    @property
    def apart(self) -> bool:
        """Whether it is about fairness, which takes no other findings in: it is refused a retraining, they ask."""
        return self.cause is Cause.FAIRNESS

    @property
    def leading(self) -> Member:
        """The member that names it; raises ``StopIteration`` before any has joined."""
        return next(member for member in self.members if member.key == self.leader)

    @property
    def drifting(self) -> tuple[Member, ...]:
        """The members that have not recovered."""
        return tuple(member for member in self.members if not member.recovered)

    def member(self, key: str) -> Member | None:
        """Return the member that findings of this key belong to."""
        return next((member for member in self.members if member.key == key), None)

    def holds(self, finding: Finding) -> bool:
        """Return whether a finding's subject is in it: by itself, broken, or beside its pair.

        By subject where its data are broken: the drift that a fault makes is no second cause. A pair belongs to the
        feature that moves, and a feature to the pair that names the incident; of a pair that only followed, the other
        feature is another cause.
        """
        for member in self.members:
            if member.key == finding.key:
                return True
            if member.subject == finding.subject and member.kind is VerdictKind.DATA_QUALITY:
                return True
            names = member.subject in finding.parts or (finding.subject in member.parts and member.key == self.leader)
            if names and not member.recovered:
                return True
        return False

    def with_member(self, member: Member) -> "Incident":
        """Return the incident with a member put in the place of the one with its key, or last; pairs after features."""
        if self.member(member.key) is None:
            return replaced(self, members=tuple(sorted((*self.members, member), key=lambda m: bool(m.parts))))
        return replaced(self, members=tuple(member if m.key == member.key else m for m in self.members))


def choose_leader(findings: Sequence[Finding]) -> Finding:
    """Return the finding that names the incident: broken data explain drift, else the strongest evidence.

    A pair moves with each of its features, so a feature that moved is named before it.
    """
    return max(findings, key=lambda f: (f.kind is VerdictKind.DATA_QUALITY, not f.parts, f.strength, f.key))


def co_onset(findings: Iterable[Finding], leader: Finding, now: int, pane: int) -> list[Finding]:
    """Return the findings that began with the leader, strongest first: those that e-d-BH names, k-th at -log k.

    Onsets agree within ``CO_ONSET_PANES`` panes or half of the time since the leader's, whichever is longer: the
    estimate of a small change is that wide. Fairness and the rest never belong together.
    """
    slack = max(CO_ONSET_PANES * pane, (now - leader.onset) // 2)
    alike = [f for f in findings if (f.type is SubjectType.FAIRNESS) == (leader.type is SubjectType.FAIRNESS)]
    near = [f for f in alike if f.level > NONE and abs(f.onset - leader.onset) <= slack]
    # By strength, then by name, so that a tie falls alike in a replay.
    near.sort(key=lambda f: (-f.strength, f.key))
    named = [k for k, finding in enumerate(near, start=1) if finding.strength >= -np.log(k)]
    chosen = near[: max(named)] if named else []
    # The leader pages by itself; of the others then only those that do too.
    return chosen if leader in chosen else [leader, *(f for f in chosen if f.level == PAGE)]


class OpenIncidents:
    """The open incidents of one watch, and the last ``KEPT_CLOSED`` closed ones."""

    def __init__(self, model: str, version: str, segment: str) -> None:
        self.model, self.version, self.segment = model, version, segment
        self.open: dict[str, Incident] = {}
        self.closed: list[Incident] = []

    def holder(self, finding: Finding, onset: Dated, pane: int) -> Incident | None:
        """Return the open incident a page belongs to: it holds the subject, or began when the finding did.

        Errors that rise while inputs or predictions drift belong to that drift, whenever labels show them. Fairness
        belongs to fairness alone.
        """
        # Its own incident first: a pair of two features that drift apart belongs where it joined.
        for incident in sorted(self.open.values(), key=lambda one: one.member(finding.key) is None):
            if incident.holds(finding):
                return incident
        alike = [one for one in self.open.values() if one.apart == (finding.type is SubjectType.FAIRNESS)]
        for incident in alike:
            # What had begun when the incident opened joins it, however long before: a gradual change dates its subjects
            # one after the other, weak ones late, and each would page for the one cause. Only what began after it
            # opened is another one.
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
        known = incident.member(finding.key)
        member = Member(finding.key, finding.subject, finding.type, finding.kind, finding.check, now, now, effect)
        member = replaced(member, parts=finding.parts)
        if known is not None:
            member = replaced(known, last_seen=now, recovered=False)
        return self._put(incident.with_member(member))

    def amend(self, incident: Incident, **changes: Any) -> Incident:
        """Change fields of an open incident."""
        return self._put(replaced(incident, **changes))

    def recover(self, incident: Incident, key: str, now: int) -> Incident:
        """Mark a member as recovered; the incident closes with its last member."""
        member = next(member for member in incident.members if member.key == key)
        incident = self._put(incident.with_member(replaced(member, recovered=True)))
        if not incident.drifting:
            incident = replaced(incident, closed=now)
            del self.open[incident.id]
            self.closed = [*self.closed, incident][-KEPT_CLOSED:]
        return incident

    def keys(self) -> frozenset[str]:
        """Return the keys of all members of open incidents: a subject stands in one of them."""
        return frozenset(member.key for incident in self.open.values() for member in incident.members)

    def of_subject(self, subject: str) -> Incident | None:
        """Return the open incident in which this subject has not recovered."""
        for incident in self.open.values():
            if any(member.subject == subject for member in incident.drifting):
                return incident
        return None

    def subjects(self) -> frozenset[str]:
        """Return the subjects that have not recovered."""
        return frozenset(member.subject for incident in self.open.values() for member in incident.drifting)

    def drifting(self, type_: SubjectType) -> tuple[frozenset[str], int]:
        """Return the subjects of a type that have not recovered, and the earliest onset of their incidents (else 0)."""
        found = {
            member.subject: incident.onset.time
            for incident in self.open.values()
            for member in incident.drifting
            if member.type is type_
        }
        return frozenset(found), min(found.values(), default=0)

    def _put(self, incident: Incident) -> Incident:
        if incident.id in self.open:
            self.open[incident.id] = incident
        return incident

    def state(self) -> list[Incident]:
        """Return the open incidents, then the closed ones."""
        return [*self.open.values(), *self.closed]

    def restore(self, state: Iterable[Incident]) -> None:
        """Take over the incidents that ``state`` gave."""
        incidents = list(state)
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
