"""Events a second from a real broker with exactly-once, both clients, beside the client alone and quixstreams."""

import argparse
import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.endtoend.stream import Pass, alone, exactly_once
from benchmarks.measure.broker import broker_elsewhere, create_topic, produce, settings_of
from benchmarks.measure.environment import NotInstalled, child_environment, python_of
from benchmarks.measure.results import save, table
from benchmarks.measure.timing import one_core
from benchmarks.throughput import ours
from benchmarks.throughput.events import events as make_events

TOPIC = "scores"
CLIENTS = ("kafka-python", "librdkafka")
OWN, READ = "client reads, its own records", "client reads"
SERIES, WHOLE = "client reads, then decodes", "exactly once, tallied"
WHOLE_OWN = "exactly once, tallied, its own records"
QUIX = ("quixstreams==3.28.1", "numpy==2.4.6")
QUIX_EVENTS = {"histogram": 200_000, "window": 150_000, "histograms": 100_000}
WAYS = {
    "histogram": "histograms without state",
    "window": "mean of its tumbling window",
    "histograms": "histograms in its tumbling window",
}
BARS = (
    *((f"{client} against series", 0.75) for client in CLIENTS),
    *((f"{client} against quixstreams histograms", 5.0) for client in CLIENTS),
)


def main() -> None:
    """Measure, print the table, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks endtoend", description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    given = parser.parse_args()
    one_core()
    reader = ours.tally().readers.of(TOPIC)
    with broker_elsewhere() as bootstrap:
        create_topic(bootstrap, TOPIC)
        # quixstreams leaves records without a key out of its windows.
        produce(bootstrap, TOPIC, make_events(given.events), [b"fraud"] * given.events)
        found: dict[str, list[Pass]] = {}
        quix: dict[str, list[dict[str, Any]]] = {}
        for turn in range(given.rounds):
            for client in CLIENTS if turn % 2 == 0 else CLIENTS[::-1]:
                settings = settings_of(bootstrap, "alone", client)
                works: dict[str, Callable[[], Pass]] = {
                    READ: lambda s=settings: alone(s, TOPIC, given.events, len),  # type: ignore[misc]
                    SERIES: lambda s=settings: alone(s, TOPIC, given.events, reader.read),  # type: ignore[misc]
                    WHOLE: lambda c=client, p=f"{client}-{turn}": exactly_once(bootstrap, c, TOPIC, given.events, p),  # type: ignore[misc]
                }
                if client == "kafka-python":
                    works[OWN] = lambda s=settings: alone(s, TOPIC, given.events, len, own=True)  # type: ignore[misc]
                    works[WHOLE_OWN] = lambda p=f"own-{turn}": exactly_once(  # type: ignore[misc]
                        bootstrap, "kafka-python", TOPIC, given.events, p, own=True
                    )
                for name, work in works.items():
                    one = work()
                    found.setdefault(f"{client}: {name}", []).append(one)
                    rate = given.events / one.wall
                    print(f"{client}: {name}: {rate:,.0f}/s, processor {one.processor / one.wall:.0%}", flush=True)
            if not given.no_peers:
                quixstreams(bootstrap, quix)
    report(given.events, found, quix)


def quixstreams(bootstrap: str, out: dict[str, list[dict[str, Any]]]) -> None:
    """Add the seconds of each way to use quixstreams, or why there are none; what failed once is not tried again."""
    script = Path(__file__).with_name("quix.py")
    for way, count in QUIX_EVENTS.items():
        rounds = out.setdefault(way, [])
        if rounds and "failed" in rounds[-1]:
            continue
        try:
            python = python_of("quixstreams", QUIX)
            command = [str(python), str(script), bootstrap, TOPIC, str(count), way]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=90, check=True, env=child_environment()
            )
            rounds.append(json.loads(done.stdout.strip().splitlines()[-1]))
        except (NotInstalled, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            rounds.append({"failed": " ".join(str(said).split()[-30:])})
        print(f"quixstreams {way}: {rounds[-1]}", flush=True)


def report(events: int, found: dict[str, list[Pass]], quix: dict[str, list[dict[str, Any]]]) -> None:
    """Print the table and the bars, and write the figures."""
    rates = {name: events / median(one.wall for one in passes) for name, passes in found.items()}
    bars: dict[str, float] = {}
    rows: list[list[object]] = []
    for client in CLIENTS:
        whole, series = found[f"{client}: {WHOLE}"], found[f"{client}: {SERIES}"]
        bars[f"{client} against series"] = median(b.wall / a.wall for a, b in zip(whole, series, strict=True))
        for name in (OWN, READ, SERIES, WHOLE_OWN, WHOLE):
            passes = found.get(f"{client}: {name}", [])
            if not passes:
                continue
            spent = median(one.processor for one in passes) / events * 1e6
            rows.append([client, name, rates[f"{client}: {name}"], spent])
    for way, rounds in quix.items():
        if "failed" in rounds[-1]:
            rows.append(["quixstreams 3.28.1", f"{WAYS[way]}: {rounds[-1]['failed']}", None, None])
            continue
        quick = [one["events"] / one["wall"] for one in rounds]
        spent = median(one["processor"] / one["events"] for one in rounds) * 1e6
        rows.append(["quixstreams 3.28.1", WAYS[way], median(quick), spent])
        for client in CLIENTS:
            # Of the same round each, as above: what else the machine does then hits both.
            pairs = zip(found[f"{client}: {WHOLE}"], quick, strict=True)
            bars[f"{client} against quixstreams {way}"] = median(events / one.wall / theirs for one, theirs in pairs)
    print("\n" + table(("client", "what", "events/s", "processor µs/event"), rows))
    ours, without = found[f"kafka-python: {WHOLE}"], found[f"kafka-python: {WHOLE_OWN}"]
    kept = bars["kafka-python without our reading"] = median(
        a.wall / b.wall for a, b in zip(ours, without, strict=True)
    )
    print(f"kafka-python without our reading of fetches keeps {kept:.2f} of the events a second")
    for name, bar in BARS:
        print(f"{name}: {bars.get(name, float('nan')):.2f} (bar {bar})")
    every = {name: [asdict(one) for one in passes] for name, passes in found.items()}
    save("endtoend", {"events": events, "rates": rates, "passes": every, "quix": quix, "rows": rows, "bars": bars})


if __name__ == "__main__":
    main()
