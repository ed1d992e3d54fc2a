"""What comes out of the label join, the plain way: each row of the joins topic meets its other side in a dictionary."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from stationkeeper.contracts.wire import OF_CLASSES, OF_NUMBERS, SCORE_BINS, JoinBatch, decode
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally import apart
from stationkeeper.streams.ports import Partition, Reader

# How the join counts a squared error, in whole millionths, so that sums do not depend on the order; written again here
# on purpose.
_MILLIONTHS = 1_000_000
# Its largest squared error, beyond which a sum could overflow; another number here would be found as a difference.
_LARGEST = 1e6


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


class PlainJoin:
    """Pairs the rows of one joins partition, in the order of the log."""

    def __init__(self, models: Mapping[str, ModelSettings]) -> None:
        self._models = models
        self._horizon = max((model.label_horizon for model in models.values()), default=0)
        self._waiting: dict[str, dict[tuple[str, int], _Row]] = {"prediction": {}, "label": {}}
        self._clock: int | None = None
        self.sums: dict[OutcomeKey, Counter[str]] = {}

    def read(self, reader: Reader, partition: Partition, end: int) -> None:
        """Pair what the records of a partition before offset ``end`` hold."""
        for batch in reader.read([partition]):
            for offset, value in zip(batch.offsets.tolist(), batch.values, strict=True):
                if value is not None and offset < end:
                    for record in decode(value):
                        if isinstance(record, JoinBatch):
                            self.take(record)

    def take(self, batch: JoinBatch) -> None:
        """Let the rows of a batch meet what waits, and wait themselves: of a key the first row counts."""
        table = batch.table()
        if batch.model not in self._models or not len(table):
            return
        latest = int(table["time"].max())
        self._clock = latest if self._clock is None else max(self._clock, latest)
        oldest = self._clock - self._horizon
        other = "label" if batch.side == "prediction" else "prediction"
        names = [apart(name) for name in batch.segments]
        # Within a batch the first of a key counts, as between batches.
        seen: set[int] = set()
        for one in table.tolist():
            identity, time, score, label, decision, place, segment = one
            if identity in seen:
                continue
            seen.add(identity)
            segments = names[segment] if batch.side == "prediction" else ()
            row = _Row(time, score, label, bool(decision & 1), place, batch.version, segments, decision & ~1)
            if batch.side == "label" and label != label:  # noqa: PLR0124 - NaN: a label that no class or number is
                continue
            key = (batch.model, identity)
            met = self._waiting[other].get(key)
            # What is older than the horizon meets nothing, wherever the sweep of the join is.
            if met is not None and met.time >= oldest:
                del self._waiting[other][key]
                self._count(batch.model, *((row, met) if batch.side == "prediction" else (met, row)))
                continue
            mine = self._waiting[batch.side].get(key)
            # One that is too old makes room for a new row under its key.
            if mine is None or mine.time < oldest:
                self._waiting[batch.side][key] = row

    def _count(self, model: str, prediction: _Row, label: _Row) -> None:
        pane = self._models[model].pane
        # A label bears the time at which it became known, and one from before its prediction is known with it.
        known = max(prediction.time, label.time)
        start, known_at = prediction.time // pane * pane, known // pane * pane
        error = prediction.score - label.label
        several, fits = prediction.kind == OF_CLASSES, False
        if several or label.kind == OF_CLASSES:
            fits = several and label.kind == OF_CLASSES and error == error  # noqa: PLR0124 - NaN: no class at all
            error = float(error != 0) if fits else 0.0
        for segment in ("", *prediction.segments):
            key = OutcomeKey(model, prediction.version, segment, start, known_at)
            sums = self.sums.setdefault(key, Counter())
            sums["rows"] += 1
            sums["age_ms"] += known - prediction.time
            if error == error:  # noqa: PLR0124 - NaN: a prediction that is null
                sums["loss"] += round(min(error * error, _LARGEST) * _MILLIONTHS)
            if several or label.kind == OF_CLASSES:
                if fits:
                    sums["false positive" if error else "true negative"] += 1
                    sums[f"score bin {0 if error else SCORE_BINS - 1} of 0"] += 1
            elif prediction.kind == OF_NUMBERS:
                sums[f"score bin {prediction.bin} of 0"] += 1
            elif label.label in {0.0, 1.0}:
                wrong = prediction.positive != bool(label.label)
                word = f"{'false' if wrong else 'true'} {'positive' if prediction.positive else 'negative'}"
                sums[word] += 1
                sums[f"score bin {prediction.bin} of {int(label.label)}"] += 1
