"""One model at the judge: closes its panes in order, steps its watches, and says what follows."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from stationkeeper.contracts.messages import Level, RetrainRequest, Verdict, VerdictKind
from stationkeeper.contracts.model_status import IncidentStatus, MovedSubject
from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, PaneDelta, Record
from stationkeeper.monitor.core.ageing import AgeRecord, AgeState
from stationkeeper.monitor.core.incidents import (
    Incident,
    Member,
    RequestAnswer,
    RequestPolicy,
    RequestPolicyState,
    RequestRules,
    WatchIdentity,
)
from stationkeeper.monitor.core.reference import Counts
from stationkeeper.monitor.judge.cohorts import Cohorts
from stationkeeper.monitor.judge.decisions import Decisions, joined
from stationkeeper.monitor.judge.pending import Closed, LateLabels, Pending, WatchKey, merged_sources, pane_records
from stationkeeper.monitor.judge.succession import Ended, Promotion, Succession
from stationkeeper.monitor.judge.watches import Merged, Stepped, Watches
from stationkeeper.monitor.judge.watermark import LabelClock, Progresses
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings

# Two days of one-minute panes are closed one by one, empty ones too: that is what freshness and volume learn silence
# from. A longer silence is passed over in one step, or a model that comes back after a year would take minutes to close
# half a million empty panes.
MAX_GAP_PANES = 2_880

# Kinds whose effect is a share of the traffic: what performance and quality lost is told by their reason.
_SHARES = frozenset({VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT})

# Incidents that ended with their version or reference, kept for the status page: what a person looks up is recent.
KEPT_RECOVERED = 20


class ModelJudge:
    """Everything the judge knows of one model: a function of the panes log (and of who is champion)."""

    def __init__(self, settings: ModelSettings, references: References) -> None:
        self.settings = settings
        self.name = settings.name
        self._references = references
        self.pending = Pending(settings.name, settings.pane)
        self.late = LateLabels(settings.pane)
        self.labels = LabelClock(settings)
        self.next: int | None = None
        self.watermark: int | None = None
        self.rebuilding, self.stopped = False, ""
        self.watches = Watches(settings, references)
        self.cohorts = Cohorts(settings)
        mine = settings.requests
        self.requests = RequestPolicy(_request_rules(settings))
        self.age = AgeRecord(mine.cost if mine.when == "pays" else None)
        self.succession = Succession(settings.name, settings.pane, self.watches, references)
        self.verdicts: dict[tuple[str, str], int] = {}
        self.recovered: list[IncidentStatus] = []

    @property
    def inputs(self) -> set[tuple[str, str]]:
        """The (topic, kind) whose clocks close this model's panes."""
        topics = self.settings.topics()
        kinds = {"prediction", self.settings.source}
        return {(topic.topic, kind) for kind, topic in topics.items() if kind in kinds}

    def decides(self, progresses: Progresses) -> bool:
        """Return whether ``advance`` may decide something, without what takes long to build."""
        watermark = progresses.watermark(self.inputs, self.settings.lateness)
        closes = watermark is not None and (self.next is None or watermark >= self.next + self.settings.pane)
        return closes or self.labels.moves(progresses)

    @property
    def labelled(self) -> int:
        """The start of the last pane in which every label is known, at most the last closed."""
        return self.labels.labelled((self.next or 0) - self.settings.pane)

    def add(self, delta: PaneDelta | ArmDelta | OutcomeDelta) -> tuple[Record, ...]:
        """Take a delta in, and return it for history where its pane is closed: there it changes charts only."""
        return () if self.pending.take(delta, self.late, self.next) else (delta,)

    def advance(
        self, progresses: Progresses, offset: int = -1, glance: Callable[[int], None] | None = None
    ) -> Decisions:
        """Close every pane that the watermark has passed, in order, judge labels that are in, and return the decisions.

        ``offset`` is the record's that moved the watermark; ``glance`` is told after a pane how many more wait.
        """
        self.rebuilding = progresses.rebuilding()
        self.stopped = progresses.stopped({topic.topic for topic in self.settings.topics().values()})
        watermark = progresses.watermark(self.inputs, self.settings.lateness)
        if watermark is None:
            return Decisions()
        self.watermark = watermark if self.watermark is None else max(self.watermark, watermark)
        self.labels.see(progresses)
        length = self.settings.pane
        parts = []
        while (start := _next_start(self.next, self.pending, self.watermark)) is not None and (
            start + length <= self.watermark
        ):
            self.next, self.late.closed_by = start + length, offset
            parts.append(self._close(self.pending.close(start).aged(self.cohorts.labelled, self.labelled)))
            left = (self.watermark - self.next) // length
            if left and glance is not None:
                glance(left)
        if self.next is not None and self.cohorts.matures(self.labelled):
            self.late.closed_by = offset
            parts.append(self._judge_late(self.next - length))
        return joined(parts)

    def _close(self, closed: Closed) -> Decisions:
        """Judge one pane, in this order: who is champion, inputs, labels, what ends, what asks again."""
        end = closed.start + self.settings.pane
        self.succession.follow(end)
        merged, history = self._merge(closed)
        verdicts: list[Verdict] = []
        requests: list[RetrainRequest] = []
        for stepped in self.watches.step(closed.start, merged, self.succession.champion, closed.new, self.cohorts.late):
            found, asks = self._decide(stepped, end)
            verdicts += [*found, *stepped.plugin_verdicts]
            requests += asks
        if self.labelled < closed.start:
            history.append(self.labels.held(closed.start, self.labelled, late=False))
        self.cohorts.forget({key.version for key in self.watches}, closed.start)
        for found, asks in self._learn(closed, end):
            verdicts += found
            requests += asks
        ended = [*self.succession.end_replaced(end), *self.succession.end_cured(merged, end)]
        self._remember(ended)
        verdicts += [one.verdict for one in ended]
        open_incidents = [i for watch in self.watches.of(self.succession.champion) for i in watch.incidents()]
        rollout = self._references.rollout(self.name)
        requests += self.requests.consider_again(open_incidents, now=end, rollout=rollout)
        _count(self.verdicts, verdicts)
        return Decisions(tuple(history), tuple(verdicts), tuple(requests), 1)

    def _learn(self, closed: Closed, now: int) -> Iterator[tuple[list[Verdict], list[RetrainRequest]]]:
        """Judge the labels of every cohort that is mature."""
        positives = _positives(self._references, self.name, self.succession.champion)
        for version, segment, labels in self.cohorts.close(closed, self.labelled, positives):
            for stepped in self.watches.learn(version, segment, labels):
                yield self._decide(stepped, now)
            if not segment and version == self.succession.champion:
                champion = _identity(self._references, self.name, version)
                yield self.age.judge(labels, champion, self.requests, now, self._references.rollout(self.name))
        self.late.judged = self.cohorts.judged

    def _judge_late(self, start: int) -> Decisions:
        """Judge labels that were read after the last pane, which began at ``start``, had closed: a catch-up ends so."""
        closed = self.pending.late(start).aged(self.cohorts.labelled, self.labelled)
        history: tuple[Record, ...] = (self.labels.held(start, self.labelled, late=True), *closed.known())
        decided = list(self._learn(closed, start + self.settings.pane))
        verdicts = tuple(one for found, _ in decided for one in found)
        _count(self.verdicts, verdicts)
        return Decisions(history, verdicts, tuple(one for _, asks in decided for one in asks), judged=True)

    def _merge(self, closed: Closed) -> tuple[Merged, list[Record]]:
        """Add up the sources of a pane by watch, and return the records that history keeps of it."""
        history: list[Record] = []
        merged: dict[WatchKey, tuple[int, Counts]] = {}
        for key, sources in closed.panes.items():
            for source, (rows, counts) in sorted(sources.items()):
                new = closed.new.get(key, {}) if source == min(sources) else {}
                history += pane_records(self.name, key, source, closed.start, self.settings.pane, rows, counts, new)
            merged[key] = merged_sources(sources, self.settings.source)
            self.watches.meet(key, closed.start, *merged[key], self.succession.champion)
        return merged, [*history, *closed.arms, *closed.known()]

    def _decide(self, stepped: Stepped, now: int) -> tuple[list[Verdict], list[RetrainRequest]]:
        """Return the verdicts of a step at the level they deserve, and the requests of incidents that opened in it.

        A version that is no champion informs and never asks; an incident that began with one of another segment has
        been paged and asked for with that.
        """
        key, outcome = stepped.key, stepped.outcome
        if key.version != self.succession.champion:
            why = f"version {key.version} is not champion, {self.succession.champion} is"
            return [_informing(verdict, why) for verdict in outcome.verdicts], []
        causes: dict[str | None, Incident] = {}
        for incident in outcome.opened:
            cause = self.watches.same_onset(key, incident)
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
        rollout = self._references.rollout(self.name)
        for incident in outcome.opened:
            if incident.id in stepped.watch.lifecycle.incidents.open and incident.id not in causes:
                opening = outcome.verdict_for(incident)
                request = self.requests.consider(incident, opening, now=now, rollout=rollout)
                requests += [] if request is None else [request]
        return verdicts, requests

    def _remember(self, ended: Iterable[Ended]) -> None:
        for one in ended:
            status = self.incident_status(one.incident, one.key)
            status["recovered_reason"] = one.verdict.reason
            self.recovered = [*self.recovered, status][-KEPT_RECOVERED:]

    def incident_status(self, incident: Incident, key: WatchKey) -> IncidentStatus:
        """Return an incident as people see it, with what became of its request."""
        pages = key.version == self.succession.champion
        return _incident_status(incident, self.requests.answer(incident.id), pages=pages)

    def where(self) -> dict[str, Any]:
        """Return where the model is, which every pane moves on."""
        where = {"next": self.next, "watermark": self.watermark, "closed_by": self.late.closed_by}
        where |= {"judged": self.late.judged, "joined": self.labels.joined}
        return where | {"refused": self.watches.refused}

    def state(self) -> dict[str, Any]:
        """Return what changes only when a pane closes, but for the watches, which are stored one by one."""
        return {
            "champion": self.succession.champion,
            "asking": self.requests.state(),
            "cure": self.succession.promotion,
            "verdicts": [[*key, count] for key, count in self.verdicts.items()],
            "healed": self.recovered,
            "cohorts": self.cohorts.state(),
            "age": self.age.state,
            **self.watches.state(),
        }

    def restore_open(self, pending: Mapping[str, Any], where: Mapping[str, Any], absorbed: int) -> None:
        """Take over open panes and where the model was, at the offset ``absorbed``."""
        self.pending.restore(dict(pending))
        self.next, self.watermark = where["next"], where["watermark"]
        self.watches.refused = where.get("refused", 0)
        self.labels.joined = where.get("joined")
        # Older versions judged a cohort with the pane that closed at its age.
        before = None if self.next is None else self.next - self.settings.pane - self.settings.label_maturity
        self.late.restore(where, absorbed, before)
        self.cohorts.judged = self.late.judged
        self.pending.drop_before(self.next or 0, self.late.closed_by)

    def restore(self, state: Mapping[str, Any], watches: Mapping[WatchKey, Mapping[str, Any]]) -> None:
        """Go on from ``state`` and the watches' own; a watch without its reference starts anew."""
        self.succession.champion = state["champion"]
        self.requests.restore(state_of(state["asking"], RequestPolicyState))
        self.cohorts.restore(state["cohorts"], state["slots"])
        self.succession.promotion = None if state["cure"] is None else state_of(state["cure"], Promotion)
        self.verdicts = {(kind, level): count for kind, level, count in state["verdicts"]}
        self.recovered = list(state["healed"])
        self.age.state = state_of(state.get("age", {}), AgeState)
        self.watches.restore(state, watches)


