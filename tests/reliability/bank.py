"""A bank under faults: its topics, its stream, its worker processes, and the means to hurt them."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from contracts.messages import Rollout, RolloutPhase
from contracts.times import to_datetime
from contracts.topics import Topics
from monitor.core.profile import profile
from monitor.core.reference_json import dump
from streams.broker import LocalBroker
from streams.reader import KafkaReader
from streams.settings import KafkaSettings
from streams.topics import ensure_inputs, ensure_internal
from tests.conformance.worlds import until
from tests.reliability.events import PARTITIONS, SHIFT_AT, START, Dirt, event, poison, stream
from tests.reliability.worker import models

ROOT = Path(__file__).resolve().parent.parent.parent
CHUNK = 30


class Worker:
    """A role's process."""

    def __init__(self, role: str, settings: KafkaSettings, log: Path, die: str = "") -> None:
        self.role, self.log = role, log
        command = [sys.executable, "-m", "tests.reliability.worker", role]
        command.append(settings.model_dump_json(exclude={"security"}))
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, *(["--die", die] if die else [])],
                cwd=ROOT,
                stderr=output,
                stdout=output,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                found.append(json.loads(line))
        return found

    def logged(self, event_name: str) -> int:
        """Return how often it has logged an event."""
        return sum(line["event"] == event_name for line in self.lines())

    def signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        self.process.send_signal(number)

    def end(self, limit_s: float = 40.0) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(limit_s)


class Bank:
    """Topics of their own prefix on a broker, a stream that can be let flow, and workers by slot."""

    def __init__(self, broker: LocalBroker, directory: Path, *, seed: int = 0) -> None:
        self.broker = broker
        self.prefix = f"r{uuid.uuid4().hex[:8]}"
        self.topics = Topics(self.prefix)
        self.scores = f"{self.prefix}.scores"
        self.models = models(self.prefix)
        self.random = random.Random(seed)
        self.workers: dict[str, Worker] = {}
        self.sent = 0
        self._directory = directory
        self._flowing: threading.Thread | None = None
        self._stop = threading.Event()
        ensure_internal(self.settings(), self.topics)
        ensure_inputs(self.settings(), [self.scores], create_inputs=True, partitions=PARTITIONS)
        self.reader = KafkaReader(self.settings("oracle"), "oracle")
        self._producer = KafkaProducer(
            bootstrap_servers=broker.bootstrap.split(","),
            enable_idempotence=True,
            acks="all",
            delivery_timeout_ms=180_000,
            request_timeout_ms=5_000,
            reconnect_backoff_max_ms=500,
            linger_ms=5,
        )
        self._publish_reference()

    def settings(self, instance: str = "0", **more: Any) -> KafkaSettings:
        """Return the settings of one slot: flushes come often, so that faults meet them."""
        return KafkaSettings.model_validate(
            {
                "bootstrap": self.broker.bootstrap,
                "prefix": self.prefix,
                "instance": instance,
                "flush_interval": "200ms",
                "session_timeout": "4s",
                "transaction_timeout": "8s",
                "request_timeout": "6s",
                "metadata_max_age": "5s",
            }
            | more
        )

    def _publish_reference(self) -> None:
        rows = [json.loads(event(number)) for number in range(SHIFT_AT)]
        columns = {name: [row["features"][name] for row in rows] for name in rows[0]["features"]}
        columns["score"] = [row["prediction"] for row in rows]
        made = profile(columns, model="fraud", version="1", prediction="score", salt="stationkeeper")
        rollout = Rollout(model="fraud", epoch=1, time=to_datetime(START), phase=RolloutPhase.STEADY, champion="1")
        self._producer.send(self.topics.references.name, value=dump(made).encode(), key=b"fraud/1")
        self._producer.send(self.topics.rollouts.name, value=rollout.encode(), key=b"fraud")
        self._producer.flush()

    # --- workers ---

    def start(self, role: str, instance: str = "0", *, die: str = "", **more: Any) -> Worker:
        """Start a role in a slot; a worker that runs there goes on, as a zombie would."""
        name = f"{role}-{instance}"
        log = self._directory / f"{name}-{uuid.uuid4().hex[:6]}.log"
        worker = Worker(role, self.settings(instance, **more), log, die)
        self.workers[name] = worker
        return worker

    def ready(self, worker: Worker) -> None:
        """Wait until a worker has its partitions and state."""

        def has_started() -> bool:
            assert worker.process.poll() is None, f"{worker.role} ended:\n{worker.log.read_text()[-3_000:]}"
            return worker.logged("partitions_assigned") > 0

        until(has_started, f"{worker.role} has its partitions")

    # --- the stream ---

    def send(self, count: int, dirt: Dirt | None = None) -> None:
        """Write the next events of the stream."""
        for partition, value in stream(self.sent, count, dirt or Dirt()):
            self._producer.send(self.scores, value=value, partition=partition)
        self.sent += count

    def send_poison(self, count: int, partition: int = 0) -> None:
        """Write nothing but poison to one partition."""
        for number in range(count):
            self._producer.send(self.scores, value=poison(self.sent + number), partition=partition)
        self._producer.flush()

    def settle(self) -> None:
        """Wait until everything is on the broker."""
        self._producer.flush(timeout=120)

    def flow(self, per_second: int = 400) -> None:
        """Let the stream flow in the background until ``still``."""
        self._stop.clear()

        def run() -> None:
            while not self._stop.is_set():
                self.send(CHUNK)
                self._stop.wait(CHUNK / per_second)

        self._flowing = threading.Thread(target=run, daemon=True)
        self._flowing.start()

    def still(self) -> None:
        """Stop the stream and wait until what was sent is on the broker."""
        self._stop.set()
        if self._flowing is not None:
            self._flowing.join()
            self._flowing = None
        self.settle()

    def after(self, shortest_s: float, longest_s: float) -> None:
        """Let a random time pass, as a fault does that keeps no appointment."""
        time.sleep(self.random.uniform(shortest_s, longest_s))

    def close(self) -> None:
        """End what this bank started."""
        self._stop.set()
        for worker in self.workers.values():
            if worker.process.poll() is None:
                worker.signal(signal.SIGCONT)
                worker.signal(signal.SIGTERM)
        for worker in self.workers.values():
            try:
                worker.end(20)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.end()
        self.reader.close()
        self._producer.close(timeout=5)
