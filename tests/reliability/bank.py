"""A bank under faults: its topics, its stream, its worker processes, and the means to hurt them."""

import random
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.topics import Topics
from stationkeeper.monitor.core.reference import dump, profile
from stationkeeper.streams.broker import LocalBroker
from stationkeeper.streams.kafka.clients import translated
from stationkeeper.streams.kafka.reader import KafkaReader
from stationkeeper.streams.kafka.topic_config import set_config
from stationkeeper.streams.kafka.topics import admin_client, ensure_inputs, ensure_internal
from stationkeeper.streams.settings import KafkaSettings
from tests.reliability.daemon import Daemon
from tests.reliability.events import PARTITIONS, SHIFT_AT, Stream
from tests.reliability.worker import models
from tests.reliability.workers import Setup, Worker
from tests.waiting import until

CHUNK = 30


class Bank:
    """Topics of their own prefix on a broker, a stream that can be let flow, and workers by slot.

    ``client`` is the client of the workers that are started next; the bank itself always uses kafka-python. ``kafka``
    are settings that take the place of the suite's. Without ``pairs`` the reference is one that
    releases before them read. ``environment`` is for the whole monitor's process.
    """

    def __init__(
        self,
        broker: LocalBroker,
        directory: Path,
        *,
        setup: Setup | None = None,
        stream: Stream | None = None,
        client: str = "kafka-python",
        kafka: dict[str, Any] | None = None,
        pairs: bool = True,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.broker, self.client, self._kafka = broker, client, kafka or {}
        self._environment = environment or {}
        self.setup, self.stream = setup or Setup(), stream or Stream()
        self._pairs = pairs
        self.prefix = f"r{uuid.uuid4().hex[:8]}"
        self.topics = Topics(self.prefix)
        self.scores, self.labels = f"{self.prefix}.scores", f"{self.prefix}.labels"
        self.models = models(self.prefix, self.setup.model)
        self.random = random.Random(1)
        self.workers: dict[str, Worker] = {}
        self.sent = 0
        self.ever: list[Worker] = []
        self.daemon: Daemon | None = None
        self._directory = directory
        self._flowing: threading.Thread | None = None
        self._stop = threading.Event()
        ensure_internal(self.settings(), self.topics)
        inputs = [found.topic for found in self.models["fraud"].topics().values()]
        ensure_inputs(self.settings(), inputs, create_inputs=True, partitions=PARTITIONS)
        self.reader = KafkaReader(self.settings("oracle"), "oracle")
        self._producer = KafkaProducer(
            bootstrap_servers=broker.bootstrap.split(","),
            enable_idempotence=True,
            acks="all",
            # Beyond every outage: what expires here is never sent, and the stream that follows waits behind it.
            delivery_timeout_ms=3_600_000,
            max_block_ms=600_000,
            request_timeout_ms=5_000,
            reconnect_backoff_max_ms=500,
            metadata_max_age_ms=2_000,
            max_request_size=16 * 1024 * 1024,
            linger_ms=5,
        )
        self._publish_reference()

    def settings(self, instance: str = "0", **more: Any) -> KafkaSettings:
        """Return the settings of one slot: flushes come often, so that faults meet them."""
        return KafkaSettings.model_validate(
            {
                "bootstrap": self.broker.bootstrap,
                "prefix": self.prefix,
                "client": self.client,
                "instance": instance,
                "flush_interval": "200ms",
                "session_timeout": "4s",
                "transaction_timeout": "8s",
                "request_timeout": "6s",
                "metadata_max_age": "5s",
            }
            | self._kafka
            | more
        )

    def _publish_reference(self) -> None:
        calm = Stream(poison=0, duplicate=0)
        rows = [calm.row(number) for number in range(SHIFT_AT)]
        columns = {name: [row["features"][name] for row in rows] for name in rows[0]["features"]}
        columns["score"] = [row["prediction"] for row in rows]
        about: dict[str, Any] = {"model": "fraud", "version": "1", "prediction": "score", "salt": "stationkeeper"}
        made = profile(columns, **about | ({} if self._pairs else {"pairs": 0}))
        began = to_datetime(self.stream.start)
        rollout = Rollout(model="fraud", epoch=1, time=began, phase=RolloutPhase.STEADY, champion="1")
        self._producer.send(self.topics.references.name, value=dump(made).encode(), key=b"fraud/1")
        self._producer.send(self.topics.rollouts.name, value=rollout.encode(), key=b"fraud")
        self._producer.flush()

    # --- workers ---

    def start(
        self,
        role: str,
        instance: str = "0",
        *,
        die: str = "",
        file_limit: int = 0,
        build: Path | None = None,
        **more: Any,
    ) -> Worker:
        """Start a role in a slot; a worker that runs there goes on, as a zombie would."""
        name = f"{role}-{instance}"
        log = self._directory / f"{name}-{uuid.uuid4().hex[:6]}.log"
        settings = self.settings(instance, **more)
        worker = Worker(role, settings, self.setup, log, die=die, file_limit=file_limit, build=build)
        self.workers[name] = worker
        self.ever.append(worker)
        return worker

    def monitor(self, verb: Sequence[str] = ("monitor",), **more: Any) -> Daemon:
        """Start the whole monitor, or what another verb starts, as a person does, in the place of workers."""
        self.daemon = Daemon(self.settings(), self.setup, self._directory, more, verb, self._environment)
        return self.daemon

    @property
    def cache(self) -> Path:
        """The directory of the join's cache, by default below where its process runs."""
        return self._directory / ".stationkeeper" / "join"

    def running(self, role: str, instance: str = "0") -> Worker:
        """Return the worker of a slot through the bank's client, started if none runs."""
        worker = self.workers.get(f"{role}-{instance}")
        if worker is not None and worker.alive and worker.client != self.client:
            self.dismiss(role, instance)
        if worker is None or not worker.alive:
            worker = self.start(role, instance)
        return worker

    def dismiss(self, role: str, instance: str = "0") -> None:
        """Let the worker of a slot leave in order, if one runs."""
        worker = self.workers.get(f"{role}-{instance}")
        if worker is not None and worker.alive:
            self.ready(worker)
            worker.leave()

    def ready(self, *workers: Worker) -> None:
        """Wait until workers have their partitions and state."""
        for worker in workers:

            def has_started(worker: Worker = worker) -> bool:
                assert worker.alive, f"{worker.role} ended:\n{worker.log.read_text()[-3_000:]}"
                return worker.logged("partitions_assigned") > 0

            until(has_started, f"{worker.role} has its partitions")

    def both(self) -> list[Worker]:
        """Return tally and judge of slot 0, ready."""
        workers = [self.running("tally"), self.running("judge")]
        self.ready(*workers)
        return workers

    # --- the stream ---

    def send(self, count: int) -> None:
        """Write the next events of the stream."""
        for partition, value in self.stream.records(self.sent, count):
            self._producer.send(self.scores, value=value, partition=partition)
        self.sent += count

    def send_raw(self, values: list[bytes], partition: int = 0) -> None:
        """Write records to one partition as they are."""
        for value in values:
            self._producer.send(self.scores, value=value, partition=partition)
        self._producer.flush()

    def send_labels(self, told: list[tuple[int, bytes]]) -> None:
        """Write labels, each to its partition."""
        for partition, value in told:
            self._producer.send(self.labels, value=value, partition=partition)

    def enlarge(self, partitions: int) -> None:
        """Add partitions to the input; the stream uses them at once."""
        with admin_client(self.settings("admin")) as admin, translated("add partitions"):
            admin.create_partitions({self.scores: partitions})
        until(lambda: len(self._producer.partitions_for(self.scores)) == partitions, "the producer knows")
        self.stream = replace(self.stream, partitions=partitions)

    def keep_input(self, kept_bytes: int, segment_bytes: int) -> None:
        """Let the broker keep no more than so many bytes of each input partition, in files of a size."""
        with admin_client(self.settings("admin")) as admin, translated("bound the input"):
            for name, value in (("retention.bytes", kept_bytes), ("segment.bytes", segment_bytes)):
                set_config(admin, self.scores, name, str(value))

    def settle(self) -> None:
        """Wait until everything is on the broker."""
        self._producer.flush(timeout=180)

    def flow(self, per_second: int = 400) -> None:
        """Let the stream flow in the background until ``still``."""
        self._stop.clear()

        def run() -> None:
            due = time.monotonic()
            while not self._stop.is_set():
                self.send(CHUNK)
                due = max(due + CHUNK / per_second, time.monotonic() - 1.0)
                self._stop.wait(max(due - time.monotonic(), 0.0))

        self._flowing = threading.Thread(target=run, daemon=True)
        self._flowing.start()

    def still(self) -> None:
        """Stop the stream and wait until what was sent is on the broker."""
        self.still_without_waiting()
        self.settle()

    def still_without_waiting(self) -> None:
        """Stop the stream; what was sent may still be on its way."""
        self._stop.set()
        if self._flowing is not None:
            self._flowing.join()
            self._flowing = None

    def after(self, shortest_s: float, longest_s: float) -> None:
        """Let a random time pass, as a fault does that keeps no appointment."""
        time.sleep(self.random.uniform(shortest_s, longest_s))

    def close(self) -> None:
        """End what this bank started."""
        self._stop.set()
        for worker in self.ever:
            if worker.alive:
                worker.signal(signal.SIGCONT)
                worker.signal(signal.SIGTERM)
        for worker in self.ever:
            try:
                worker.end(20)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.end()
        if self.daemon is not None:
            self.daemon.close()
        self.reader.close()
        self._producer.close(timeout=5)
