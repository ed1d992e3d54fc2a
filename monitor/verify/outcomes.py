"""What comes out of the label join, the plain way: each row of the joins topic meets its other side in a dictionary."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.wire import OF_CLASSES, OF_NUMBERS, SCORE_BINS, JoinBatch, decode
from stationkeeper.monitor.join import JoinState
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally import apart
from stationkeeper.monitor.verify.arms import octave_plainly
from stationkeeper.streams.ports import Partition, Reader

# How the join counts a squared error, in whole millionths, so that sums do not depend on the order; written again here
# on purpose.
_MILLIONTHS = 1_000_000
# Its largest squared error, beyond which a sum could overflow; another number here would be found as a difference.
_LARGEST = 1e6
# The confusion in the order in which sums by action have it.
_CELLS = ("true positive", "false positive", "false negative", "true negative")
# Their most of 1 / probability, in millionths: where the last octave of a probability begins. Written again here on
# purpose.
_MOST_WEIGHT = 2_048 * _MILLIONTHS


class OutcomeKey(NamedTuple):
    """What outcomes are of: a prediction's pane, and the pane in which it and its label were both known."""

    model: str
    version: str
    segment: str
    start: int
    known_at: int


class _Row(NamedTuple):
    time: int
    score: float
    label: float
    positive: bool
    bin: int
    version: str
    segments: tuple[str, ...]
    kind: int
    action: str


class PlainOutcomes:
    """What the joins partitions should have told together, as far as each has committed.

    ``crowded`` and ``forgotten`` are partitions whose join let rows, or pairs, go for want of room: which, depends on
    its own order of arrival, which is not written again here. ``gaps`` says so in words.
    """

    def __init__(self, models: Mapping[str, ModelSettings]) -> None:
        self._models = models
        self.sums: dict[OutcomeKey, Counter[str]] = {}
        self.corrections: dict[OutcomeKey, Counter[str]] = {}
        self.crowded: list[str] = []
        self.forgotten: list[str] = []

    def read(self, reader: Reader, partitions: Iterable[Partition], states: Mapping[str, Any]) -> None:
        """Pair the rows of the partitions before where ``states`` (by name, of the join) say that outcomes are sent."""
        for partition in partitions:
            kept = states.get(f"join/{partition.index}")
            if kept is None:
                continue
            state = state_of(kept, JoinState)
            for name, into in (("crowded out", self.crowded), ("forgotten", self.forgotten)):
                if state.counts.get(name):
                    into.append(f"{partition.topic}/{partition.index}")
            # Then nothing of it is compared, and pairing takes long.
            if self.crowded:
                return
            join = PlainJoin(self._models)
            join.read(reader, partition, state.emitted)
            for sums, whole in ((join.sums, self.sums), (join.corrections, self.corrections)):
                for key, counts in sums.items():
                    whole.setdefault(key, Counter()).update(counts)

    @property
    def gaps(self) -> list[str]:
        """What cannot be compared, and why."""
        if self.crowded:
            return [f"{self.crowded[0]}: the join had no room for rows, so outcomes are not compared"]
        told = "the join let pairs beyond join.corrections go, so corrections are not compared"
        return [f"{self.forgotten[0]}: {told}"] if self.forgotten else []


