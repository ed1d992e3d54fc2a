"""The registry with a real MLflow on SQLite: fetching, checking, the alias, and what a broken artifact says."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from stationkeeper.registry.artifact import CARD_FILE, MODEL_FILE
from stationkeeper.registry.served import ArtifactError, MlflowRegistry, read_card
from stationkeeper.registry.session import ServedModel
from stationkeeper.streams.errors import Retryable


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory, models: Path) -> str:
    """An MLflow with ``fraud`` version 1 (sound) and version 2 (a source without files)."""
    root = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{root}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("fraud")
    experiment = client.create_experiment("fraud", artifact_location=(root / "artifacts").as_uri())
    run = client.create_run(experiment)
    client.log_artifacts(run.info.run_id, str(models / "fraud" / "1"), "model")
    client.create_model_version("fraud", f"{run.info.artifact_uri}/model", run.info.run_id)
    (root / "empty").mkdir()
    client.create_model_version("fraud", (root / "empty").as_uri())
    return uri


def test_a_version_is_fetched_once_and_serves(tracking, tmp_path):
    registry = MlflowRegistry(tracking, tmp_path)
    directory = registry.fetch("fraud", "1")
    assert directory == tmp_path / "fraud" / "1"
    assert {MODEL_FILE, CARD_FILE} <= {one.name for one in directory.iterdir()}
    answers = ServedModel("fraud", "1", directory).answer({"amount": [2.0, -2.0], "method": ["card", "card"]})
    assert answers.actions == ["positive", "negative"]
    offline = MlflowRegistry("sqlite:////nowhere/at/all.db", tmp_path)
    assert offline.fetch("fraud", "1") == directory


def test_a_damaged_cache_is_fetched_again(tracking, tmp_path):
    registry = MlflowRegistry(tracking, tmp_path)
    (registry.fetch("fraud", "1") / MODEL_FILE).write_bytes(b"damaged")
    assert read_card(registry.fetch("fraud", "1")).model == "fraud"


def test_what_cannot_be_served_says_why(tracking, tmp_path):
    registry = MlflowRegistry(tracking, tmp_path)
    with pytest.raises(ArtifactError, match=r"has no model\.onnx"):
        registry.fetch("fraud", "2")
    with pytest.raises(ArtifactError, match="register it or name another"):
        registry.fetch("fraud", "99")
    assert not (tmp_path / "fraud" / "2").exists()


def test_the_alias_is_read_and_moved(tracking, tmp_path):
    registry = MlflowRegistry(tracking, tmp_path)
    assert registry.champion("fraud") is None
    registry.set_champion("fraud", "1")
    assert registry.champion("fraud") == "1"


def test_an_unreachable_registry_is_retryable(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = MlflowRegistry("http://127.0.0.1:9", tmp_path)
    with pytest.raises(Retryable, match=r"could not fetch fraud 1 at http://127\.0\.0\.1:9"):
        registry.fetch("fraud", "1")
    with pytest.raises(Retryable, match="champion alias"):
        registry.champion("fraud")


def changed(source: Path, target: Path, **card: Any) -> Path:
    target.mkdir()
    (target / MODEL_FILE).write_bytes((source / MODEL_FILE).read_bytes())
    whole = json.loads((source / CARD_FILE).read_bytes())
    (target / CARD_FILE).write_text(json.dumps({**whole, **card}))
    return target


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ({"onnx_sha256": "0" * 64}, "SHA-256"),
        ({"threshold": 2.0}, "threshold"),
        ({"surprise": 1}, "surprise"),
        ({"model": "other"}, "card of 'other'"),
        ({"output": "nothing"}, "no output 'nothing'"),
        ({"features": [{"name": "amount", "kind": "numeric"}]}, "disagree on the inputs"),
        ({"task": "regression", "classes": [], "positive": None}, None),
        ({"classes": ["a", "b", "c"], "task": "multiclass", "positive": None}, "cannot answer a row of nulls"),
    ],
)
def test_a_card_that_does_not_fit_its_model_is_refused(models, tmp_path, card, says):
    directory = changed(models / "fraud" / "1", tmp_path / "model", **card)
    if says is None:
        assert ServedModel("fraud", "1", directory).answer({"amount": [1.0], "method": ["card"]}).actions[0] is None
        return
    with pytest.raises(ArtifactError, match=says):
        ServedModel("fraud", "1", directory)


def test_bytes_that_are_no_model_are_refused(models, tmp_path):
    import hashlib

    junk = b"not a model"
    directory = changed(models / "fraud" / "1", tmp_path / "model", onnx_sha256=hashlib.sha256(junk).hexdigest())
    (directory / MODEL_FILE).write_bytes(junk)
    with pytest.raises(ArtifactError, match="not a model onnxruntime can load"):
        ServedModel("fraud", "1", directory)
