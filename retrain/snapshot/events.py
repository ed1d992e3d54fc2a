"""Events of the input topics as columns: predictions, features and labels of one model, read with tolerance.

Monitoring decides what is a dead letter; here a record that cannot be used is left out and counted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import msgspec
import polars as pl

from stationkeeper.contracts.times import to_ms
from stationkeeper.registry import FeatureKind, category_text
from stationkeeper.streams.ports import Batch

Kind = Literal["prediction", "feature", "label"]
Decode = Callable[[bytes], Mapping[str, Any] | None]
"""Turns one record into the own form of contracts.messages, as a mapping; None where it cannot."""

EVENT_ID, TIME, VERSION = "@event_id", "@time", "@version"
LABEL, LABEL_TIME = "@label", "@label_time"
NUMBER, TEXT = "number:", "text:"
FLOAT32_MAX = 3.4028234663852886e38
"""Models take float32: a number beyond it counts as missing."""

_json = msgspec.json.Decoder()


def own_form(value: bytes) -> Mapping[str, Any] | None:
    """Decode an event in the own form; None when it is not a JSON object."""
    try:
        found = _json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@dataclass(frozen=True, slots=True)
class InputTopic:
    """One topic that carries events of a model, and how its records are read."""

    topic: str
    kinds: frozenset[Kind]
    decode: Decode = own_form


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
        if texts > numbers + booleans:
            return FeatureKind.CATEGORICAL
        return FeatureKind.BOOLEAN if booleans and not numbers else FeatureKind.NUMERIC


@dataclass(slots=True)
class EventColumns:
    """Decodes batches of one model into frames; ``unusable`` counts records that were left out."""

    model: str
    future_skew_ms: int | None = None
    types: FeatureTypes = field(default_factory=FeatureTypes)
    unusable: int = 0
    clock_ms: int | None = None

    def decode(self, batch: Batch, topic: InputTopic) -> dict[Kind, pl.DataFrame]:
        """Return the model's events of a batch by kind, in offset order; O(records * features)."""
        rows: dict[Kind, list[Mapping[str, Any]]] = {}
        times: dict[Kind, list[int]] = {}
        for value, stamp in zip(batch.values, batch.timestamps.tolist(), strict=True):
            event = topic.decode(value) if value else None
            if event is None:
                self.unusable += 1
                continue
            kind = _kind(event, topic)
            if kind is None or event.get("model", self.model) != self.model:
                continue
            time = _time(event.get("time"))
            ahead = self.future_skew_ms is not None and time is not None and time > stamp + self.future_skew_ms
            if time is None or ahead or not _usable(event, kind):
                self.unusable += 1
                continue
            rows.setdefault(kind, []).append(event)
            times.setdefault(kind, []).append(time)
        for stamps in times.values():
            self.clock_ms = max(stamps) if self.clock_ms is None else max(self.clock_ms, *stamps)
        return {kind: self._frame(kind, rows[kind], times[kind]) for kind in rows}

    def _frame(self, kind: Kind, rows: Sequence[Mapping[str, Any]], times: list[int]) -> pl.DataFrame:
        ids = pl.Series(EVENT_ID, [row["event_id"] for row in rows], dtype=pl.String)
        if kind == "label":
            return pl.DataFrame(
                [
                    ids,
                    pl.Series(LABEL, [category_text(row["label"]) for row in rows], dtype=pl.String),
                    pl.Series(LABEL_TIME, times, dtype=pl.Int64),
                ]
            )
        columns = [ids, pl.Series(TIME, times, dtype=pl.Int64)]
        if kind == "prediction":
            columns.append(pl.Series(VERSION, [str(row.get("version", "")) for row in rows], dtype=pl.String))
        features = [row.get("features") or {} for row in rows]
        for name in sorted({name for row in features for name in row}):
            columns += self._feature(name, [row.get(name) for row in features])
        return pl.DataFrame(columns)

    def _feature(self, name: str, values: Sequence[object]) -> list[pl.Series]:
        booleans = sum(type(value) is bool for value in values)
        texts = sum(type(value) is str for value in values)
        numbers = [_number(value) for value in values] if texts < len(values) else []
        present = sum(number is not None for number in numbers)
        self.types.add(name, present - booleans, booleans, texts)
        columns = []
        if present:
            columns.append(pl.Series(NUMBER + name, numbers, dtype=pl.Float64))
        if texts:
            strings = [value if type(value) is str else None for value in values]
            columns.append(pl.Series(TEXT + name, strings, dtype=pl.String))
        return columns


def _kind(event: Mapping[str, Any], topic: InputTopic) -> Kind | None:
    found = event.get("kind")
    if found is None and len(topic.kinds) == 1:
        return next(iter(topic.kinds))
    return found if found in topic.kinds else None


def _usable(event: Mapping[str, Any], kind: Kind) -> bool:
    if not isinstance(event.get("event_id"), str):
        return False
    if kind == "label":
        label = event.get("label")
        return isinstance(label, str | bool | int | float) and label == label  # noqa: PLR0124 - NaN is no label
    return isinstance(event.get("features", {}), dict | None)


def _time(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return round(value) if abs(value) < 1e16 else None
    if not isinstance(value, str):
        return None
    try:
        return to_ms(datetime.fromisoformat(value))
    except (ValueError, OverflowError):
        return None


def _number(value: object) -> float | None:
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) <= FLOAT32_MAX else None
