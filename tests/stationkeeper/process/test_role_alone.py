"""A role that is started alone, on a machine of its own, makes the topics that it needs."""

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from stationkeeper.config import Config
from stationkeeper.process.wiring import deploy_stage
from tests.waiting import until


@pytest.mark.broker
@pytest.mark.parametrize(("role", "stages"), [("monitor", 3), ("deploy", 1)])
def test_a_role_alone_becomes_ready(role: str, stages: int, kafka: Any, tmp_path: Path):
    prefix = f"alone-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_topics([NewTopic(f"{prefix}.scores", 1, 1)])
    admin.close()
    config = tmp_path / "stationkeeper.yaml"
    config.write_text(
        f"kafka: {{bootstrap: '{kafka.bootstrap}', prefix: {prefix}}}\n"
        f"http: {{{role}: 0}}\nregistry: {{tracking_uri: 'sqlite:///{tmp_path}/mlflow.db'}}\n"
        f"models: {{fraud: {{predictions: {prefix}.scores}}}}\n"
    )
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "stationkeeper", role, "--config", str(config)]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        # The process logs one more line when all of its stages are ready; it has no `role`.
        until(lambda: sum("role" in line for line in events(log, "ready")) == stages, f"all of {role} ready")
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def events(log: Path, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def test_deploy_dials_an_address_and_not_the_one_that_serve_listens_on():
    given = {"serve": {"host": "0.0.0.0", "port": 8081}, "http": {"unprotected": True}}
    stage: Any = deploy_stage(Config.parse(given))
    (target,) = stage._effects._targets
    assert target._client._parts.netloc == "127.0.0.1:8081"
    stage = deploy_stage(Config.parse({**given, "targets": [{"kind": "router", "url": "http://serve:8080"}]}))
    (target,) = stage._effects._targets
    assert target._client._parts.netloc == "serve:8080"
