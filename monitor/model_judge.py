"""One model at the judge: closes its panes in order, steps its watches, and asks for retraining."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from contracts.messages import Level, RetrainRequest, RolloutPhase, Verdict
from contracts.wire import ArmDelta, OutcomeDelta, PaneDelta, Record
from monitor.core.cells import Counts
from monitor.core.decision import RequestDesk, recovered_verdict
from monitor.core.decision import RequestSettings as DeskSettings
from monitor.core.incident import Incident
from monitor.core.incident_desk import Outcome
from monitor.core.pane import Pane
from monitor.core.performance import OutcomePane
from monitor.core.reference import Reference
from monitor.core.watch import Watch, WatchSettings
from monitor.incident_status import Asked, incident_status
from monitor.pending import Closed, Pending, WatchKey, pane_records
from monitor.references import References
from monitor.segments import planned_segments
from monitor.settings import DAY_MS, ModelSettings
from monitor.watermark import Progresses

STEADY_PANES = 30
STEADY_ROWS = 500
MAX_GAP_PANES = 2_880
FORGET_MS = 7 * DAY_MS


@dataclass(slots=True)
class Said:
    """What closing panes produced, in order: records for history, verdicts, requests, and refusals by incident."""

    history: list[Record] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    requests: list[RetrainRequest] = field(default_factory=list)
    closed: int = 0


@dataclass(slots=True)
class Cure:
    """A version was promoted; incidents of the one before close when it has been steady."""

    old: str
    new: str
    since: int
    rows: int = 0
    panes: int = 0


class ModelJudge:
    """Everything the judge knows of one model: a function of the panes log (and of who is champion)."""

    def __init__(self, settings: ModelSettings, references: References) -> None:
        self.settings = settings
        self.name = settings.name
        self._references = references
        self.pending = Pending(settings.name, settings.pane)
        self.watches: dict[WatchKey, Watch] = {}
        self.seen: dict[WatchKey, int] = {}
        self.rows: dict[str, int] = {}
        self.first_seen: dict[str, int] = {}
        desk = settings.requests
        self.desk = RequestDesk(DeskSettings(cooldown=desk.cooldown, most=desk.most, period=desk.period))
        self.asked: dict[str, Asked] = {}
        self.next: int | None = None
        self.watermark: int | None = None
        self.champion: str | None = None
        self.cure: Cure | None = None
        self.outstanding: tuple[str, int] | None = None
        self.verdicts: dict[tuple[str, str], int] = {}
        self.requests: dict[str, int] = {}
        self.healed: list[dict[str, Any]] = []
        self.cohorts: dict[int, dict[tuple[str, str], Counts]] = {}
        self.dirty: set[WatchKey] = set()
        self.refused = 0

    @property
    def inputs(self) -> set[tuple[str, str]]:
        """The (topic, kind) whose clocks close this model's panes."""
        topics = self.settings.topics()
        kinds = {"prediction", self.settings.source}
        return {(topic.topic, kind) for kind, topic in topics.items() if kind in kinds}

    def add(self, delta: PaneDelta | ArmDelta | OutcomeDelta) -> Iterator[Record]:
        """Take a delta in; what belongs to a closed pane changes charts only and is yielded for history."""
        stamp = delta.known_at if isinstance(delta, OutcomeDelta) else delta.start
        if self.next is not None and stamp + self.settings.pane <= self.next:
            yield delta
        else:
            self.pending.add(delta)

    def advance(self, progresses: Progresses) -> Said:
        """Close every pane that the watermark has passed, in order."""
        said = Said()
        watermark = progresses.watermark(self.inputs, self.settings.lateness)
        if watermark is None:
            return said
        self.watermark = watermark if self.watermark is None else max(self.watermark, watermark)
        length = self.settings.pane
        while (start := self._next_start()) is not None and start + length <= self.watermark:
            self._close(self.pending.close(start), said)
            self.next = start + length
            said.closed += 1
        return said

    def _next_start(self) -> int | None:
        """The pane to close next; a long silence is passed over in one step."""
        earliest = self.pending.earliest()
        if self.next is None:
            return earliest
        limit = MAX_GAP_PANES * self.settings.pane
        if self.watermark is not None and self.watermark - self.next > limit:
            far = self.watermark - self.watermark % self.settings.pane - self.settings.pane
            return max(self.next, far if earliest is None else min(far, earliest))
        return self.next

    def _close(self, closed: Closed, said: Said) -> None:
        length, end = self.settings.pane, closed.start + self.settings.pane
        self._follow_champion(end)
        merged: dict[WatchKey, tuple[int, Counts]] = {}
        for key, sources in closed.panes.items():
            reference = self._references.by_digest(key.digest)
            layout = None if reference is None else reference.layout
            for source, (rows, counts) in sorted(sources.items()):
                said.history += pane_records(self.name, key, source, closed.start, length, rows, counts, layout)
            merged[key] = _merge(sources, self.settings.source)
            self._meet(key, closed.start, merged[key][0], reference)
        said.history += closed.arms
        said.history += closed.outcomes
        for key in sorted(self.watches):
            watch = self.watches[key]
            rows, counts = merged.get(key, (0, watch.layout.zeros()))
            outcome = watch.step(Pane(closed.start, length, rows, counts))
            self.dirty.add(key)
            self._tell(key, watch, outcome, said, end)
        self._learn(closed, said, end)
        self._cured(merged, said, end)
        self._ask_again(said, end)

    def _learn(self, closed: Closed, said: Said, now: int) -> None:
        """Give the watches the labels of the cohort that is now mature: predictions of one pane, known in time."""
        cohort = closed.start - self.settings.label_maturity
        for one in closed.outcomes:
            if one.start > cohort - self.settings.pane:
                self.cohorts.setdefault(one.start, {}).setdefault((one.version, one.segment), np.zeros(68, np.int64))[
                    :
                ] += np.concatenate([np.frombuffer(one.confusion, "<i8"), np.frombuffer(one.scored, "<i8")])
        for start in sorted(start for start in self.cohorts if start <= cohort):
            for (version, segment), counts in sorted(self.cohorts.pop(start).items()):
                for key in sorted(k for k in self.watches if (k.version, k.segment) == (version, segment)):
                    pane = OutcomePane(closed.start, now, counts[4:].reshape(-1, 2), counts[:4])
                    self.dirty.add(key)
                    self._tell(key, self.watches[key], self.watches[key].learn(pane), said, now)

    def _meet(self, key: WatchKey, start: int, rows: int, reference: Reference | None) -> None:
        if not key.segment:
            self.rows[key.version] = self.rows.get(key.version, 0) + rows
            self.first_seen.setdefault(key.version, start)
        self.seen[key] = start
        if key in self.watches or reference is None or not rows:
            return
        if len(self.watches) >= self.settings.limits.segments + self.settings.limits.versions:
            self.refused += 1
            return
        self.watches[key] = self._watch(key, reference)

    def _watch(self, key: WatchKey, reference: Reference) -> Watch:
        if (reference.model, reference.version) != (self.name, key.version):
            reference = replace(reference, model=self.name, version=key.version)
        settings = WatchSettings(
            budget=self.settings.budget,
            segments=planned_segments(self.settings, reference, key.segment),
            window=self.settings.window,
            adopt=self.settings.adoption is not None,
        )
        return Watch(reference, key.segment, settings)

    def _tell(self, key: WatchKey, watch: Watch, outcome: Outcome, said: Said, now: int) -> None:
        pages = key.version == self.champion
        for verdict in outcome.verdicts:
            self._say(verdict if pages else _quiet(verdict, self.champion), said)
        if not pages:
            return
        for incident in outcome.opened:
            if incident.id in watch.desk.book.open:
                self._ask(incident, outcome.verdict_for(incident), said, now)

    def _say(self, verdict: Verdict, said: Said) -> None:
        said.verdicts.append(verdict)
        key = (verdict.kind.value, verdict.level.value)
        self.verdicts[key] = self.verdicts.get(key, 0) + 1

    def _ask(self, incident: Incident, verdict: Verdict, said: Said, now: int) -> None:
        if not self.settings.requests.enabled:
            self.asked[incident.id] = Asked("suppressed", "requests.enabled is false")
            return
        answer = self.desk.consider(incident, verdict, now=now, in_flight=self._in_flight(now))
        outcome = "suppressed" if answer.request is None else "published"
        known = self.asked.get(incident.id)
        if known is None or known.outcome != outcome:
            self.requests[outcome] = self.requests.get(outcome, 0) + 1
        if answer.request is None:
            again = 0 if incident.refusal else now + STEADY_PANES * self.settings.pane
            self.asked[incident.id] = Asked(outcome, answer.reason, "", again, verdict.encode().decode())
        else:
            self.asked[incident.id] = Asked(outcome, answer.reason, answer.request.id)
            self.outstanding = (answer.request.id, now)
            said.requests.append(answer.request)

    def _ask_again(self, said: Said, now: int) -> None:
        """An open incident that was put off by cooldown or other work asks again from time to time."""
        for key in sorted(self.watches):
            if key.version != self.champion:
                continue
            for incident in self.watches[key].incidents():
                asked = self.asked.get(incident.id)
                if asked is None or asked.outcome != "suppressed" or not asked.again or now < asked.again:
                    continue
                self._ask(incident, Verdict.decode(asked.verdict.encode()), said, now)

    def _in_flight(self, now: int) -> str | None:
        rollout = self._references.rollout(self.name)
        if rollout is not None and rollout.phase is not RolloutPhase.STEADY:
            return f"the rollout of version {rollout.canary or rollout.champion} ({rollout.phase.value})"
        if self.outstanding is None:
            return None
        request, asked = self.outstanding
        if (rollout is not None and rollout.request == request) or now - asked > DAY_MS:
            self.outstanding = None
            return None
        return f"request {request}"

    def _follow_champion(self, now: int) -> None:
        champion = self._references.champion(self.name)
        if champion == self.champion:
            return
        if self.champion is not None and champion is not None:
            back = self.cure is not None and self.cure.old == champion
            self.cure = None if back else Cure(self.champion, champion, now)
        self.champion = champion
        stale = [key for key, at in self.seen.items() if key.version != champion and now - at > FORGET_MS]
        for key in stale:
            self.watches.pop(key, None)
            self.seen.pop(key)

    def _cured(self, merged: Mapping[WatchKey, tuple[int, Counts]], said: Said, now: int) -> None:
        """Close the incidents of the version before once the promoted one has been steady."""
        cure = self.cure
        if cure is None:
            return
        cure.panes += 1
        cure.rows += sum(rows for key, (rows, _) in merged.items() if key.version == cure.new and not key.segment)
        mine = [watch for key, watch in self.watches.items() if key.version == cure.new]
        if not mine or any(watch.incidents() for watch in mine):
            cure.panes = cure.rows = 0
            return
        if cure.panes < STEADY_PANES or cure.rows < STEADY_ROWS:
            return
        for key in sorted(key for key in self.watches if key.version == cure.old):
            watch = self.watches.pop(key)
            self.dirty.add(key)
            for incident in watch.incidents():
                verdict = recovered_verdict(watch.named, incident, now=now, rows=cure.rows, last_row=None)
                reason = (
                    f"{', '.join(incident.subjects[:5])}: version {cure.new} took over from {cure.old} and was steady "
                    f"for {cure.panes} panes with {cure.rows} rows"
                )
                evidence = {**verdict.evidence, "promoted": cure.new, "panes": cure.panes}
                self._say(verdict.model_copy(update={"reason": reason, "evidence": evidence}), said)
                closed = self.incident_status(replace(incident, closed=now), key)
                self.healed = [*self.healed, {**closed, "recovered_reason": reason}][-20:]
        self.cure = None

    def incident_status(self, incident: Incident, key: WatchKey) -> dict[str, Any]:
        """Return an incident as people see it, with what became of its wish to retrain."""
        return incident_status(incident, self.asked.get(incident.id), pages=key.version == self.champion)

    def state(self) -> dict[str, Any]:
        """Return everything but the watches, which are stored one by one."""
        return {
            "pending": self.pending.state(),
            "next": self.next,
            "watermark": self.watermark,
            "champion": self.champion,
            "seen": [[*key, at] for key, at in self.seen.items()],
            "rows": self.rows,
            "first_seen": self.first_seen,
            "desk": self.desk.state(),
            "asked": {
                key: [getattr(a, name) for name in Asked.__slots__] for key, a in list(self.asked.items())[-100:]
            },
            "cure": None if self.cure is None else [getattr(self.cure, name) for name in Cure.__slots__],
            "outstanding": self.outstanding,
            "verdicts": [[*key, count] for key, count in self.verdicts.items()],
            "requests": self.requests,
            "healed": self.healed,
            "cohorts": [
                [start, *key, counts] for start, found in self.cohorts.items() for key, counts in found.items()
            ],
        }

    def restore(self, state: Mapping[str, Any], watches: Mapping[WatchKey, Mapping[str, Any]]) -> None:
        """Become what ``state`` and the watches' states were taken from; a watch without its reference starts anew."""
        self.pending.restore(state["pending"])
        self.next, self.watermark, self.champion = state["next"], state["watermark"], state["champion"]
        self.seen = {WatchKey(*key): at for *key, at in state["seen"]}
        self.rows, self.first_seen = dict(state["rows"]), dict(state["first_seen"])
        self.desk.restore(state["desk"])
        self.asked = {key: Asked(*fields) for key, fields in state["asked"].items()}
        self.cure = None if state["cure"] is None else Cure(*state["cure"])
        self.outstanding = None if state["outstanding"] is None else tuple(state["outstanding"])
        self.verdicts = {(kind, level): count for kind, level, count in state["verdicts"]}
        self.requests, self.healed = dict(state["requests"]), list(state["healed"])
        self.cohorts = {}
        for start, version, segment, counts in state["cohorts"]:
            self.cohorts.setdefault(start, {})[version, segment] = np.array(counts, np.int64)
        for key, saved in watches.items():
            reference = self._references.by_digest(key.digest)
            if reference is not None:
                self.watches[key] = self._watch(key, reference)
                self.watches[key].restore(saved)


def _merge(sources: Mapping[str, tuple[int, Counts]], source: str) -> tuple[int, Counts]:
    """One vector of all sources; the rows are those of the source of the input statistics, else the most of any."""
    counts = sum((found for _, found in sources.values()), np.int64(0))
    rows = sources[source][0] if source in sources else max(rows for rows, _ in sources.values())
    return rows, np.asarray(counts, np.int64)


def _quiet(verdict: Verdict, champion: str | None) -> Verdict:
    """A version that is not champion informs and never pages."""
    if verdict.level is Level.INFORM:
        return verdict
    reason = f"{verdict.reason} (version {verdict.version} is not champion{f', {champion} is' if champion else ''})"
    return verdict.model_copy(update={"level": Level.INFORM, "reason": reason})
