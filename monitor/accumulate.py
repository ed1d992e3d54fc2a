"""Between two flushes: additive counts by pane, summed from batches of events of any order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from contracts.wire import SCORE_BINS, ArmDelta, PaneDelta, pack, score_bin
from monitor.columns import Events, Integers
from monitor.core.cells import Counts, NumericCells
from monitor.core.column import Column
from monitor.core.layout import weight_octave
from monitor.core.reference import Reference
from monitor.decision import decide
from monitor.packets import packed
from monitor.references import References
from monitor.segments import Places, Segmenter
from monitor.settings import ModelSettings

MAX_LATENCY_MS = 86_400_000.0
"""Longer latencies count as this, so that one absurd value cannot overflow a sum."""


MOST_CELLS = 8 * 1024 * 1024
"""Counts held as plain vectors at once (64 MiB); beyond it panes are packed early and add up at the judge."""


_MANY = 32
"""Groups of a batch from which counts are kept without their zeros: below, one array of all counts is quicker."""


class PaneKey(NamedTuple):
    """What a pane is of: counts of one key add."""

    model: str
    version: str
    digest: str
    source: str
    segment: str
    start: int


class ArmKey(NamedTuple):
    """What an arm's counts are of."""

    model: str
    version: str
    segment: str
    start: int


@dataclass(slots=True)
class Partial:
    """The counts of one pane so far; without a reference the vector is empty and only rows are counted."""

    vector: Counts
    rows: int = 0


@dataclass(slots=True)
class Arm:
    """What one version did in one pane so far, in bins that all versions share."""

    rows: int = 0
    errors: int = 0
    positives: int = 0
    timed: int = 0
    latency_us: int = 0
    scores: Counts = field(default_factory=lambda: np.zeros(SCORE_BINS, np.int64))

    def add(self, rows: int, arms: "_Arms", at: int) -> None:
        """Add group ``at`` of a batch."""
        self.rows += rows
        self.errors += int(arms.errors[at])
        self.positives += int(arms.positives[at])
        self.timed += int(arms.timed[at])
        self.latency_us += int(arms.latency_us[at])
        self.scores += arms.scores[at]


class _Dense(NamedTuple):
    """The counts of each group: int64[groups, width]."""

    counts: Counts

    def add_to(self, vector: Counts, at: int) -> None:
        """Add the counts of group ``at`` to a pane's."""
        vector += self.counts[at]


class _Sparse(NamedTuple):
    """The same of many small groups, without its zeros; see ``Layout.sparse``."""

    positions: Integers
    counts: Counts
    first: Integers

    def add_to(self, vector: Counts, at: int) -> None:
        """Add the counts of group ``at`` to a pane's."""
        mine = slice(self.first[at], self.first[at + 1])
        vector[self.positions[mine]] += self.counts[mine]


