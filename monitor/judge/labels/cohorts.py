"""Labels by cohort: predictions of one pane are judged at one age, so that early and late labels count alike."""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, Protocol

import numpy as np
from msgspec import structs

from stationkeeper.contracts.state import State
from stationkeeper.contracts.wire import SCORE_BINS, ArmDelta, OutcomeDelta
from stationkeeper.monitor.core.finding import Finding
from stationkeeper.monitor.core.performance import (
    LabelDelays,
    LabelDelaysState,
    LateGate,
    Maturity,
    OutcomePane,
    delayed_counts,
    judged_counts,
    late_labels,
)
from stationkeeper.monitor.core.reference import Counts, OutcomeSums
from stationkeeper.monitor.judge.labels.charts import KEPT, LabelCharts
from stationkeeper.monitor.judge.labels.growing import WIDTH, GrowingCohorts
from stationkeeper.monitor.judge.labels.slots import CohortSlot, CohortSlots
from stationkeeper.monitor.settings import HOUR_MS

# How many times the age of maturity a cohort waits for labels that those before it had: then they are lost, not late,
# and it is not judged. At once, a slow hour costs its cohorts; at four, a day without labels stops all judging for as
# many days.
_PATIENCE = 2


class MaturityState(State, frozen=True, array_like=True):
    """`Maturity` as it is kept, by position."""

    age: int | None
    expected: float
    usual: float
    watched: int
    missing: str | None = None
    selective: bool = False


class GateState(State, frozen=True, array_like=True):
    """The gate's sum, since which pane (ms) labels are late, and the pane up to which they were in; by position."""

    sum: float = 0.0
    late_since: int | None = None
    labelled: int | None = None


class CohortsState(State, frozen=True):
    """The head of what cohorts keep: (predictions, labels) of the latest judged, delays, gate and maturity.

    Builds before the learned delays lack those three; theirs has the rows of all cohorts instead, and before slots
    were, everything that is in slots now.
    """

    counted: list[tuple[int, int]]
    delays: LabelDelaysState | None = None
    gate: GateState = GateState()
    maturity: MaturityState | None = None
    rows: list[tuple[int, int]] = []
    growing: list[tuple[int, str, str, Any]] | None = None
    mature: list[tuple[str, str, Any, Any]] = []
    scores: list[tuple[str, str, Any, Any]] = []

    def whole(self) -> list[CohortSlot]:
        """Return all cohorts as one slot, where they were kept whole."""
        if self.growing is None:
            return []
        # Its number is never written: what is read from it goes to the slots of its panes.
        return [CohortSlot(slot=0, growing=self.growing, rows=self.rows, mature=self.mature, scores=self.scores)]


class CohortRules(Protocol):
    """What of a model's settings cohorts need, in ms; a backtest has them from its options."""

    @property
    def pane(self) -> int: ...  # noqa: D102 - the settings say what they are
    @property
    def label_maturity(self) -> int: ...  # noqa: D102
    @property
    def label_horizon(self) -> int: ...  # noqa: D102
    @property
    def window(self) -> int: ...  # noqa: D102
    @property
    def absent_is(self) -> Literal["negative"] | None: ...  # noqa: D102