class PlainJoin:
    """Pairs the rows of one joins partition, in the order of the log."""

    def __init__(self, models: Mapping[str, ModelSettings]) -> None:
        self._models = models
        self._horizon = max((model.label_horizon for model in models.values()), default=0)
        self._waiting: dict[str, dict[tuple[str, int], _Row]] = {"prediction": {}, "label": {}}
        self._latest: dict[tuple[str, int], _Row] = {}
        self._settled: dict[tuple[str, int], tuple[_Row, _Row]] = {}
        self._clock: int | None = None
        self.sums: dict[OutcomeKey, Counter[str]] = {}
        self.corrections: dict[OutcomeKey, Counter[str]] = {}

    def read(self, reader: Reader, partition: Partition, end: int) -> None:
        """Pair what the records of a partition before offset ``end`` hold."""
        for batch in reader.read([partition]):
            for offset, value in zip(batch.offsets.tolist(), batch.values, strict=True):
                if value is not None and offset < end:
                    for record in decode(value):
                        if isinstance(record, JoinBatch):
                            self.take(record)

    def take(self, batch: JoinBatch) -> None:
        """Let the rows of a batch meet what waits, and wait themselves: the first counts, later labels correct it."""
        table = batch.table()
        if batch.model not in self._models or not len(table):
            return
        latest = int(table["time"].max())
        self._clock = latest if self._clock is None else max(self._clock, latest)
        oldest = self._clock - self._horizon
        names = [apart(name) for name in batch.segments]
        actions = batch.actions or ("",) * len(names)
        for one in table.tolist():
            identity, time, score, label, decision, place, segment = one
            segments, action = (names[segment], actions[segment]) if batch.side == "prediction" else ((), "")
            row = _Row(time, score, label, bool(decision & 1), place, batch.version, segments, decision & ~1, action)
            if batch.side == "label" and label != label:  # noqa: PLR0124 - NaN: a label that no class or number is
                continue
            key = (batch.model, identity)
            if batch.side == "prediction":
                self._predicted(key, row, oldest)
            else:
                self._labelled(key, row, oldest)

    def _predicted(self, key: tuple[str, int], row: _Row, oldest: int) -> None:
        label = self._waiting["label"].get(key)
        # What is older than the horizon meets nothing, wherever the sweep of the join is.
        if label is not None and label.time >= oldest:
            del self._waiting["label"][key]
            self._pair(key, row, label, self._latest[key])
            return
        settled = self._settled.get(key)
        # The same prediction once more: its label has counted.
        if settled is not None and settled[0].time == row.time and row.time >= oldest:
            return
        mine = self._waiting["prediction"].get(key)
        # One that is too old makes room for a new row under its key.
        if mine is None or mine.time < oldest:
            self._waiting["prediction"][key] = row

    def _labelled(self, key: tuple[str, int], row: _Row, oldest: int) -> None:
        prediction = self._waiting["prediction"].get(key)
        if prediction is not None and prediction.time >= oldest:
            del self._waiting["prediction"][key]
            self._pair(key, prediction, row, row)
            return
        settled = self._settled.get(key)
        if settled is not None and settled[0].time >= oldest:
            self._correct(key[0], *settled, row, max(settled[0].time, row.time))
            self._settled[key] = settled[0], row
            return
        mine = self._waiting["label"].get(key)
        if mine is None or mine.time < oldest:
            self._waiting["label"][key] = row
        self._latest[key] = row

    def _pair(self, key: tuple[str, int], prediction: _Row, first: _Row, latest: _Row) -> None:
        known = max(prediction.time, first.time)
        self._count(self.sums, key[0], prediction, first, known)
        if prediction.action:
            self._count_action(key[0], prediction, first, known)
        self._correct(key[0], prediction, first, latest, known)
        # A label from before its prediction cannot be corrected: the join would not know the pair after a rebuild.
        if first.time >= prediction.time:
            self._settled[key] = prediction, latest

    def _correct(self, model: str, prediction: _Row, before: _Row, after: _Row, known: int) -> None:
        if (before.label, before.kind == OF_CLASSES) == (after.label, after.kind == OF_CLASSES):
            return
        self._count(self.corrections, model, prediction, before, known, -1)
        self._count(self.corrections, model, prediction, after, known)
        for key in self._keys(model, prediction, known):
            self.corrections[key]["corrected"] += 1

    def _count_action(self, model: str, prediction: _Row, label: _Row, known: int) -> None:
        """Add a pair to the rows of what was done upon the answer, whose chance is the ``label`` of a prediction."""
        pair: dict[OutcomeKey, Counter[str]] = {}
        self._count(pair, model, prediction, label, known)
        # What has no place in the confusion counts as right.
        cell = next((at for at, word in enumerate(_CELLS) if pair[self._keys(model, prediction, known)[0]][word]), 3)
        at = (octave_plainly(prediction.label) * len(_CELLS) + cell) * 2
        weight = min(_MILLIONTHS / prediction.label, _MOST_WEIGHT) if prediction.label > 0 else 0.0
        for key in pair:
            self.sums[key][f"action {prediction.action!r} at {at}"] += 1
            self.sums[key][f"action {prediction.action!r} at {at + 1}"] += round(weight)

    def _keys(self, model: str, prediction: _Row, known: int) -> list[OutcomeKey]:
        pane = self._models[model].pane
        start, known_at = prediction.time // pane * pane, known // pane * pane
        return [
            OutcomeKey(model, prediction.version, segment, start, known_at) for segment in ("", *prediction.segments)
        ]

    def _count(
        self,
        into: dict[OutcomeKey, Counter[str]],
        model: str,
        prediction: _Row,
        label: _Row,
        known: int,
        times: int = 1,
    ) -> None:
        """Add a pair, or take it away with ``times`` -1; ``known`` is when both were."""
        error = prediction.score - label.label
        several, fits = prediction.kind == OF_CLASSES, False
        if several or label.kind == OF_CLASSES:
            fits = several and label.kind == OF_CLASSES and error == error  # noqa: PLR0124 - NaN: no class at all
            error = float(error != 0) if fits else 0.0
        for key in self._keys(model, prediction, known):
            sums = into.setdefault(key, Counter())
            sums["rows"] += times
            sums["age_ms"] += times * (known - prediction.time)
            if error == error:  # noqa: PLR0124 - NaN: a prediction that is null
                sums["loss"] += times * round(min(error * error, _LARGEST) * _MILLIONTHS)
            if several or label.kind == OF_CLASSES:
                if fits:
                    sums["false positive" if error else "true negative"] += times
                    # Bin 0 says that no probability came with the answer; right or wrong is the score then.
                    at = prediction.bin or (0 if error else SCORE_BINS - 1)
                    sums[f"score bin {at} of {int(not error and prediction.bin > 0)}"] += times
            elif prediction.kind == OF_NUMBERS:
                sums[f"score bin {prediction.bin} of 0"] += times
            elif label.label in {0.0, 1.0}:
                wrong = prediction.positive != bool(label.label)
                word = f"{'false' if wrong else 'true'} {'positive' if prediction.positive else 'negative'}"
                sums[word] += times
                sums[f"score bin {prediction.bin} of {int(label.label)}"] += times
