"""The trainer `command` with programs that do what programs do: leave a model, or fail in each of their ways."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stationkeeper.registry import FeatureKind, FeatureSpec, ModelTask
from stationkeeper.retrain.training.command import Command, ExchangeJob
from stationkeeper.retrain.training.estimators import LogisticRegression
from stationkeeper.retrain.training.trainer import TrainerError, TrainingData, load_trainer

SPECS = (
    FeatureSpec(name="amount", kind=FeatureKind.NUMERIC),
    FeatureSpec(name="abroad", kind=FeatureKind.BOOLEAN),
    FeatureSpec(name="method", kind=FeatureKind.CATEGORICAL),
)


def rows() -> TrainingData:
    rng = np.random.default_rng(3)
    amount = rng.normal(size=200)
    features = pl.DataFrame(
        {"amount": amount, "abroad": rng.random(200) < 0.5, "method": rng.choice(["card", "wallet"], 200)}
    ).with_columns(pl.when(pl.col("amount") < 1.5).then("amount"))
    labels = (amount > 0).astype(np.float64)
    return TrainingData(features, SPECS, labels, np.ones(200), ModelTask.BINARY, 7, 2, 2**30, 60.0)


DATA = rows()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = LogisticRegression().fit(DATA).to_onnx()
    path = tmp_path_factory.mktemp("model") / "made.onnx"
    path.write_bytes(found.content)
    path.with_suffix(".json").write_text(json.dumps({"output": found.output}))
    return path


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def program(script: str, **options: object) -> Command:
    begin = "import json, os, shutil, sys, pathlib, time; at = pathlib.Path(os.environ['STATIONKEEPER_EXCHANGE'])\n"
    return load_trainer("command", {"command": [sys.executable, "-S", "-c", begin + script], **options})  # type: ignore[return-value]


def test_a_program_gets_rows_and_job_and_leaves_a_model(model: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stationkeeper.retrain.training.command.PROGRESS_S", 0.01)
    script = f"""
shutil.copy(at / "job.json", "job.json"); shutil.copy(at / "data.parquet", "data.parquet")
(at / "progress.json").write_text('{{"share": 0.5, "text": "half"}}')
until = pathlib.Path("seen")
while not until.exists(): time.sleep(0.01)
shutil.copy({str(model)!r}, at / "model.onnx"); shutil.copy({str(model.with_suffix(".json"))!r}, at / "model.json")
(at / "metrics.json").write_text('{{"epochs": 3}}')
"""
    trainer = program(script, directory=str(scratch), parameters={"depth": 4})
    said: list[tuple[float | None, str]] = []

    def seen(share: float | None, text: str) -> None:
        said.append((share, text))
        if text == "half":
            (scratch / "seen").touch()

    fitted = trainer.fit(replace(DATA, progress=seen))
    expected = LogisticRegression().fit(DATA).score(DATA.features)
    assert np.abs(fitted.score(DATA.features) - expected).max() < 1e-5
    assert fitted.to_onnx().content == model.read_bytes()
    assert getattr(fitted, "metrics", None) == {"epochs": 3.0}
    assert (0.5, "half") in said
    job = ExchangeJob.model_validate_json((scratch / "job.json").read_text())
    assert (job.parameters, job.seed, job.threads, job.memory_bytes, job.seconds) == ({"depth": 4}, 7, 2, 2**30, 60.0)
    assert [one.name for one in job.features] == ["amount", "abroad", "method"]
    found = pl.read_parquet(scratch / "data.parquet")
    assert found.columns == ["amount", "abroad", "method", "@label", "@weight"]
    assert found["@label"].to_list() == DATA.labels.tolist()
    # Nothing of a run that went well stays.
    assert list(scratch.glob("exchange-*")) == []


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        ("(at / 'error.txt').write_text('no such column'); sys.exit(3)", TrainerError, "exit code 3: no such column"),
        ("sys.exit(9)", RuntimeError, "exit code 9: it left no error.txt"),
        ("pass", TrainerError, "left no model.onnx"),
        ("(at / 'model.onnx').write_bytes(b'pickle')", TrainerError, "model.onnx cannot be served"),
        (
            "(at / 'model.onnx').write_bytes(b'x'); (at / 'metrics.json').write_text('[1]')",
            TrainerError,
            "model.json or metrics.json that is no such file",
        ),
    ],
)
def test_each_end_of_a_program_is_told_apart(scratch: Path, script: str, error: type[Exception], said: str):
    with pytest.raises(error, match=said):
        program(script).fit(DATA)
    assert len(list(scratch.glob("exchange-*"))) == 1


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "parameters.command is"),
        ({"command": "dvc repro"}, "list of texts"),
        ({"comand": ["dvc"]}, "retrain.parameters .comand.: .*unexpected keyword"),
    ],
)
def test_parameters_that_name_no_program_are_refused(parameters: dict[str, object], said: str):
    with pytest.raises(TrainerError, match=said):
        load_trainer("command", parameters)


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(TrainerError, match="'/no/such' cannot be run"):
        Command(command=["/no/such", "{exchange}"]).fit(DATA)
