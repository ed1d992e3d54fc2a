"""Peak memory, time and size of a snapshot of N rows, from JSON events to the Parquet that a training reads.

Each N in a process of its own. The log is made batch by batch while it is read, so its own memory is none.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.environment import child_environment
from benchmarks.measure.results import save, table
from stationkeeper.events import own_form
from stationkeeper.retrain.snapshot import EventColumns, EventFrames, LabelledRows, SnapshotStore
from stationkeeper.streams.ports import Batch, Partition

ROWS = (1_000_000, 5_000_000)
FEATURES = 10
BATCH = 20_000
START_MS = 1_767_571_200_000
DELAY_MS = 3_600_000
BAR_MIB = 2_048


class MadeLog:
    """A ``Reader`` over two topics of one partition, predictions and the labels of all of them."""

    def __init__(self, rows: int) -> None:
        """``rows`` predictions, ten a second, the label of each an hour later."""
        self._rows = rows

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """Return the one partition of a topic."""
        return (Partition(topic, 0),)

    def bounds(self, partitions: Sequence[Partition]) -> Mapping[Partition, tuple[int, int]]:
        """Return the offsets."""
        return dict.fromkeys(partitions, (0, self._rows))

    def read(self, partitions: Sequence[Partition], start: Mapping[Partition, int] | None = None) -> Iterator[Batch]:
        """Yield every record, made from its offset."""
        for partition in partitions:
            make = _predictions if partition.topic == "predictions" else _labels
            for first in range((start or {}).get(partition, 0), self._rows, BATCH):
                n = min(BATCH, self._rows - first)
                offsets = np.arange(first, first + n, dtype=np.int64)
                stamps = np.full(n, START_MS + self._rows * 100 + DELAY_MS, dtype=np.int64)
                yield Batch(partition, offsets, stamps, [None] * n, make(first, n), first + n)

    def follow(self, partitions: Sequence[Partition], positions: dict[Partition, int], timeout_s: float) -> list[Batch]:
        """Return nothing: no more comes."""
        del partitions, positions, timeout_s
        return []

    def close(self) -> None:
        """Do nothing."""


def _predictions(first: int, n: int) -> list[bytes | None]:
    values = np.random.default_rng(first).normal(size=(n, FEATURES)).round(4).tolist()
    names = [f'"f{i}":%r' for i in range(FEATURES)]
    form = (
        '{"kind":"prediction","event_id":"event-%d","time":%d,"model":"m","version":"1","prediction":0.1,'
        '"features":{' + ",".join(names) + ',"method":"%s"}}'
    )
    return [
        (form % (at, START_MS + 100 * at, *row, "card" if at % 3 else "wallet")).encode()
        for at, row in enumerate(values, first)
    ]


def _labels(first: int, n: int) -> list[bytes | None]:
    form = '{"kind":"label","event_id":"event-%d","time":%d,"model":"m","label":%s}'
    return [
        (form % (at, START_MS + 100 * at + DELAY_MS, "true" if at % 10 == 0 else "false")).encode()
        for at in range(first, first + n)
    ]


def measure(rows: int, directory: Path) -> dict[str, Any]:
    """Take one snapshot of ``rows`` rows and return what it took."""
    inputs = tuple(own_form((kind,), source=f"{kind}s", models=("m",)) for kind in ("prediction", "label"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    found = LabelledRows(inputs, EventColumns("m"), 0, rows, frames=EventFrames(directory))
    found.advance(MadeLog(rows))
    read_s = time.perf_counter() - began
    clock = found.clock_ms or 0
    statistics = found.statistics(START_MS, clock, None, "true")
    made = SnapshotStore(directory / "store").write(found.pieces(clock, statistics.maturity_ms), {"model": "m"})
    found.close()
    return {
        "rows": made.rows,
        "labelled": made.manifest["labelled"],
        "before_mib": before / 1024,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "read_s": read_s,
        "seconds": time.perf_counter() - began,
        "parquet_mib": made.path.stat().st_size / 2**20,
    }


def main() -> None:
    """Measure each number of rows in a child, print a table, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks snapshot", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--directory", type=Path, help="Where parts and snapshots lie; default: a temporary one.")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        with tempfile.TemporaryDirectory(dir=given.directory) as scratch:
            print(json.dumps(measure(given.rows[0], Path(scratch))))
        return
    points = []
    for rows in given.rows:
        where = ["--directory", str(given.directory)] if given.directory else []
        command = [sys.executable, "-m", "benchmarks.snapshot", "--child", "--rows", str(rows), *where]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=child_environment())
        points.append(json.loads(done.stdout))
        print(f"{rows:,} rows: peak {points[-1]['peak_mib']:,.0f} MiB, {points[-1]['seconds']:.0f} s", flush=True)
    header = ("rows", "labelled", "peak MiB", "of it before", "read s", "all s", "Parquet MiB")
    keys = ("rows", "labelled", "peak_mib", "before_mib", "read_s", "seconds", "parquet_mib")
    print("\n" + table(header, [[point[key] for key in keys] for point in points]))
    worst = max(point["peak_mib"] for point in points)
    print(f"peak memory below {BAR_MIB} MiB: {worst < BAR_MIB}")
    save("snapshot", {"points": points, "bars": {"peak_mib": worst}})


if __name__ == "__main__":
    main()
