"""Our client library beside scouter-ml's: microseconds on the request path, events lost while the broker is away."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from benchmarks.measure.broker import create_topic, settings_of
from benchmarks.measure.environment import NotInstalled, child_environment, python_of
from benchmarks.measure.results import save, table
from stationkeeper.streams.broker import LocalBroker

HERE = Path(__file__).parent
SCOUTER = ("scouter-ml==0.25.0", "numpy==2.4.6")
# Seconds from the last event to the end of the process: a broker that came back has them for what waits.
DRAIN_S = 20.0


def main() -> None:
    """Measure both clients, with the broker there and away, print the table and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks client", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--pace", type=float, default=1_000.0)
    parser.add_argument("--away", type=float, default=5.0, help="seconds that the broker is away")
    given = parser.parse_args()
    ours = ("stationkeeper.client", lambda: [sys.executable, str(HERE / "ours.py")], len)
    peer = ("scouter-ml 0.25.0", lambda: [str(python_of("scouter", SCOUTER)), str(HERE / "peer_scouter.py")], binned)
    rows: list[list[object]] = []
    with LocalBroker() as broker:
        for away in (0.0, given.away):
            for name, command, count in (ours, peer):
                topic = f"client-{len(rows)}"
                create_topic(broker.bootstrap, topic)
                try:
                    found = measure(broker, command(), topic, given, away)
                except (NotInstalled, subprocess.SubprocessError, json.JSONDecodeError) as error:
                    rows.append([name, away, f"not measured: {error}", None, None, None])
                    continue
                lost = given.events - count(values(broker.bootstrap, topic))
                rows.append([name, away, found["p50_us"], found["p99_us"], found["max_us"], lost])
                print(rows[-1], flush=True)
    print("\n" + table(("client", "broker away s", "a call p50 µs", "p99 µs", "longest µs", "events lost"), rows))
    save("client", {"events": given.events, "pace": given.pace, "rows": rows})


def measure(
    broker: LocalBroker, command: list[str], topic: str, given: argparse.Namespace, away: float
) -> dict[str, Any]:
    """Run one service; in the middle of its events the broker is killed, and comes back after ``away`` seconds."""
    arguments = [broker.bootstrap, topic, str(given.events), str(given.pace), str(DRAIN_S)]
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=child_environment()
    ) as service:
        assert service.stdout is not None
        told = ""
        while not told.startswith("ready"):
            told = service.stdout.readline()
            if not told:
                raise subprocess.SubprocessError("the service ended before its first event")
        if away:
            time.sleep(given.events / given.pace / 4)
            broker.kill()
            time.sleep(away)
            broker.restart()
        *_, last = service.stdout.read().splitlines()
    found: dict[str, Any] = json.loads(last)
    return found


def values(bootstrap: str, topic: str) -> list[bytes]:
    """Return all records of a topic."""
    consumer = KafkaConsumer(**settings_of(bootstrap, "benchmark").connection("benchmark"))
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end, found = consumer.end_offsets([partition])[partition], []
    while consumer.position(partition) < end:
        for records in consumer.poll(1_000).values():
            found += [one.value for one in records]
    consumer.close()
    return found


def binned(records: Iterable[bytes]) -> int:
    """Return how many events scouter's records count: for one feature, the sum of its bins."""

    def bins(found: Any) -> Iterable[int]:
        if isinstance(found, list):
            for one in found:
                yield from bins(one)
        elif isinstance(found, dict):
            if found.get("feature") == "feature_0":
                yield found["bin_count"]
            else:
                for one in found.values():
                    yield from bins(one)

    return sum(sum(bins(json.loads(record))) for record in records)


if __name__ == "__main__":
    main()
