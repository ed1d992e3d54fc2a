"""``python -m benchmarks.throughput``: decoding alone, and decoding with tally, in one process on one core."""

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.throughput.events import CATEGORIES, NUMBERS, events, reference
from contracts.topics import Topics
from monitor.core.reference_json import dump
from monitor.settings import ModelSettings
from monitor.tally import Tally
from streams.ports import Batch, Partition, Restored

TOPIC = "scores"


def tally() -> Tally:
    """A tally of one model that has its reference and one partition; dedupe is on, as in production."""
    topics = Topics("benchmark")
    model = ModelSettings.model_validate({"name": "fraud", "predictions": TOPIC})
    stage = Tally({"fraud": model}, topics, clock="stream")
    stage.table(topics.references.name, b"fraud/3", dump(reference()).encode())
    stage.assigned(frozenset({Partition(TOPIC, 0)}), Restored())
    return stage


def batches(values: list[bytes], size: int) -> list[Batch]:
    """The events as one partition's log, cut into batches."""
    out = []
    for first in range(0, len(values), size):
        part = tuple(values[first : first + size])
        offsets = np.arange(first, first + len(part), dtype=np.int64)
        out.append(Batch(Partition(TOPIC, 0), offsets, offsets, (None,) * len(part), part, first + len(part)))
    return out


def polars_decode(values: list[bytes], size: int) -> None:
    """The same fields by ``polars.read_ndjson`` with a schema: no rule is checked and nothing is told apart."""
    import polars as pl

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
    for first in range(0, len(values), size):
        pl.read_ndjson(b"\n".join(values[first : first + size]), schema=schema).unnest("features")


def best_of(runs: int, work: Callable[[], Any]) -> float:
    """Return the least processor time of some runs in seconds: what else the machine does only ever adds."""
    times = []
    for _ in range(runs):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def main() -> None:
    """Print the table and, with ``--json``, the same as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--polars", action="store_true", help="also decode with polars.read_ndjson, on one thread")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    os.environ["POLARS_MAX_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    values = events(given.events)
    parts = batches(values, given.batch)

    def decode() -> None:
        stage = tally()
        decoder = stage.decoder(TOPIC)
        for part in parts:
            decoder.decode(part.values)

    def whole() -> None:
        stage = tally()
        for at, part in enumerate(parts):
            stage.absorb(part)
            if at % 20 == 19:
                stage.flush(at)
                stage.committed()

    seconds = {"decode only": best_of(given.runs, decode), "decode and tally": best_of(given.runs, whole)}
    if given.polars:
        seconds["polars instead"] = best_of(given.runs, lambda: polars_decode(values, given.batch))
    rates = {name: given.events / took for name, took in seconds.items()}
    ratio = rates["decode and tally"] / rates["decode only"]
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if given.json:
        print(json.dumps({"events": given.events, "rates": rates, "ratio": ratio, "rss_mib": rss}))
        return
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, one core")
    print(f"{given.events} events of {np.mean([len(v) for v in values]):.0f} bytes in batches of {given.batch}")
    for name, rate in rates.items():
        print(f"{name:20s} {rate:12,.0f} events/s {1e9 / rate:8.0f} ns/event")
    print(f"ratio {ratio:.2f}; peak memory with the events {rss:.0f} MiB")


if __name__ == "__main__":
    main()