class Cohorts:
    """One model's predictions on their way to maturity: when each cohort is judged, and with which labels.

    A cohort is mature when its labels are complete (`LabelDelays.maturity`), at least ``label_maturity`` after its pane
    by the clock up to which labels are in; what is known by then is judged, what comes later changes charts only.
    ``judged`` is the start of the last that was, ``labelled`` the pane up to which labels were in then. A cohort that
    lacks labels which those before it had waits, and is given up at twice the age.
    """

    def __init__(self, settings: CohortRules) -> None:
        self._least, self._pane = settings.label_maturity, settings.pane
        self._horizon = max(settings.label_horizon, settings.label_maturity)
        self._absent, self._window = settings.absent_is == "negative", settings.window
        self._slots = CohortSlots(settings.pane)
        self._growing = GrowingCohorts(settings.pane, self._slots, absent=self._absent)
        self._delays = LabelDelays(settings.pane, self._horizon)
        self._gate = LateGate()
        self.charts = LabelCharts()
        self.counted: deque[tuple[int, int]] = deque(maxlen=KEPT)
        self.judged: int | None = None
        self.labelled: int | None = None
        self.maturity = Maturity(None, 0.0, 0.0, 0)
        self.late: Finding | None = None
        self._late_since: int | None = None

    def matures(self, labelled: int) -> bool:
        """Return whether labels are in further than they were judged, and a cohort waits that may be mature by now."""
        waits = any(start <= labelled - self._least for start in self._growing.starts()[:1])
        return waits and (self.labelled is None or labelled > self.labelled)

    def close(
        self, arms: Sequence[ArmDelta], outcomes: Sequence[OutcomeDelta], labelled: int, positives: float | None
    ) -> Iterator[tuple[str, str, OutcomePane]]:
        """Take what a closed pane counted; yields (version, segment, labels) of mature cohorts, oldest first.

        ``labelled`` is the start of the last pane in which every label is known, ``positives`` the share of them in the
        champion's reference.
        """
        for arm in arms:
            self._predicted(arm)
        for one in outcomes:
            scored = np.frombuffer(one.scored, "<i8")
            # Segments repeat the rows of all traffic, and a mean delay needs rows.
            if not one.segment and one.rows:
                by_answer = delayed_counts(np.frombuffer(one.confusion, "<i8"), scored, OutcomeSums.unpack(one.sums))
                self._delays.known(one.start, max(one.age_ms // one.rows, 0), one.rows, by_answer)
            # Delays learn from every label, judging takes none of a cohort that was judged: it would count early and
            # late labels at different ages.
            if self.judged is not None and one.start <= self.judged:
                continue
            who, sums = (one.version, one.segment), OutcomeSums.unpack(one.sums)
            confusion, scored = judged_counts(np.frombuffer(one.confusion, "<i8"), scored, sums)
            mine = self._growing.of(one.start, who)
            mine[:4] += confusion
            mine[4:WIDTH] += scored
            # Of what is absent no score is known but its bin: what is read from scores would be of positives alone.
            if not self._absent:
                at = self._growing.bucket(one.start)
                self._slots.touch(at)
                self.charts.sums.add(who, at, sums)
                self.charts.add_labelled(who, at, confusion, one.actions)
        self.labelled = labelled
        now = labelled + self._pane
        # By the labels' clock, not the pane's: in a catch-up cohorts would lose their minutes before labels are read.
        if (edge := self._growing.coarsen(now)) is not None:
            for kept in (self.charts.sums, self.charts.actions):
                for start in kept.coarsen(edge, HOUR_MS):
                    self._slots.touch(start)
        self._delays.advance(now)
        self.maturity = self._delays.maturity(now, self._least, positives, only_positives=self._absent)
        yield from self._judge(labelled)

    def _judge(self, labelled: int) -> Iterator[tuple[str, str, OutcomePane]]:
        age = self.maturity.age
        # Nothing waits longer than the horizon for what is not known to come.
        forgotten = labelled - self._horizon - self._least
        limit, ripe = self._growing.until(forgotten if age is None else max(labelled - age, forgotten))
        self.late = None
        for at, start in enumerate(ripe):
            due, arrived = self._growing.due([start])
            given_up = age is None
            # Where absence is the negative label, a cohort without labels is a calm one and not late.
            if age is not None and not self._absent:
                after = self._gate.after(due, arrived, self.maturity.usual)
                if self._gate.shuts(after):
                    given_up = start <= labelled - _PATIENCE * age
                    self._late_since = start if self._late_since is None else self._late_since
                    if not given_up:
                        self.late = late_labels(self._late_since, *self._growing.due(ripe[at:]), self.maturity.usual)
                        # Those behind it wait too: cohorts are judged in order of their panes, or the detectors would
                        # see time run backwards.
                        limit = start - self._pane
                        break
                else:
                    # A cohort that is given up leaves the sum as it was, or a lost day would keep the gate shut on the
                    # good ones after it.
                    self._late_since = None
                    self._gate.sum = after
            # Before it is taken out: what it spans is known of what waits.
            span = self._growing.span(start)
            _, found = self._growing.pop(start)
            self.counted.append((due, arrived))
            for who, counts in sorted(found.items()):
                labels = self._absence(counts) if self._absent else counts
                if not labels[:4].any():
                    continue
                self.charts.add_mature(who, start, labels[:4].copy())
                if not given_up and age is not None:
                    known, scored = start + age, labels[4:WIDTH].reshape(-1, 2)
                    selective = self.maturity.selective
                    yield *who, OutcomePane(known, known + span, scored, labels[:4], selective=selective)
        self.judged = limit if self.judged is None else max(self.judged, limit)
        for start in self.charts.drop(self.judged, self._window, self._pane):
            self._slots.touch(start)

    def _absence(self, counts: Counts) -> Counts:
        """Return the counts of a cohort whose predictions without label are negatives."""
        out = counts[:WIDTH].copy()
        scored = out[4:].reshape(-1, 2)
        # A prediction that came after its pane had closed is in no arm, its label in the cohort all the same.
        absent = np.maximum(counts[WIDTH : WIDTH + SCORE_BINS] - scored.sum(1), 0)
        scored[:, 0] += absent
        decided = int(np.clip(counts[-1] - out[0] - out[1], 0, absent.sum()))
        out[1] += decided
        out[3] += int(absent.sum()) - decided
        return out

    def _predicted(self, arm: ArmDelta) -> None:
        scores = np.frombuffer(arm.scores, "<i8").astype(np.int64)
        if not arm.segment:
            self._growing.predicted(arm.start, arm.rows)
            self._delays.predicted(arm.start, arm.rows, scores)
        if self._absent:
            self._growing.of(arm.start, (arm.version, arm.segment))[WIDTH:] += np.append(scores, arm.positives)
        # Where absence is a label none is kept away. What came when its cohort was judged is in no other count either.
        elif self.judged is None or arm.start > self.judged:
            at = self._growing.bucket(arm.start)
            self._slots.touch(at)
            self.charts.add_predicted((arm.version, arm.segment), at, arm.rows, arm.actions)
        self._slots.touch(arm.start)
        self.charts.add_scores((arm.version, arm.segment), arm.start, scores)

    def completeness(self) -> tuple[int, int]:
        """Return how many of the latest predictions are of the least age at which labels count, and have theirs."""
        due, arrived = sum(due for due, _ in self.counted), sum(arrived for _, arrived in self.counted)
        if self.labelled is not None:
            old = self._growing.until(self.labelled - self._least)[1]
            due, arrived = due + self._growing.due(old)[0], arrived + self._growing.due(old)[1]
        return due, arrived

    def forget(self, watched: Collection[str], now: int) -> None:
        """Let go of versions that nobody watches and whose last label has come or is too late at ``now`` (ms)."""
        for start in self.charts.forget(watched, now - self._horizon):
            self._slots.touch(start)

    def state(self) -> CohortsState:
        """Return the head of what ``restore`` needs, without the slots."""
        return CohortsState(
            counted=list(self.counted),
            delays=self._delays.state(),
            gate=GateState(sum=self._gate.sum, late_since=self._late_since, labelled=self.labelled),
            maturity=MaturityState(**asdict(self.maturity)),
        )

    def changed(self) -> Iterator[tuple[int, CohortSlot | None]]:
        """Yield (number, slot) of what is not stored as it is now; None for a slot that has emptied."""
        waiting, shown = self._growing.starts()[:1], self.charts.oldest()
        oldest = min((*waiting, *(() if shown is None else (shown,))), default=None)
        kept = self._growing.cells(), self._growing.rows.items(), self.charts.rings, self.charts.sums.items()
        return self._slots.changed(*kept, oldest, self.charts.actions.items())

    def restore(self, state: CohortsState, slots: Mapping[int, CohortSlot]) -> None:
        """Become what both were taken from; an older ``state`` holds everything, which then is stored in slots."""
        self._slots = CohortSlots(self._pane, slots)
        self._growing = GrowingCohorts(self._pane, self._slots, absent=self._absent)
        self.charts = LabelCharts()
        # Older states hold the rows of all cohorts, and those before them everything.
        self._growing.rows = dict(state.rows)
        for piece in state.whole() or [slots[number] for number in sorted(slots)]:
            self._growing.load(piece)
            self.charts.load(piece)
        if state.growing is not None:
            for start in {start for kept in self.charts.rings for ring in kept.values() for start, _ in ring}:
                self._slots.touch(start)
            for start in self._growing.counts:
                self._slots.touch(start)
        self.counted = deque(state.counted, maxlen=KEPT)
        if state.delays is not None and state.maturity is not None:
            self._delays.restore(state.delays)
            self._gate.sum, self._late_since = state.gate.sum, state.gate.late_since
            self.labelled = state.gate.labelled
            self.maturity = Maturity(**structs.asdict(state.maturity))
        else:
            for start in self._growing.rows:
                self._slots.touch(start)
