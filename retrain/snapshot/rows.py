"""Rows of one model read from its topics: predictions joined with features and with the labels known so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from stationkeeper.events import DEFAULT_POSITIVE, Form, Kind, untold
from stationkeeper.registry import FeatureKind, category_text
from stationkeeper.retrain.core.labels import positive_texts
from stationkeeper.retrain.core.plan import LabelStatistics
from stationkeeper.retrain.snapshot.events import (
    EVENT_ID,
    LABEL,
    LABEL_TIME,
    NUMBER,
    TEXT,
    TIME,
    VERSION,
    EventColumns,
)
from stationkeeper.streams.ports import Batch, Partition, Reader

MATURITY_QUANTILE = 0.99
"""The share of labels that must have come before rows count as labelled, where ``labels.maturity`` is auto: rows that
are still open look negative. Lower trains sooner on rows whose positives are missing, 1 would wait for the slowest
label ever."""

ROWS_ABOVE_LIMIT = 1.25
"""Rows may grow this much past their limit before the oldest are dropped: dropping sorts all of them, so that at 1 it
would come with every batch; a quarter more memory makes it rare."""

Offsets = dict[Partition, int]


@dataclass(slots=True)
class LabelledRows:
    """Reads the topics of a model once, goes on where it stopped, and joins what it holds by event_id.

    ``since_ms`` leaves older predictions out; ``limit`` bounds the rows kept, oldest dropped first. A prediction
    sent twice counts once, the first; of several labels of one event the one known last holds. ``positive`` decides
    which labels are none (``events.untold``).
    """

    inputs: tuple[Form, ...]
    columns: EventColumns
    since_ms: int
    limit: int
    positive: str = DEFAULT_POSITIVE
    begin: Offsets = field(default_factory=dict)
    end: Offsets = field(default_factory=dict)
    _frames: dict[Kind, list[pl.DataFrame]] = field(default_factory=dict)
    _rows: int = 0

    def advance(self, reader: Reader, ends: Mapping[Partition, int] | None = None) -> int:
        """Read what came since the last call, up to ``ends`` where given; returns the number of records read."""
        count = 0
        for topic in self.inputs:
            partitions = reader.partitions(topic.topic)
            if ends is not None:
                partitions = tuple(p for p in partitions if p in ends)
            if not partitions:
                continue
            for partition, (first, _) in reader.bounds(partitions).items():
                self.begin.setdefault(partition, first)
                self.end[partition] = max(self.end.get(partition, first), first)
            for read in reader.read(partitions, {p: self.end[p] for p in partitions}):
                batch = read if ends is None else _cut(read, ends[read.partition])
                self.end[read.partition] = batch.next_offset
                count += len(batch)
                self._add(batch, topic)
        return count

    def _add(self, batch: Batch, topic: Form) -> None:
        for kind, frame in self.columns.read(batch, topic).items():
            # Labels stay whatever their time is: the label of a kept row may be of any later moment, and its own time
            # says nothing of its prediction's.
            if kind == "label":
                # Before labels of one event meet: a word for nothing must not take the place of a truth.
                gone = untold(frame[LABEL].drop_nulls().unique().to_list(), self.positive)
                kept = frame.filter(~pl.col(LABEL).is_in(list(gone))) if gone else frame
            else:
                kept = frame.filter(pl.col(TIME) >= self.since_ms)
            self._frames.setdefault(kind, []).append(kept)
            self._rows += len(kept) if kind == "prediction" else 0
        if self._rows > self.limit * ROWS_ABOVE_LIMIT:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        rows = self._whole("prediction").sort(TIME).tail(self.limit)
        # From here on older rows are not even taken in: a topic read backwards in time would drop and sort at every
        # batch.
        self.since_ms = int(rows[TIME][0])
        self._frames["prediction"] = [rows]
        self._rows = len(rows)

    def _whole(self, kind: Kind) -> pl.DataFrame:
        frames = self._frames.get(kind, [])
        if len(frames) > 1:
            self._frames[kind] = frames = [pl.concat(frames, how="diagonal")]
        # A kind of which no record has come yet still joins, with no rows.
        empty = {EVENT_ID: pl.String, LABEL: pl.String, LABEL_TIME: pl.Int64}
        if kind != "label":
            empty = {EVENT_ID: pl.String, TIME: pl.Int64, VERSION: pl.String}
        return frames[0] if frames else pl.DataFrame(schema=empty)

    @property
    def clock_ms(self) -> int | None:
        """The latest event time read, of predictions and labels: the stream's clock."""
        return self.columns.clock_ms

    def labels(self, as_of_ms: int) -> pl.DataFrame:
        """Return the label of each event known at ``as_of_ms``: event id, label text, label time."""
        known = self._whole("label").filter(pl.col(LABEL_TIME) <= as_of_ms)
        # By the time they became known, stable: of several at one time the last of the log holds.
        return known.sort(LABEL_TIME, maintain_order=True).unique(EVENT_ID, keep="last", maintain_order=True)

    def label_texts(self, as_of_ms: int) -> list[str]:
        """Return the different texts of the labels known at ``as_of_ms``."""
        found: list[str] = self.labels(as_of_ms)[LABEL].drop_nulls().unique().to_list()
        return found

    def labelled(self, as_of_ms: int, columns: pl.Expr | None = None) -> pl.DataFrame:
        """Return the predictions up to ``as_of_ms`` in time order, each with its label or null; O(n log n)."""
        predictions = self._whole("prediction").filter(pl.col(TIME) <= as_of_ms)
        if columns is not None:
            predictions = predictions.select(columns)
        # The first, as the tally counts it; later ones are duplicates there.
        rows = predictions.unique(EVENT_ID, keep="first", maintain_order=True)
        # By id within a millisecond: partitions are read in any order, and the snapshot's digest must not depend on it.
        return rows.join(self.labels(as_of_ms), on=EVENT_ID, how="left").sort(TIME, EVENT_ID)

    def statistics(self, onset_ms: int, as_of_ms: int, maturity_ms: int | None, positive: str) -> LabelStatistics:
        """Count the matured labelled rows before and after the onset; a None maturity is estimated."""
        rows = self.labelled(as_of_ms, pl.col(EVENT_ID, TIME)).filter(pl.col(LABEL).is_not_null())
        maturity = label_maturity(rows) if maturity_ms is None else maturity_ms
        # A younger labelled row is one whose label came quickly; where positives are told sooner than negatives those
        # alone would teach a rate that nobody has.
        ripe = rows.filter(pl.col(TIME) <= as_of_ms - maturity)
        after = ripe.filter(pl.col(TIME) >= onset_ms)
        yes = positive_texts(self.label_texts(as_of_ms), positive)
        positives = int(after[LABEL].is_in(list(yes)).sum())
        return LabelStatistics(as_of_ms, maturity, len(ripe) - len(after), len(after), positives)

    def frame(self, as_of_ms: int, maturity_ms: int) -> pl.DataFrame:
        """Return the rows of a snapshot: reserved columns (``@``), then features by name, in time order.

        The label is null where it is not known or not matured. Numbers and booleans are Float64, texts String.
        """
        rows = self.labelled(as_of_ms)
        extra = self._whole("feature")
        if len(extra):
            rows = _fill(rows, extra.drop(TIME).unique(EVENT_ID, keep="first", maintain_order=True))
        ripe = pl.col(TIME) <= as_of_ms - maturity_ms
        reserved = [
            pl.col(EVENT_ID),
            pl.col(TIME),
            pl.col(VERSION),
            pl.when(ripe).then(pl.col(LABEL)).alias(LABEL),
            pl.when(ripe).then(pl.col(LABEL_TIME)).alias(LABEL_TIME),
        ]
        names = sorted(name for name in self.columns.types.counts if not name.startswith("@"))
        return rows.select(*reserved, *(self._feature(name, rows.columns) for name in names))

    def _feature(self, name: str, present: list[str]) -> pl.Expr:
        number = pl.col(NUMBER + name) if NUMBER + name in present else pl.lit(None, pl.Float64)
        text = pl.col(TEXT + name) if TEXT + name in present else pl.lit(None, pl.String)
        kind = self.columns.types.kind(name)
        # A column of texts with some numbers in it: the numbers become the category that the monitor counts them as.
        if kind is FeatureKind.CATEGORICAL:
            spelled = number.map_elements(category_text, return_dtype=pl.String, skip_nulls=True)
            return pl.coalesce(text, spelled).alias(name)
        return (number.cast(pl.Boolean) if kind is FeatureKind.BOOLEAN else number).alias(name)


