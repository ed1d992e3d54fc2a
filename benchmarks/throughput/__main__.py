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

from benchmarks.throughput.events import events, reference
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
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
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
