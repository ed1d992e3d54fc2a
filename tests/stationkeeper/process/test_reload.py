"""SIGHUP: models and budgets change in the same process; what is wrong or cannot change so is refused whole."""

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import structlog
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from stationkeeper.config import load
from stationkeeper.process.reload import Reload, fixed_changes
from tests.waiting import until

WATCHED = "models: {fraud: {predictions: scores, false_pages: 1 per 30 days}}\n"


def asked(path: Path, text: str) -> tuple[Reload, bool, dict[str, Any]]:
    """What a role that runs by WATCHED does with another file, and what it logs."""
    path.write_text(WATCHED)
    reload = Reload(path, load(path, {}))
    assert not reload.due()
    path.write_text(text)
    reload._ask(signal.SIGHUP, None)
    with structlog.testing.capture_logs() as logged:
        due = reload.due()
        assert not reload.due()
    return reload, due, dict(logged[0])


def test_another_budget_is_taken(tmp_path: Path):
    reload, due, said = asked(tmp_path / "c.yaml", WATCHED.replace("30 days", "7 days"))
    assert (due, reload.accepted) == (True, True)
    assert (said["event"], said["changed"]) == ("config_reloaded", ["fraud"])


def test_nothing_new_stops_nothing(tmp_path: Path):
    reload, due, said = asked(tmp_path / "c.yaml", WATCHED)
    assert (due, reload.accepted, said["changed"]) == (False, False, [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("models: {fraud: {predictions: scores, false_pags: 3}}\n", "did you mean 'false_pages'"),
        ("models: [", "is not YAML"),
        ("models: {}\n", "models: is empty"),
        (f"{WATCHED}kafka: {{prefix: other}}\nclock: stream\n", "clock, kafka.prefix: holds from a start only"),
    ],
    ids=["misspelt", "no yaml", "no model", "fixed"],
)
def test_what_is_wrong_is_refused_whole(tmp_path: Path, text: str, reason: str):
    reload, due, said = asked(tmp_path / "c.yaml", text)
    assert (due, reload.accepted, said["event"]) == (False, False, "config_refused")
    assert reason in said["reason"]


def test_every_key_but_the_models_is_fixed(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text(WATCHED)
    running = load(path, {})
    path.write_text(f"{WATCHED}drain: 5s\nhttp: {{monitor: 1}}\nregistry: {{tracking_uri: other}}\n")
    assert fixed_changes(running, load(path, {})) == ["registry.tracking_uri", "http.monitor", "drain"]


@pytest.mark.broker
def test_a_running_monitor_takes_another_budget_as_the_same_process(kafka: Any, tmp_path: Path):
    prefix = f"reload-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_topics([NewTopic(f"{prefix}.scores", 1, 1)])
    admin.close()
    path, log = tmp_path / "stationkeeper.yaml", tmp_path / "log"
    around = f"kafka: {{bootstrap: '{kafka.bootstrap}', prefix: {prefix}}}\nhttp: {{monitor: 0}}\n"
    models = WATCHED.replace("scores", f"{prefix}.scores")
    path.write_text(around + models)

    def told(event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    command = [sys.executable, "-m", "stationkeeper", "monitor", "--config", str(path)]
    with log.open("wb") as out:
        # Without a terminal, as a daemon is.
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path, start_new_session=True)
    try:
        until(lambda: any("roles" in line for line in told("ready")), "the monitor is ready", 60)
        path.write_text(around + models.replace("false_pages", "false_pags"))
        os.kill(process.pid, signal.SIGHUP)
        until(lambda: told("config_refused"), "the mistake is refused", 30)
        path.write_text(around + models.replace("30 days", "7 days"))
        os.kill(process.pid, signal.SIGHUP)
        until(lambda: sum("roles" in line for line in told("ready")) == 2, "the monitor is ready again", 60)
        assert process.poll() is None
        assert told("config_reloaded")[0]["changed"] == ["fraud"]
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
