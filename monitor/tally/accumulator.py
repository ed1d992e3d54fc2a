"""Between two flushes: additive counts by pane, summed from batches of events of any order."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from stationkeeper.contracts.column import Column
from stationkeeper.contracts.wire import (
    ENTITY_GROUPS,
    LATENCY_BINS,
    SCORE_BINS,
    ArmDelta,
    PaneDelta,
    latency_bin,
    pack,
    score_bin,
)
from stationkeeper.events import Events, Integers, confidences, decide
from stationkeeper.monitor.core.reference import (
    Counts,
    Marked,
    NumericCells,
    Reference,
    added_actions,
    count_new,
    drawn_by_group,
    new_rows,
    weight_octave,
)
from stationkeeper.monitor.packets import packed
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally.open_panes import OpenPanes, PaneOwner
from stationkeeper.monitor.tally.segments import Places, Segmenter

MAX_LATENCY_MS = 86_400_000.0
"""Longer latencies (a day) count as this: in whole microseconds, 100 million of them still fit into a sum of int64."""

MOST_CELLS = 8 * 1024 * 1024
"""Counts held as plain vectors at once (64 MiB); beyond it panes are packed early and add up at the judge: half packs
(and sends) twice as often while old data are replayed, double needs 64 MiB more."""

_MANY = 32
"""Groups of a batch from which only touched positions are kept: below, one array of all counts is quicker. It moves
time and memory alone; the counts are the same on both sides."""

_SUMS = 5
"""Columns of an arm's sums before its scores: rows, errors, positives, timed, latency_us."""

_NARROW = _SUMS + SCORE_BINS
_TIMED = _NARROW + LATENCY_BINS
_WIDE = _TIMED + 3 * ENTITY_GROUPS
"""Where the columns of a segment end, where those of all traffic go on with latencies, then with entity groups."""


class ArmSums:
    """What one version did since the last flush, by pane, in bins that all versions share: a row of sums a pane."""

    def __init__(self) -> None:
        self._slots: dict[tuple[int, str], int] = {}
        # For the panes of a first batch; it grows by what comes.
        self._sums = np.zeros((16, _WIDE), np.int64)
        self._actions: dict[tuple[int, str], dict[str, bytes]] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, panes: Sequence[tuple[int, str]], sums: Counts) -> None:
        """Add the sums int64[panes, ...] of distinct (start, segment); those of segments have fewer columns."""
        known = self._slots
        slots = np.fromiter((known.setdefault(pane, len(known)) for pane in panes), np.int64, len(panes))
        if len(known) > len(self._sums):
            self._sums = np.concatenate([self._sums, np.zeros((len(known), self._sums.shape[1]), np.int64)])
        self._sums[slots, : sums.shape[1]] += sums

    def add_actions(self, pane: tuple[int, str], actions: Mapping[str, bytes]) -> None:
        """Count what was done upon answers of a pane."""
        self._actions[pane] = added_actions(self._actions.get(pane, {}), actions)

    def deltas(self, model: str, version: str, length: int) -> Iterator[ArmDelta]:
        """Yield the sums as records, by segment and start."""
        scores, each = pack(self._sums[:, _SUMS:_NARROW]), 8 * SCORE_BINS
        sums = self._sums[:, :_SUMS].tolist()
        for segment, start, slot in sorted((segment, start, slot) for (start, segment), slot in self._slots.items()):
            rows, errors, positives, timed, latency = sums[slot]
            mine = scores[slot * each : (slot + 1) * each]
            wide = np.split(self._sums[slot, _NARROW:], [LATENCY_BINS])
            latencies, entities = (pack(part) if part.any() else b"" for part in wide)
            done = dict(sorted(self._actions.get((start, segment), {}).items()))
            head = (model, version, segment, start, length, rows, errors, positives, timed, latency)
            yield ArmDelta(*head, mine, latencies, entities, done)


