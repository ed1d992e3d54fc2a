"""Fill the label join's store again: from its topic, from the local cache, and from SQLite for comparison.

``python -m benchmarks join_cache [--rows 10000000]``: predictions that wait for their labels, in one process on one
core over the six joins partitions. CPU seconds are told beside the wall's, which other work on the machine disturbs.
"""

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from stationkeeper.contracts.topics import JOINS_PARTITIONS, Topics
from stationkeeper.contracts.wire import JOIN_ROW, JoinBatch, encode
from stationkeeper.monitor.join.disk_cache import freeze, thaw
from stationkeeper.monitor.join.stage import Join
from stationkeeper.monitor.settings import JoinSettings, ModelSettings
from stationkeeper.streams.ports import Batch, Partition, Restored

A_VALUE = 16_000


@contextmanager
def told(what: str) -> Iterator[None]:
    """Print how long a step took."""
    wall, cpu = time.monotonic(), time.process_time()
    yield
    print(f"{what}: {time.monotonic() - wall:.1f} s, {time.process_time() - cpu:.1f} s of CPU", flush=True)


def values(rows: int, seed: int) -> list[bytes]:
    """One partition's log of predictions."""
    rng = np.random.default_rng(seed)
    out = []
    for first in range(0, rows, A_VALUE):
        made = np.zeros(min(A_VALUE, rows - first), JOIN_ROW)
        made["id"] = rng.integers(0, 2**63, len(made))
        made["time"] = 1_767_225_600_000 + (first + np.arange(len(made))) * 10
        made["score"], made["label"] = rng.random(len(made)), np.nan
        out.append(encode([JoinBatch("prediction", "fraud", "1", ("",), made.tobytes())]))
    return out


def main() -> None:
    """Print the times and sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    given = parser.parse_args()
    topics = Topics("benchmark")
    model = ModelSettings.model_validate({"name": "fraud", "predictions": "scores", "labels": "outcomes"})
    join = Join({"fraud": model}, topics, JoinSettings(cache=None))
    partitions = [Partition(topics.joins.name, index) for index in range(JOINS_PARTITIONS)]
    join.assigned(frozenset(partitions), Restored())
    logs = {partition: values(given.rows // JOINS_PARTITIONS, partition.index) for partition in partitions}
    size = sum(len(value) for log in logs.values() for value in log)
    print(f"{given.rows:,} rows, {size / 1e6:.0f} MB in the topic")
    with told("from the topic's values"):
        for partition, log in logs.items():
            for at, value in enumerate(log):
                offset = np.array([at], np.int64)
                join.absorb(Batch(partition, offset, offset, (None,), (value,), at + 1))
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / str(index) for index in range(JOINS_PARTITIONS)]
        with told("to the cache"):
            for path, side in zip(paths, join._partitions.values(), strict=True):  # noqa: SLF001
                with path.open("wb") as out:
                    out.writelines(freeze(side.snapshot()))
        print(f"cache: {sum(path.stat().st_size for path in paths) / 1e6:.0f} MB")
        with told("from the cache"):
            for path, side in zip(paths, join._partitions.values(), strict=True):  # noqa: SLF001
                side.load(thaw(path.read_bytes()))
        some = next(iter(join._partitions.values())).predictions.rows()[:1_000_000]  # noqa: SLF001
        with closing(sqlite3.connect(Path(directory) / "joins.db")) as database:
            database.execute("CREATE TABLE waiting (key INTEGER PRIMARY KEY, row BLOB) WITHOUT ROWID")
            with told(f"to SQLite, {len(some):,} rows in one transaction"), database:
                pairs = ((int(row["key"]) - 2**63, row.tobytes()) for row in some)
                database.executemany("INSERT OR IGNORE INTO waiting VALUES (?, ?)", pairs)


if __name__ == "__main__":
    main()
