"""The history topic as plots' data: distances of what moved, and performance, in a few hundred steps of a period."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stationkeeper.contracts.messages import SubjectState
from stationkeeper.contracts.model_status import Cells, PerformanceStatus, Series, SubjectStatus
from stationkeeper.contracts.topics import Topics
from stationkeeper.contracts.wire import ArmDelta, Counts, OutcomeDelta, PaneDelta
from stationkeeper.explain.lineage import read_records, read_references
from stationkeeper.monitor.core.charts import FEW_ROWS, measure
from stationkeeper.monitor.core.performance import (
    LabelSelection,
    actions_without_labels,
    every_measure,
    judged_counts,
    label_selection,
    reference_classes,
    share_sequence,
)
from stationkeeper.monitor.core.reference import (
    AssignedRows,
    NumericCells,
    OutcomeSums,
    Reference,
    ReferenceSubject,
    Task,
    labelled_by_action,
    predicted_by_action,
    rank_grid,
    total,
)
from stationkeeper.monitor.status import measure_status, selected
from stationkeeper.streams.ports import Reader

# Points of a plot: more than a plot of a few hundred pixels can show apart only costs bytes.
STEPS = 120
# Bars of a category: with "other values" and "missing" they are the twenty that a number has.
TOP_CATEGORIES = 18


@dataclass(frozen=True, slots=True)
class Moved:
    """What an incident moved and while it lasted, in epoch ms (rows in a backtest without times); None is unbounded."""

    id: str
    subjects: list[str]
    since: int | None
    until: int | None


@dataclass(slots=True)
class History:
    """Panes of one model added up by step, and label outcomes by step."""

    length: int = 60_000
    references: dict[str, Reference] = field(default_factory=dict)
    vectors: dict[tuple[str, int], Counts] = field(default_factory=dict)
    confusions: dict[tuple[str, int], Counts] = field(default_factory=dict)
    sums: dict[str, OutcomeSums] = field(default_factory=dict)
    actions: dict[str, dict[str, OutcomeSums]] = field(default_factory=dict)
    rows: int = 0
    step: int = 60_000

    def times(self) -> list[int]:
        """Return the starts of the steps that hold anything."""
        return sorted({at for _, at in (*self.vectors, *self.confusions)})

    def subjects(self, cases: Iterable[Moved]) -> Iterator[SubjectStatus]:
        """Yield what each incident moved, with its distance over time and its distribution while it lasted."""
        # A subject that moved twice is plotted once, with the first incident: its course is that of the whole period.
        done: set[str] = set()
        for case in cases:
            for name in case.subjects:
                if name not in done:
                    done.add(name)
                    yield from self._subject(name, case)

    def _subject(self, name: str, case: Moved) -> Iterator[SubjectStatus]:
        for digest, reference in self.references.items():
            subject = reference.by_name.get(name)
            steps = {at: vector for (d, at), vector in self.vectors.items() if d == digest}
            # Each reference of the period has its own cells, so each gives a plot of its own.
            if subject is None or not steps:
                continue
            place = reference.layout[name]
            counts = {at: steps[at][place.histogram] for at in sorted(steps)}
            window = _during(case, counts)
            if window is None:
                continue
            found = measure(subject, window)
            # Eight digits of a digest tell the few references of a period apart, and fit a heading.
            status = SubjectStatus(
                name=name,
                type=subject.type.value,
                version=digest[:8],
                segment="",
                state="drifting",
                reason=f"Compared with the reference {digest[:8]}; the distribution is that of the whole incident.",
                rows=int(window.sum()),
                incident=case.id,
                distances={key: distance.value for key, distance in found.items()},
                noise={key: distance.noise for key, distance in found.items()},
                sensitive=subject.sensitive,
                series=_series(subject, counts),
            )
            if not subject.sensitive:
                status["cells"] = coarse(subject, window)
            yield status

    def performance(self) -> Iterator[PerformanceStatus]:
        """Yield measures of matured labels with their 95 % intervals, precision and recall over time."""
        for version in sorted({version for version, _ in self.confusions}):
            steps = {at: counts for (v, at), counts in self.confusions.items() if v == version}
            mine = next((one for one in self.references.values() if one.version == version), None)
            task, sums = None if mine is None else mine.task, self.sums.get(version, OutcomeSums.none())
            every = every_measure(task, np.sum(list(steps.values()), axis=0), sums, names=reference_classes(mine))
            selection = self._selection(version)
            corrected = {} if selection is None else selection.measures
            for name, labelled in every.items():
                one = corrected.get(name, labelled)
                if one.rows and name not in {"precision", "recall", "error_rate", "positive_rate"}:
                    state, why = selected(selection, one, (SubjectState.STEADY, "Of the labels in the period"))
                    entry = measure_status((version, ""), one, state, f"{why.removesuffix('.')}.")
                    if one is not labelled:
                        entry["labelled"] = labelled.value
                    yield entry
            if task not in {None, Task.BINARY}:
                continue
            # Places in the confusion: true positive, false positive, false negative, true negative.
            for measure_name, hit, of in (("precision", 0, (0, 1)), ("recall", 0, (0, 2))):
                points = [(at, int(steps[at][hit]), int(steps[at][list(of)].sum())) for at in sorted(steps)]
                total_hit, total = sum(p[1] for p in points), sum(p[2] for p in points)
                if not total:
                    continue
                intervals = [share_sequence(hits, n) if n else None for _, hits, n in points]
                one = corrected.get(measure_name, every[measure_name])
                found = SubjectState.STEADY, f"{total_hit} of {total} in the period"
                state, why = selected(selection, one, found)
                entry = measure_status((version, ""), one, state, f"{why.removesuffix('.')}.")
                if one is not every[measure_name]:
                    entry["labelled"] = total_hit / total
                # The course is that of the labelled rows: of a step too few are let through to stand for others.
                entry["series"] = {
                    "time": [at for at, _, _ in points],
                    "real": [hits / n if n else None for _, hits, n in points],
                    "low": [interval[0] if interval else None for interval in intervals],
                    "high": [interval[1] if interval else None for interval in intervals],
                }
                yield entry

    def _selection(self, version: str) -> LabelSelection | None:
        """Whose labels never come, of all rows of the period: the youngest lack theirs whatever was done."""
        found = {name: AssignedRows.of(sums) for name, sums in self.actions.get(version, {}).items()}
        return label_selection(found, {one.action for one in actions_without_labels(found)})


def _during(case: Moved, counts: dict[int, Counts]) -> Counts | None:
    """Return the counts while the incident lasted, None when no step of this reference falls into it."""
    inside = [
        vector
        for at, vector in counts.items()
        if (case.since is None or at >= case.since) and (case.until is None or at < case.until)
    ]
    return np.sum(inside, axis=0, dtype=np.int64) if inside else None


def _series(subject: ReferenceSubject, counts: dict[int, Counts]) -> Series:
    distances: list[float | None] = []
    noises: list[float | None] = []
    for window in counts.values():
        found = measure(subject, window) if window.sum() >= FEW_ROWS else {}
        distances.append(found["psi"].value if "psi" in found else None)
        noises.append(found["psi"].noise if "psi" in found else None)
    return Series(time=list(counts), ratio=[None] * len(counts), distance=distances, distance_name="psi", noise=noises)


def coarse(subject: ReferenceSubject, window: Counts) -> Cells:
    """Return reference and window in about twenty cells: of equal reference mass for numbers, the top ones else."""
    reference, cells = subject.counts, subject.cells
    if isinstance(cells, NumericCells):
        grid = rank_grid(reference[:-1])
        size = int(grid.max()) + 1
        last = [int(np.flatnonzero(grid == group)[-1]) for group in range(size)]
        edges = [cells.low, *(float(cells.edges[i]) for i in last[:-1]), cells.high]
        labels = [f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges)]
        return Cells(
            labels=[*labels, "missing"],
            reference=[*_grouped(grid, reference[:-1], size), int(reference[-1])],
            window=[*_grouped(grid, window[:-1], size), int(window[-1])],
            edges=edges,
        )
    known = len(cells.values)
    # By both: a category that is new and one that is gone are what a person looks for.
    top = sorted(range(known), key=lambda i: -int(reference[i] + window[i]))[:TOP_CATEGORIES]
    rest = [i for i in range(cells.count - 1) if i not in set(top)]
    return Cells(
        labels=[*(subject.cell_name(i).strip("'") for i in top), "other values", "missing"],
        reference=[*(int(reference[i]) for i in top), int(reference[rest].sum()), int(reference[-1])],
        window=[*(int(window[i]) for i in top), int(window[rest].sum()), int(window[-1])],
    )


def _grouped(grid: Any, counts: Counts, size: int) -> list[int]:
    return [int(value) for value in np.bincount(grid, weights=counts, minlength=size)]


def read_history(reader: Reader, topics: Topics, model: str, start: int | None, end: int | None) -> History:
    """Add up the history of one model by step; only panes of the finest length, as hours repeat their minutes."""
    panes, outcomes, acted = list[PaneDelta](), list[OutcomeDelta](), list[OutcomeDelta | ArmDelta]()
    said = set[str]()
    for record in read_records(reader, topics, model):
        if (start is not None and record.start < start) or (end is not None and record.start >= end):
            continue
        if isinstance(record, PaneDelta):
            panes.append(record)
            continue
        if record.actions:
            said.add(record.version)
        # A correction has no action: its label counts by the first one's, as everywhere that decides.
        if record.version in said and record.rows:
            acted.append(record)
        if isinstance(record, OutcomeDelta):
            outcomes.append(record)
    history = History(references=read_references(reader, topics, model))
    records: Sequence[PaneDelta | OutcomeDelta] = [*panes, *outcomes]
    if not records:
        return history
    history.length = min(record.length for record in records)
    first, last = min(r.start for r in records), max(r.start for r in records)
    length = history.length
    # Whole panes a step, rounded up: their counts add and cannot be cut.
    history.step = max(1, -(-(last - first + length) // (STEPS * length))) * length
    _add_panes(history, panes)
    history.actions = _by_action(one for one in acted if one.length == length)
    parts: dict[str, list[OutcomeSums]] = {}
    for outcome in outcomes:
        if outcome.length == length:
            key = outcome.version, outcome.start - outcome.start % history.step
            counts = np.frombuffer(outcome.confusion, dtype="<i8")
            history.confusions[key] = history.confusions.get(key, np.zeros(4, np.int64)) + counts
            parts.setdefault(outcome.version, []).append(OutcomeSums.unpack(outcome.sums))
    history.sums = {version: total(found) for version, found in parts.items()}
    return history


def _by_action(acted: Iterable[OutcomeDelta | ArmDelta]) -> dict[str, dict[str, OutcomeSums]]:
    """Return predictions and labels by version and by what was done upon the answer."""
    found: dict[str, dict[str, list[OutcomeSums]]] = {}
    for one in acted:
        if isinstance(one, ArmDelta):
            mine = predicted_by_action(one.actions, one.rows)
        else:
            confusion, scored = np.frombuffer(one.confusion, dtype="<i8"), np.frombuffer(one.scored, dtype="<i8")
            mine = labelled_by_action(one.actions, judged_counts(confusion, scored, OutcomeSums.unpack(one.sums))[0])
        for name, sums in mine.items():
            found.setdefault(one.version, {}).setdefault(name, []).append(sums)
    return {version: {name: total(each) for name, each in named.items()} for version, named in found.items()}


def _add_panes(history: History, panes: Iterable[PaneDelta]) -> None:
    counted: set[tuple[str, str, str, int]] = set()
    for pane in panes:
        if pane.length != history.length:
            continue
        # A pane comes in parts by blocks of features, each with the number of its rows: it is counted once.
        named = (pane.version, pane.digest, pane.source, pane.start)
        if named not in counted:
            counted.add(named)
            history.rows += pane.rows
        if pane.digest not in history.references:
            continue
        key = pane.digest, pane.start - pane.start % history.step
        vector = history.vectors.setdefault(key, np.zeros(pane.width, np.int64))
        block = pane.vector()
        vector[pane.first : pane.first + len(block)] += block
