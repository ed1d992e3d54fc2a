"""Render the status page with many models of many features: python -m benchmarks page [--models M --features F]."""

import argparse
import statistics
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

from stationkeeper.page.fleet import fleet_page
from stationkeeper.page.incident import incident_page
from stationkeeper.page.model import model_page
from stationkeeper.process.web import WebServer, create_app
from tests.stationkeeper import story


def timed(render: Callable[[], str], rounds: int) -> tuple[float, float, int]:
    """Return the median and worst wall time (ms) of a rendering, and its size in bytes."""
    spent, size = [], 0
    for _ in range(rounds):
        began = time.perf_counter()
        size = len(render().encode())
        spent.append(1_000 * (time.perf_counter() - began))
    return statistics.median(spent), max(spent), size


def _get(address: str) -> str:
    with urllib.request.urlopen(address) as answer:  # noqa: S310 - our own server, over HTTP
        return str(answer.read().decode())


def main() -> None:
    """Print the time on the server and the size of each page; the bars are 300 ms and 1 MB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--features", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    base = story.model(story.SEEN, drifting=True)
    wide = [{**base["subjects"][i % 9], "name": f"feature_{i}"} for i in range(options.features)]
    models: list[Any] = [{**base, "model": f"model-{i}", "subjects": wide} for i in range(options.models)]
    role = story.Role("judge", {"models": models, "conservation": story.conservation()})
    fleet: Any = {"roles": [], "models": models, "conservation": [], "requests": [], "rollouts": [], "generated": 0}
    pages: dict[str, Callable[[], str]] = {
        "fleet": lambda: fleet_page(fleet),
        "model": lambda: model_page(models[0], fleet),
        "incident": lambda: incident_page(models[0]["incidents"][0], models[0], fleet),
    }
    print(f"{options.models} models x {options.features} features, {options.rounds} times each")
    print(f"{'page':10} {'median ms':>10} {'worst ms':>10} {'kB':>8}")
    for name, render in pages.items():
        median, worst, size = timed(render, options.rounds)
        print(f"{name:10} {median:10.1f} {worst:10.1f} {size / 1_000:8.1f}")
    server = WebServer(create_app([role], strict=True))
    server.start()
    try:
        for name, path in (("GET /", "/"), ("GET model", "/models/model-0")):
            median, worst, size = timed(partial(_get, server.url + path), options.rounds)
            print(f"{name:10} {median:10.1f} {worst:10.1f} {size / 1_000:8.1f}")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
