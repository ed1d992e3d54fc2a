"""A log with one controller on it, a router that follows the log, and a way to kill the controller."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from stationkeeper.contracts.messages import Candidate, Deployment, GateOutcome, Message, Rollout
from stationkeeper.contracts.topics import Topics
from stationkeeper.contracts.wire import SCORE_BINS, ArmDelta, encode, pack
from stationkeeper.deploy.adoption import adoption
from stationkeeper.deploy.controller.effects import Effects
from stationkeeper.deploy.controller.queries import Queries
from stationkeeper.deploy.controller.stage import Deploy
from stationkeeper.deploy.core.policy import Action, Guardrail
from stationkeeper.deploy.settings import GuardrailSettings, RolloutSettings
from stationkeeper.deploy.targets.target import Observation
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored
from tests import messages

TOPICS = Topics("t")


MINUTE = 60_000


START = 1_000 * MINUTE


SETTINGS = RolloutSettings(
    step_duration=5 * MINUTE,
    min_rows=20,
    max_duration=240 * MINUTE,
    probation_rows=2_000,
    probation=5 * MINUTE,
    lease=30_000,
    # The minutes of these tests carry no latency, so that none can be compared.
    guardrails={Guardrail.LATENCY: GuardrailSettings(action=Action.INFORM, margin=2.0)},
)


ASSIGNED = frozenset(
    {Partition(TOPICS.candidates.name, 0), Partition(TOPICS.verdicts.name, 0), Partition(TOPICS.approvals.name, 0)}
    | {Partition(TOPICS.history.name, i) for i in range(6)}
)


def batch(topic: str, values: Iterable[bytes], first: int = 0, written: int = 0) -> Batch:
    values = tuple(values)
    n = len(values)
    offsets, times = np.arange(first, first + n), np.full(n, written, np.int64)
    return Batch(Partition(topic, 0), offsets, times, (b"fraud",) * n, values, first + n)


def arms(index: int, by_version: dict[str, tuple[int, int]]) -> bytes:
    """Encode one closed minute: rows and errors by version."""
    scores = pack(np.zeros(SCORE_BINS, np.int64))
    return encode(
        [
            ArmDelta("fraud", version, "", START + index * MINUTE, MINUTE, rows, errors, 0, 0, 0, scores)
            for version, (rows, errors) in by_version.items()
        ]
    )


def candidate(version: str = "2", gate: GateOutcome = GateOutcome.PASS, model: str = "fraud") -> Candidate:
    return messages.candidate(START, version, request="req-1", model=model, gate=gate)


class ProvingTarget:
    """A target that has answered every version's golden rows as they were answered in training."""

    name = "proving"

    def apply(self, rollout: Rollout) -> None:
        """Do nothing."""

    def observe(self, model: str) -> Observation:
        return Observation(None, None, 0, {}, frozenset({"2", "3"}))


class World:
    """A log with one controller on it, a router that follows the log, and a way to kill the controller."""

    def __init__(self, registry: Any = None, **more: Any) -> None:
        self.rollouts: dict[bytes, bytes] = {}
        self.written: list[Rollout] = []
        self.deployments: list[Deployment] = []
        self.ends: dict[str, int] = {}
        self.now = 0
        self.index = 0
        self.rng = np.random.default_rng(0)
        self.more = more
        self.registry = registry
        self.put(adoption(TOPICS, "fraud", "1", START, by="test"))
        self.start()

    def start(self) -> None:
        self.effects = Effects(self.registry, (ProvingTarget(),))
        models = self.more.get("models", {"fraud": self.more.get("settings", SETTINGS)})
        self.stage = Deploy(
            TOPICS,
            {} if self.more.get("refused") else models,
            self.effects,
            self.more.get("clock", "stream"),
            refused=self.more.get("refused", ()),
            queries=Queries({name: one.queries for name, one in models.items()}, self.more.get("query_s", 60.0)),
        )
        self.stage.assigned(ASSIGNED, Restored(dict(self.rollouts)))

    def put(self, records: list[Outgoing]) -> None:
        for one in records:
            assert one.value is not None
            if one.topic == TOPICS.rollouts.name:
                assert one.key is not None
                self.rollouts[one.key] = one.value
                self.written.append(Rollout.decode(one.value))
            elif one.topic == TOPICS.deployments.name:
                self.deployments.append(Deployment.decode(one.value))

    def send(self, topic: str, *values: bytes | Message) -> Batch:
        coded = [v.encode() if isinstance(v, Message) else v for v in values]
        sent = batch(topic, coded, self.ends.get(topic, 0), self.now)
        self.ends[topic] = sent.next_offset
        self.stage.absorb(sent)
        return sent

    def flush(self, *, commit: bool = True, seconds: int = 1) -> list[Outgoing]:
        self.now += seconds * 1_000
        records = self.stage.flush(self.now)
        if commit:
            self.put(records)
            self.stage.committed()
        return records

    @property
    def last(self) -> Rollout:
        return Rollout.decode(self.rollouts[b"fraud"])

    def traffic(self, *, bad: float = 0.0, rows: int = 1_000) -> dict[str, tuple[int, int]]:
        """Return one minute of rows as a router would split them that only knows the log."""
        rollout = self.last
        b = int(self.rng.binomial(rows, rollout.weight_bp / 10_000))
        split = {rollout.champion: (rows - b, 0)}
        if rollout.canary and b:
            split[rollout.canary] = (b, int(self.rng.binomial(b, bad)))
        return split

    def minutes(self, count: int, **traffic: Any) -> None:
        for _ in range(count):
            self.proofs()
            self.send(TOPICS.history.name, arms(self.index, self.traffic(**traffic)))
            self.index += 1
            self.flush()

    def proofs(self) -> None:
        """Wait until the target was asked about the canary: a minute here passes faster than its thread may start."""
        deadline = time.monotonic() + 10
        while self.last.canary and not self.effects.proven("fraud"):
            assert time.monotonic() < deadline, "the thread of effects never asked the target about the canary"
            time.sleep(0.001)

    def actions(self) -> list[str]:
        return [one.action.value for one in self.deployments]
