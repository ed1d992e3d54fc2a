"""A small bank in memory: the tally, join and judge over a log, driven turn by turn, with events made on the way."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stationkeeper.contracts.messages import RetrainRequest, Rollout, RolloutPhase, Verdict
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.topics import Topics
from stationkeeper.contracts.wire import Record, decode
from stationkeeper.monitor.core.reference import Reference, dump, profile
from stationkeeper.monitor.join.stage import Join
from stationkeeper.monitor.judge import Judge
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.status import ModelView
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.ports import Batch, Partition, Reader
from stationkeeper.streams.settings import KafkaSettings

START = 1_767_225_600_000
MINUTE = 60_000
TOPICS = Topics("rig")


def fraud(**more: Any) -> ModelSettings:
    """The model that most tests watch: its reference has no order of time, and is judged at once all the same."""
    made = {"name": "fraud", "predictions": "scores", "labels": "outcomes", "adoption": "0d"}
    return ModelSettings.model_validate(made | more)


def table(rows: int, *, seed: int = 0, shift: float = 0.0) -> dict[str, Any]:
    """Columns of requests: two numbers, a category, a score."""
    rng = np.random.default_rng(seed)
    return {
        "amount": np.round(rng.normal(shift, 1.0, rows), 6),
        "age": np.round(rng.exponential(1.0, rows), 6),
        "country": rng.choice(["de", "fr", "us"], rows, p=[0.5, 0.3, 0.2]),
        "score": np.round(rng.beta(1.0, 4.0, rows), 6),
    }


def reference(version: str = "1", *, model: str = "fraud", rows: int = 5_000, shift: float = 0.0) -> Reference:
    """A reference profiled from the table."""
    return profile(table(rows, seed=99, shift=shift), model=model, version=version, prediction="score", salt="rig")


def predictions(
    minutes: int, per_minute: int, *, first: int = 0, start: int = START, version: str = "1", shift: float = 0.0
) -> list[bytes]:
    """Events in our own form, evenly in event time."""
    rows = minutes * per_minute
    columns = table(rows, seed=first + 1, shift=shift)
    out = []
    for i in range(rows):
        event = {
            "kind": "prediction",
            "event_id": f"e{first + i}",
            "time": start + i * MINUTE // per_minute,
            "model": "fraud",
            "version": version,
            "features": {
                "amount": float(columns["amount"][i]),
                "age": float(columns["age"][i]),
                "country": str(columns["country"][i]),
            },
            "prediction": float(columns["score"][i]),
        }
        out.append(json.dumps(event).encode())
    return out


def labels(ids: Sequence[int], *, start: int = START, delay: int = 10 * MINUTE, positive: int = 5) -> list[bytes]:
    """Labels of events by number; every ``positive``-th is 1."""
    return [
        json.dumps(
            {
                "kind": "label",
                "event_id": f"e{i}",
                "time": start + delay + at * 600,
                "model": "fraud",
                "label": int(i % positive == 0),
            }
        ).encode()
        for at, i in enumerate(ids)
    ]


def rollout(champion: str, *, canary: str | None = None, epoch: int = 1, time: int = START) -> Rollout:
    """A rollout record."""
    return Rollout(
        model="fraud",
        epoch=epoch,
        time=to_datetime(time),
        phase=RolloutPhase.STEADY if canary is None else RolloutPhase.CANARY,
        champion=champion,
        canary=canary,
        weight_bp=0 if canary is None else 2_000,
    )


@dataclass
class Rig:
    """The three stages of the monitor over one in-memory log."""

    models: Mapping[str, ModelSettings]
    partitions: int = 2
    poll: int = 20_000
    log: MemoryLog = field(default_factory=MemoryLog)
    now: int = START
    loops: dict[str, Loop] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for topic in TOPICS.all():
            self.log.create(topic)
        for model in self.models.values():
            for mapping in model.topics().values():
                self.log.create(mapping.topic, self.partitions)
                self.log.create(f"{mapping.topic}.dlq", 1)
        for role in ("tally", "join", "judge"):
            self.start(role)

    def start(self, role: str, instance: str = "0") -> Loop:
        """Start (or take over) a role."""
        settings = KafkaSettings(
            prefix=TOPICS.prefix, instance=instance, flush_interval=0, poll_timeout=0, max_poll_records=self.poll
        )
        stage: Any = {
            "tally": lambda: Tally(self.models, TOPICS, clock="stream"),
            "join": lambda: Join(self.models, TOPICS),
            "judge": lambda: Judge(
                self.models,
                TOPICS,
                view=ModelView,
                clock="stream",
                partitions=lambda topic: len(self.log.partitions(topic)),
            ),
        }[role]()
        log = self.log
        loop = Loop(
            stage,
            MemorySource(log, settings, role),
            MemorySink(log, settings, role),
            MemoryReader(log),
            settings,
            now_ms=lambda: self.now,
        )
        self.loops[role if instance == "0" else f"{role}-{instance}"] = loop
        return loop

    def put_reference(self, made: Reference) -> None:
        """Publish a reference."""
        key = f"{made.model}/{made.version}".encode()
        self.log.produce(TOPICS.references.name, [dump(made).encode()], keys=[key])

    def put_rollout(self, record: Rollout) -> None:
        """Publish a rollout."""
        self.log.produce(TOPICS.rollouts.name, [record.encode()], keys=[record.model.encode()])

    def send(self, topic: str, values: Sequence[bytes | None], *, partition: int | None = None) -> None:
        """Produce events, by default to all partitions in turn."""
        self.log.produce(topic, values, partition=partition)

    def turn(self, times: int = 12) -> None:
        """Let every role take some steps; a second passes with each."""
        for _ in range(times):
            self.now += 1_000
            for loop in list(self.loops.values()):
                # A second has passed for what the loop does once a second by the machine's clock, too.
                loop._ends._at = 0.0
                loop.turn()

    def stage(self, role: str) -> Any:
        """Return a role's stage."""
        return self.loops[role].stage

    def read(self, topic: str) -> list[bytes]:
        """Return every committed value of a topic, partition by partition."""
        return values_of(MemoryReader(self.log), topic)

    def records(self, topic: str) -> list[Record]:
        """Return every binary record of a topic."""
        return [record for value in self.read(topic) for record in decode(value)]

    def verdicts(self) -> list[Verdict]:
        """Return the published verdicts."""
        return [Verdict.decode(value) for value in self.read(TOPICS.verdicts.name)]

    def requests(self) -> list[RetrainRequest]:
        """Return the published requests."""
        return [RetrainRequest.decode(value) for value in self.read(TOPICS.requests.name)]


def values_of(reader: Reader, topic: str) -> list[bytes]:
    """Return every committed value of a topic, partition by partition."""
    found: dict[Partition, list[bytes]] = {partition: [] for partition in reader.partitions(topic)}
    for batch in reader.read(tuple(found)):
        found[batch.partition] += [value for value in batch.values if value is not None]
    return [value for _, values in sorted(found.items()) for value in values]


def batch(topic: str, values: Sequence[bytes | None], *, partition: int = 0, first: int = 0, stamp: int = -1) -> Batch:
    """Records as one batch at consecutive offsets."""
    n = len(values)
    offsets = np.arange(first, first + n, dtype=np.int64)
    return Batch(
        Partition(topic, partition), offsets, np.full(n, stamp, np.int64), (None,) * n, tuple(values), first + n
    )
