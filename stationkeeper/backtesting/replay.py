"""Replay a table through the judge's core, pane by pane: the same watch, decisions and draws as on a live stream."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stationkeeper.backtesting.labels import Judged, ReplayedLabels
from stationkeeper.backtesting.peers import Peers
from stationkeeper.backtesting.surrogate_model import StandIn, fit_stand_in
from stationkeeper.backtesting.table import Array, BadInput, Table
from stationkeeper.contracts.column import Categories, Column, categories, numbers
from stationkeeper.contracts.messages import Verdict, VerdictKind
from stationkeeper.contracts.times import UTC_ZONE, format_duration, to_datetime
from stationkeeper.monitor.core.adoption import Timeline, adopt, inherit
from stationkeeper.monitor.core.budget import EFFECT_FLOOR, Budget
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.performance import Measure, labels_in_order
from stationkeeper.monitor.core.quality import Arrivals
from stationkeeper.monitor.core.reference import (
    Reference,
    Task,
    check_positive,
    count_new,
    is_score,
    labels_of,
    new_rows,
    positive_class,
    profile,
)
from stationkeeper.monitor.core.watch import IncidentChanges, Watch, WatchSettings
from stationkeeper.monitor.judge import MAX_GAP_PANES
from stationkeeper.monitor.profiling import subject_columns
from stationkeeper.monitor.settings import DAY_MS

# Panes tallied by one call: numpy's cost a call is spread over them, and their vectors stay some megabytes. Chosen.
CHUNK = 256
# Rows of a reference that is renewed after a page (`--renew auto`). Chosen: half sees only larger shifts afterwards,
# double waits longer until the next change can be seen.
RENEW_MOST = 2_000
# A renewed reference is first built from this part of its rows, so that a change soon after is not slept through.
FIRST_PART = 4
# Variance inflation from which rows count as leaning on each other: 1 is independence. Chosen: nearer to 1 the own
# scatter of an estimate would count as dependence; at 4 dependent rows would be given references that are too short.
INDEPENDENT = 2.0
# What a new reference answers; broken data is no new normal.
_DRIFT = frozenset(
    {VerdictKind.DATA_DRIFT, VerdictKind.PREDICTION_DRIFT, VerdictKind.PERFORMANCE, VerdictKind.CONCEPT_DRIFT}
)


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """What a replay is told. Lengths are ms where the table has times, else rows.

    ``delay`` is how long after its row a label is known, ``maturity`` the least age at which a prediction is judged by
    its label (None: the delay). Where rows have times more is waited for where labels come later, at most ``horizon``.
    ``adoption`` and ``learn_traffic`` are those of `WatchSettings`. ``renew`` is the number of rows after a page from
    which a new reference is built, as a retrained model would bring one: first from a quarter of them, so that the next
    change is not slept through, then from all; 0 keeps the reference, so only the first change shows. Hours, and the
    days of ``holidays`` (`WatchSettings`), are those of ``timezone``.
    """

    budget: Budget
    pane: int
    window: int
    reference_rows: int | None = None
    # 0 is off for both: labels known with their row, one reference throughout.
    delay: int = 0
    renew: int = 0
    maturity: int | None = None
    # The daemon's own (monitor.settings).
    horizon: int = 30 * DAY_MS
    adoption: int | None = None
    learn_traffic: int | None = None
    features: tuple[str, ...] | None = None
    categorical: tuple[str, ...] = ()
    threshold: float | None = None
    positive: str | None = None
    timezone: str = UTC_ZONE
    holidays: frozenset[int] = frozenset()
    # The daemon's own.
    delta: float = EFFECT_FLOOR

    def __post_init__(self) -> None:
        """Refuse a pane or a budget of nothing."""
        if self.pane < 1:
            raise BadInput(f"--pane {self.pane}: must be at least one row, or one millisecond where rows have times")
        if not self.budget.period > 0:
            raise BadInput("--false-alarms-every 0: write the rows or the time in which one false page is allowed")


@dataclass(slots=True)
class Summary:
    """What a replay did, for the last lines on stderr."""

    rows: int = 0
    panes: int = 0
    references: int = 0
    pages: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    thresholds: dict[str, float] = field(default_factory=dict)
    measures: dict[str, Measure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TablePanes:
    """A table cut into panes of ``length`` (ms where rows have times, else rows), as a live stream would close them."""

    table: Table
    length: int

    def closed(self, judged: Judged) -> Iterator[Pane]:
        """Closed panes with rows, tallied a chunk at a time; their rows are numbered by position in the table.

        The first has the traffic of the rows that its reference took, too. The last is never over where rows have
        times: only a later row would say that nothing more of it comes.
        """
        first, layout = judged.first_row, judged.reference.layout
        rows = len(self.table)
        length = self.length
        keys = np.arange(rows) // length if self.table.times is None else self.table.times // length
        starts = np.flatnonzero(np.append(True, keys[first + 1 :] != keys[first:-1])) + first
        # The last pane ends with the table here and is taken off below: it is never known to be over.
        ends = np.append(starts[1:], rows)
        if self.table.times is not None or rows % length:
            starts, ends = starts[:-1], ends[:-1]
        for at in range(0, len(starts), CHUNK):
            begin, stop = starts[at : at + CHUNK], ends[at : at + CHUNK]
            low, high = int(begin[0]), int(stop[-1])
            group = np.repeat(np.arange(len(begin)), stop - begin)
            columns = subject_columns(judged.reference, self.table.rows(low, high), self.table.prediction)
            vectors = layout.tally(columns, group, stop - begin)
            new = count_new(new_rows(judged.reference, columns), group)
            for k in range(len(begin)):
                start, mine = int(keys[begin[k]]) * length, int(stop[k] - begin[k])
                # Of the first pane some rows went into the reference; its traffic is the whole pane, or it would look
                # like a drop.
                cut = int(begin[k]) - int(np.searchsorted(keys, keys[begin[k]])) if at + k == 0 else 0
                yield Pane(start, length, mine, vectors[k], int(stop[k]) - 1, int(begin[k]), mine + cut, new.get(k, {}))

    def silence(self, end: int | None, pane: Pane) -> Iterator[Pane]:
        """Empty panes between two that hold rows; of a long silence only the last, as on a live stream."""
        if end is None:
            return
        length, nothing = pane.length, np.zeros_like(pane.counts)
        # A silence of months would be hundreds of thousands of empty panes; the judge skips them by the same rule.
        if pane.start - end > MAX_GAP_PANES * length:
            end = pane.start - length
        for start in range(end, pane.start, length):
            yield Pane(start, length, 0, nothing)


class Replay:
    """One pass over a table; ``run`` yields each verdict as it falls, with the ``watch`` that gave it.

    ``labels`` are those that are known so far.
    """

    watch: Watch

    def __init__(
        self, table: Table, settings: ReplaySettings, reference: Reference | None = None, before: Watch | None = None
    ) -> None:
        """``before`` is the watch of the version before: what it learned of traffic the first watch here knows."""
        self.table, self.settings, self._before = table, settings, before
        self.summary = Summary(rows=len(table))
        self._panes = TablePanes(table, settings.pane)
        if reference is None and not settings.reference_rows:
            raise BadInput("a backtest needs --reference FILE or --reference-rows N")
        rows = settings.reference_rows or 0
        if reference is None and not 1 < rows < len(table):
            raise BadInput(f"--reference-rows {rows}: the input has {len(table)} rows; leave some to judge")
        self.peers: Peers | None = None
        self.alarmed: Callable[[dict[str, Any]], None] = lambda _: None
        delay, age = settings.delay, settings.delay if settings.maturity is None else settings.maturity
        self.labels = ReplayedLabels(table, settings.pane, delay, age, settings.horizon)
        self._judged = (
            self._build(0, rows, 1) if reference is None else _given(reference, table, settings, self.summary.notes)
        )

    @property
    def reference(self) -> Reference:
        """The reference in force."""
        return self._judged.reference

    def run(self, progress: Callable[[int], None] | None = None) -> Iterator[tuple[Verdict, Watch]]:
        """Yield verdicts in the order of the closed panes that decided them; ``progress`` gets rows done."""
        stages: list[int] = []
        origin, version, first = 0, 1, self._judged
        while True:
            judged = self._judged
            watch = self._watch(judged.reference)
            self.summary.references += 1
            if self.peers is not None:
                self.peers.judge(judged.reference, self._panes.closed(replace(first, first_row=judged.first_row)))
            paged = False
            for done, changes in self._steps(judged, watch):
                for verdict in changes.verdicts:
                    yield verdict, watch
                if progress is not None:
                    progress(done)
                if not paged and self.settings.renew and any(i.kind in _DRIFT for i in changes.opened):
                    paged, origin, version = True, done, version + 1
                    # Only the first page of a reference renews it: a second one before the rows are there is of the
                    # same change.
                    stages = [origin + rows for rows in self._renewals(judged.reference)]
                # At the end of the table a new reference would have nothing to judge.
                if stages and done >= stages[0] and done < len(self.table):
                    stages = [stage for stage in stages if stage > done]
                    self._judged = self._build(origin, done, version, before=judged.reference)
                    break
            else:
                return

    def _renewals(self, reference: Reference) -> tuple[int, ...]:
        """After how many rows of a page references are built anew: early only where rows are known as independent.

        Rows that lean on each other need the first reference's length to show by how much.
        """
        phi = [subject.inflation for subject in reference.subjects]
        floors = [subject.day_floor or 0.0 for subject in reference.subjects]
        # Any sign is enough, of half of the subjects or of one that leans twice as much: a reference that is too short
        # for dependent rows gives false pages, one that is longer than it need be costs only time.
        leaning = np.median(phi) > INDEPENDENT or max(phi) > 2 * INDEPENDENT or max(floors) > 0
        if leaning or not reference.adopted:
            return (max(self.settings.renew, self.settings.reference_rows or 0),)
        stages = (self.settings.renew // FIRST_PART, self.settings.renew)
        # A stand-in model of few rows errs by itself; once more rows are there it sees smaller changes.
        stand_in = self.table.label is not None and self.table.prediction is None
        return (*stages, FIRST_PART * self.settings.renew) if stand_in else stages

    def _steps(self, judged: Judged, watch: Watch) -> Iterator[tuple[int, IncidentChanges]]:
        """Step the watch through the rows from the reference's first row on: (rows done, what changed) by pane."""
        labels = self.labels
        labels.begin(judged, on=watch.performance is not None and (self.table.prediction or judged.model) is not None)
        end: int | None = None
        done = judged.first_row
        for pane in self._panes.closed(judged):
            for silent in self._panes.silence(end, pane):
                stepped = watch.step(silent, labels.finding)
                for changes in (stepped, *map(watch.learn, labels.mature(silent.start, done - 1))):
                    if changes.verdicts:
                        yield done, changes
            self.summary.panes += 1
            end, done = pane.end, (pane.last_row or 0) + 1
            found = [watch.step(pane, labels.finding)]
            for line in self.peers.step(pane) if self.peers is not None else ():
                self.alarmed(line)
            found += map(watch.learn, labels.mature(pane.start, pane.last_row))
            yield done, _joined(found)
        self._note_unjudged(done, watch.quality.arrivals)

    def _note_unjudged(self, done: int, arrivals: Arrivals) -> None:
        """Say what a live stream would not have judged by now either."""
        notes, table = self.summary.notes, self.table
        self.summary.measures = self.labels.measured()
        if done < len(table):
            since = (
                f"row {done}" if table.times is None else f"{to_datetime(int(table.times[done])):%Y-%m-%d %H:%M:%S} UTC"
            )
            notes.append(f"the last {len(table) - done} rows, from {since}, are not judged: their pane is not over")
        if arrivals.bursty:
            notes.append("volume and silence are not judged: rows come in bursts at any hour")
        elif quiet := arrivals.quiet_hours:
            notes.append(f"volume is not judged in {quiet} of the week's 168 hours: too few rows a pane")
        notes += self.labels.notes()

    def _watch(self, reference: Reference) -> Watch:
        settings = self.settings
        watch = self.watch = Watch(
            reference,
            settings=WatchSettings(
                budget=settings.budget,
                window=settings.window,
                delta=settings.delta,
                adoption=settings.adoption,
                learn_traffic=settings.learn_traffic,
                timezone=settings.timezone,
                holidays=settings.holidays,
            ),
        )
        if self._before is not None:
            watch.quality.arrivals.learn_from(self._before.quality.arrivals)
        self._before = watch
        for drift in watch.drifts:
            for planned, limit in zip(drift.plan.subjects, drift.detector.log_threshold, strict=True):
                self.summary.thresholds[planned.name] = float(limit)
        return watch

    def _build(self, first: int, last: int, version: int, before: Reference | None = None) -> Judged:
        """Profile rows [first, last) as the reference in force from ``last`` on.

        What ``before`` knew of dependence and daily movement stays known: it was learned from more rows.
        """
        table, settings = self.table, self.settings
        columns = table.rows(first, last)
        label = columns.pop(table.label) if table.label else None
        # A version of its own, so that verdicts before and after a renewal are not taken for one incident.
        name = table.version if version == 1 else f"{table.version}+{version - 1}"
        reference = profile(
            columns,
            model=table.model,
            version=name,
            features=settings.features,
            prediction=table.prediction,
            categorical=[c for c in settings.categorical if c in columns],
            untyped=table.untyped,
            ordered=True,
            # The even score, as `profile` has it where nobody names one.
            threshold=0.5 if settings.threshold is None else settings.threshold,
            source="backtest",
        )
        timeline = (
            Timeline.of_rows(last - first, settings.pane)
            if table.times is None
            else Timeline.of_times(table.times[first:last], settings.pane, settings.timezone)
        )
        data = subject_columns(reference, columns, table.prediction)
        reference = adopt(reference, data, timeline)
        if before is not None:
            reference = inherit(reference, before)
        model, task = None, reference.task
        if label is not None:
            # Of the table its columns are cut already.
            mine = None if table.confidence is None else table.confidence[first:last]
            reference, model, task = _with_labels(
                replace(table, confidence=mine),
                self.summary.notes,
                reference,
                data,
                columns,
                label,
                timeline,
                before,
                settings.positive,
            )
        for note in (f"{note}; {_held(settings)}" if not reference.adopted else note for note in reference.notes):
            if note not in self.summary.notes:
                self.summary.notes.append(note)
        return Judged(reference, last, model, task)


