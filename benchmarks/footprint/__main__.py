"""The daemon at rest: memory, seconds from start to ready, heavy imports; the judge's time and memory for a pane."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure.broker import broker_elsewhere, create_topic, prepare, settings_of
from benchmarks.measure.daemon import Daemon
from benchmarks.measure.environment import child_environment
from benchmarks.measure.results import save, table
from benchmarks.measure.timing import one_core, resident_mib
from benchmarks.throughput.events import reference

HEAVY = ("scipy", "mlflow", "sklearn", "pandas", "polars", "pyarrow", "onnxruntime", "river", "confluent_kafka")
POINTS = {
    "one pane of 300 features": ("wide", 1, 70),
    "the same, numbers of 15 values": ("plain", 1, 70),
    "1 000 (model, segment) pairs of 16": ("pairs", 1_000, 8),
}
BARS = {"rss_mib": 150.0, "ready_s": 3.0}
IMPORTS = """
import sys
import stationkeeper.cli, stationkeeper.process.wiring, stationkeeper.process.run, stationkeeper.streams.connect
from stationkeeper.monitor.tally import stage
from stationkeeper.monitor.join import stage
from stationkeeper.monitor.judge import stage
from stationkeeper.streams.kafka import reader, sink, source
print(sorted(name for name in {heavy!r} if name in sys.modules))
"""


def main() -> None:
    """Measure, print the tables, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks footprint", description=__doc__)
    parser.add_argument("--starts", type=int, default=4)
    given = parser.parse_args()
    one_core()
    heavy = imported()
    starts = at_rest(given.starts)
    judging = {name: point(*numbers) for name, numbers in POINTS.items()}
    rows = [[one["client"], one["models"], one["ready_s"], one["rss_mib"], one["idle_share"] * 100] for one in starts]
    print("\n" + table(("client", "models", "start to ready s", "RSS at rest MiB", "core at rest %"), rows))
    fields = ("features", "watches", "cells", "pane_ms", "told_ms", "feature_kb")
    rows = [[name, *(one[field] for field in fields)] for name, one in judging.items()]
    header = (
        "judge",
        "subjects",
        "watches",
        "counters a subject",
        "ms a pane and watch",
        "and to tell",
        "kB a subject",
    )
    print("\n" + table(header, rows))
    print(f"\nimported on the monitor's path among {', '.join(HEAVY)}: {', '.join(heavy) or 'none'}")
    ready = median(one["ready_s"] for one in starts[1:] or starts)
    bars = {"rss_mib": max(one["rss_mib"] for one in starts), "ready_s": ready}
    for name, bar in BARS.items():
        print(f"{name}: {bars[name]:.2f} (bar {bar:g})")
    save("footprint", {"starts": starts, "judging": judging, "heavy": heavy, "bars": bars})


def imported() -> list[str]:
    """Return which heavy libraries a process has imported that can run the monitor's role."""
    command = [sys.executable, "-c", IMPORTS.format(heavy=HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=child_environment())
    found: list[str] = json.loads(done.stdout.strip().replace("'", '"'))
    return found


def at_rest(starts: int) -> list[dict[str, Any]]:
    """Start the daemon several times against a real broker, with one model and with twenty, and let it rest."""
    found = []
    with broker_elsewhere() as bootstrap, tempfile.TemporaryDirectory(prefix="stationkeeper-bench-") as home:
        for at in range(starts):
            models = 20 if at == starts - 1 else 1
            names = [f"model-{i:02d}" for i in range(models)]
            for name in names:
                create_topic(bootstrap, f"scores-{at}-{name}")
            client = "kafka-python"
            settings = settings_of(bootstrap, f"rest-{at}", client)
            prepare(settings, [reference(model=name) for name in names])
            config = {
                "kafka": {"bootstrap": bootstrap, "prefix": settings.prefix},
                "models": {name: {"predictions": f"scores-{at}-{name}"} for name in names},
            }
            create_dead_letters(bootstrap, [f"scores-{at}-{name}.dlq" for name in names])
            with Daemon(Path(home), config) as daemon:
                time.sleep(2.0)
                spent, began = daemon.processor_seconds(), time.perf_counter()
                time.sleep(4.0)
                idle = (daemon.processor_seconds() - spent) / (time.perf_counter() - began)
                found.append(
                    {
                        "client": client,
                        "models": models,
                        "ready_s": daemon.started,
                        "rss_mib": resident_mib(daemon.pid),
                        "idle_share": idle,
                    }
                )
            print(f"start {at + 1}: {found[-1]}", flush=True)
    return found


def create_dead_letters(bootstrap: str, names: list[str]) -> None:
    """Create the dead-letter topics that the tally writes to."""
    for name in names:
        create_topic(bootstrap, name)


def point(shape: str, watches: int, panes: int) -> dict[str, Any]:
    """Run one point of the judge in a child process."""
    command = [sys.executable, "-m", "benchmarks.footprint.point", shape, str(watches), str(panes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=child_environment(), timeout=400)
    if done.returncode:
        raise RuntimeError(done.stderr[-600:])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
