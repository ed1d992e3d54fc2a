"""From findings to pages and requests: which verdict pages, which incident asks for a retraining, what people see."""

from collections.abc import Callable, Iterable

from stationkeeper.contracts.identity import verdict_id
from stationkeeper.contracts.messages import Level, RetrainRequest, Rollout, Verdict, VerdictKind
from stationkeeper.contracts.model_status import HarmStatus, IncidentStatus, MovedSubject
from stationkeeper.contracts.state import State
from stationkeeper.contracts.times import to_datetime
from stationkeeper.monitor.core.finding import subject_of_key
from stationkeeper.monitor.core.incidents import (
    NOVELTY,
    RETRY_PANES,
    Harm,
    Incident,
    IncidentHarm,
    Member,
    RequestAnswer,
    RequestPolicy,
    RequestRules,
    does_harm,
    fault_in,
    harm_words,
)
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.judge.labels import Cohorts, IncidentHarms
from stationkeeper.monitor.judge.pending import WatchKey
from stationkeeper.monitor.judge.succession import Ended
from stationkeeper.monitor.judge.watches import Stepped, Watches
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings

# Kinds whose effect is a share of the traffic: what performance and quality lost is told by their reason.
_SHARES = frozenset({VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT})

# Incidents that ended with their version or reference, kept for the status page: what a person looks up is recent.
KEPT_RECOVERED = 20


class EscalationState(State, frozen=True):
    """What each incident costs, and the verdicts that opened those whose page waits for harm, as JSON, by incident."""

    harms: dict[str, Harm] = {}
    waiting: dict[str, str] = {}