def _request_rules(settings: ModelSettings) -> RequestRules:
    mine = settings.requests
    pays = mine.when == "pays"
    return RequestRules(mine.cooldown, mine.most, mine.period, enabled=mine.enabled, pane=settings.pane, harm_only=pays)


def _count(total: dict[tuple[str, str], int], verdicts: Iterable[Verdict]) -> None:
    for verdict in verdicts:
        key = (verdict.kind.value, verdict.level.value)
        total[key] = total.get(key, 0) + 1


def _identity(references: References, model: str, version: str) -> WatchIdentity:
    reference = references.of(model, version)
    return WatchIdentity(model, version, "", "" if reference is None else reference.digest)


def _next_start(following: int | None, pending: Pending, watermark: int | None) -> int | None:
    """The pane to close next; a long silence is passed over in one step."""
    earliest, pane = pending.earliest(), pending.length
    if following is None:
        return earliest
    if watermark is not None and watermark - following > MAX_GAP_PANES * pane:
        far = watermark - watermark % pane - pane
        return max(following, far if earliest is None else min(far, earliest))
    return following


def _positives(references: References, model: str, champion: str | None) -> float | None:
    """The share of positives in the champion's labelled reference; None where there is none."""
    reference = None if champion is None else references.of(model, champion)
    labels = None if reference is None else reference.labels
    return None if labels is None or not labels.rows else float(labels.scored[:, 1].sum() / labels.scored.sum())


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
