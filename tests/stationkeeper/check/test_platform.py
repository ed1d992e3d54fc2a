"""``check`` asks what retraining and rollouts need: a trainer that can be imported, a server that answers."""

import http.server
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from stationkeeper.check.platform import check_platform, check_queries, check_targets, check_trainer
from stationkeeper.commands import rollout as verbs
from stationkeeper.config import Config
from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.core.queries import QueryAnswer
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets import Abilities, Observation


def config(**more: Any) -> Config:
    return Config.parse({"serve": {"port": 1}, "models": {"m": {"predictions": "p"}}} | more)


def test_a_monitor_alone_needs_none_of_it() -> None:
    assert [found.outcome for found in check_platform(config())] == ["ok"]


def test_a_trainer_is_imported_as_a_training_would_and_what_is_wrong_with_its_module_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("class Good:\n    def fit(self, data): ...\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    assert check_trainer("mine:Good").outcome == "ok"
    for name, words in (
        ("leaves:Trainer", "exit code 3"),
        ("nowhere:Trainer", "No module named 'nowhere'"),
    ):
        found = check_trainer(name)
        assert found.failed
        assert words in found.detail
        assert "install what it needs" in found.detail


def test_a_router_that_is_not_up_yet_is_said_and_a_server_at_an_address_must_answer() -> None:
    (found,) = check_targets(config())
    assert found.outcome == "warning"
    assert "the router at 127.0.0.1:1 does not answer" in found.detail
    (failed,) = check_targets(config(targets=[{"kind": "http", "url": "http://127.0.0.1:1/weights"}]))
    assert failed.failed
    assert "start it, or correct targets: url" in failed.detail


def test_a_query_to_prometheus_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    query = {"url": "http://127.0.0.1:1", "query": "up", "at_most": 1}
    asked = config(models={"m": {"predictions": "p", "rollout": {"queries": {"checkouts": query}}}})
    (found,) = check_queries(asked)
    assert (found.what, found.outcome) == ("query checkouts of m", "failed")
    assert "Prometheus at 127.0.0.1:1 does not answer" in found.detail
    for answer, said in (
        (QueryAnswer(None), "warning"),
        (QueryAnswer(0.5), "ok"),
        (QueryAnswer(None, "parse error"), "failed"),
    ):
        monkeypatch.setattr("stationkeeper.check.platform.ask", lambda *_, answer=answer: answer)
        (found,) = check_queries(asked)
        assert found.outcome == said


class _Weights(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"champion": "1", "canary": None, "weight_bp": 0}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""


def test_a_server_that_answers_is_well() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Weights)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/weights"
        (found,) = check_targets(config(targets=[{"kind": "http", "url": url}]))
        assert found.outcome == "ok"
    finally:
        server.shutdown()
        server.server_close()


class Coarse:
    """A platform of whole per cents that keeps nobody with one version."""

    name = "coarse"
    abilities = Abilities(step_bp=100, sticky=False, holds_back=True)

    def __init__(self, settings: TargetSettings) -> None:
        """Take no settings."""

    def apply(self, rollout: Rollout) -> None:
        """Do nothing."""

    def observe(self, model: str) -> Observation | None:
        return None


class Garbled(Coarse):
    """A platform whose answer has another shape than its target reads."""

    def observe(self, model: str) -> Observation | None:
        raise KeyError("metadata")


def test_whatever_a_target_raises_is_told() -> None:
    (found,) = check_targets(config(targets=[{"kind": f"{__name__}:Garbled"}]))
    assert (found.outcome, found.detail) == ("failed", "'metadata'")


class Telling(Coarse):
    """A platform whose error quotes what it asked."""

    def observe(self, model: str) -> Observation | None:
        raise RuntimeError("no answer from https://ann:open-sesame@gateway/api?token=abcdefgh123")


def test_no_finding_tells_a_password_or_token() -> None:
    (found,) = check_targets(config(targets=[{"kind": f"{__name__}:Telling"}]))
    assert found.detail == "no answer from https://***@gateway/api?token=***"
    with http.server.HTTPServer(("127.0.0.1", 0), _Weights) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://ann:open-sesame@127.0.0.1:{server.server_port}"
        (found,) = check_targets(config(targets=[{"kind": "http", "url": url}]))
        server.shutdown()
    assert (found.outcome, found.detail) == ("ok", f"http://***@127.0.0.1:{server.server_port} answers")


def test_what_a_target_cannot_do_of_a_ramp_is_said_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {
        "models": {"m": {"predictions": "p", "rollout": {"steps": [0.005, 0.025, 0.5]}}},
        "targets": [{"kind": f"{__name__}:Coarse"}],
    }
    found = list(check_targets(config(**given)))
    assert [one.outcome for one in found] == ["ok", "failed", "warning", "warning"]
    assert found[1].detail == "0.005 is refused: the least weight is 0.01"
    path = tmp_path / "stationkeeper.yaml"
    path.write_text(json.dumps(given))
    verbs.plan("m", per_minute=1_000, base=0.01, config=path)
    said = capsys.readouterr().out
    for one in found[1:]:
        assert one.detail in said
