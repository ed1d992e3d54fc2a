"""On a real Kafka: one topic that goes bad, or is deleted and created again, stops alone; the verbs read it on."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stationkeeper.cli import app
from stationkeeper.config import load
from stationkeeper.process.wiring import loop_for, monitor_stages, prepare_topics
from stationkeeper.streams.broker import FoundBroker
from tests.conformance.worlds import KafkaWorld
from tests.waiting import until

pytestmark = pytest.mark.broker


class Watched:
    """Two models on topics of their own, and the tally over them in a thread."""

    def __init__(self, bootstrap: str, client: str, directory: Path) -> None:
        self.world = KafkaWorld(bootstrap)
        self.good, self.bad = self.world.create("good", 1), self.world.create("bad", 1)
        self.path = directory / "stationkeeper.yaml"
        self.path.write_text(f"""
clock: stream
kafka: {{bootstrap: '{bootstrap}', prefix: {self.world.prefix}, client: {client}, flush_interval: 100ms,
         metadata_max_age: 1s, session_timeout: 6s, dead_letters: {{run: 200}}}}
models: {{m: {{predictions: {self.good}}}, n: {{predictions: {self.bad}}}}}
""")
        self.config = load(self.path)
        prepare_topics(self.config, create_inputs=False)
        self.stop = threading.Event()
        self.start()

    def start(self) -> None:
        self.loop = loop_for(monitor_stages(self.config, lambda _topic: 1)[0], self.config.kafka)
        self.thread = threading.Thread(target=self.loop.run, args=(self.stop,), daemon=True)
        self.thread.start()

    def end(self) -> None:
        self.stop.set()
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.stop.clear()

    def send(self, topic: str, model: str, count: int, **changes: Any) -> None:
        event = {"kind": "prediction", "model": model, "version": 1, "features": {}, "prediction": 0.5}
        now = round(time.time() * 1_000)
        values = [json.dumps(event | {"event_id": uuid.uuid4().hex, "time": now} | changes) for _ in range(count)]
        self.world.produce(topic, [value.encode() for value in values], partition=0)

    def received(self) -> dict[str, int]:
        rows = self.loop.status().get("conservation", [])
        return {row["topic"].partition(".")[2]: row["received"] for row in rows}

    def stopped(self) -> dict[str, str]:
        return {one["topic"].partition(".")[2]: one["reason"] for one in self.loop.status().get("stopped", [])}

    def verb(self, *arguments: str, of: str = "topics") -> str:
        found = CliRunner().invoke(app, [of, *arguments, "--config", str(self.path)], catch_exceptions=False)
        return found.output


@pytest.fixture(params=["kafka-python", "librdkafka"])
def watched(request: pytest.FixtureRequest, kafka: FoundBroker, tmp_path: Path) -> Iterator[Watched]:
    """Yield the tally over each client."""
    found = Watched(kafka.bootstrap, request.param, tmp_path)
    try:
        yield found
    finally:
        found.end()
        found.world.close()


def test_a_topic_stops_alone_and_is_read_on_by_the_verbs(watched: Watched) -> None:
    watched.send(watched.good, "m", 100)
    watched.send(watched.bad, "n", 100)
    until(lambda: watched.received() == {"good": 100, "bad": 100}, "both are read")

    watched.send(watched.bad, "n", 300, version=None)
    until(lambda: watched.stopped() == {"bad": "rejected"}, "one stops")
    watched.send(watched.good, "m", 50)
    until(lambda: watched.received()["good"] == 150, "the other goes on")
    assert 100 <= watched.received()["bad"] < 300, "nothing past the limit is committed, whatever the batches"
    assert "200 records in a row" in watched.verb("list")
    # Whoever looks at what was rejected must not take the end of it for the end of the trouble.
    said = watched.verb("list", of="dead-letters")
    assert f"not read any more: {watched.bad}: " in said
    assert f"run `stationkeeper topics resume {watched.bad}`" in said
    assert "is the topic that was read before" in watched.verb("accept-new", watched.bad)
    assert "is not stopped" in watched.verb("resume", watched.good)
    assert "is read on" in watched.verb("resume", watched.bad, "--by", "sre")
    until(lambda: watched.received() == {"good": 150, "bad": 400} and not watched.stopped(), "read on")
    until(lambda: "not read any more" not in watched.verb("list", of="dead-letters"), "told no more")

    watched.world.delete(watched.bad)
    watched.send(watched.good, "m", 50)
    until(lambda: watched.received().get("good") == 200, "one that is gone holds up nobody")
    watched.world._producer = None
    watched.world.create("bad", 1)
    # More than was read of the one before, which offsets alone would pass over without a word.
    watched.send(watched.bad, "n", 600)
    until(lambda: watched.stopped() == {"bad": "recreated"}, "another one stops")
    watched.send(watched.good, "m", 50)
    until(lambda: watched.received().get("good") == 250, "the other goes on beside it")
    watched.end()
    watched.start()
    until(lambda: watched.stopped() == {"bad": "recreated"}, "and after a restart")
    assert "stationkeeper topics accept-new" in watched.verb("resume", watched.bad)
    assert "is read as the topic it is now" in watched.verb("accept-new", watched.bad)
    until(lambda: watched.received() == {"good": 250, "bad": 600}, "all of the new one")
    assert watched.stopped() == {}
