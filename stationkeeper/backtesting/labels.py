"""Labels of a replay on their way to maturity, judged by the rules of the daemon's own cohorts."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from stationkeeper.backtesting.surrogate_model import StandIn
from stationkeeper.backtesting.table import Array, BadInput, Table
from stationkeeper.contracts.column import categories, numbers
from stationkeeper.contracts.times import format_duration
from stationkeeper.contracts.wire import SCORE_BINS, ArmDelta, OutcomeDelta, pack, score_bin
from stationkeeper.monitor.core.finding import Finding
from stationkeeper.monitor.core.performance import (
    LabelSelection,
    Measure,
    OutcomePane,
    actions_without_labels,
    class_names,
    every_measure,
    judged_counts,
    label_selection,
)
from stationkeeper.monitor.core.reference import (
    AssignedRows,
    Counts,
    OutcomeSums,
    Reference,
    Task,
    assigned_by_group,
    class_codes,
    classes_by_group,
    drawn_by_group,
    errors_by_group,
    infer_task,
    labelled_by_action,
    outcomes,
    predicted_by_action,
    scores_by_group,
)
from stationkeeper.monitor.judge import Cohorts
from stationkeeper.monitor.profiling import subject_columns
from stationkeeper.monitor.status import maturity_reason
from stationkeeper.monitor.tally import MOST_ACTIONS

_NEVER = np.iinfo(np.int64).max
# Panes scored by one call, as many as are tallied by one: half doubles numpy's cost a call, double predicts with a
# stand-in model what a renewed reference judges again.
_CHUNK = 256
# Of a confusion: true positive, false positive, false negative, true negative.
_CELLS = 4


@dataclass(frozen=True, slots=True)
class Judged:
    """A reference in force from a row on, with the model that answers where the table has no predictions."""

    reference: Reference
    first_row: int
    model: StandIn | None
    task: Task | None

    @property
    def positives(self) -> float | None:
        """The share of positives among the reference's labels; None where it has none."""
        # Of several classes the two kinds are right and wrong answers, and a model may well be always right.
        labels = None if self.task is Task.MULTICLASS else self.reference.labels
        return None if labels is None or not labels.rows or labels.numeric else labels.positives


@dataclass(frozen=True, slots=True)
class LabelRules:
    """What cohorts are told: ``pane``, the least age and the horizon of labels, in ms."""

    pane: int
    label_maturity: int
    label_horizon: int
    # Nothing is shown of a backtest while it runs: no sums are kept for it.
    window: int = 0
    absent_is: Literal["negative"] | None = None