class Escalation:
    """Whom one model's findings reach: a page, a retrain request, or the status page alone.

    State: the request policy, what incidents cost, which pages wait for harm, the totals of verdicts by kind and level,
    and the latest ``KEPT_RECOVERED`` incidents that ended with their version or reference. Who is champion is an
    argument, because it changes between panes.
    """

    def __init__(self, settings: ModelSettings, watches: Watches, references: References, cohorts: Cohorts) -> None:
        self._settings, self._watches, self._references = settings, watches, references
        self._model = settings.name
        self.requests = RequestPolicy(_request_rules(settings))
        self.harms = IncidentHarms(settings, cohorts, references)
        self._waiting: dict[str, str] = {}
        self.verdicts: dict[tuple[str, str], int] = {}
        self.recovered: list[IncidentStatus] = []

    def of(
        self, stepped: Stepped, champion: str | None, now: int, pays: Callable[[Harm], str] | None = None
    ) -> tuple[list[Verdict], list[RetrainRequest]]:
        """Return the verdicts of a step at the level they deserve, and the requests of incidents that opened in it.

        A version that is no champion informs and never asks; an incident that began with one of another segment has
        been paged and asked for with that. ``pays`` says why an incident's harm does not pay a retraining.
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
            _informing(verdict, self._told_with(causes[verdict.incident])) if verdict.incident in causes else verdict
            for verdict in outcome.verdicts
        ]
        requests = []
        rollout = self._references.rollout(self._model)
        for incident in outcome.opened:
            harm = self.harms.weigh(incident, stepped.watch)
            # Two that opened in one pane may have been joined since: what is no longer open asks with the other.
            if incident.id in stepped.watch.lifecycle.incidents.open and incident.id not in causes:
                opening = outcome.verdict_for(incident)
                verdicts = [self._paging(v, incident, harm) if v.id == opening.id else v for v in verdicts]
                # Before it asks: what trained on broken data would learn the fault.
                broken = self._take_back(incident, rollout)
                weighed = self._weighed(incident, harm, pays)
                request = self.requests.consider(
                    incident, opening, now=now, rollout=rollout, harm=weighed, broken=self.broken(champion)
                )
                requests += [one for one in (broken, request) if one is not None]
        for incident in outcome.changed:
            # Errors that rise, a concept that changes and broken data page as ever, also where drift has been waiting.
            if incident.id in self._waiting and not incident.kinds <= NOVELTY:
                verdicts.append(self._page_late(incident, self.harms.weigh(incident, stepped.watch), now))
            taken = self._take_back(incident, rollout)
            requests += [] if taken is None else [taken]
        for incident in outcome.closed:
            self._waiting.pop(incident.id, None)
            self.harms.weigh(incident, stepped.watch)
            # Five names are a line that a person reads; the incident has them all.
            why = f"healed: {', '.join(incident.subjects[:5])} came back"
            healed = self.requests.withdraw(why, incident.id, rollout=rollout)
            requests += [] if healed is None else [healed]
        return verdicts, requests

    def _take_back(self, incident: Incident, rollout: Rollout | None) -> RetrainRequest | None:
        """The request in work, withdrawn because of a fault in an incident: what trains on it would learn the fault."""
        fault = fault_in(incident)
        return self.requests.withdraw(f"{incident.id}: {fault}", rollout=rollout) if fault else None

    def _page_late(self, incident: Incident, harm: Harm, now: int) -> Verdict:
        return _paged_late(Verdict.decode(self._waiting.pop(incident.id).encode()), incident, harm, now)

    def _told_with(self, cause: Incident) -> str:
        return f"began with {cause.id}, which {'waits for harm' if cause.id in self._waiting else 'has paged'}"

    def again(
        self, champion: str | None, now: int, pays: Callable[[Harm], str] | None = None
    ) -> tuple[list[Verdict], list[RetrainRequest]]:
        """Weigh the open incidents anew: return the pages of those that do harm by now, and what may ask by now."""
        verdicts, found = list[Verdict](), list[tuple[Incident, Watch]]()
        for watch in self._watches.of(champion):
            for incident in watch.incidents():
                found.append((incident, watch))
                # By the incident's own clock, so that a process that starts anew weighs at the same panes.
                if (now - incident.opened) // self._settings.pane % RETRY_PANES:
                    continue
                harm = self.harms.weigh(incident, watch)
                if incident.id in self._waiting and does_harm(incident, harm, self._settings.harm.rules):
                    verdicts.append(self._page_late(incident, harm, now))
        watches = {incident.id: watch for incident, watch in found}

        def weighed(incident: Incident) -> IncidentHarm:
            return self._weighed(incident, self.harms.weigh(incident, watches[incident.id]), pays)

        incidents, rollout = [incident for incident, _ in found], self._references.rollout(self._model)
        broken = self.broken(champion) if incidents else ""
        return verdicts, self.requests.consider_again(incidents, now=now, rollout=rollout, harm=weighed, broken=broken)

    def harm_now(self, name: str) -> Harm | None:
        """Return what an incident costs as of now, of one that has ended what was last known."""
        for watch in self._watches.values():
            if (incident := watch.lifecycle.incidents.open.get(name)) is not None:
                return self.harms.weigh(incident, watch)
        return self.harms.of(name)

    def count(self, verdicts: Iterable[Verdict]) -> None:
        """Add verdicts to the totals, at the level at which they go out."""
        for verdict in verdicts:
            key = (verdict.kind.value, verdict.level.value)
            self.verdicts[key] = self.verdicts.get(key, 0) + 1

    def remember(self, ended: Iterable[Ended], champion: str | None) -> list[RetrainRequest]:
        """Keep incidents that ended with their version or reference, with why: their watch is gone.

        Returns the request of one of them that is still in work, withdrawn: what it asks for was measured against what
        is no longer in force, and what still differs asks by itself.
        """
        withdrawn, rollout = list[RetrainRequest](), self._references.rollout(self._model)
        for one in ended:
            taken = self.requests.withdraw(one.verdict.reason, one.incident.id, rollout=rollout)
            withdrawn += [] if taken is None else [taken]
            status = self.incident_status(one.incident, one.key, champion)
            status["recovered_reason"] = one.verdict.reason
            # Its watch is gone, so that nothing else would take its page out of the state.
            self._waiting.pop(one.incident.id, None)
            self.recovered = [*self.recovered, status][-KEPT_RECOVERED:]
        return withdrawn

    def incident_status(self, incident: Incident, key: WatchKey, champion: str | None) -> IncidentStatus:
        """Return an incident as people see it, with what became of its request."""
        answer, harm = self.requests.answer(incident.id), self.harms.of(incident.id)
        status = _incident_status(incident, answer, pages=key.version == champion)
        if incident.id in self._waiting and status["level"] == "page":
            status["level"] = "warn"
        if harm is not None:
            status["harm"] = _harm_status(harm)
        return status

    def state(self) -> EscalationState:
        """Return what ``restore`` takes beside the state of the request policy."""
        return EscalationState(harms=self.harms.state(), waiting=dict(self._waiting))

    def restore(self, state: EscalationState) -> None:
        """Go on from ``state``."""
        self.harms.restore(state.harms)
        self._waiting = dict(state.waiting)

    def _paging(self, verdict: Verdict, incident: Incident, harm: Harm) -> Verdict:
        """The verdict that opened an incident, with what it costs; a warning where its page waits for harm."""
        told = verdict.model_copy(update={"evidence": {**verdict.evidence, "harm": _harm_status(harm)}})
        waits = self._settings.page_on == "harm" and incident.kind in NOVELTY and told.level is Level.PAGE
        if not waits or does_harm(incident, harm, self._settings.harm.rules):
            return told
        self._waiting[incident.id] = told.encode().decode()
        return told.model_copy(update={"level": Level.WARN, "reason": f"{told.reason} (no harm so far: {_told(harm)})"})

    def _weighed(self, incident: Incident, harm: Harm, pays: Callable[[Harm], str] | None) -> IncidentHarm:
        """Why an incident's cost is no reason to retrain, with that cost; only where `requests.when` asks for one."""
        if not does_harm(incident, harm, self._settings.harm.rules):
            why = f"no harm so far: {_told(harm)}"
        else:
            why = "" if pays is None else pays(harm)
        return IncidentHarm(why, {"harm": _harm_status(harm)})

    def broken(self, champion: str | None) -> str:
        """Return why no model may be trained on what comes now: the open incident about broken data, "" without one."""
        for watch in self._watches.of(champion):
            for incident in watch.incidents():
                if fault := fault_in(incident):
                    return f"{incident.id} is open: {fault}"
        return ""