class Accumulator:
    """Adds events to panes, groups at a time; emptied by ``drain``.

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
        self._panes: dict[PaneOwner, OpenPanes] = {}
        self._arms: dict[tuple[str, str], ArmSums] = {}

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
        # A batch that spans very many panes, as a replay of old data does, is halved until its vectors fit.
        if len(starts) > 1 and len(starts) * width > self._most_cells:
            # By panes and not by rows: rows of one pane in both halves would need its vector twice.
            half = len(starts) // 2
            self._add(model, version, events.keep(np.flatnonzero(pane < half)), places)
            self._add(model, version, events.keep(np.flatnonzero(pane >= half)), places)
            return
        panes = self._open(model, version, events.kind, reference)
        before = panes.cells
        batch = _OwnerBatch(settings, events, reference, self._columns(settings, events, reference))
        summary = _Summary(self._references, model, version, events) if events.kind == "prediction" else None
        splits = []
        for names, code in self._segmenter.split(model, events, reference, places):
            groups, group = _groups(pane * len(names) + code) if len(names) > 1 else (np.arange(len(starts)), pane)
            which = [(int(starts[both // len(names)]), names[both % len(names)]) for both in groups.tolist()]
            splits.append((which, group, np.bincount(group, minlength=len(groups))))
        batch.most_groups = max(len(which) for which, _, _ in splits)
        for which, group, rows in splits:
            slots = panes.slots(which)
            panes.add_rows(slots, rows)
            batch.add_to(panes, slots, group, rows)
            for at, values in count_new(batch.new, group).items():
                panes.add_new(int(slots[at]), values)
            if summary is not None:
                arms = self._arms.setdefault((model, version), ArmSums())
                arms.add(which, summary.sums(group, rows, wide=names == ("",)))
                for at, actions in summary.actions(group, len(rows)):
                    arms.add_actions(which[at], actions)
        self._cells += panes.cells - before
        if self._cells > self._most_cells:
            self._pack()

    def _open(self, model: str, version: str, kind: str, reference: Reference | None) -> OpenPanes:
        owner = PaneOwner(model, version, "" if reference is None else reference.digest, kind)
        found = self._panes.get(owner)
        if found is None:
            found = self._panes[owner] = OpenPanes(owner, 0 if reference is None else len(reference.layout))
        return found

    def _columns(self, settings: ModelSettings, events: Events, reference: Reference | None) -> dict[str, Column]:
        """The columns that these events contribute, as the reference's subjects count them."""
        if reference is None:
            return {}
        columns: dict[str, Column] = {}
        # Features count from one kind of event alone, or an event that comes as both would count twice.
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

    def note(self, counter: str, events: Events, times: Integers, amounts: Integers | None = None) -> None:
        """Count what concerns a pane as a whole: events that are in none (late, duplicate, mistimed), unseen fields.

        ``counter`` is one of ``PANE_COUNTERS``; ``times`` int64[n] gives the pane, for an event that is in none the
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
            panes = self._open(*owner, events.kind, reference)
            before = panes.cells
            slots = panes.slots([(start, "") for start in starts.tolist()])
            for slot, count in zip(slots.tolist(), counts.tolist(), strict=True):
                panes.vector(slot)[position] += count
            self._cells += panes.cells - before
            if self._cells > self._most_cells:
                self._pack()

    def _pack(self) -> None:
        by_model: dict[str, list[PaneDelta | ArmDelta]] = {}
        for owner, panes in sorted(self._panes.items()):
            by_model.setdefault(owner.model, []).extend(panes.deltas(self._models[owner.model].pane))
        for (model, version), arms in sorted(self._arms.items()):
            by_model.setdefault(model, []).extend(arms.deltas(model, version, self._models[model].pane))
        # By model: a record goes to one panes partition, and a model lies in one.
        for model, deltas in by_model.items():
            self._full.setdefault(model, []).extend(packed(deltas))
        self._forget()

    def _forget(self) -> None:
        self._panes.clear()
        self._arms.clear()
        self._cells = 0

    def __len__(self) -> int:
        return sum(map(len, self._panes.values()))

    def drain(self) -> dict[str, list[bytes]]:
        """Return by model the packed deltas of everything counted since the last drain."""
        self._pack()
        full, self._full = self._full, {}
        return full

    def clear(self) -> None:
        """Forget everything that was not drained."""
        self._forget()
        self._full.clear()


class _OwnerBatch:
    """One owner's events of a batch as its reference counts them, however they are split."""

    def __init__(
        self, settings: ModelSettings, events: Events, reference: Reference | None, columns: Mapping[str, Column]
    ) -> None:
        self._events, self._layout, self._columns = events, None if reference is None else reference.layout, columns
        skip: set[str] = set()
        if reference is not None:
            if settings.source != events.kind:
                skip |= {subject.name for subject in reference.features}
            if reference.prediction is not None and events.kind != "prediction":
                skip.add(reference.prediction.name)
        self._skip = frozenset(skip)
        self._marks: list[Marked] | None = None
        self.new = [] if reference is None else new_rows(reference, columns, settings.sensitive)
        self.most_groups = 1
        """Groups of the finest split that is to come."""

    def add_to(self, panes: OpenPanes, slots: Integers, group: Integers, rows: Counts) -> None:
        """Count the events, split into groups: ``group`` int64[n], and the slot and rows of each."""
        layout, weight = self._layout, self._events.weight
        if layout is None:
            return
        if self.most_groups < _MANY or weight is not None:
            counts = layout.tally(self._columns, group, rows, skip=self._skip)
        else:
            # Where each row counts is found once, for the finest split and all others.
            if self._marks is None:
                self._marks = layout.marks(self._columns, skip=self._skip)
            fine = len(rows) >= _MANY
            base = (panes.begins(slots) if fine else np.arange(len(rows), dtype=np.int32) * len(layout))[group]
            marks = [(base[which] + position).astype(base.dtype, copy=False) for which, position in self._marks]
            positions = np.concatenate(marks)
            if fine:
                panes.add(positions)
                return
            counts = np.bincount(positions, minlength=len(rows) * len(layout)).reshape(len(rows), -1)
        if weight is not None:
            for at in range(len(rows)):
                mine = weight[group == at]
                # Weights are counted, not used: a change in how a producer samples is told from a change of the world.
                counts[at, layout.weights] += weight_octave(mine[~np.isnan(mine)])
        for slot, mine in zip(slots.tolist(), counts, strict=True):
            vector = panes.vector(slot)
            vector += mine


