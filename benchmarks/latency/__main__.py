"""Seconds from an event to its verdict at 10, 50 and 90 % load: waiting for the minute to close, and work."""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency.traffic import Closings, Traffic, steady
from benchmarks.measure.broker import broker_elsewhere, create_topic, prepare, settings_of
from benchmarks.measure.daemon import Daemon
from benchmarks.measure.results import load, save, table
from benchmarks.measure.timing import one_core
from benchmarks.throughput.events import reference

TOPIC = "scores"
PANE_MS = LATENESS_MS = 1_000
LOADS = (0.1, 0.5, 0.9)
WARM_S = 8.0
BAR_S = 2.0
_QUANTILES = ("work_p50", "work_p99", "whole_p50", "whole_p99")


def main() -> None:
    """Measure each load with a daemon of its own, print the table, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks latency", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--capacity", type=float, help="events/s at full load; default: what endtoend measured")
    given = parser.parse_args()
    known = load("endtoend")
    capacity = given.capacity or (known["rates"]["kafka-python: exactly once, tallied"] if known else 60_000.0)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    one_core()
    with broker_elsewhere() as bootstrap:
        if len(cores) > 1:
            # The daemon has the first core for itself; the traffic shares the broker's.
            os.sched_setaffinity(0, set(cores[1:]))
        found = [at_load(bootstrap, share, share * capacity, given.seconds, cores[0]) for share in LOADS]
    print("\n" + loads_table(found))
    bar = next(one["work_p99"] for one in found if one["load"] == 0.5)
    print(f"p99 past the closing at 50 % load: {bar:.2f} s (bar {BAR_S:g} s)")
    save("latency", {"capacity": capacity, "pane_ms": PANE_MS, "lateness_ms": LATENESS_MS, "loads": found, "bar": bar})


def loads_table(loads: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of what ``at_load`` found, as the program and the page of performance print it."""
    rows = [
        [f"{one['load']:.0%}", one["rate"], one["daemon"] * 100, one["closings"], *(one[name] for name in _QUANTILES)]
        for one in loads
    ]
    header = ("load", "events/s", "core %", "panes", "work p50 s", "work p99 s", "event to verdict p50 s", "p99 s")
    return table(header, rows)


def at_load(bootstrap: str, share: float, rate: float, seconds: float, core: int) -> dict[str, Any]:
    """Run a daemon under a steady load and return what its closings took."""
    topic = f"{TOPIC}-{share:g}"
    for name in (topic, f"{topic}.dlq"):
        create_topic(bootstrap, name)
    settings = settings_of(bootstrap, f"load-{share:g}")
    topics = prepare(settings, [reference()])
    model = {"predictions": topic, "pane": f"{PANE_MS}ms", "lateness": f"{LATENESS_MS}ms"}
    config = {"kafka": {"bootstrap": bootstrap, "prefix": settings.prefix}, "models": {"fraud": model}}
    with (
        tempfile.TemporaryDirectory(prefix="stationkeeper-bench-") as home,
        Daemon(Path(home), config, core=core) as one,
    ):
        traffic, closings = Traffic(bootstrap, topic), Closings(bootstrap, topics)
        steady(traffic, rate, WARM_S, closings.look)
        first, spent, began = time.time() * 1_000, one.processor_seconds(), time.perf_counter()
        reached = steady(traffic, rate, seconds, closings.look)
        last, share_used = time.time() * 1_000, (one.processor_seconds() - spent) / (time.perf_counter() - began)
        traffic.flush()
        steady(traffic, 50, 5.0, closings.look)
        closings.close()
    # A pane's closing moment is when an event later than its end by the lateness was sent.
    moments = {end: end + LATENESS_MS for end in closings.seen if first < end + LATENESS_MS < last}
    if not moments:
        raise RuntimeError(f"no pane of {topic} was closed")
    work = np.array([closings.seen[end] - moment for end, moment in sorted(moments.items())]) / 1_000
    waits = LATENESS_MS / 1_000 + (np.arange(100) + 0.5) / 100 * PANE_MS / 1_000
    whole = (work[:, None] + waits[None, :]).ravel()
    figures = {
        "load": share,
        "rate": reached,
        "daemon": share_used,
        "closings": len(work),
        "work_p50": float(np.quantile(work, 0.5)),
        "work_p99": float(np.quantile(work, 0.99)),
        "whole_p50": float(np.quantile(whole, 0.5)),
        "whole_p99": float(np.quantile(whole, 0.99)),
    }
    print(figures, flush=True)
    return figures


if __name__ == "__main__":
    main()
