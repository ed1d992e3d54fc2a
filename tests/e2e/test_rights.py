"""All roles on a real Kafka with SASL_SSL, SCRAM and exactly the rights that docs/kafka-rights.md lists."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
import yaml
from kafka import KafkaProducer
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from kafka.admin import ACLResourcePatternType as PatternType

from scripts.docs.acls import Right, rights
from stationkeeper.contracts.messages import InputDecision, RetrainRequest, VerdictKind
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.topics import Topics
from stationkeeper.streams.broker.local import free_ports
from stationkeeper.streams.settings import KafkaSettings
from tests.messages import onset_at, request
from tests.secured import SecuredBroker
from tests.stationkeeper.notify.receiver import Receiver, receiving
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

KINDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "transactional-id": ResourceType.TRANSACTIONAL_ID}
OPERATIONS = {"DescribeConfigs": "DESCRIBE_CONFIGS", "AlterConfigs": "ALTER_CONFIGS"}
PREFIX, PREDICTIONS, LABELS = "sk", "orders.predictions", "orders.labels"
ROLES = ("monitor", "retrain", "deploy", "serve")
EVENTS = 300
RETRAIN = {
    "trainer": "logistic-regression",
    # The gate holds out three tenths of these: of 360 rows it could not tell how the new version does overall.
    "data": {"min_rows": 4_800, "min_positives": 30},
    "labels": {"maturity": "10m"},
    "gate": {"replicates": 200},
    "training": {"retry_after": "1s"},
}
MINUTE_MS = 60_000
# For a verb that never ends: on a machine with much else to do an adoption has taken two minutes.
LIMIT_S = 600


def acls(right: Right) -> Iterator[ACL]:
    pattern = PatternType.PREFIXED if right.prefixed else PatternType.LITERAL
    for operation in right.operations:
        yield ACL(
            principal=f"User:{right.user}",
            host="*",
            operation=ACLOperation[OPERATIONS.get(operation, operation.upper())],
            permission_type=ACLPermissionType.ALLOW,
            resource_pattern=ResourcePattern(KINDS[right.kind], right.name, pattern),
        )


class World:
    """A directory with one configuration for each user, and what runs on it."""

    def __init__(self, broker: SecuredBroker, directory: Path, receiver: Receiver) -> None:
        self.broker, self.directory, self.receiver = broker, directory, receiver
        self.ports = dict(zip(ROLES, free_ports(len(ROLES)), strict=True))

    def config(self, user: str, client: str) -> Path:
        data: dict[str, Any] = {
            "kafka": {**self.broker.settings(user), "prefix": PREFIX, "client": client, "session_timeout": "6s"},
            "registry": {"tracking_uri": f"sqlite:///{self.directory}/mlflow.db"},
            "snapshots": {"directory": str(self.directory / "snapshots")},
            "serve": {"port": self.ports["serve"], "cache_dir": str(self.directory / "served")},
            "http": {role: self.ports[role] for role in ROLES if role != "serve"},
            "notifiers": {"bank": {"url": self.receiver.url, "tell": ["request", "deployment"]}},
            "models": {"orders": {"predictions": PREDICTIONS, "labels": LABELS, "retrain": RETRAIN}},
        }
        path = self.directory / f"{user}.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    def command(self, user: str, *words: str, client: str = "kafka-python") -> list[str]:
        config = self.config(user, client)
        return [sys.executable, "-m", "stationkeeper", *words, "--config", str(config)]

    def run(self, user: str, *words: str) -> str:
        done = subprocess.run(
            self.command(user, *words), cwd=self.directory, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def roles(self, client: str) -> Iterator[None]:
        processes = {}
        for role in ROLES:
            log = (self.directory / f"{role}.log").open("wb")
            processes[role] = subprocess.Popen(
                self.command(role, role, client=client), cwd=self.directory, stdout=log, stderr=subprocess.STDOUT
            )
            log.close()
        try:
            for role, process in processes.items():
                until(partial(self._ready, role, process), f"{role} to be ready")
            yield
        finally:
            for process in processes.values():
                process.terminate()
            for process in processes.values():
                process.wait(30)

    def _ready(self, role: str, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, (self.directory / f"{role}.log").read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports[role]}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def rollout(self) -> dict[str, Any]:
        status = httpx.get(f"http://127.0.0.1:{self.ports['deploy']}/api/v1/status?scope=own").json()
        (found,) = status["rollouts"]
        return {"canary": None, **found}

    def counted(self) -> dict[str, int]:
        status = httpx.get(f"http://127.0.0.1:{self.ports['monitor']}/api/v1/status?scope=own").json()
        counts: dict[str, int] = {}
        for row in status["conservation"]:
            for name in ("tallied", "rejected"):
                counts[name] = counts.get(name, 0) + row[name]
        return counts


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture(scope="module")
def world(secured: SecuredBroker, tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> World:
    listed = rights(PREFIX, [PREDICTIONS], [LABELS])
    listed += [Right("app", "topic", name, ("Write",)) for name in (PREDICTIONS, LABELS)]
    for user in {right.user for right in listed}:
        secured.add_user(user)
    admin = secured.admin()
    result = admin.create_acls([acl for right in listed for acl in acls(right)])
    assert result["failed"] == []
    admin.close()
    made = World(secured, tmp_path_factory.mktemp("rights"), receiver)
    made.run("setup", "check", "--create")
    drawn = np.random.default_rng(1)
    amount = drawn.gamma(2.0, 30.0, 4_000)
    label = drawn.random(4_000) < 1 / (1 + np.exp(3 - amount / 30))
    pl.DataFrame({"amount": amount, "label": label}).write_csv(made.directory / "train.csv")
    made.run("operator", "deployments", "adopt", "orders", "--train", "train.csv")
    return made


def produce(world: World) -> None:
    """Send what the application and its labels would, one record of them broken."""
    producer = KafkaProducer(**KafkaSettings.model_validate(world.broker.settings("app")).connection("app"))
    now = round(time.time() * 1_000)
    for i in range(EVENTS):
        both: dict[str, Any] = {"event_id": f"e-{now}-{i}", "time": now, "model": "orders"}
        event = {**both, "kind": "prediction", "version": "1", "features": {"amount": i}, "prediction": 0.2}
        producer.send(PREDICTIONS, json.dumps(event).encode(), key=both["event_id"].encode())
        producer.send(LABELS, json.dumps({**both, "kind": "label", "label": True}).encode())
    producer.send(PREDICTIONS, b"{not json")
    producer.flush(30)
    producer.close()


def changed_world(world: World) -> RetrainRequest:
    """Three hours of labelled events, in which small amounts are the bad ones from the second on, and a request."""
    now = round(time.time() * 1_000) - 30 * MINUTE_MS
    onset, rows = now - 120 * MINUTE_MS, 9_600
    drawn = np.random.default_rng(2)
    times = np.sort(drawn.integers(now - 180 * MINUTE_MS, now, rows))
    amount = drawn.gamma(2.0, 30.0, rows)
    odds = np.where(times < onset, amount / 30 - 3, 3 - amount / 15)
    bad = drawn.random(rows) < 1 / (1 + np.exp(-odds))
    producer = KafkaProducer(**KafkaSettings.model_validate(world.broker.settings("app")).connection("app"))
    for i in range(rows):
        both: dict[str, Any] = {"event_id": f"r-{i}", "time": int(times[i]), "model": "orders"}
        features = {"amount": float(amount[i])}
        event = {**both, "kind": "prediction", "version": "1", "features": features, "prediction": 0.2}
        producer.send(PREDICTIONS, json.dumps(event).encode())
        told = {**both, "kind": "label", "time": int(times[i]) + MINUTE_MS, "label": bool(bad[i])}
        producer.send(LABELS, json.dumps(told).encode())
    producer.flush(30)
    producer.close()
    return request(
        now,
        id="req-rights",
        model="orders",
        incident="inc-rights",
        verdict="ver-rights",
        kind=VerdictKind.CONCEPT_DRIFT,
        cause="concept",
        onset=onset_at(onset),
        subjects=("amount",),
    )


def retrained(world: World) -> None:
    """Let the roles retrain and roll out: the request is written as the monitor would, and a person promotes."""
    request = changed_world(world)
    writer = KafkaProducer(**KafkaSettings.model_validate(world.broker.settings("monitor")).connection("monitor"))
    # What cannot be read must not keep what comes after it from its turn: it needs a topic and a right to write there.
    writer.send(Topics(PREFIX).requests.name, b"{not json", key=b"orders").get(30)
    writer.send(Topics(PREFIX).requests.name, request.encode(), key=b"orders").get(30)
    writer.close()
    until(lambda: world.rollout()["canary"] == "2", "the new version to be a canary", 120)
    world.run("operator", "deployments", "promote", "orders", "--by", "a person")
    until(lambda: world.rollout()["champion"] == "2", "the new version to be champion", 120)


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_every_role_does_its_work_with_the_rights_that_are_listed(world: World, client: str) -> None:
    with world.roles(client):
        before = world.counted()
        produce(world)
        wanted = {"tallied": before["tallied"] + 2 * EVENTS, "rejected": before["rejected"] + 1}
        until(lambda: world.counted() == wanted, f"{wanted}")
        answer = httpx.post(f"http://127.0.0.1:{world.ports['serve']}/predict/orders", json={"features": {"amount": 3}})
        assert answer.status_code == 200, answer.text
        wanted["tallied"] += 1
        until(lambda: world.counted() == wanted, "the served prediction to be counted")
        if client == "kafka-python":
            assert "orders" in world.run("reader", "deployments", "list")
            retrained(world)
            # Told by the monitor, in a group of its own: what it and the role deploy have committed, once each.
            until(
                lambda: {"started", "promoted"} <= {one["facts"].get("action") for one in world.receiver.events()},
                "told",
            )
            told = [one["id"] for one in world.receiver.events()]
            assert told.count("req-rights") == 1
            assert len(told) == len(set(told))


def test_a_person_may_do_what_the_list_names(world: World) -> None:
    assert f"{PREFIX}.retrain-requests" in world.run("reader", "dead-letters", "list")
    assert "went back" in world.run("operator", "dead-letters", "replay", PREDICTIONS)
    assert "went back" in world.run("operator", "dead-letters", "replay", f"{PREFIX}.retrain-requests")
    # `topics resume` and `accept-new` refuse where nothing stands still: what they write is written by hand.
    writer = KafkaProducer(**KafkaSettings.model_validate(world.broker.settings("operator")).connection("operator"))
    word = InputDecision(time=to_datetime(1), topic=LABELS, action="resume", topic_id="0" * 32, ends={}, by="a person")
    writer.send(Topics(PREFIX).input_decisions.name, word.encode(), key=b"orders.labels/resume").get(30)
    writer.close()


def test_a_role_without_its_rights_is_told_so(world: World) -> None:
    words = world.command("serve", "monitor")
    done = subprocess.run(words, cwd=world.directory, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 1
    assert '"broker_rights"' in done.stderr
    assert "docs/kafka-rights.md" in done.stderr
