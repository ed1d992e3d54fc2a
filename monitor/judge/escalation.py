"""From findings to pages and requests: which verdict pages, which incident asks for a retraining, what people see."""

from collections.abc import Iterable

from stationkeeper.contracts.messages import Level, RetrainRequest, Verdict, VerdictKind
from stationkeeper.contracts.model_status import IncidentStatus, MovedSubject
from stationkeeper.monitor.core.incidents import Incident, Member, RequestAnswer, RequestPolicy, RequestRules
from stationkeeper.monitor.judge.pending import WatchKey
from stationkeeper.monitor.judge.succession import Ended
from stationkeeper.monitor.judge.watches import Stepped, Watches
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings

# Kinds whose effect is a share of the traffic: what performance and quality lost is told by their reason.
_SHARES = frozenset({VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT})

# Incidents that ended with their version or reference, kept for the status page: what a person looks up is recent.
KEPT_RECOVERED = 20


class Escalation:
    """Whom one model's findings reach: a page, a retrain request, or the status page alone.

    State: the request policy, the totals of verdicts by kind and level, and the latest ``KEPT_RECOVERED`` incidents
    that ended with their version or reference. Who is champion is an argument, because it changes between panes.
    """

    def __init__(self, settings: ModelSettings, watches: Watches, references: References) -> None:
        self._model, self._watches, self._references = settings.name, watches, references
        self.requests = RequestPolicy(_request_rules(settings))
        self.verdicts: dict[tuple[str, str], int] = {}
        self.recovered: list[IncidentStatus] = []

    def of(self, stepped: Stepped, champion: str | None, now: int) -> tuple[list[Verdict], list[RetrainRequest]]:
        """Return the verdicts of a step at the level they deserve, and the requests of incidents that opened in it.

        A version that is no champion informs and never asks; an incident that began with one of another segment has
        been paged and asked for with that.
        """
        key, outcome = stepped.key, stepped.outcome
        if key.version != champion:
            why = f"version {key.version} is not champion, {champion} is"
            return [_informing(verdict, why) for verdict in outcome.verdicts], []
        causes: dict[str | None, Incident] = {}
        for incident in outcome.opened:
            cause = self._watches.same_onset(key, incident)
            if cause is not None:
                causes[incident.id] = cause
                self.requests.note_same_cause(incident, cause)
        verdicts = [
            _informing(verdict, f"began with {causes[verdict.incident].id}, which has paged")
            if verdict.incident in causes
            else verdict
            for verdict in outcome.verdicts
        ]
        requests = []
        rollout = self._references.rollout(self._model)
        for incident in outcome.opened:
            # Two that opened in one pane may have been joined since: what is no longer open asks with the other.
            if incident.id in stepped.watch.lifecycle.incidents.open and incident.id not in causes:
                opening = outcome.verdict_for(incident)
                request = self.requests.consider(incident, opening, now=now, rollout=rollout)
                requests += [] if request is None else [request]
        return verdicts, requests

    def ask_again(self, champion: str | None, now: int) -> list[RetrainRequest]:
        """Return requests of open incidents that were refused for a reason that has passed."""
        found = [incident for watch in self._watches.of(champion) for incident in watch.incidents()]
        return self.requests.consider_again(found, now=now, rollout=self._references.rollout(self._model))

    def count(self, verdicts: Iterable[Verdict]) -> None:
        """Add verdicts to the totals, at the level at which they go out."""
        for verdict in verdicts:
            key = (verdict.kind.value, verdict.level.value)
            self.verdicts[key] = self.verdicts.get(key, 0) + 1

    def remember(self, ended: Iterable[Ended], champion: str | None) -> None:
        """Keep incidents that ended with their version or reference, with why: their watch is gone."""
        for one in ended:
            status = self.incident_status(one.incident, one.key, champion)
            status["recovered_reason"] = one.verdict.reason
            self.recovered = [*self.recovered, status][-KEPT_RECOVERED:]

    def incident_status(self, incident: Incident, key: WatchKey, champion: str | None) -> IncidentStatus:
        """Return an incident as people see it, with what became of its request."""
        return _incident_status(incident, self.requests.answer(incident.id), pages=key.version == champion)


def _request_rules(settings: ModelSettings) -> RequestRules:
    mine = settings.requests
    pays = mine.when == "pays"
    return RequestRules(mine.cooldown, mine.most, mine.period, enabled=mine.enabled, pane=settings.pane, harm_only=pays)


def _informing(verdict: Verdict, why: str) -> Verdict:
    """A verdict that informs instead of paging, and says why."""
    if verdict.level is Level.INFORM:
        return verdict
    return verdict.model_copy(update={"level": Level.INFORM, "reason": f"{verdict.reason} ({why})"})


def _moved(member: Member) -> MovedSubject:
    moved: MovedSubject = {
        "name": member.subject,
        "kind": member.kind.value,
        "joined": member.joined,
        "effect": member.effect,
        "recovered": member.recovered,
    }
    return moved if member.check is None else {**moved, "check": member.check.value}


def _incident_status(incident: Incident, answer: RequestAnswer | None, *, pages: bool) -> IncidentStatus:
    """Return the status of an incident; it pages where it is the champion's and no other incident has its cause."""
    status: IncidentStatus = {
        "id": incident.id,
        "model": incident.model,
        "version": incident.version,
        "segment": incident.segment,
        "kind": incident.kind.value,
        "cause": incident.cause.value,
        "level": "page" if pages and not (answer and answer.same_cause) else "inform",
        "reason": incident.reason,
        "onset": incident.onset.time,
        "onset_low": incident.onset.low,
        "onset_high": incident.onset.high,
        "opened": incident.opened,
        "leader": incident.leader.split(":")[1],
        "subjects": list(incident.subjects),
    }
    status["moved"] = [_moved(member) for member in incident.members]
    if incident.kind in _SHARES and incident.member(incident.leader) is not None:
        status["effect"] = incident.leading.effect
    if incident.closed is not None:
        status["closed"] = incident.closed
    if incident.verdict:
        status["verdicts"] = [incident.verdict]
    if answer is not None:
        status["request_outcome"], status["request_reason"] = answer.outcome, answer.reason
        if answer.request:
            status["request"] = answer.request
    return status
