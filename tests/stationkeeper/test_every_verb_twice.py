"""Every verb, typed twice in a row over a real broker: nobody's second try may cost what the first one made."""

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from stationkeeper import cli
from stationkeeper.config import Config, load
from stationkeeper.contracts.times import to_datetime
from stationkeeper.deploy.adoption import read_deployments
from stationkeeper.process.wiring import loop_for, monitor_stages, prepare_topics, publish, reader_for, topics_of
from stationkeeper.registry import Registry
from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.ports import Outgoing
from tests import messages
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

NOW = round(time.time()) * 1_000
COLUMNS = "--time time --prediction score --label churned --features tenure,plan"
# Without what runs until it is stopped: a role that starts twice is what the fault suite does, and a demo is all roles.
# Evidently's report is made in an environment that the verb fetches.
PROCESSES = {"demo", "up", "monitor", "deploy", "serve", "broker", "evidently report"}
# Each verb with the exit codes of its first and its second time, as the world below has it: few rows are no evidence
# (3), no role retrain has worked here and no router answers (1), a request that nobody took up is not asked again (2).
# Where they differ the second is a refusal.
LINES = (
    ("init past.csv --model churn --output first.yaml", 0, 2),
    ("check --create", 0, 0),
    ("deployments adopt churn --train past.csv --time time --label churned", 0, 2),
    ("deployments adopt churn 1", 0, 0),
    (f"profile past.csv --model churn --version 1 {COLUMNS} --publish", 0, 0),
    (f"backtest past.csv {COLUMNS} --reference-rows 300 --quiet", 0, 0),
    ("explain churn", 2, 2),
    ("report --model churn --output churn.html", 0, 0),
    ("verify", 0, 0),
    ("dump verdicts", 0, 0),
    ("notify", 0, 0),
    ("gate 1 --model churn --snapshot SNAPSHOT", 3, 3),
    ("retrain verify 1 --model churn", 0, 0),
    ("erase nobody --yes", 1, 1),
    ("plan --events 1k/s --models 2 --features 3", 0, 0),
    ("requests list", 0, 0),
    ("requests approve req-1", 0, 0),
    ("requests reject req-1", 0, 0),
    ("requests retry req-1", 2, 2),
    ("deployments list", 0, 0),
    ("deployments show churn", 0, 0),
    ("deployments plan churn --per-minute 60 --base 0.02", 0, 0),
    ("deployments shadow churn", 2, 2),
    ("deployments approve cand-1", 2, 2),
    ("deployments reject cand-1", 2, 2),
    ("deployments promote cand-1", 2, 2),
    ("deployments pause churn", 2, 2),
    ("deployments resume churn", 2, 2),
    ("deployments abort churn", 2, 2),
    ("deployments roll-back churn", 2, 2),
    ("deployments drill churn", 1, 1),
    ("dead-letters list", 0, 0),
    ("dead-letters show ADDRESS", 0, 0),
    ("dead-letters replay TOPIC", 0, 0),
    ("topics list", 0, 0),
    ("topics resume TOPIC", 1, 1),
    ("topics accept-new TOPIC", 1, 1),
    ("config show", 0, 0),
    ("config schema", 0, 0),
)
WITHOUT_CONFIG = {"init", "backtest", "plan", "config schema"}


def name_of(line: str) -> str:
    words = line.split()
    return " ".join(words[: 1 + (words[0] in cli.GROUPS)])


@dataclass
class World:
    config: Config
    topic: str

    def named(self) -> dict[str, Any]:
        """What the log and the registry name: champions, the alias, the versions that exist."""
        reader, registry = reader_for(self.config), Registry(self.config.registry)
        try:
            held = read_deployments(reader, topics_of(self.config))
        finally:
            reader.close()
        versions = registry._connection.client("look").search_model_versions("name = 'churn'")
        return {
            "log": {name: one.champion for name, one in held.rollouts.items()},
            "deployments": len(held.audit),
            "alias": registry.champion("churn") if versions else None,
            "versions": sorted((one.version, one.current_stage) for one in versions),
        }


@pytest.fixture
def world(kafka: FoundBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A churn model's past, six events of which one is broken and a request, counted by the monitor's own loops."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATIONKEEPER_CONFIG", "stationkeeper.yaml")
    times = [to_datetime(NOW - (400 - i) * 3_600_000).isoformat() for i in range(400)]
    rows = [f"{at},{i % 37},{'ab'[i % 2]},{(i % 10) / 10},{int(i % 10 > 6)}" for i, at in enumerate(times)]
    Path("past.csv").write_text("time,tenure,plan,score,churned\n" + "\n".join(rows) + "\n")
    prefix = f"t{uuid.uuid4().hex[:8]}"
    topic = f"{prefix}.p"
    Path("stationkeeper.yaml").write_text(f"""
kafka: {{bootstrap: '{kafka.bootstrap}', prefix: {prefix}}}
registry: {{tracking_uri: 'sqlite:///{tmp_path}/ml.db'}}
snapshots: {{directory: '{tmp_path}/snapshots'}}
serve: {{port: 9}}
models: {{churn: {{predictions: {topic}, retrain: {{trainer: logistic-regression, data: {{min_rows: 100}}}}}}}}
""")
    config = load(Path("stationkeeper.yaml"))
    prepare_topics(config)
    asked = messages.request(NOW, model="churn")
    publish(config, Outgoing(topics_of(config).requests.name, asked.encode(), b"churn"))
    event = {"kind": "prediction", "time": NOW, "model": "churn", "version": "1", "prediction": 0.5}
    producer = KafkaProducer(acks="all", **config.kafka.connection("test"))
    for i in range(5):
        producer.send(topic, json.dumps({**event, "event_id": f"e{i}", "features": {"tenure": i}}).encode())
    producer.send(topic, b"{not json")
    producer.close()
    loops = [loop_for(stage, config.kafka) for stage in monitor_stages(config)]

    def counted() -> bool:
        for loop in loops:
            loop.turn()
        return bool(sum(row["received"] for row in loops[0].status().get("conservation", [])) == 6)

    try:
        until(counted, "six records counted")
    finally:
        for loop in loops:
            loop.close()
    return World(config, topic)


def test_every_verb_may_be_typed_twice(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    verbs = {verb.__name__ for verb in cli.VERBS}
    verbs |= {f"{group} {name}" for group, (_, mine) in cli.GROUPS.items() for name in mine}
    assert {name_of(line) for line, _, _ in LINES} | PROCESSES == verbs, "a new verb is missing here"
    wrong = []
    for line, *codes in LINES:
        words = line.replace("TOPIC", world.topic).split()
        if "SNAPSHOT" in words:
            words[words.index("SNAPSHOT")] = Registry(world.config.registry).tags("churn", "1")["snapshot"]
        if "ADDRESS" in words:
            cli.guarded(lambda **options: cli.app(["dead-letters", "list", "--json"], **options))
            words[words.index("ADDRESS")] = json.loads(capsys.readouterr().out)[0]["address"]
        found, kept, text = [], [], ""
        for _ in range(2):
            # Not guarded against: any other error than one made for people ends the test with its traceback.
            code = cli.guarded(lambda words=words, **options: cli.app(words, **options))
            text = "".join(capsys.readouterr())
            found.append(code)
            kept.append(world.named())
        if found != codes or kept[0] != kept[1]:
            wrong.append((line, found, kept, text))
    assert not wrong
