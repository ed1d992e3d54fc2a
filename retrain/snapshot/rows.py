"""Rows of one model read from its topics: predictions joined with features and with the labels known so far."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from stationkeeper.contracts.labels.delay import Absence
from stationkeeper.events import DEFAULT_POSITIVE, Form, missing_label_words
from stationkeeper.registry import FeatureKind, category_text
from stationkeeper.retrain.core.labels import NegativeRule, negative_text
from stationkeeper.retrain.core.plan import LabelStatistics
from stationkeeper.retrain.snapshot.events import (
    ACTION,
    DRAWN,
    EVENT_ID,
    LABEL,
    LABEL_TIME,
    NUMBER,
    TEXT,
    TIME,
    VERSION,
    EventColumns,
)
from stationkeeper.retrain.snapshot.frames import EventFrames, OrderedRows
from stationkeeper.retrain.snapshot.label_counts import (
    LabelTimes,
    Wanting,
    count_labels,
    negatives_from,
    rule_from,
)
from stationkeeper.retrain.snapshot.snapshot import ROW_GROUP, merge_base
from stationkeeper.streams.ports import Batch, Partition, Reader

ROWS_ABOVE_LIMIT = 1.25
"""Rows may grow this much past their limit before the oldest are refused: to find which is a look at all minutes, and
at 1 it would come with every batch."""

MINUTE_MS = 60_000
"""How finely the oldest rows are told from younger ones: half a year is 260 000 counts."""

BASE = "base"
"""The kind of frames that came from an earlier snapshot, beside the kinds of events."""

Offsets = dict[Partition, int]


@dataclass(slots=True)
class LabelledRows:
    """Reads the topics of a model once, goes on where it stopped, and joins what it holds by event_id.

    ``since_ms`` leaves older predictions out; of more than ``limit`` rows the oldest are left out, whole minutes of
    them, so that at least ``limit`` stay. They may outgrow memory (``frames``): all work goes bucket by bucket, and
    what goes out is in pieces. A prediction sent twice counts once, the first; of several labels of one event the one
    known last holds. ``positive`` decides which labels are none (``events.missing_label_words``). With ``absence`` a
    row without a label is a negative once it is old enough, and so is one of the snapshot.
    """

    inputs: tuple[Form, ...]
    columns: EventColumns
    since_ms: int
    limit: int
    positive: str = DEFAULT_POSITIVE
    absence: Absence | None = None
    told: LabelTimes = field(default_factory=LabelTimes)
    begin: Offsets = field(default_factory=dict)
    end: Offsets = field(default_factory=dict)
    frames: EventFrames = field(default_factory=EventFrames)
    _minutes: dict[int, int] = field(default_factory=dict)
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
                batch = read if ends is None else read.until(ends[read.partition])
                self.end[read.partition] = batch.next_offset
                count += len(batch)
                self._add(batch, topic)
        return count

    def _add(self, batch: Batch, topic: Form) -> None:
        for kind, frame in self.columns.read(batch, topic).items():
            # Labels stay whatever their time is: the label of a kept row may be of any later moment, and its own time
            # says nothing of its prediction's.
            if kind == "label":
                # Before labels of one event meet: a text for a missing label must not take the place of a label.
                gone = missing_label_words(frame[LABEL].drop_nulls().unique().to_list(), self.positive)
                kept = frame.filter(~pl.col(LABEL).is_in(list(gone))) if gone else frame
                self.told.add(batch.partition, frame[LABEL_TIME].to_numpy())
            else:
                kept = frame.filter(pl.col(TIME) >= self.since_ms)
            self.frames.add(kind, kept)
            if kind == "prediction":
                self._rows += len(kept)
                minutes, counts = np.unique(kept[TIME].to_numpy() // MINUTE_MS, return_counts=True)
                for minute, n in zip(minutes.tolist(), counts.tolist(), strict=True):
                    self._minutes[minute] = self._minutes.get(minute, 0) + n
        if self._rows > self.limit * ROWS_ABOVE_LIMIT:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Raise the time from which rows are taken, to the minute that still leaves ``limit`` of them."""
        if self._rows <= self.limit:
            return
        left = 0
        for minute in sorted(self._minutes, reverse=True):
            left += self._minutes[minute]
            if left >= self.limit:
                # By the rows alone, not by when they were read: a second try must find the same.
                self.since_ms = max(self.since_ms, minute * MINUTE_MS)
                break
        self._minutes = {minute: n for minute, n in self._minutes.items() if minute * MINUTE_MS >= self.since_ms}
        self._rows = sum(self._minutes.values())

    def close(self) -> None:
        """Let go of the rows, on disk as well."""
        self.frames.close()

    @property
    def clock_ms(self) -> int | None:
        """The latest event time read, of predictions and labels: the stream's clock."""
        return self.columns.clock_ms

    def _labels(self, bucket: int, as_of_ms: int) -> pl.DataFrame:
        """Return the label of each event known at ``as_of_ms``: event id, label text, label time."""
        found = self.frames.part("label", bucket)
        if found is None:
            # A kind of which no record has come yet still joins, with no rows.
            return pl.DataFrame(schema={EVENT_ID: pl.String, LABEL: pl.String, LABEL_TIME: pl.Int64})
        known = found.filter(pl.col(LABEL_TIME) <= as_of_ms)
        # By the time they became known, stable: of several at one time the last of the log holds.
        return known.sort(LABEL_TIME, maintain_order=True).unique(EVENT_ID, keep="last", maintain_order=True)

    def label_texts(self, as_of_ms: int) -> list[str]:
        """Return the different texts of the labels known at ``as_of_ms``."""
        texts: set[str] = set()
        for bucket in self.frames.buckets:
            texts.update(self._labels(bucket, as_of_ms)[LABEL].drop_nulls().unique().to_list())
        return sorted(texts)

    def _labelled(self, bucket: int, as_of_ms: int, columns: tuple[str, ...] | None = None) -> pl.DataFrame:
        """Return a bucket's predictions up to ``as_of_ms``, each with its label or null."""
        found = self.frames.part("prediction", bucket, columns)
        if found is None:
            found = pl.DataFrame(schema={EVENT_ID: pl.String, TIME: pl.Int64, VERSION: pl.String})
        rows = found.filter(pl.col(TIME).is_between(self.since_ms, as_of_ms))
        # The first, as the tally counts it; later ones are duplicates there.
        rows = rows.unique(EVENT_ID, keep="first", maintain_order=True)
        return rows.join(self._labels(bucket, as_of_ms), on=EVENT_ID, how="left")

    def statistics(self, onset_ms: int, as_of_ms: int, maturity_ms: int | None, positive: str) -> LabelStatistics:
        """Count the matured labelled rows before and after the onset; a None maturity is estimated.

        Where rows lie on disk, from the first bucket: some hundred thousand labels, chosen by a hash of their ids. With
        ``absence`` from all, as positives are few, and back from the latest label: what is later may be on its way.
        """
        self._drop_oldest()
        negatives = None
        if self.absence is not None:
            every, lost = partial(self._every, as_of_ms), self._lost()
            negatives = negatives_from(self.absence, every, self.told, lost, self.positive, as_of_ms, maturity_ms)
        return count_labels(self._every(as_of_ms), onset_ms, as_of_ms, maturity_ms, positive, negatives)

    def _every(self, as_of_ms: int) -> Iterator[pl.DataFrame]:
        """Yield the predictions of each bucket with their labels and what was done upon them."""
        return (self._labelled(bucket, as_of_ms, (EVENT_ID, TIME, ACTION)) for bucket in self.frames.buckets)

    def _lost(self) -> dict[Partition, int]:
        """Return the partitions of labels that have lost any, and how many offsets."""
        labels = {form.topic for form in self.inputs if "label" in form.kinds}
        return {one: first for one, first in self.begin.items() if first > 0 and one.topic in labels}

    def pieces(
        self, as_of_ms: int, maturity_ms: int, base: Path | None = None, rule: NegativeRule | None = None
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows of a snapshot by time and event id: reserved columns (``@``), then features by name.

        The label is null where it is not known or not matured; where its absence is the negative class, it is that of a
        matured row without one, whose label time stays null. Numbers and booleans are Float64, texts String. ``base``
        is an earlier snapshot, whose older labelled rows are put before these (``merge_base``). ``rule`` is that of the
        plan, made by these rows; without one it is made here.
        """
        self._drop_oldest()
        first, texts = self._add_base(base, as_of_ms) if base is not None else (None, set())
        wanting = None
        if self.absence is not None:
            text = negative_text({*texts, *self.label_texts(as_of_ms)}, self.positive)
            lost = self._lost()
            since = self.told.since(lost)[0]
            if rule is None:
                rule, _ = rule_from(self._every(as_of_ms), since, as_of_ms - maturity_ms)
            wanting = Wanting(rule.by_now(since, sum(lost.values())), text)
        buckets = self.frames.buckets
        if len(buckets) == 1:
            yield self._bucket(0, as_of_ms, maturity_ms, first, wanting).sort(TIME, EVENT_ID)
            return
        with tempfile.TemporaryDirectory(dir=self.frames.scratch()) as scratch:
            ordered = OrderedRows(Path(scratch), len(buckets))
            for bucket in buckets:
                ordered.add(self._bucket(bucket, as_of_ms, maturity_ms, first, wanting))
            yield from ordered.pieces()

    def _add_base(self, base: Path, as_of_ms: int) -> tuple[int | None, set[str]]:
        """Add the rows of an earlier snapshot that may come before ours; returns our first row's time and its labels.

        Without those of rows that were negative for want of a label: their text was the earlier snapshot's own.
        """
        firsts = [self._labelled(b, as_of_ms, (EVENT_ID, TIME))[TIME].min() for b in self.frames.buckets]
        first = min((int(str(one)) for one in firsts if one is not None), default=None)
        # Of a time in which frauds alone were labelled no row is left once that is taken back: the frauds, left without
        # the others, would teach that those days are fraud.
        if self.absence is None and (began := _absent_since(base)) is not None:
            first = began if first is None else min(first, began)
        # A step that is tried again adds them again.
        self.frames.drop(BASE)
        texts: set[str] = set()
        for batch in pq.ParquetFile(base).iter_batches(ROW_GROUP):
            older = pl.DataFrame(pl.from_arrow(batch)).filter(pl.col(LABEL).is_not_null())
            self.frames.add(BASE, older if first is None else older.filter(pl.col(TIME) < first))
            texts.update(older.filter(pl.col(LABEL_TIME).is_not_null())[LABEL].unique().to_list())
        return first, texts

    def _bucket(
        self, bucket: int, as_of_ms: int, maturity_ms: int, first: int | None, wanting: Wanting | None
    ) -> pl.DataFrame:
        rows = self._labelled(bucket, as_of_ms)
        extra = self.frames.part("feature", bucket)
        if extra is not None:
            rows = _fill(rows, extra.drop(TIME).unique(EVENT_ID, keep="first", maintain_order=True))
        if wanting is not None:
            rows = rows.with_columns(wanting.given(rows.columns))
        reserved = _reserved(pl.col(TIME) <= as_of_ms - maturity_ms, rows.columns, acted=self.columns.acted)
        names = sorted(name for name in self.columns.types.counts if not name.startswith("@"))
        found = rows.select(*reserved, *(_feature(name, rows.columns, self.columns.types.kind(name)) for name in names))
        base = self.frames.part(BASE, bucket)
        if base is None:
            return found
        return merge_base(found, base if wanting is None else wanting.kept(base), first)


def _absent_since(base: Path) -> int | None:
    """Return the time (ms) of a snapshot's first row that is negative for want of a label, None where it has none."""
    for batch in pq.ParquetFile(base).iter_batches(ROW_GROUP, columns=[TIME, LABEL, LABEL_TIME]):
        rows = pl.DataFrame(pl.from_arrow(batch))
        absent = rows.filter(pl.col(LABEL).is_not_null() & pl.col(LABEL_TIME).is_null())
        if len(absent):
            return int(absent[TIME][0])
    return None


def _fill(rows: pl.DataFrame, extra: pl.DataFrame) -> pl.DataFrame:
    """Lay feature events under predictions: a value that the prediction carries wins."""
    joined = rows.join(extra, on=EVENT_ID, how="left", suffix="@extra")
    both = [name for name in extra.columns if name + "@extra" in joined.columns]
    filled = [pl.coalesce(name, name + "@extra").alias(name) for name in both]
    return joined.with_columns(filled).drop([name + "@extra" for name in both])


def _reserved(ripe: pl.Expr, present: list[str], *, acted: bool) -> list[pl.Expr]:
    """Return the columns that every snapshot begins with."""
    found = [
        pl.col(EVENT_ID),
        pl.col(TIME),
        pl.col(VERSION),
        pl.when(ripe).then(pl.col(LABEL)).alias(LABEL),
        pl.when(ripe).then(pl.col(LABEL_TIME)).alias(LABEL_TIME),
    ]
    if acted:
        kinds = ((ACTION, pl.String), (DRAWN, pl.Float64))
        # A bucket may hold no event that tells its action, and pieces are of one form.
        found += [pl.col(one) if one in present else pl.lit(None, kind).alias(one) for one, kind in kinds]
    return found


def _feature(name: str, present: list[str], kind: FeatureKind) -> pl.Expr:
    number = pl.col(NUMBER + name) if NUMBER + name in present else pl.lit(None, pl.Float64)
    text = pl.col(TEXT + name) if TEXT + name in present else pl.lit(None, pl.String)
    # A column of texts with some numbers in it: the numbers become the category that the monitor counts them as.
    if kind is FeatureKind.CATEGORICAL:
        spelled = number.map_elements(category_text, return_dtype=pl.String, skip_nulls=True)
        return pl.coalesce(text, spelled).alias(name)
    return (number.cast(pl.Boolean) if kind is FeatureKind.BOOLEAN else number).alias(name)
