"""A role that is started alone, on a machine of its own, makes the topics that it needs."""

import json
import socket
import subprocess
import sys
import urllib.request
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


WRONG = """kafka: {{bootstrap: '{bootstrap}', prefix: {prefix}}}
http: {{monitor: 0, retrain: 0, deploy: 0}}
serve: {{port: {port}}}
registry: {{tracking_uri: 'sqlite:///{folder}/mlflow.db'}}
snapshots: {{directory: '{folder}/snapshots'}}
models:
  churn: {{predictions: {prefix}.rates, window: often}}
  fraud: {{predictions: {prefix}.scores, retrain: {{}}}}
  "b c": {{predictions: {prefix}.rates}}
  late: {{predictions: {{topic: {prefix}.scores, time_unit: s}}}}
  unread: {{predictions: {prefix}.rates, pane: {{{{ pane }}}}}}
"""


@pytest.mark.broker
@pytest.mark.parametrize("role", ["monitor", "retrain", "deploy", "serve"])
def test_a_wrong_entry_leaves_out_its_model_alone_in_every_role(role: str, kafka: Any, tmp_path: Path):
    prefix = f"alone-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_topics([NewTopic(f"{prefix}.{name}", 1, 1) for name in ("scores", "rates")])
    admin.close()
    config = tmp_path / "stationkeeper.yaml"
    # serve tells nobody which port it took.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config.write_text(WRONG.format(bootstrap=kafka.bootstrap, prefix=prefix, folder=tmp_path, port=port))
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "stationkeeper", role, "--config", str(config)]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        # `late` reads a topic otherwise than the model before it, which no entry alone can tell; deploy and serve read
        # no such topic.
        reads = role in {"monitor", "retrain"}
        until(lambda: len(events(log, "model_refused")) == 3 + reads, "all are told")
        told = {one["model"]: one["reason"] for one in events(log, "model_refused")}
        assert set(told) == {"churn", "#3", "unread"} | ({"late"} if reads else set())
        assert "'often' is not a duration" in told["churn"]
        assert "line 11: a dict stands where a key belongs" in told["unread"]
        assert not reads or "is read in two ways" in told["late"]
        at = f"http://127.0.0.1:{port}"
        until(
            lambda: answers(at) if role == "serve" else any("url" in one for one in events(log, "ready")), "it listens"
        )
        url = at if role == "serve" else next(one["url"] for one in events(log, "ready") if "url" in one)
        samples = asked(url + "/metrics")
        for name in told:
            assert f'stationkeeper_model_refused{{model="{name}"}} 1.0' in samples
        if role == "serve":
            status = json.loads(asked(url + "/api/v1/status"))
            assert set(status["refused"]) == set(told)
            # Only the champions of those that are right here are missed.
            assert [one.split(":")[0] for one in status["reasons"]] == ["model fraud", "model late"]
            assert "churn: refused" in asked(url + "/")
            return
        assert asked(url + "/readyz") == "ok\n"
        status = json.loads(asked(url + "/api/v1/status"))
        assert {one["model"] for one in status["refused"]} == set(told)
        assert "is not a duration" in asked(url + "/")
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0, log.read_text()


def answers(url: str) -> bool:
    try:
        return bool(asked(url + "/livez"))
    except OSError:
        return False


def asked(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def test_a_role_of_which_no_model_is_right_ends_with_all_problems(tmp_path: Path):
    config = tmp_path / "stationkeeper.yaml"
    config.write_text("models: {a: {predictions: p, window: often}, b: {}}")
    command = [sys.executable, "-m", "stationkeeper", "monitor", "--config", str(config)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 2
    assert "models.a.window" in done.stderr
    assert "models.b.predictions: Field required" in done.stderr