class RowAnswers:
    """What each row says once its label is known: ``cell`` of the confusion, ``bin`` of the score, ``truth``.

    Rows are scored as a replay reaches them, under the reference in force: int8[n] each; ``cell`` is -1 where a row
    has no label or no prediction, ``bin`` -1 where it has no score. ``value`` float64[n] is the score, of numbers the
    error; ``classes`` int32[n, 2] the codes of predicted and true class of several.
    """

    def __init__(self, table: Table, ahead: int) -> None:
        self._table, self._ahead = table, max(ahead, 1)
        self.cell, self.bin = np.full(len(table), -1, np.int8), np.full(len(table), -1, np.int8)
        self.truth = np.zeros(len(table), np.int8)
        self.value, self.classes = np.full(len(table), np.nan), np.zeros((len(table), 2), np.int32)
        self.task: Task | None = None
        self._until = 0

    def begin(self, judged: Judged) -> None:
        """Score the rows from ``judged.first_row`` on under that reference."""
        self._judged, self._until = judged, judged.first_row

    def reach(self, row: int) -> None:
        """Score what is not scored yet up to ``row``, and some rows ahead."""
        while self._until <= min(row, len(self._table) - 1):
            stop = min(max(self._until + self._ahead, row + 1), len(self._table))
            self._score(slice(self._until, stop))
            self._until = stop

    def _score(self, rows: slice) -> None:
        table, judged = self._table, self._judged
        columns = {name: values[rows] for name, values in table.columns.items()}
        label = columns[str(table.label)]
        if table.prediction is not None:
            answers = columns[table.prediction]
        elif judged.model is not None:
            answers = judged.model.predict(subject_columns(judged.reference, columns))
        else:
            raise BadInput("labels need predictions or a stand-in model")
        reference = judged.reference
        task = self.task = judged.task or infer_task(answers)
        if task is Task.REGRESSION:
            self.value[rows] = numbers(answers).values - numbers(label).values
            self.cell[rows] = np.where(np.isfinite(self.value[rows]), 0, -1)
            self.bin[rows] = score_bin(np.nan_to_num(numbers(answers).values))
            return
        right, up, down, score, truth, usable = outcomes(answers, label, task, reference.threshold, reference.positive)
        # In the order of the confusion: true positive, false positive, false negative, true negative.
        cells = np.select([right & truth, up, down, right & ~truth], [0, 1, 2, 3], -1)
        self.cell[rows] = np.where(usable, cells, -1)
        # Of several classes a row's score is whether it was right, which its label alone tells.
        scored = np.isfinite(score) & (usable | (task is not Task.MULTICLASS))
        self.bin[rows] = np.where(scored, score_bin(np.nan_to_num(score)), -1)
        self.truth[rows] = truth
        if task is Task.MULTICLASS and table.confidence is not None:
            # Scored before its label is known, as live: by its own probability, 0 where none came with it.
            self.bin[rows] = score_bin(np.nan_to_num(table.confidence[rows]))
            self.truth[rows] = right
        self.value[rows] = score
        if task is Task.MULTICLASS:
            self.classes[rows] = np.stack([class_codes(answers), class_codes(label)], axis=1)

    def counts(self, rows: Array) -> tuple[Counts, Counts]:
        """Return the confusion int64[4] and labels by score bin, int64[32 * 2], of rows with an answer.

        Numbers have no confusion, and count in the bin of their prediction as if they were negative, as at the join.
        """
        cells = np.zeros(0, np.int64) if self.task is Task.REGRESSION else self.cell[rows]
        bins = np.maximum(self.bin[rows], 0).astype(np.int64) * 2 + self.truth[rows]
        return np.bincount(cells, minlength=_CELLS), np.bincount(bins, minlength=2 * SCORE_BINS)

    def sums(self, rows: Array) -> OutcomeSums:
        """Return the sums of rows with an answer, from which measures are read."""
        one = np.zeros(len(rows), np.int64)
        if self.task is Task.REGRESSION:
            return errors_by_group(self.value[rows], one, 1)[0]
        if self.task is Task.MULTICLASS:
            guess, actual = self.classes[rows].astype(np.int64).T
            return classes_by_group(guess, actual, one, 1)[0]
        return scores_by_group(self.value[rows], self.truth[rows].astype(np.int64), one, 1)[0]


