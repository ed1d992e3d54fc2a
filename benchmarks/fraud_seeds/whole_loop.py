"""The whole loop in one process, over the in-memory log: the same stages, loop, router and registry as the demo.

Only two things differ from ``make demo``: the log is ``streams.memory.ports`` (held to the conformance suite of Kafka)
instead of a broker, and the router is called as a function instead of over HTTP. Stages still meet through topics only.
"""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import polars as pl

from stationkeeper.config import Config
from stationkeeper.contracts.messages import Rollout
from stationkeeper.demo.loop_history import LoopHistory, Observer
from stationkeeper.demo.scenario import Chunk, Scenario
from stationkeeper.demo.served import read_served
from stationkeeper.demo.stage import Ports, demo_config, write_config
from stationkeeper.deploy.adoption import adopt
from stationkeeper.deploy.router.requests import Rows
from stationkeeper.deploy.router.router import Router
from stationkeeper.deploy.router.traffic import TrafficTable
from stationkeeper.deploy.targets.target import Observation
from stationkeeper.process.first_champion import train_first_champion
from stationkeeper.process.wiring import input_topics, monitor_stages, retrain_stage, topics_of
from stationkeeper.registry import Registry
from stationkeeper.streams.kafka.topics import dead_letter_for, input_topic
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.ports import Stage

BUSY = frozenset({"snapshot", "training", "gate", "registering"})
PATIENCE_S = 300.0
CHUNKS = 3
"""Chunks of the world between two rounds of the roles: six stream minutes, what a demo's monitor lags behind."""
QUIET_ROUNDS = 2
ROUND_MS = 1_000
"""What the wall clock of the roles moves by in a round: nothing waits for a real second."""


