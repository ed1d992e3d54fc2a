"""Rows a second of a backtest on Parquet: the command as a user runs it, its own count and the whole process."""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.measure.environment import child_environment
from benchmarks.measure.results import save, table
from benchmarks.throughput.events import SCORE, START_MS
from benchmarks.throughput.events import table as columns


def main() -> None:
    """Write a Parquet file, run the backtest on it, print and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks replay", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stationkeeper-bench-") as home:
        path = Path(home) / "events.parquet"
        frame = pl.DataFrame(columns(given.rows, 0))
        times = START_MS + np.arange(given.rows, dtype=np.int64) * 60
        frame.with_columns(pl.Series("time", times).cast(pl.Datetime("ms"))).write_parquet(path)
        command = [
            sys.executable,
            "-m",
            "stationkeeper",
            "backtest",
            str(path),
            "--time",
            "time",
            "--prediction",
            SCORE,
        ]
        command += ["--reference-rows", "100000", "--pane", "1m"]
        began = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=child_environment(), timeout=300
        )
        whole = time.perf_counter() - began
        size = path.stat().st_size
    match = re.search(r"(\d+) panes.*judged in ([\d.]+) s \((\d+) rows/s\)", done.stderr)
    if done.returncode or match is None:
        raise RuntimeError(f"the backtest failed: {done.stderr[-500:]}")
    panes, judged, rate = int(match[1]), float(match[2]), int(match[3])
    rows = [[given.rows, size / 2**20, panes, judged, whole, rate, given.rows / whole]]
    header = ("rows", "MiB", "panes", "judging s", "whole command s", "rows/s judging", "rows/s whole")
    print(table(header, rows))
    figures = {"rows": given.rows, "panes": panes, "judging": judged, "whole": whole, "rate": given.rows / whole}
    save("replay", figures | {"judging_rate": rate})


if __name__ == "__main__":
    main()
