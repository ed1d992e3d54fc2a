"""Time to answer a scrape of 10 000 series over HTTP, and how long it holds the interpreter."""

import argparse
import time
import urllib.request
from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any

from benchmarks.measure.results import save, table
from stationkeeper.contracts.metrics import Sample
from stationkeeper.process.web import WebServer, create_app

MODELS = 5
SERIES = 10_000


class Watched:
    """A role whose samples are those of five models with many subjects."""

    role = "judge"

    def __init__(self, series: int) -> None:
        per_model = series // MODELS
        names = ("stationkeeper_subject_state", "stationkeeper_window_rows", "stationkeeper_drift_evidence")
        self._samples = [
            Sample(names[i % 3], (f"model-{m}", "3", "", f"feature_{i // 3:04d}"), i / 7)
            for m in range(MODELS)
            for i in range(per_model)
        ]

    def live(self) -> bool:
        return True

    def ready(self) -> bool:
        return True

    def reasons(self) -> Sequence[str]:
        return ()

    def samples(self) -> Sequence[Sample]:
        return self._samples

    def status(self) -> Mapping[str, Any]:
        return {}


def main() -> None:
    """Scrape again and again, print the times, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scrape", description=__doc__)
    parser.add_argument("--series", type=int, default=SERIES)
    parser.add_argument("--times", type=int, default=25)
    given = parser.parse_args()
    server = WebServer(create_app([Watched(given.series)]))
    server.start()
    seconds, spent, size, lines = [], [], 0, 0
    try:
        for _ in range(given.times):
            wall, processor = time.perf_counter(), time.process_time()
            with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:  # noqa: S310 - our own server
                body = answer.read()
            seconds.append(time.perf_counter() - wall)
            spent.append(time.process_time() - processor)
            size, lines = len(body), sum(not line.startswith(b"#") for line in body.splitlines())
    finally:
        server.stop()
    p99 = quantiles(seconds, n=100)[98]
    rows = [[lines, size / 2**20, median(seconds) * 1e3, p99 * 1e3, median(spent) * 1e3]]
    print(table(("series", "MiB", "p50 ms", "p99 ms", "processor ms"), rows))
    save("scrape", {"series": lines, "bytes": size, "p50": median(seconds), "p99": p99, "processor": median(spent)})


if __name__ == "__main__":
    main()
