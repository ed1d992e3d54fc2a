"""One model at the judge: closes its panes in order, steps its watches, and says what follows."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from msgspec import UNSET, UnsetType, field, structs

from stationkeeper.contracts.messages import RetrainRequest, Verdict
from stationkeeper.contracts.model_status import IncidentStatus
from stationkeeper.contracts.state import State
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, PaneDelta, Record
from stationkeeper.monitor.core.ageing import AgeState, CalendarState, FollowUpState
from stationkeeper.monitor.core.incidents import RequestPolicyState
from stationkeeper.monitor.core.reference import Counts, Task
from stationkeeper.monitor.core.watch import WatchState
from stationkeeper.monitor.judge.decisions import Decisions, joined
from stationkeeper.monitor.judge.escalation import Escalation, EscalationState
from stationkeeper.monitor.judge.labels import (
    Cohorts,
    CohortSlot,
    CohortsState,
    CuresState,
    LabelClock,
    LateLabels,
    Retrainings,
)
from stationkeeper.monitor.judge.pending import Closed, Pending, PendingState, WatchKey, merged_sources, pane_records
from stationkeeper.monitor.judge.succession import Promotion, Succession
from stationkeeper.monitor.judge.watches import Merged, Watches, WatchesState
from stationkeeper.monitor.judge.watermark import Progresses
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings

# Two days of one-minute panes are closed one by one, empty ones too: that is what freshness and volume learn silence
# from. A longer silence is passed over in one step, or a model that comes back after a year would take minutes to close
# half a million empty panes.
MAX_GAP_PANES = 2_880


class ModelPosition(State, frozen=True):
    """Where a model is: what every pane moves on, kept with each flush; times in ms, ``closed_by`` an offset.

    ``since`` is the first offset whose record is in no checkpoint. Builds before late labels counted lack ``closed_by``
    and ``judged``, which None does not tell from a model that judged nothing yet.
    """

    next: int | None
    watermark: int | None
    closed_by: int | None = None
    judged: int | UnsetType | None = UNSET
    joined: int | None = None
    refused: int = 0
    since: int | None = None


class ModelState(WatchesState, frozen=True):
    """The head of a model: what changes only when a pane closes, beside what its watches keep in one place.

    ``recovered`` are `IncidentStatus`, unchecked: they are shown, and an old one that lacks a field is shown without.
    """

    champion: str | None
    asking: RequestPolicyState
    promotion: Promotion | None = field(name="cure")
    verdicts: list[tuple[str, str, int]]
    recovered: list[dict[str, Any]] = field(name="healed")
    cohorts: CohortsState
    age: AgeState = AgeState()
    escalated: EscalationState = EscalationState()
    calendar: CalendarState = CalendarState()
    cures: CuresState = CuresState()
    more_rows: FollowUpState = FollowUpState()


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
        self.retrainings = Retrainings(settings, references)
        self.succession = Succession(settings.name, settings.pane, self.watches, references)
        self.escalation = Escalation(settings, self.watches, references, self.cohorts)

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
        # Before the watermark, which may be unknown: both are shown all the same.
        self.rebuilding = progresses.rebuilding()
        self.stopped = progresses.stopped({topic.topic for topic in self.settings.topics().values()})
        watermark = progresses.watermark(self.inputs, self.settings.lateness)
        if watermark is None:
            return Decisions()
        # It never goes back: a partition that was added begins with an older clock, and panes that closed stay closed.
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
        for stepped in self.watches.step(closed, merged, self.succession.champion, self.cohorts.late):
            found, asks = self.escalation.of(stepped, self.succession.champion, end, self.retrainings.age.of_incident)
            verdicts += [*found, *stepped.plugin_verdicts]
            requests += asks
        # Only where labels lag: on a live stream it would be a record a pane that says nothing.
        if self.labelled < closed.start:
            history.append(self.labels.held(closed.start, self.labelled, late=False))
        self.cohorts.forget({key.version for key in self.watches}, closed.start)
        for found, asks in self._learn(closed, end):
            verdicts += found
            requests += asks
        ended = [*self.succession.end_replaced(end), *self.succession.end_cured(merged, end)]
        requests += self.escalation.remember(ended, self.succession.champion)
        verdicts += [one.verdict for one in ended]
        champion = self.succession.champion
        broken = self.escalation.broken(champion)
        found, asks = self.retrainings.by_time(champion, end, self.escalation.requests, broken)
        verdicts += found
        requests += asks
        found, asks = self.escalation.again(champion, end, self.retrainings.age.of_incident)
        verdicts += found
        requests += asks
        rows = ((key, count) for key, (count, _) in merged.items())
        harm = self.escalation.harm_now
        found, asks = self.retrainings.follow_up(requests, end, rows, self.watches.of, champion, harm)
        verdicts += found
        self.escalation.count(verdicts)
        return Decisions(tuple(history), tuple(verdicts), (*requests, *asks), 1)

    def _learn(self, closed: Closed, now: int) -> Iterator[tuple[list[Verdict], list[RetrainRequest]]]:
        """Judge the labels of every cohort that is mature."""
        positives = _positives(self._references, self.name, self.succession.champion)
        # The first label of a prediction decides: corrections are for history alone, and change its charts.
        first = [one for one in closed.outcomes if not one.corrected]
        for version, segment, labels in self.cohorts.close(closed.arms, first, self.labelled, positives):
            champion, policy = self.succession.champion, self.escalation.requests
            by_age = self.retrainings.learn(version, segment, labels, champion, now, policy)
            for stepped in self.watches.learn(version, segment, labels):
                yield self.escalation.of(stepped, champion, now, self.retrainings.age.of_incident)
            # After the incidents of these labels, which may say that the data are broken.
            yield by_age(self.escalation.broken(version))
        self.late.judged = self.cohorts.judged

    def _judge_late(self, start: int) -> Decisions:
        """Judge labels that were read after the last pane, which began at ``start``, had closed: a catch-up ends so."""
        closed = self.pending.late(start).aged(self.cohorts.labelled, self.labelled)
        history: tuple[Record, ...] = (self.labels.held(start, self.labelled, late=True), *closed.known())
        decided = list(self._learn(closed, end := start + self.settings.pane))
        verdicts = tuple(one for found, _ in decided for one in found)
        requests = tuple(one for _, asks in decided for one in asks)
        self.retrainings.asked(requests, end, self.watches.of(self.succession.champion))
        self.escalation.count(verdicts)
        return Decisions(history, verdicts, requests, judged=True)

    def _merge(self, closed: Closed) -> tuple[Merged, list[Record]]:
        """Add up the sources of a pane by watch, and return the records that history keeps of it."""
        history: list[Record] = []
        merged: dict[WatchKey, tuple[int, Counts]] = {}
        for key, sources in closed.panes.items():
            for source, (rows, counts) in sorted(sources.items()):
                # New values were added up over the sources: history must carry them once.
                new = closed.new.get(key, {}) if source == min(sources) else {}
                history += pane_records(self.name, key, source, closed.start, self.settings.pane, rows, counts, new)
            merged[key] = merged_sources(sources, self.settings.source)
            self.watches.meet(key, closed.start, *merged[key], self.succession.champion)
        return merged, [*history, *closed.arms, *closed.known()]

    def where(self) -> ModelPosition:
        """Return where the model is, which every pane moves on."""
        return ModelPosition(
            next=self.next,
            watermark=self.watermark,
            closed_by=self.late.closed_by,
            judged=self.late.judged,
            joined=self.labels.joined,
            refused=self.watches.refused,
        )

    def state(self) -> ModelState:
        """Return what changes only when a pane closes, but for the watches, which are stored one by one."""
        age, calendar, cures, more_rows = self.retrainings.state()
        return ModelState(
            champion=self.succession.champion,
            asking=self.escalation.requests.state(),
            promotion=self.succession.promotion,
            verdicts=[(*key, count) for key, count in self.escalation.verdicts.items()],
            recovered=[dict(one) for one in self.escalation.recovered],
            cohorts=self.cohorts.state(),
            age=age,
            escalated=self.escalation.state(),
            calendar=calendar,
            cures=cures,
            more_rows=more_rows,
            **structs.asdict(self.watches.state()),
        )

    def restore_open(self, pending: PendingState, at: ModelPosition, absorbed: int) -> None:
        """Take over open panes and where the model was, at the offset ``absorbed``."""
        self.pending.restore(pending)
        self.next, self.watermark = at.next, at.watermark
        self.watches.refused = at.refused
        self.labels.joined = at.joined
        # Older versions judged a cohort with the pane that closed at its age.
        before = None if self.next is None else self.next - self.settings.pane - self.settings.label_maturity
        self.late.judged = self.cohorts.judged = before if at.judged is UNSET else at.judged
        # One that does not tell it takes nothing that is late and was absorbed for new.
        self.late.closed_by = absorbed if at.closed_by is None else at.closed_by
        self.pending.drop_before(self.next or 0, self.late.closed_by)

    def restore(
        self, state: ModelState, slots: Mapping[int, CohortSlot], watches: Mapping[WatchKey, WatchState]
    ) -> None:
        """Go on from ``state``, the cohorts' slots and the watches' own; a watch without its reference starts anew."""
        self.succession.champion, self.succession.promotion = state.champion, state.promotion
        self.escalation.requests.restore(state.asking)
        self.escalation.verdicts = {(kind, level): count for kind, level, count in state.verdicts}
        self.escalation.recovered = [cast("IncidentStatus", one) for one in state.recovered]
        self.cohorts.restore(state.cohorts, slots)
        self.escalation.restore(state.escalated)
        self.retrainings.restore(state.age, state.calendar, state.cures, state.more_rows)
        self.watches.restore(state, watches)


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
    # Of several classes the two kinds are right and wrong answers, and a model may well be always right.
    labels = None if reference is None or reference.task is Task.MULTICLASS else reference.labels
    if labels is None or not labels.rows or labels.numeric:
        return None
    return float(labels.scored[:, 1].sum() / labels.scored.sum())
