"""SIGTERM ends a real process within the stated time, whether the broker answers or not."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka import KafkaProducer

from stationkeeper.config import load
from stationkeeper.contracts.wire import PaneDelta, decode
from stationkeeper.process.wiring import prepare_topics, reader_for, topics_of
from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.kafka.topics import ensure_inputs

# Nothing tells from outside what is absorbed and not yet committed, so this monitor says it itself.
TELLING = """
import json, sys
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.cli import main
absorb = Tally.absorb
def telling(tally, batch):
    absorb(tally, batch)
    if len(batch):
        sys.stderr.write(json.dumps({"event": "absorbed", "rows": len(batch)}) + "\\n")
Tally.absorb = telling
main()
"""


@contextmanager
def monitor(tmp_path: Path, kafka: str, **more: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A monitor process in a group of its own, and the file of its log."""
    config = tmp_path / "stationkeeper.yaml"
    lines = [f"kafka: {kafka}", "http: {monitor: 0}", *(f"{name}: {value}" for name, value in more.items())]
    lines.append(f"models: {{fraud: {{predictions: {tmp_path.name}.scores}}}}")
    config.write_text("\n".join(lines))
    log = tmp_path / "log"
    command = [sys.executable, "-c", TELLING, "monitor", "--config", str(config)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ})
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()


def said(log: Path, event: str) -> list[dict[str, object]]:
    """The log lines of an event."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def until(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def absorbed(log: Path) -> int:
    return sum(int(str(line["rows"])) for line in said(log, "absorbed"))


def test_without_an_answering_broker_it_leaves_after_the_drain_time_and_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = f"{{bootstrap: '127.0.0.1:{silent.getsockname()[1]}', connect_timeout: 60s}}"
        with monitor(tmp_path, settings, drain="500ms") as (process, log):
            until(lambda: len(said(log, "started")) == 3, log)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 1
            roles = {line["role"] for line in said(log, "drain_timeout")}
            assert roles == {"tally", "join", "judge"}
            assert "nothing is lost" in log.read_text()


@pytest.mark.broker
def test_what_was_absorbed_is_committed_before_it_leaves(kafka: FoundBroker, tmp_path: Path) -> None:
    prefix = f"d{uuid.uuid4().hex[:8]}"
    # The flush interval is longer than the test, so only the drain can have written what is found.
    settings = f"{{bootstrap: '{kafka.bootstrap}', prefix: {prefix}, flush_interval: 10m}}"
    with monitor(tmp_path, settings) as (process, log):
        config = load(tmp_path / "stationkeeper.yaml")
        prepare_topics(config)
        ensure_inputs(config.kafka, [f"{tmp_path.name}.scores"], create_inputs=True)
        until(lambda: len(said(log, "state_restored")) == 3, log)
        producer = KafkaProducer(acks="all", **config.kafka.connection("test"))
        event = {"kind": "prediction", "model": "fraud", "version": "1", "features": {}, "prediction": 0.5}
        for i in range(50):
            value = {**event, "event_id": f"e{i}", "time": round(time.time() * 1_000)}
            producer.send(f"{tmp_path.name}.scores", json.dumps(value).encode())
        producer.flush(30)
        producer.close()
        until(lambda: absorbed(log) == 50, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert len(said(log, "stopped")) == 3
        reader = reader_for(config, "test")
        topics = topics_of(config)
        panes = [
            record
            for batch in reader.read(reader.partitions(topics.panes.name))
            for value in batch.values
            for record in decode(value or b"")
            if isinstance(record, PaneDelta)
        ]
        reader.close()
        assert sum(pane.rows for pane in panes) == 50