class MemoryPredictionLog:
    """The router's log over the in-memory log."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> Future[None]:
        """Append at once."""
        self._log.produce(topic, values, keys=keys)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def pending(self) -> int:
        """Return 0: nothing waits."""
        return 0

    def unlogged(self) -> dict[tuple[str, str], int]:
        """Return nothing: all is logged."""
        return {}

    def problem(self) -> str | None:
        """Return None: nothing can stand in the way."""
        return None

    def close(self) -> None:
        """Let go of nothing."""


class WholeLoop:
    """One run: ``play`` replays a scenario and returns what the topics say."""

    def __init__(self, scenario: Scenario, directory: Path) -> None:
        self._scenario = scenario
        data = demo_config(scenario, "memory:0", Ports(0, 0, 0, 0), directory, "bench")
        data["kafka"] |= {"flush_interval": "0ms", "poll_timeout": "0ms"}
        _, self.config = write_config(data, directory)
        self._model = self.config.models[scenario.name]
        self.log = MemoryLog()
        self.topics = topics_of(self.config)
        for topic in self.topics.all():
            self.log.create(topic)
        for name in input_topics(self.config):
            self.log.create(input_topic(name))
            self.log.create(dead_letter_for(name))
        self._work = directory / "work"
        self._wall_ms = time.time_ns() // 1_000_000

    def _loop(self, stage: Stage) -> Loop:
        kafka, name = self.config.kafka, stage.name
        source, sink = MemorySource(self.log, kafka, name), MemorySink(self.log, kafka, name)
        return Loop(stage, source, sink, MemoryReader(self.log), kafka, now_ms=self._now)

    def _reader(self) -> MemoryReader:
        return MemoryReader(self.log)

    def _count(self, topic: str) -> int:
        return len(self.log.partitions(topic))

    def _now(self) -> int:
        return self._wall_ms

    def play(self) -> tuple[LoopHistory, pl.DataFrame, int]:
        """Replay the scenario; returns the history, the served events and the last stream time."""
        scenario, config = self._scenario, self.config
        registry = Registry(config.registry, config.serve.cache_dir)
        self._adopt_first(config, scenario)
        stages = [*monitor_stages(config, self._count), retrain_stage(config, self._work, self._reader)]
        traffic = TrafficTable(registry, now_ms=self._now)
        loops = [self._loop(stage) for stage in [*stages, deploy_over(config, registry, traffic)]]
        router = Router(
            config.serve,
            {scenario.name: self._model.predictions.topic},
            self.topics.rollouts.name,
            MemoryReader(self.log),
            MemoryPredictionLog(self.log),
            traffic,
        )
        router.start()
        try:
            return self._replay(loops, router)
        finally:
            router.close()
            for loop in loops:
                loop.close()

    def _adopt_first(self, config: Config, scenario: Scenario) -> None:
        first = train_first_champion(config, scenario.name, scenario.training())
        sink = MemorySink(self.log, config.kafka, "adopt")
        reader = MemoryReader(self.log)
        adopt(
            sink,
            reader,
            self.topics,
            scenario.name,
            first.version,
            scenario.start_ms,
            by="benchmark",
            reference=first.reference,
        )

    def _replay(self, loops: Sequence[Loop], router: Router) -> tuple[LoopHistory, pl.DataFrame, int]:
        scenario = self._scenario
        observer = Observer(MemoryReader(self.log), self.topics, lambda _: None)
        self._wait(lambda: not router.readiness(), "the router is not ready")
        now = scenario.start_ms
        for number, chunk in enumerate(scenario.chunks(), start=1):
            self._world(router, chunk)
            now = chunk.until_ms
            # What a weight or a gate follows by: in life it is a second.
            if number % CHUNKS and not observer.history.waited_for:
                continue
            self._settle(loops, observer)
            self._wait(lambda: self._applied(router), "the router did not take the rollout over")
            if observer.history.over(now, scenario.plot.after_ms):
                break
        served = read_served(MemoryReader(self.log), self._model)
        return observer.history, served, now

    def _settle(self, loops: Sequence[Loop], observer: Observer) -> None:
        """Turn every loop until what they decide is quiet for two rounds and no training runs."""
        deadline = time.monotonic() + PATIENCE_S
        quiet = 0
        while quiet < QUIET_ROUNDS:
            before = self._decided()
            for loop in loops:
                loop.turn()
            self._wall_ms += ROUND_MS
            busy = any(r["stage"] in BUSY for loop in loops for r in loop.stage.status().get("requests", ()))
            quiet = 0 if busy or self._decided() != before else quiet + 1
            if busy:
                time.sleep(0.02)
            if time.monotonic() > deadline:
                raise TimeoutError("the loop did not settle")
        observer.turn(0.0)

    def _decided(self) -> int:
        topics = (self.topics.history, self.topics.verdicts, self.topics.requests, self.topics.candidates)
        names = [topic.name for topic in (*topics, self.topics.deployments)]
        return sum(self.log.at(p).end for name in names for p in self.log.partitions(name))

    def _applied(self, router: Router) -> bool:
        partition = self.log.partitions(self.topics.rollouts.name)[0]
        last = self.log.at(partition).values[-1]
        rollout = json.loads(last or b"{}")
        traffic = router.traffic.get(self._scenario.name)
        return traffic is not None and traffic.rollout.epoch == rollout["epoch"]

    @staticmethod
    def _wait(condition: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(problem)
            time.sleep(0.002)

    def _world(self, router: Router, chunk: Chunk) -> None:
        rows = chunk.asks
        if len(rows):
            names = [name for name in rows.columns if name not in {"event_id", "entity_id", "time"}]
            features = rows.select(names).to_dicts()
            router.predict(
                self._scenario.name,
                Rows(
                    rows["event_id"].to_list(),
                    rows["entity_id"].to_list(),
                    rows["time"].to_list(),
                    features,
                    [None] * len(rows),
                ),
            )
        if self._model.labels is not None and len(chunk.labels):
            values, keys = [], []
            for event_id, known, label in chunk.labels.select("event_id", "time", "label").iter_rows():
                event = {"kind": "label", "event_id": event_id, "time": known, "label": label}
                event["model"] = self._scenario.name
                values.append(json.dumps(event).encode())
                keys.append(event_id.encode())
            self.log.produce(self._model.labels.topic, values, keys=keys)


class TrafficTarget:
    """The router of this process as a target: what its traffic table serves, without HTTP between."""

    name = "traffic"

    def __init__(self, traffic: TrafficTable) -> None:
        self._traffic = traffic

    def apply(self, rollout: Rollout) -> None:
        """Do nothing: the router reads the same record."""

    def observe(self, model: str) -> Observation | None:
        """Return what the router applies."""
        if model not in self._traffic.known():
            return None
        found = self._traffic.status(model)
        return Observation(
            found["champion"], found["canary"], found["weight_bp"], found["unfit"], frozenset(found["proven"])
        )


def deploy_over(config: Config, registry: Registry, traffic: TrafficTable) -> Stage:
    """Return the canary controller with the router of this process as its target."""
    from stationkeeper.deploy.controller.effects import Effects
    from stationkeeper.deploy.controller.stage import Deploy

    rollouts = {name: model.rollout for name, model in config.models.items()}
    effects = Effects(registry, (TrafficTarget(traffic),))
    labelled = [name for name, model in config.models.items() if model.labels is not None]
    return Deploy(topics_of(config), rollouts, effects, clock=config.clock, labelled=labelled)
