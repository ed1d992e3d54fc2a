"""Our side of the comparison: a tally with dedupe on, fed batches in process, and its decoder alone."""

import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from benchmarks.throughput.events import CATEGORIES, NUMBERS, SCORE, reference
from stationkeeper.contracts.topics import Topics
from stationkeeper.monitor.core.reference import Reference, dump
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.streams.ports import Batch, Partition, Restored

TOPIC = "scores"
FLUSH_EVERY = 20
"""Batches between two flushes: at 250 000 events a second and batches of 10 000 about a second, as in production."""


def fraud(**more: Any) -> ModelSettings:
    """Return the settings of the benchmark's model: the defaults, dedupe over a million events among them."""
    return ModelSettings.model_validate({"name": "fraud", "predictions": TOPIC} | more)


@cache
def _usual() -> Reference:
    return reference()


def tally(
    models: Sequence[ModelSettings] | None = None, references: Sequence[Reference] | None = None, topic: str = TOPIC
) -> Tally:
    """Return a tally of the models (default: one) that has their references and one partition."""
    topics = Topics("benchmark")
    stage = Tally({model.name: model for model in models or [fraud()]}, topics, clock="stream")
    for made in references or [_usual()]:
        stage.table(topics.references.name, f"{made.model}/{made.version}".encode(), dump(made).encode())
    stage.assigned(frozenset({Partition(topic, 0)}), Restored())
    return stage


def batches(values: Sequence[bytes], size: int, topic: str = TOPIC) -> list[Batch]:
    """Return the events as one partition's log, cut into batches."""
    out = []
    for first in range(0, len(values), size):
        part = tuple(values[first : first + size])
        offsets = np.arange(first, first + len(part), dtype=np.int64)
        out.append(Batch(Partition(topic, 0), offsets, offsets, (None,) * len(part), part, first + len(part)))
    return out


def absorb(stage: Tally, parts: Sequence[Batch]) -> int:
    """Run batches through a tally with a flush now and then; returns the bytes it would have written."""
    written = 0
    for at, part in enumerate(parts, 1):
        stage.absorb(part)
        if at % FLUSH_EVERY == 0 or at == len(parts):
            written += sum(len(record.value or b"") for record in stage.flush(at * 1_000))
            stage.committed()
    return written


def decoding(stage: Tally, parts: Sequence[Batch], topic: str = TOPIC) -> None:
    """Decode batches to columns and do nothing with them."""
    reader = stage.readers.of(topic)
    for part in parts:
        reader.read(part.values)


def parsing(stage: Tally, parts: Sequence[Batch]) -> None:
    """Let the JSON parser alone make a structure of each record: no column, no rule, no hash."""
    parse = stage.readers.of(TOPIC).json.row_type.decode
    for part in parts:
        for value in part.values:
            parse(value or b"")


def polars_ways(values: Sequence[bytes], size: int) -> dict[str, Callable[[Any], None]]:
    """Return polars alone, and polars with a numpy histogram of every column against the reference's quantiles."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars as pl

    from benchmarks.throughput.events import table

    features: dict[str, Any] = dict.fromkeys(NUMBERS, pl.Float64) | dict.fromkeys(CATEGORIES, pl.String)
    schema: dict[str, Any] = {
        "kind": pl.String,
        "event_id": pl.String,
        "time": pl.Int64,
        "model": pl.String,
        "version": pl.String,
        "features": pl.Struct(features),
        "prediction": pl.Float64,
    }
    known = table(10_000, 0)
    levels = np.linspace(0, 1, 21)[1:-1]
    edges = {
        name: np.quantile(known[SCORE if name == "prediction" else name], levels) for name in (*NUMBERS, "prediction")
    }

    def frame(first: int) -> Any:
        return pl.read_ndjson(b"\n".join(values[first : first + size]), schema=schema).unnest("features")

    def decode(_: object) -> None:
        for first in range(0, len(values), size):
            frame(first)

    def histograms(_: object) -> None:
        for first in range(0, len(values), size):
            data = frame(first)
            for name, cuts in edges.items():
                np.bincount(np.searchsorted(cuts, data[name].to_numpy()), minlength=20)
            for name in CATEGORIES:
                data[name].value_counts()

    return {"polars": decode, "polars and histograms": histograms}
