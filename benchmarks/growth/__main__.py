"""Events a second and memory as columns, models, segments and categories grow; each point in a process of its own."""

import argparse
import json
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.measure.environment import child_environment
from benchmarks.measure.results import save, table

COUNTS = {
    "columns": (10, 30, 100, 300, 600, 1_000),
    "models": (1, 5, 50, 500),
    "segments": (1, 10, 100, 1_000),
    "categories": (10, 1_000, 100_000, 1_000_000),
}
LINEAR = 0.98


def main() -> None:
    """Measure every point, print the tables, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks growth", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(COUNTS), default=list(COUNTS))
    given = parser.parse_args()
    points = []
    for kind in given.only:
        for count in COUNTS[kind]:
            points.append(point(kind, count))
            print(f"{kind} {count}: {points[-1]['rate']:,.0f} events/s", flush=True)
    rows = [
        [p["kind"], p["count"], p["rate"], 1e6 / p["rate"], p["bytes"], p["batch"], p["rss_mib"], p["grown_mib"]]
        for p in points
    ]
    header = (
        "what grows",
        "to",
        "events/s",
        "µs/event",
        "bytes/event",
        "events/batch",
        "RSS MiB",
        "of which counts MiB",
    )
    print("\n" + table(header, rows))
    bars = bars_of(points)
    for name, value in bars.items():
        print(f"{name}: {value:.4g}")
    save("growth", {"points": points, "bars": bars})


def point(kind: str, count: int) -> dict[str, Any]:
    """Run one point in a child process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth.point", kind, str(count)],
        capture_output=True,
        text=True,
        check=False,
        env=child_environment(),
        timeout=240,
    )
    if done.returncode:
        raise RuntimeError(f"growth of {kind} to {count}: {done.stderr[-600:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def bars_of(points: list[dict[str, Any]]) -> dict[str, float]:
    """Return R² of the cost against columns, and how much dearer an event is with the most segments than with one."""
    found: dict[str, float] = {}
    columns = [(p["count"], 1e6 / p["rate"]) for p in points if p["kind"] == "columns"]
    if len(columns) > 2:
        x, y = np.array(columns).T
        found["columns R²"] = float(np.corrcoef(x, y)[0, 1] ** 2)
        found["columns, µs each"] = float(np.polyfit(x, y, 1)[0])
    segments = {p["count"]: 1e6 / p["rate"] for p in points if p["kind"] == "segments"}
    if segments:
        found["segments, cost of most over one"] = segments[max(segments)] / segments[min(segments)]
    return found


if __name__ == "__main__":
    main()
