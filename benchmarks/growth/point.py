"""One point of the growth curves, alone in its process, so that its memory is its own; prints one JSON line."""

import gc
import json
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure.timing import one_core, resident_mib
from benchmarks.throughput import ours
from benchmarks.throughput.events import CATEGORIES, events, reference, table
from stationkeeper.monitor.core.reference import Reference
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.streams.ports import Batch

FETCH = 4 * 2**20
MOST = 10_000
VALUES = 1_500_000
ROUNDS = 3
PER_MINUTE = 6_000_000
"""Event time passes as it does at 100 000 events a second: what is measured is one second, and one flush."""


def columns(count: int) -> tuple[Tally, list[bytes]]:
    """Return a tally of so many features, four in five numbers, and events that hold about the same values in all."""
    numbers = tuple(f"feature_{i:04d}" for i in range(count * 4 // 5))
    categories = {f"category_{i:04d}": ("a", "b", "c", "d") for i in range(count - len(numbers))}
    known = reference(columns=table(2_000, 0, numbers, categories))
    rows = min(VALUES // count, 60_000)
    values = events(rows, columns=table(rows, 1, numbers, categories), per_minute=PER_MINUTE)
    return ours.tally(references=[known]), values


def models(count: int) -> tuple[Tally, list[bytes]]:
    """Return a tally of so many models on one topic, and their events in turn."""
    names = [f"model-{i:03d}" for i in range(count)]
    known = table(2_000, 0)
    settings = [ours.fraud(name=name) for name in names]
    made = [reference(model=name, columns=known) for name in names]
    return ours.tally(settings, made), events(100_000, models=names, per_minute=PER_MINUTE)


def segments(count: int) -> tuple[Tally, list[bytes]]:
    """Return a tally that splits its events by a category of so many values."""
    settings = ours.fraud(segments=["area"], limits={"segments": max(count, 1)})
    # The dimension stands beside the features, so that every value has a place and not only a reference's top ones.
    areas = np.random.default_rng(1).integers(0, count, 100_000).tolist()
    values = [
        value[:-1] + f',"segment":{{"area":"segment-{area:04d}"}}}}'.encode()
        for value, area in zip(events(100_000, per_minute=PER_MINUTE), areas, strict=True)
    ]
    return ours.tally([settings], [reference()]), values


def categories(count: int) -> tuple[Tally, list[bytes]]:
    """Return a tally of one category with so many distinct values, the rest as ever."""
    values = [f"merchant-{i:07d}" for i in range(count)]
    known = reference(columns=_with_category(10_000, 0, values, count))
    columns = _with_category(100_000, 1, values, count)
    return ours.tally(references=[known]), events(100_000, columns=columns, per_minute=PER_MINUTE)


def _with_category(rows: int, seed: int, values: Sequence[str], count: int) -> dict[str, Any]:
    found = table(rows, seed, categories={**CATEGORIES, "area": ("x",)})
    found["area"] = np.array(values)[np.random.default_rng(seed).integers(0, count, rows)]
    return found


KINDS = {"columns": columns, "models": models, "segments": segments, "categories": categories}


def batches(values: list[bytes]) -> list[Batch]:
    """Return batches as the client fetches them: at most 4 MiB and 10 000 records."""
    size = max(min(MOST, FETCH * len(values) // len(b"".join(values))), 1)
    return ours.batches(values, size)


def main(kind: str, count: int) -> None:
    """Measure one point."""
    one_core()
    stage, values = KINDS[kind](count)
    parts = batches(values)
    settings: list[ModelSettings] = list(stage._models.values())  # noqa: SLF001 - the same models once more
    known: list[Reference] = list(stage.references._references.values())  # noqa: SLF001
    gc.collect()
    before = resident_mib()
    seconds = []
    for _ in range(ROUNDS + 1):
        stage = ours.tally(settings, known)
        # Row types are made once a reference, and not once a run of this benchmark.
        stage.readers.of(ours.TOPIC)
        gc.collect()
        began = time.process_time()
        ours.absorb(stage, parts)
        seconds.append(time.process_time() - began)
    print(
        json.dumps(
            {
                "kind": kind,
                "count": count,
                "events": len(values),
                "bytes": len(b"".join(values)) / len(values),
                "batch": len(parts[0]),
                "rate": len(values) / median(seconds[1:]),
                "grown_mib": resident_mib() - before,
                "rss_mib": resident_mib() - sum(map(len, values)) / 2**20,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