class ReplayedLabels:
    """The labels of a table as the judge takes them: a pane's predictions are judged at one age, together.

    Where rows have times that age is learned from how late labels come, class by class, at least ``age``: the daemon's
    `Cohorts` are fed with what was known when each pane closed. Without a clock there is nothing to learn it from, and
    ``age`` (rows) is when, and ``cohorts`` is None. ``late`` counts labels that came when their cohort had been judged.
    """

    def __init__(self, table: Table, pane: int, delay: int, age: int, horizon: int) -> None:
        self._table, self._pane, self.age, self._horizon = table, pane, age, max(horizon, age)
        self.late = 0
        rows = len(table)
        self._clock = np.arange(rows) if table.times is None else table.times
        told = self._clock + delay if table.label_times is None else table.label_times
        # A label may come before its prediction: a pair is known when the later of both is.
        # The same rule as in the join, which pairs with whichever comes second.
        self._known = np.maximum(self._clock, told)
        kept = self._known - self._clock <= self._horizon
        self._start = self._clock - self._clock % pane
        # A guess from the mean is enough: too few rows ahead are scored in another call, too many are scored again.
        per_pane = rows * pane // max(int(self._clock[-1] - self._clock[0]), pane) if rows else 0
        self.answers = RowAnswers(table, _CHUNK * per_pane)
        # Stable: labels that became known at one moment stay in the order of their rows, as a partition's log has them.
        self._order = np.argsort(np.where(kept, self._known, _NEVER), kind="stable")
        self._sorted = np.where(kept, self._known, _NEVER)[self._order]
        self._rules = LabelRules(pane, age, horizon)
        self.cohorts = None if table.times is None else Cohorts(self._rules)
        self._on = False
        # The first rows of the references so far: a cohort belongs to the version that answered its rows.
        self._firsts: list[int] = []
        self._at = self._seen = 0

    def begin(self, judged: Judged, *, on: bool) -> None:
        """Judge under another reference from its first row on; what was learned of delays stays. ``on``: at all."""
        self._judged, self._on = judged, on and self._table.label is not None
        self._at = judged.first_row
        self._firsts.append(judged.first_row)
        if self._on:
            self.answers.begin(judged)

    @property
    def finding(self) -> Finding | None:
        """What is wrong with labels that lack where those before them had come, if anything is."""
        return None if self.cohorts is None else self.cohorts.late

    @property
    def waiting(self) -> int:
        """Rows of cohorts that are not mature yet."""
        return len(self._table) - self._at if self._on else 0

    def mature(self, closed: int, last_row: int | None) -> Iterator[OutcomePane]:
        """Yield the cohorts that are mature once the pane that began at ``closed`` is over, oldest first."""
        if not self._on:
            return
        if last_row is not None:
            self.answers.reach(last_row)
        if self.cohorts is None:
            yield from self._aged(closed, last_row)
            return
        before = self.cohorts.judged
        version = str(len(self._firsts))
        arms, outcomes = self._predicted(closed), list(self._labelled(closed, before))
        for whose, _, labels in self.cohorts.close(arms, outcomes, closed, self._judged.positives):
            # A cohort of rows that the reference before answered says nothing of this one.
            if whose == version:
                start = labels.start - (self.cohorts.maturity.age or 0)
                yield replace(labels, last_row=last_row, first_row=int(np.searchsorted(self._start, start)))
        if self.cohorts.judged is not None:
            self._at = max(self._at, int(np.searchsorted(self._start, self.cohorts.judged, "right")))

    def _predicted(self, closed: int) -> list[ArmDelta]:
        """Sum the predictions of the pane that closes."""
        first = max(int(np.searchsorted(self._start, closed)), self._firsts[-1])
        rows = int(np.searchsorted(self._start, closed, "right")) - first
        if rows <= 0:
            return []
        bins = self.answers.bin[first : first + rows]
        scores = np.bincount(bins[bins >= 0], minlength=SCORE_BINS)
        return [ArmDelta("", str(len(self._firsts)), "", closed, self._pane, rows, 0, 0, 0, 0, pack(scores))]

    def _labelled(self, closed: int, judged: int | None) -> Iterator[OutcomeDelta]:
        """Sum the labels that have become known until the pane that closes is over, by the pane of the prediction."""
        seen, self._seen = self._seen, int(np.searchsorted(self._sorted, closed + self._pane))
        rows = np.sort(self._order[seen : self._seen])
        rows = rows[(rows >= self._firsts[0]) & (self.answers.cell[rows] >= 0)]
        starts, begin = np.unique(self._start[rows], return_index=True)
        for start, mine in zip(starts.tolist(), np.split(rows, begin[1:]) if len(rows) else (), strict=True):
            self.late += len(mine) if judged is not None and start <= judged else 0
            version = str(bisect_right(self._firsts, int(mine[0])))
            ages = int((self._known[mine] - self._clock[mine]).sum())
            cells, scored = map(pack, self.answers.counts(mine))
            sums = self.answers.sums(mine).pack() if self.answers.task is Task.REGRESSION else b""
            yield OutcomeDelta("", version, "", start, self._pane, len(mine), closed, cells, scored, 0, ages, sums)

    def _aged(self, closed: int, last_row: int | None) -> Iterator[OutcomePane]:
        """Judge at ``age`` rows with the labels that are known when the pane closes that lies there."""
        while self._at < len(self._start) and (start := int(self._start[self._at])) + self.age <= closed:
            first, self._at = self._at, int(np.searchsorted(self._start, start, "right"))
            until = -(-(start + self.age) // self._pane) * self._pane + self._pane
            known = self._known[first : self._at]
            self.late += int(np.count_nonzero((known >= until) & (known < _NEVER)))
            if len(rows := np.flatnonzero(known < until) + first):
                rows = rows[self.answers.cell[rows] >= 0]
                cells, scored = judged_counts(*self.answers.counts(rows), self.answers.sums(rows))
                at = start + self.age
                yield OutcomePane(at, at + self._pane, scored.reshape(-1, 2), cells, last_row, int(rows[0]))

    def _judged_rows(self) -> tuple[Array, Array]:
        """Return the rows whose labels were due, and those of them that have one."""
        rows = np.arange(self._firsts[0], self._at) if self._on else np.empty(0, np.int64)
        return rows, rows[(self.answers.cell[rows] >= 0) & (self._known[rows] < _NEVER)]

    def selection(self) -> LabelSelection | None:
        """Return which actions keep labels away among the rows that were judged, by the daemon's rule, None without."""
        rows, labelled = self._judged_rows()
        assigned = self._table.assigned
        if assigned is None or not len(rows):
            return None
        # Numbers are right, as performance counts them.
        cells = np.full(len(labelled), 3) if self.answers.task is Task.REGRESSION else self.answers.cell[labelled]
        done: dict[str, bytes] = {}
        told: dict[str, bytes] = {}
        # As the tally: what comes after those with a place counts as not said.
        for code, name in enumerate(assigned.names[:MOST_ACTIONS]):
            mine, known = rows[assigned.code[rows] == code], assigned.code[labelled] == code
            done[name] = drawn_by_group(assigned.drawn[mine], np.zeros(len(mine), np.int64), 1)[0].pack()
            which, one = assigned.drawn[labelled[known]], np.zeros(int(known.sum()), np.int64)
            told[name] = assigned_by_group(which, cells[known].astype(np.int64), one, 1)[0].pack()
        found = predicted_by_action(done, len(rows))
        for name, sums in labelled_by_action(told, np.bincount(cells, minlength=_CELLS)).items():
            found[name] = found.get(name, OutcomeSums.none()) + sums
        actions = {name: AssignedRows.of(sums) for name, sums in found.items() if len(sums.at)}
        return label_selection(actions, {one.action for one in actions_without_labels(actions)})

    def measured(self) -> dict[str, Measure]:
        """Return the measures of the rows that were judged, under the references in force; empty where none was.

        Where an action keeps labels away they are corrected by the probability of the others, as far as events tell it.
        """
        _, rows = self._judged_rows()
        if not len(rows):
            return {}
        sums, task = self.answers.sums(rows), self.answers.task
        confusion, _ = judged_counts(*self.answers.counts(rows), sums)
        keys = tuple(categories(self._table.columns[str(self._table.label)]).keys)
        every = every_measure(task, confusion, sums, names=class_names(keys) if task is Task.MULTICLASS else None)
        selection = self.selection()
        return every if selection is None else {name: selection.measures.get(name, one) for name, one in every.items()}

    def notes(self) -> Iterator[str]:
        """Say which labels a live stream would not have judged by now either, and why."""
        if not self._on:
            return
        if (selection := self.selection()) is not None:
            yield selection.words()
        if self.cohorts is None:
            if self.late:
                yield f"{self.late} labels came later than --label-maturity {self.age} and are not judged"
            if self.waiting:
                yield f"labels of the last {self.waiting} rows are not judged: they are younger than {self.age}"
            return
        if why := maturity_reason(self.cohorts.maturity, self._rules):
            yield f"labels: {why}"
        if self.late:
            yield f"{self.late} labels came when their predictions had been judged, or later than the horizon"
        if self.waiting:
            age = self.cohorts.maturity.age
            told = "" if age is None else f": they are younger than {format_duration(age)}, or lack labels"
            yield f"labels of the last {self.waiting} rows are not judged{told}"
