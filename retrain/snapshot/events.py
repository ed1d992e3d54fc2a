"""Event columns as frames: the predictions, features and labels of one model, for polars to join.

Which records are events, and what they mean, is the reading of ``stationkeeper.events`` that the monitor counts by;
here a record that is none is counted and left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from stationkeeper.contracts.column import Status
from stationkeeper.events import (
    CategoryColumn,
    EventReader,
    Events,
    FeatureColumn,
    Form,
    Kind,
    ValueRules,
    ahead_of_broker,
    with_assignment,
)
from stationkeeper.registry import FeatureKind
from stationkeeper.streams.ports import Batch

# Reserved names begin with @, which keeps them apart from features: a feature of such a name is left out.
EVENT_ID, TIME, VERSION = "@event_id", "@time", "@version"
LABEL, LABEL_TIME = "@label", "@label_time"
ACTION, DRAWN = "@action", "@assignment_prob"

# A feature may be number here and text there: both columns are kept until its kind is known, when all rows are read.
NUMBER, TEXT = "number:", "text:"

FLOAT32_MAX = 3.4028234663852886e38
"""Models take float32: a number beyond it counts as missing."""


@dataclass(slots=True)
class FeatureTypes:
    """How often each feature was a number, a boolean and a text: what decides its kind."""

    counts: dict[str, list[int]] = field(default_factory=dict)

    def add(self, name: str, numbers: int, booleans: int, texts: int) -> None:
        """Count values of one feature."""
        found = self.counts.setdefault(name, [0, 0, 0])
        found[0] += numbers
        found[1] += booleans
        found[2] += texts

    def kind(self, name: str) -> FeatureKind:
        """Return the kind by majority: text wins over numbers, a boolean is one only if it always was."""
        numbers, booleans, texts = self.counts.get(name, [0, 0, 0])
        # A majority: one typing error in a number must not turn its column into categories, nor one code in a thousand
        # a column of texts into numbers.
        if texts > numbers + booleans:
            return FeatureKind.CATEGORICAL
        return FeatureKind.BOOLEAN if booleans and not numbers else FeatureKind.NUMERIC


@dataclass(slots=True)
class EventColumns:
    """Reads batches of one model into frames; ``unusable`` counts records that are no events or of the future.

    ``acted`` says that some event told what was done upon its answer.
    """

    model: str
    future_skew_ms: int | None = None
    types: FeatureTypes = field(default_factory=FeatureTypes)
    unusable: int = 0
    clock_ms: int | None = None
    acted: bool = False
    _readers: dict[str, EventReader] = field(default_factory=dict)

    def read(self, batch: Batch, form: Form) -> dict[Kind, pl.DataFrame]:
        """Return the model's events of a batch by kind, in offset order; O(bytes), by columns."""
        reader = self._readers.get(form.topic)
        if reader is None:
            # One reader a topic and request: it learns the columns of the topic batch by batch, and reading needs the
            # id, which the monitor keeps as a hash only.
            reader = self._readers[form.topic] = EventReader(with_assignment(replace(form, extras=("event_id",))))
        reading = reader.discover(batch.values, batch.headers)
        self.unusable += len(reading.rejected)
        frames: dict[Kind, pl.DataFrame] = {}
        for events in reading.events:
            # A topic may carry several models: all are read, so that a record is unusable for everyone or for no one.
            mine = np.array([model == self.model for model, _ in events.owners])[events.owner]
            # The monitor refuses such an event; here it would be a row from a time that is still to come, and move the
            # clock there.
            if self.future_skew_ms is not None:
                early = mine & ahead_of_broker(events.time, batch.timestamps[events.rows], self.future_skew_ms)
                self.unusable += int(np.count_nonzero(early))
                mine &= ~early
            if mine.any():
                kept = events if mine.all() else events.keep(np.flatnonzero(mine))
                frames[events.kind] = self._frame(kept, form.values)
        return frames

    def _frame(self, events: Events, rules: ValueRules) -> pl.DataFrame:
        # Labels count too: on a stream whose labels come in bursts they may be ahead of the predictions.
        latest = int(events.time.max())
        self.clock_ms = latest if self.clock_ms is None else max(self.clock_ms, latest)
        ids = pl.Series(EVENT_ID, events.extras["event_id"], dtype=pl.String)
        if events.label is not None:
            labels = pl.Series(LABEL, _texts(events.label), dtype=pl.String)
            return pl.DataFrame([ids, labels, pl.Series(LABEL_TIME, events.time)])
        columns = [ids, pl.Series(TIME, events.time)]
        if events.kind == "prediction":
            versions = [events.owners[owner][1] for owner in events.owner.tolist()]
            columns.append(pl.Series(VERSION, versions, dtype=pl.String))
            columns += self._actions(events)
        for name, column in sorted(events.features.items()):
            columns += self._feature(name, column, rules)
        return pl.DataFrame(columns)

    def _actions(self, events: Events) -> list[pl.Series]:
        """Return what was done upon each answer and with what probability; nothing where no event says it."""
        found = events.assigned
        if found is None or not (found.code >= 0).any():
            return []
        self.acted = True
        names = [found.names[code] if code >= 0 else None for code in found.code.tolist()]
        drawn = pl.Series(DRAWN, found.drawn).fill_nan(None)
        return [pl.Series(ACTION, names, dtype=pl.String), drawn]

    def _feature(self, name: str, column: FeatureColumn, rules: ValueRules) -> Iterator[pl.Series]:
        if not column.present().any():
            return
        if isinstance(column, CategoryColumn) and name not in rules.text:
            # The monitor counts such a text as a number, and a model is trained on what it is watched by.
            column = column.written(rules)
        found = column.numbers()
        usable = np.abs(found.values) <= FLOAT32_MAX
        if found.status is not None:
            usable &= found.status == 0
        texts = booleans = 0
        if isinstance(column, CategoryColumn):
            texts = int(np.count_nonzero(column.of_type("string")))
            booleans = int(np.count_nonzero(column.of_type("boolean")))
        numbers = int(np.count_nonzero(usable))
        self.types.add(name, numbers - booleans, booleans, texts)
        if numbers:
            yield pl.Series(NUMBER + name, np.where(usable, found.values, np.nan)).fill_nan(None)
        # Both series of a feature go on where it is mixed: which one is kept is known only when all rows are read.
        if texts and isinstance(column, CategoryColumn):
            codes = np.where(column.of_type("string"), column.codes, Status.NULL)
            yield pl.Series(TEXT + name, _texts(replace(column, codes=codes)), dtype=pl.String)


def _texts(column: CategoryColumn) -> list[str | None]:
    """Return the keys of a column, None where there is none."""
    return [column.keys[code] if code >= 0 else None for code in column.codes.tolist()]