def _request_rules(settings: ModelSettings) -> RequestRules:
    mine = settings.requests
    times = mine.cooldown, mine.most, mine.period
    return RequestRules(*times, enabled=mine.enabled, pane=settings.pane, when=mine.when)


def _told(harm: Harm) -> str:
    """What is known of the cost, to stand behind a reason."""
    return harm_words(harm).removeprefix("what it costs is ")


def _paged_late(opening: Verdict, incident: Incident, harm: Harm, now: int) -> Verdict:
    """The page of an incident whose harm showed after it had opened."""
    # What joined may page before the labels since the onset show a loss: its cost alone would say that there is none.
    joined = ", ".join(sorted(kind.value for kind in incident.kinds - NOVELTY))
    why = f"by now {joined} joined it: {_told(harm)}" if joined else f"by now it does harm: {_told(harm)}"
    key = f"{opening.subject.type}:{opening.subject.name}:harm"
    changes = {
        "id": verdict_id(opening.model, opening.version, opening.segment, key, opening.kind, now),
        "time": to_datetime(now),
        "reason": f"{opening.reason} ({why})",
        "evidence": {**opening.evidence, "harm": _harm_status(harm)},
    }
    return opening.model_copy(update=changes)


def _harm_status(harm: Harm) -> HarmStatus:
    """What an incident costs as people and messages see it; what is not known is left out."""
    status: HarmStatus = {"source": harm.source, "reason": harm.reason, "words": harm_words(harm)}
    # Six digits are beyond what the interval knows, and the same numbers wherever they are shown.
    if harm.void:
        status["void"] = round(harm.void, 6)
    if harm.source == "unknown":
        return status
    status["measure"], status["rows"] = harm.measure, harm.rows
    status["lost"], status["low"], status["high"] = round(harm.lost, 6), round(harm.low, 6), round(harm.high, 6)
    if harm.value is not None:
        status["value"] = round(harm.value, 6)
    return status


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
        "leader": subject_of_key(incident.leader),
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
