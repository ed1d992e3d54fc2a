"""The server of docs/targets.md, as it is written there, keeps what it promises; without broker or registry."""

import re
import threading
import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import mlflow.onnx
import pytest
import uvicorn

import stationkeeper as sk
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets import HttpTarget, check_target
from stationkeeper.process.listener import bound
from stationkeeper.registry import MODEL_FILE

PAGE = Path(__file__).parents[3] / "docs" / "targets.md"


@pytest.fixture
def example(
    models: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[[Callable[[], bool]], None]
) -> Iterator[Any]:
    """Serve the example; yields its module with the ``url`` it has, what it ``logged`` and what it ``loaded``."""
    found = SimpleNamespace(logged=[], loaded=[])

    def load_model(uri: str) -> Any:
        found.loaded.append(uri)
        graph = (models / "fraud" / uri.rpartition("/")[2] / MODEL_FILE).read_bytes()
        return SimpleNamespace(SerializeToString=lambda: graph)

    monkeypatch.setattr(mlflow.onnx, "load_model", load_model)
    monkeypatch.setenv("KAFKA", "localhost:1")
    monkeypatch.setenv("PREDICTIONS", "fraud.predictions")
    (source,) = re.findall(r"```python\n(# serving\.py;.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    module: Any = types.ModuleType("serving")
    exec(compile(source, "docs/targets.md", "exec"), module.__dict__)
    module.log = SimpleNamespace(prediction=lambda **event: found.logged.append(event))
    server, listening = uvicorn.Server(uvicorn.Config(module.app, log_level="warning")), bound("127.0.0.1", 0, "port")
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    eventually(lambda: server.started)
    found.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    yield found
    server.should_exit = True
    thread.join(20)


def told(epoch: int, weight_bp: int, lease_s: float = 300.0) -> dict[str, Any]:
    lease = (datetime.now(UTC) + timedelta(seconds=lease_s)).isoformat()
    whole = {"model": "fraud", "epoch": epoch, "champion": "1", "canary": "2", "weight_bp": weight_bp}
    return {**whole, "lease_until": lease}


def asked() -> list[dict[str, Any]]:
    features = {"amount": 0.1, "method": "card"}
    return [{"event_id": f"e{i}", "entity_id": f"p{i}", "time": 1, "features": features} for i in range(200)]


def test_the_example_keeps_every_promise_of_a_target(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = mlflow.onnx.load_model
    monkeypatch.setattr(mlflow.onnx, "load_model", lambda uri: plain(uri.replace("conformance", "fraud")))
    check_target(lambda: HttpTarget(TargetSettings(kind="http", url=f"{example.url}/weights")))


def test_it_splits_by_the_weight_it_was_told_and_logs_version_arm_and_latency(example: Any) -> None:
    assert httpx.post(f"{example.url}/weights", json=told(3, 3_000)).status_code == 204
    assert example.loaded == ["models:/fraud/1", "models:/fraud/2"]
    scores = httpx.post(f"{example.url}/predict/fraud", json={"instances": asked()}).json()
    arms = [sk.client.arm_of(f"p{i}", salt="fraud 3 1", weight_bp=3_000) for i in range(200)]
    assert [one["arm"] for one in example.logged] == arms
    assert {one["arm"]: one["version"] for one in example.logged} == {"champion": "1", "canary": "2"}
    assert [one["prediction"] for one in example.logged] == scores
    assert all(one["latency_ms"] > 0 for one in example.logged)
    # Version 2 of the fixture is the opposite of version 1.
    by_arm = dict(zip(arms, scores, strict=True))
    assert by_arm["champion"] == pytest.approx(1 - by_arm["canary"], abs=1e-4)


def test_without_its_controller_it_is_back_on_the_champion_and_an_older_one_changes_nothing(example: Any) -> None:
    httpx.post(f"{example.url}/weights", json=told(3, 3_000, lease_s=-1.0))
    httpx.post(f"{example.url}/predict/fraud", json={"instances": asked()})
    assert {one["arm"] for one in example.logged} == {"champion"}
    assert httpx.post(f"{example.url}/weights", json=told(2, 9_000)).status_code == 409
    assert httpx.get(f"{example.url}/weights?model=fraud").json()["weight_bp"] == 3_000