class _Summary:
    """What one version decided in a batch, ready to be summed by group."""

    def __init__(self, references: References, model: str, version: str, events: Events) -> None:
        threshold, positive = references.threshold(model, version), references.positive(model, version)
        score, self._positive, self._missing = decide(events, threshold, positive)
        if references.several(model, version):
            # What an answer among several is scored by: of a class alone nothing is known.
            score = np.where(self._missing, np.nan, confidences(events))
        self._scored = ~np.isnan(score)
        self._bin = score_bin(score[self._scored])
        self._timed = np.zeros(0, np.int64)
        self._latency: Integers = np.zeros(0, np.int64)
        if events.latency is not None:
            self._timed = np.flatnonzero(~np.isnan(events.latency))
            # Fixed point, so that sums do not depend on the order of events.
            capped = np.minimum(events.latency[self._timed], MAX_LATENCY_MS)
            self._latency = np.rint(capped * 1_000).astype(np.int64)
            self._slow = latency_bin(capped)
        self._entity: Integers | None = None
        if events.entity is not None:
            self._entity = (events.entity % np.uint64(ENTITY_GROUPS)).astype(np.int64)
        self._assigned = events.assigned

    def actions(self, group: Integers, groups: int) -> Iterator[tuple[int, dict[str, bytes]]]:
        """Yield each group with what was done upon its answers, as ``ArmDelta`` has it."""
        found = self._assigned
        if found is None:
            return
        # Those that are there alone: the events of one version may name few of those of all.
        for code in np.unique(found.code[found.code >= 0]).tolist():
            mine = found.code == code
            for at, sums in enumerate(drawn_by_group(found.drawn[mine], group[mine], groups)):
                if len(sums.at):
                    yield at, {found.names[code]: sums.pack()}

    def sums(self, group: Integers, rows: Counts, *, wide: bool) -> Counts:
        """Return the sums by group, int64[groups, ...]: as ``ArmDelta`` has them, then the scores. O(n).

        ``wide`` adds latencies by bin, and rows, errors and positives by entity group.
        """
        groups = len(rows)
        out = np.zeros((groups, _WIDE if wide else _NARROW), np.int64)
        out[:, 0] = rows
        out[:, 1] = np.bincount(group[self._missing], minlength=groups)
        out[:, 2] = np.bincount(group[self._positive], minlength=groups)
        out[:, 3] = np.bincount(group[self._timed], minlength=groups)
        np.add.at(out[:, 4], group[self._timed], self._latency)
        flat = group[self._scored] * SCORE_BINS + self._bin
        out[:, _SUMS:_NARROW] = np.bincount(flat, minlength=groups * SCORE_BINS).reshape(groups, SCORE_BINS)
        if wide and len(self._timed):
            flat = group[self._timed] * LATENCY_BINS + self._slow
            out[:, _NARROW:_TIMED] = np.bincount(flat, minlength=groups * LATENCY_BINS).reshape(groups, LATENCY_BINS)
        if wide and self._entity is not None:
            place = group * ENTITY_GROUPS + self._entity
            for first, mine in ((0, slice(None)), (1, self._missing), (2, self._positive)):
                counts = np.bincount(place[mine], minlength=groups * ENTITY_GROUPS).reshape(groups, ENTITY_GROUPS)
                begin = _TIMED + first * ENTITY_GROUPS
                out[:, begin : begin + ENTITY_GROUPS] = counts
        return out


def _groups(values: Integers) -> tuple[Integers, Integers]:
    """Distinct values in order and the position of each row's among them; one value needs no sort."""
    # Events come nearly in order of time, so that a batch mostly lies within one pane.
    if values[0] == values[-1] and (values == values[0]).all():
        return values[:1], np.zeros(len(values), np.int64)
    distinct, group = np.unique(values, return_inverse=True)
    return distinct, group.reshape(-1)
