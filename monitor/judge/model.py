"""One model at the judge: closes its panes in order, steps its watches, and asks for retraining."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stationkeeper.contracts.messages import Level, RetrainRequest, Verdict
from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, PaneDelta, Record
from stationkeeper.monitor.core.adoption.adopt import may_take_over
from stationkeeper.monitor.core.incidents.desk import Outcome
from stationkeeper.monitor.core.incidents.incident import CO_ONSET_PANES, Incident, merge
from stationkeeper.monitor.core.incidents.verdict import recovered_verdict
from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.reference.cells import Counts
from stationkeeper.monitor.core.reference.reference import Reference
from stationkeeper.monitor.core.watch import Watch, WatchSettings, WatchState
from stationkeeper.monitor.judge.cohorts import Cohorts
from stationkeeper.monitor.judge.incident_status import incident_status
from stationkeeper.monitor.judge.late_labels import LateLabels
from stationkeeper.monitor.judge.pending import Closed, Pending, WatchKey, merged_sources, pane_records
from stationkeeper.monitor.judge.plugin_watch import PluginWatch
from stationkeeper.monitor.judge.requests import Asking
from stationkeeper.monitor.judge.segment_reference import Adoption, segment_reference
from stationkeeper.monitor.judge.succession import Cure, replaced
from stationkeeper.monitor.judge.watermark import Progresses
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import DAY_MS, ModelSettings
from stationkeeper.monitor.tally.segments import planned_segments


@dataclass(slots=True)
class Said:
    """What closing panes produced, in order: records for history, verdicts, requests, and refusals by incident."""

    history: list[Record] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    requests: list[RetrainRequest] = field(default_factory=list)
    closed: int = 0


MAX_GAP_PANES = 2_880
FORGET_MS = 7 * DAY_MS


class ModelJudge:
    """Everything the judge knows of one model: a function of the panes log (and of who is champion)."""

    def __init__(self, settings: ModelSettings, references: References) -> None:
        self.settings = settings
        self.name = settings.name
        self._references = references
        self.pending = Pending(settings.name, settings.pane)
        self.watches: dict[WatchKey, Watch] = {}
        self.plugins: dict[WatchKey, PluginWatch] = {}
        self.seen: dict[WatchKey, int] = {}
        self.rows: dict[str, int] = {}
        self.first_seen: dict[str, int] = {}
        self.asking = Asking(settings, references)
        self.cohorts = Cohorts(settings)
        self.late = LateLabels(settings.label_maturity, settings.pane)
        self.next: int | None = None
        self.watermark: int | None = None
        self.champion: str | None = None
        self.cure: Cure | None = None
        self.verdicts: dict[tuple[str, str], int] = {}
        self.healed: list[dict[str, Any]] = []
        self.adoptions: dict[WatchKey, Adoption] = {}
        self.adopted: dict[WatchKey, Counts] = {}
        self.dirty: set[WatchKey] = set()
        self.refused = 0
        self.rebuilding = False
        self.glance: Callable[[int], None] | None = None
        """Called after a pane has closed while more wait, with how many: what charts show of a catch-up."""

    @property
    def inputs(self) -> set[tuple[str, str]]:
        """The (topic, kind) whose clocks close this model's panes."""
        topics = self.settings.topics()
        kinds = {"prediction", self.settings.source}
        return {(topic.topic, kind) for kind, topic in topics.items() if kind in kinds}

    def add(self, delta: PaneDelta | ArmDelta | OutcomeDelta) -> Iterator[Record]:
        """Take a delta in; what belongs to a closed pane changes charts only and is yielded for history."""
        taken = self.late.taken(delta, self.next)
        if taken is None:
            yield delta
        else:
            self.pending.add(taken)

    def advance(self, progresses: Progresses, offset: int = -1) -> Said:
        """Close every pane that the watermark has passed, in order; ``offset`` is that of the record that moved it."""
        said = Said()
        self.rebuilding = progresses.rebuilding()
        watermark = progresses.watermark(self.inputs, self.settings.lateness)
        if watermark is None:
            return said
        self.watermark = watermark if self.watermark is None else max(self.watermark, watermark)
        length = self.settings.pane
        while (start := self._next_start()) is not None and start + length <= self.watermark:
            self._close(self.pending.close(start), said)
            self.next, self.late.closed_by = start + length, offset
            said.closed += 1
            left = (self.watermark - self.next) // length
            if left and self.glance is not None:
                self.glance(left)
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
            for source, (rows, counts) in sorted(sources.items()):
                said.history += pane_records(self.name, key, source, closed.start, length, rows, counts)
            merged[key] = merged_sources(sources, self.settings.source)
            self._meet(key, closed.start, *merged[key], reference)
        said.history += closed.arms
        said.history += closed.outcomes
        traffic: dict[str, int] = {}
        for key, (rows, _) in merged.items():
            traffic[key.segment] = traffic.get(key.segment, 0) + rows
        for key in sorted(self.watches):
            watch = self.watches[key]
            rows, counts = merged.get(key, (0, watch.layout.zeros()))
            pane = Pane(closed.start, length, rows, counts, traffic=traffic.get(key.segment, 0))
            outcome = watch.step(pane)
            self.dirty.add(key)
            self._tell(key, watch, outcome, said, end)
            plugins = self.plugins.get(key)
            if plugins is not None and rows and key.version == self.champion:
                for verdict in plugins.step(pane):
                    self._say(verdict, said)
        self._learn(closed, said, end)
        self._swap(said, end)
        self._cured(merged, said, end)
        mine = [watch for key, watch in sorted(self.watches.items()) if key.version == self.champion]
        said.requests += self.asking.ask_again((i for watch in mine for i in watch.incidents()), end)

    def _learn(self, closed: Closed, said: Said, now: int) -> None:
        self.cohorts.forget({key.version for key in self.watches}, closed.start)
        for version, segment, pane in self.cohorts.close(closed):
            for key in sorted(k for k in self.watches if (k.version, k.segment) == (version, segment)):
                watch = self.watches[key]
                self.dirty.add(key)
                self._tell(key, watch, watch.learn(pane), said, now)

    def _meet(self, key: WatchKey, start: int, rows: int, counts: Counts, reference: Reference | None) -> None:
        if not key.segment:
            self.rows[key.version] = self.rows.get(key.version, 0) + rows
            self.first_seen.setdefault(key.version, start)
        self.seen[key] = start
        if key in self.watches or reference is None or not rows:
            return
        if len(self.watches) >= self.settings.limits.segments + self.settings.limits.versions:
            self.refused += 1
            return
        if key.segment:
            adoption = self.adoptions.setdefault(key, Adoption.of(reference))
            if not adoption.add(start, rows, counts):
                return
            self.adopted[key] = self.adoptions.pop(key).counts
        watch = self.watches[key] = self._watch(key, reference)
        if watch.adopting and (before := self._before(key)) is not None:
            watch.take_over(before)

    def _before(self, key: WatchKey) -> Reference | None:
        """The reference of the latest other watch of the segment that knows dependence, the champion's first."""
        mine = {k: w.reference for k, w in self.watches.items() if k != key and k.segment == key.segment}
        known = [k for k in mine if may_take_over(mine[k])]
        known.sort(key=lambda k: (k.version == self.champion, self.seen.get(k, 0), k))
        return mine[known[-1]] if known else None

    def _watch(self, key: WatchKey, reference: Reference) -> Watch:
        if key in self.adopted:
            reference = segment_reference(reference, np.atleast_2d(self.adopted[key]))
        if (reference.model, reference.version) != (self.name, key.version):
            reference = replace(reference, model=self.name, version=key.version)
        settings = WatchSettings(
            budget=self.settings.budget,
            segments=planned_segments(self.settings, reference, key.segment),
            window=self.settings.window,
            adoption=self.settings.adoption or None,
            ignore=self.settings.quality.ignore,
            tolerance=self.settings.quality.tolerance,
            stale_after=self.settings.quality.stale_after,
            learn_traffic=self.settings.quality.learn_traffic or None,
        )
        watch = Watch(reference, key.segment, settings)
        if self.settings.detectors and not key.segment:
            self.plugins[key] = PluginWatch(self.settings.detectors, reference, watch.named)
        return watch

    def _tell(self, key: WatchKey, watch: Watch, outcome: Outcome, said: Said, now: int) -> None:
        pages = key.version == self.champion
        echoes: dict[str, Incident] = {}
        for incident in outcome.opened if pages else ():
            cause = self._cause_of(key, incident)
            if cause is not None:
                echoes[incident.id] = cause
                self.asking.echo(incident, cause)
        for verdict in outcome.verdicts:
            echoed = echoes.get(verdict.incident or "")
            if not pages:
                verdict = _quiet(verdict, f"version {verdict.version} is not champion, {self.champion} is")  # noqa: PLW2901
            elif echoed is not None:
                verdict = _quiet(verdict, f"began with {echoed.id}, which has paged")  # noqa: PLW2901
            self._say(verdict, said)
        if not pages:
            return
        for incident in outcome.opened:
            if incident.id in watch.desk.book.open and incident.id not in echoes:
                request = self.asking.ask(incident, outcome.verdict_for(incident), now)
                said.requests += [] if request is None else [request]

    def _cause_of(self, key: WatchKey, incident: Incident) -> Incident | None:
        """Return the open incident of another segment that began when this one did: one cause, one page."""
        slack = CO_ONSET_PANES * self.settings.pane
        for other_key in sorted(self.watches):
            if other_key == key or other_key.version != key.version:
                continue
            for other in self.watches[other_key].incidents():
                if len(merge([other, incident], slack)) == 1:
                    return other
        return None

    def _say(self, verdict: Verdict, said: Said) -> None:
        said.verdicts.append(verdict)
        key = (verdict.kind.value, verdict.level.value)
        self.verdicts[key] = self.verdicts.get(key, 0) + 1

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
            self.plugins.pop(key, None)
            # What was stored of it goes too: it would come back with the next restart.
            self.dirty.add(key)
            self.seen.pop(key)

    def _swap(self, said: Said, now: int) -> None:
        """Let the watches of replaced references go; whoever still drifts, does so from the new one."""
        for key, digest in list(replaced(self.seen, self._references, self.name, now, self.settings.pane)):
            self.seen.pop(key)
            self.plugins.pop(key, None)
            why = f"the reference was replaced by {digest}; what still differs from it is a new incident"
            self._end(key, why, {"replaced_by": digest}, 0, said, now)

    def _cured(self, merged: Mapping[WatchKey, tuple[int, Counts]], said: Said, now: int) -> None:
        """Close the incidents of the version before once the promoted one has been steady."""
        cure = self.cure
        if cure is None:
            return
        rows = sum(rows for key, (rows, _) in merged.items() if key.version == cure.new and not key.segment)
        mine = [watch for key, watch in self.watches.items() if key.version == cure.new]
        if not cure.step(rows, steady=bool(mine) and not any(watch.incidents() for watch in mine)):
            return
        why = (
            f"version {cure.new} took over from {cure.old} and was steady for {cure.panes} panes with {cure.rows} rows"
        )
        for key in sorted(key for key in self.watches if key.version == cure.old):
            self._end(key, why, {"promoted": cure.new, "panes": cure.panes}, cure.rows, said, now)
        self.cure = None

    def _end(self, key: WatchKey, why: str, evidence: Mapping[str, Any], rows: int, said: Said, now: int) -> None:
        """Let a watch go with a last word on each incident that it holds."""
        watch = self.watches.pop(key, None)
        self.dirty.add(key)
        if watch is None:
            return
        for incident in watch.incidents():
            verdict = recovered_verdict(watch.named, incident, now=now, rows=rows, last_row=None)
            reason = f"{', '.join(incident.subjects[:5])}: {why}"
            update = {"reason": reason, "evidence": {**verdict.evidence, **evidence}}
            self._say(verdict.model_copy(update=update), said)
            closed = self.incident_status(replace(incident, closed=now), key)
            self.healed = [*self.healed, {**closed, "recovered_reason": reason}][-20:]

    def incident_status(self, incident: Incident, key: WatchKey) -> dict[str, Any]:
        """Return an incident as people see it, with what became of its wish to retrain."""
        return incident_status(incident, self.asking.asked.get(incident.id), pages=key.version == self.champion)

    def where(self) -> dict[str, Any]:
        """Return where the model is, which every pane moves on."""
        where = {"next": self.next, "watermark": self.watermark, "closed_by": self.late.closed_by}
        return where | {"refused": self.refused}

    def state(self) -> dict[str, Any]:
        """Return what changes only when a pane closes, but for the watches, which are stored one by one."""
        return {
            "champion": self.champion,
            "seen": [[*key, at] for key, at in self.seen.items()],
            "rows": self.rows,
            "first_seen": self.first_seen,
            "plugins": [[*key, plugins.state()] for key, plugins in self.plugins.items()],
            "asking": self.asking.state(),
            "cure": None if self.cure is None else [getattr(self.cure, name) for name in Cure.__slots__],
            "verdicts": [[*key, count] for key, count in self.verdicts.items()],
            "healed": self.healed,
            "adoptions": [[*key, *adoption.state()] for key, adoption in self.adoptions.items()],
            "adopted": [[*key, counts] for key, counts in self.adopted.items()],
            "cohorts": self.cohorts.state(),
        }

    def restore_open(self, pending: Mapping[str, Any], where: Mapping[str, Any], absorbed: int) -> None:
        """Become what open panes and ``where`` were taken from, at the offset ``absorbed``."""
        self.pending.restore(dict(pending))
        self.next, self.watermark = where["next"], where["watermark"]
        self.refused = where.get("refused", 0)
        self.late.restore(where, absorbed)
        self.pending.drop_before(self.next or 0)

    def restore(self, state: Mapping[str, Any], watches: Mapping[WatchKey, Mapping[str, Any]]) -> None:
        """Become what ``state`` and the watches' states were taken from; a watch without its reference starts anew."""
        self.champion = state["champion"]
        self.seen = {WatchKey(*key): at for *key, at in state["seen"]}
        self.rows, self.first_seen = dict(state["rows"]), dict(state["first_seen"])
        self.asking.restore(state["asking"])
        self.cohorts.restore(state["cohorts"], state["slots"])
        self.cure = None if state["cure"] is None else Cure(*state["cure"])
        self.verdicts = {(kind, level): count for kind, level, count in state["verdicts"]}
        self.healed = list(state["healed"])
        self.adopted = {WatchKey(*key): counts for *key, counts in state["adopted"]}
        self.adoptions = {WatchKey(*fields[:3]): Adoption(*fields[3:]) for fields in state["adoptions"]}
        for key, saved in watches.items():
            reference = self._references.by_digest(key.digest)
            if reference is not None:
                self.watches[key] = self._watch(key, reference)
                self.watches[key].restore(state_of(saved, WatchState))
        for *key_, saved in state["plugins"]:
            if WatchKey(*key_) in self.plugins:
                self.plugins[WatchKey(*key_)].restore(saved)


def _quiet(verdict: Verdict, why: str) -> Verdict:
    """A verdict that informs instead of paging: of a version that is not champion, or of a cause that has paged."""
    if verdict.level is Level.INFORM:
        return verdict
    return verdict.model_copy(update={"level": Level.INFORM, "reason": f"{verdict.reason} ({why})"})