class Accumulator:
    """Adds events to panes, groups at a time; one vector a touched pane, emptied by ``drain``.

    Memory is bounded whatever the events say of their time: once ``most_cells`` counts are held, the panes are packed
    (a hundredth of their size) and begun anew.
    """

    def __init__(
        self, models: Mapping[str, ModelSettings], references: References, most_cells: int = MOST_CELLS
    ) -> None:
        self._models = models
        self._most_cells = most_cells
        self._cells = 0
        self._full: dict[str, list[bytes]] = {}
        self._references = references
        self._segmenter = Segmenter(models, references)
        self._panes: dict[PaneKey, Partial] = {}
        self._arms: dict[ArmKey, Arm] = {}

    def add(self, events: Events, places: Places) -> None:
        """Count tallied predictions or features of a partition whose segments have these places."""
        owners = events.owners
        for code, (model, version) in enumerate(owners):
            index = None if len(owners) == 1 else np.flatnonzero(events.owner == code)
            part = events if index is None else events.keep(index)
            if not len(part):
                continue
            self._add(model, version, part, places)

    def _add(self, model: str, version: str, events: Events, places: Places) -> None:
        settings, reference = self._models[model], self._references.of(model, version)
        starts, pane = _groups(events.time - events.time % settings.pane)
        width = 0 if reference is None else len(reference.layout)
        if len(starts) > 1 and len(starts) * width > self._most_cells:
            half = len(starts) // 2
            self._add(model, version, events.keep(np.flatnonzero(pane < half)), places)
            self._add(model, version, events.keep(np.flatnonzero(pane >= half)), places)
            return
        digest = "" if reference is None else reference.digest
        columns = self._columns(settings, events, reference)
        summary = _Summary(self._references, model, version, events) if events.kind == "prediction" else None
        for names, code in self._segmenter.split(model, events, reference, places):
            groups, group = _groups(pane * len(names) + code) if len(names) > 1 else (np.arange(len(starts)), pane)
            rows = np.bincount(group, minlength=len(groups))
            vectors = self._vectors(settings, events, reference, columns, group, rows)
            arms = None if summary is None else summary.arms(group, len(groups))
            for at, both in enumerate(groups.tolist()):
                start, segment = int(starts[both // len(names)]), names[both % len(names)]
                partial = self._partial(PaneKey(model, version, digest, events.kind, segment, start), reference)
                partial.rows += int(rows[at])
                vectors.add_to(partial.vector, at)
                if arms is not None:
                    self._arms.setdefault(ArmKey(model, version, segment, start), Arm()).add(int(rows[at]), arms, at)

    def _columns(self, settings: ModelSettings, events: Events, reference: Reference | None) -> dict[str, Column]:
        """The columns that these events contribute, as the reference's subjects count them."""
        if reference is None:
            return {}
        columns: dict[str, Column] = {}
        if settings.source == events.kind:
            columns = {
                subject.name: events.features[subject.name].core(
                    subject.json_type, numeric=isinstance(subject.cells, NumericCells)
                )
                for subject in reference.features
                if subject.name in events.features
            }
        prediction = reference.prediction
        if prediction is not None and events.prediction is not None:
            columns[prediction.name] = events.prediction.core(
                prediction.json_type, numeric=isinstance(prediction.cells, NumericCells)
            )
        return columns

    def _vectors(
        self,
        settings: ModelSettings,
        events: Events,
        reference: Reference | None,
        columns: Mapping[str, Column],
        group: Integers,
        rows: Counts,
    ) -> "_Dense | _Sparse":
        if reference is None:
            return _Dense(np.zeros((len(rows), 0), np.int64))
        layout = reference.layout
        skip: set[str] = set()
        if settings.source != events.kind:
            skip |= {subject.name for subject in reference.features}
        if reference.prediction is not None and events.kind != "prediction":
            skip.add(reference.prediction.name)
        if len(rows) >= _MANY and events.weight is None:
            return _Sparse(*layout.sparse(columns, group, rows, skip=frozenset(skip)))
        out = layout.tally(columns, group, rows, skip=frozenset(skip))
        if events.weight is not None:
            for at in range(len(rows)):
                mine = events.weight[group == at]
                out[at, layout.weights] += weight_octave(mine[~np.isnan(mine)])
        return _Dense(out)

    def note(self, counter: str, events: Events, times: Integers, amounts: Integers | None = None) -> None:
        """Count what concerns a pane as a whole: events that are in none (late, duplicate, mistimed), unseen fields.

        ``counter`` is one of ``PANE_COUNTERS``; ``times`` int64[n] tells the pane, for an event that is in none the
        partition's clock when it came; ``amounts`` int64[n] is what each adds, 1 where left out. Labels are in no pane
        and are not noted.
        """
        if events.kind == "label":
            return
        for code, owner in enumerate(events.owners):
            which = events.owner == code
            mine = times[which]
            reference = self._references.of(*owner)
            if reference is None or not len(mine):
                continue
            length = self._models[owner[0]].pane
            starts, pane = np.unique(mine - mine % length, return_inverse=True)
            counts = np.zeros(len(starts), np.int64)
            np.add.at(counts, pane.reshape(-1), 1 if amounts is None else amounts[which])
            position = reference.layout.pane_counter(counter)
            for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
                self._partial(PaneKey(*owner, reference.digest, events.kind, "", start), reference).vector[
                    position
                ] += count

    def _partial(self, key: PaneKey, reference: Reference | None) -> Partial:
        partial = self._panes.get(key)
        if partial is None:
            width = 0 if reference is None else len(reference.layout)
            if self._cells + width > self._most_cells:
                self._pack()
            self._cells += width
            partial = self._panes[key] = Partial(np.zeros(width, np.int64))
        return partial

    def _pack(self) -> None:
        by_model: dict[str, list[PaneDelta | ArmDelta]] = {}
        for delta in self._deltas():
            by_model.setdefault(delta.model, []).append(delta)
        for model, deltas in by_model.items():
            self._full.setdefault(model, []).extend(packed(deltas))
        self._panes.clear()
        self._arms.clear()
        self._cells = 0

    def __len__(self) -> int:
        return len(self._panes)

    def drain(self) -> dict[str, list[bytes]]:
        """Return by model the packed deltas of everything counted since the last drain."""
        self._pack()
        full, self._full = self._full, {}
        return full

    def _deltas(self) -> Iterator[PaneDelta | ArmDelta]:
        for pane, partial in sorted(self._panes.items()):
            model, version, digest, source, segment, start = pane
            length, width = self._models[model].pane, len(partial.vector)
            reference = self._references.by_digest(digest)
            blocks = [slice(0, 0)] if reference is None else list(reference.layout.blocks())
            for block in blocks:
                yield PaneDelta(
                    model,
                    version,
                    digest,
                    source,
                    segment,
                    start,
                    length,
                    partial.rows,
                    block.start,
                    width,
                    pack(partial.vector[block]),
                )
        for key, arm in sorted(self._arms.items()):
            yield ArmDelta(
                *key[:3],
                key.start,
                self._models[key.model].pane,
                arm.rows,
                arm.errors,
                arm.positives,
                arm.timed,
                arm.latency_us,
                pack(arm.scores),
            )

    def clear(self) -> None:
        """Forget everything that was not drained."""
        self._panes.clear()
        self._arms.clear()
        self._full.clear()
        self._cells = 0


@dataclass(frozen=True, slots=True)
class _Arms:
    """Sums by group: int64[groups], and scores int64[groups, SCORE_BINS]."""

    errors: Counts
    positives: Counts
    timed: Counts
    latency_us: Counts
    scores: Counts


class _Summary:
    """What one version decided in a batch, ready to be summed by group."""

    def __init__(self, references: References, model: str, version: str, events: Events) -> None:
        threshold, positive = references.threshold(model, version), references.positive(model, version)
        score, self._positive, self._missing = decide(events, threshold, positive)
        self._scored = ~np.isnan(score)
        self._bin = score_bin(score[self._scored])
        self._timed = np.zeros(0, np.int64)
        self._latency: Integers = np.zeros(0, np.int64)
        if events.latency is not None:
            self._timed = np.flatnonzero(~np.isnan(events.latency))
            # Fixed point, so that sums do not depend on the order of events.
            capped = np.minimum(events.latency[self._timed], MAX_LATENCY_MS)
            self._latency = np.rint(capped * 1_000).astype(np.int64)

    def arms(self, group: Integers, groups: int) -> _Arms:
        """Return the sums by group. O(n)."""
        latency = np.zeros(groups, np.int64)
        np.add.at(latency, group[self._timed], self._latency)
        flat = group[self._scored] * SCORE_BINS + self._bin
        return _Arms(
            np.bincount(group[self._missing], minlength=groups),
            np.bincount(group[self._positive], minlength=groups),
            np.bincount(group[self._timed], minlength=groups),
            latency,
            np.bincount(flat, minlength=groups * SCORE_BINS).reshape(groups, SCORE_BINS),
        )


def _groups(values: Integers) -> tuple[Integers, Integers]:
    """Distinct values in order and the position of each row's among them; one value needs no sort."""
    if values[0] == values[-1] and (values == values[0]).all():
        return values[:1], np.zeros(len(values), np.int64)
    distinct, group = np.unique(values, return_inverse=True)
    return distinct, group.reshape(-1)