def label_maturity(rows: pl.DataFrame) -> int:
    """Return the age (ms) by which 99 % of labels have come, from the older half of the labelled rows.

    The younger half would hold the quick labels only. Zero without rows.
    """
    if rows.is_empty():
        return 0
    older = rows.filter(pl.col(TIME) <= pl.col(TIME).median())
    delay = older.select((pl.col(LABEL_TIME) - pl.col(TIME)).quantile(MATURITY_QUANTILE, "higher")).item()
    return max(0, int(delay))


def _fill(rows: pl.DataFrame, extra: pl.DataFrame) -> pl.DataFrame:
    """Lay feature events under predictions: a value that the prediction carries wins."""
    joined = rows.join(extra, on=EVENT_ID, how="left", suffix="@extra")
    both = [name for name in extra.columns if name + "@extra" in joined.columns]
    filled = [pl.coalesce(name, name + "@extra").alias(name) for name in both]
    return joined.with_columns(filled).drop([name + "@extra" for name in both])


def _cut(batch: Batch, end: int) -> Batch:
    """Return the records of a batch before offset ``end``."""
    # By offset, not by number: a compacted topic or one with transaction markers has gaps.
    keep = int((batch.offsets < end).sum())
    if keep == len(batch):
        return batch
    return Batch(
        batch.partition,
        batch.offsets[:keep],
        batch.timestamps[:keep],
        batch.keys[:keep],
        batch.values[:keep],
        end,
        batch.headers[:keep],
    )