def _held(settings: ReplaySettings) -> str:
    """What follows where a reference does not know how its rows depend on each other."""
    if not settings.adoption:
        return "rows are taken as independent"
    span = format_duration(settings.adoption)
    return (
        f"live panes teach it for {span}; until then nothing is judged but data quality (--adoption 0d judges at once)"
    )


def _given(reference: Reference, table: Table, settings: ReplaySettings, notes: list[str]) -> Judged:
    """Judge with a reference from elsewhere; ``notes`` gets what it lacks."""
    missing = [s.name for s in reference.features if s.name not in table.columns]
    if missing and len(missing) == len(reference.features):
        raise BadInput(f"the input has none of the reference's features ({', '.join(missing[:10])})")
    if missing:
        notes.append(f"not in the input, counted as absent: {', '.join(missing)}")
    if not reference.adopted:
        notes.append(f"the reference has no order of time: {_held(settings)}")
    if table.label is not None and (reference.labels is None or table.prediction is None):
        notes.append("labels are not judged: that needs --prediction and a reference profiled with both")
    return Judged(reference, 0, None, reference.task)


def _with_labels(
    table: Table,
    notes: list[str],
    reference: Reference,
    data: Mapping[str, Column],
    columns: Mapping[str, Array],
    label: Array,
    timeline: Timeline,
    before: Reference | None,
    wanted: str | None,
) -> tuple[Reference, StandIn | None, Task | None]:
    """Add what the labels of the reference rows teach; fit a stand-in where there are no predictions."""
    model: StandIn | None = None
    positive = wanted or "1"
    if table.prediction is not None:
        answers, task = columns[table.prediction], reference.task
        positive = _positive_of(wanted, categories(label), answers, task, notes)
    else:
        fitted = fit_stand_in(reference, data, label, wanted)
        if fitted is None:
            notes.append("labels are not 2 to 10 classes and there is no --prediction: not judged")
            return reference, None, None
        model, answers = fitted
        task = Task.BINARY if model.binary else Task.MULTICLASS
        positive = model.classes[1] if model.binary else positive
        notes.append("no --prediction: a stand-in model of the reference rows is judged by the labels")
    if task is None:
        return reference, None, task
    sure = None if model is not None else table.confidence
    labels = labels_of(answers, label, task, reference.threshold, positive, confidence=sure)
    if task is Task.REGRESSION and not labels.numeric:
        notes.append("predictions are numbers and labels are not: not judged")
        return reference, None, task
    labels = labels_in_order(labels, reference, answers, label, timeline, task=task, positive=positive, confidence=sure)
    if before is not None and before.labels is not None:
        labels = replace(labels, phi=max(labels.phi, before.labels.phi))
    return replace(reference, labels=labels, positive=positive, task=task), model, task


def _positive_of(wanted: str | None, truth: Categories, answers: Array, task: Task | None, notes: list[str]) -> str:
    """The class that scores are about: as told, or as the reference rows tell it, which ``notes`` then say."""
    if wanted is not None:
        check_positive(wanted, truth)
        return wanted
    scores = numbers(answers).values if is_score(answers, task or Task.BINARY) else None
    positive, told = positive_class(truth, scores, task)
    if told and told not in notes:
        notes.append(told)
    return positive


def _joined(found: Sequence[IncidentChanges]) -> IncidentChanges:
    return IncidentChanges(
        tuple(one for changes in found for one in changes.verdicts),
        tuple(one for changes in found for one in changes.opened),
        tuple(one for changes in found for one in changes.changed),
        tuple(one for changes in found for one in changes.closed),
    )
