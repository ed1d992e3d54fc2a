"""The Kubeflow pipeline of ops/examples/training, compiled and run by kfp itself, called as a trainer calls it."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stationkeeper.registry import ModelTask
from stationkeeper.retrain.bootstrap import training_rows
from stationkeeper.retrain.snapshot.table import TrainingTable
from stationkeeper.retrain.training.command import Command
from stationkeeper.retrain.training.trainer import TrainingData
from tests.retrain.bank import ONSET, START, transactions

EXAMPLES = Path(__file__).parents[2] / "ops" / "examples" / "training"


@pytest.fixture(scope="module")
def kubeflow() -> Path:
    """The interpreter of an environment with kfp, which needs an older protobuf than we; made once a machine."""
    pins = EXAMPLES / "requirements.txt"
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stationkeeper"
    home = root / f"kubeflow-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    uv, python = Path(sys.executable).with_name("uv"), home / "bin" / "python"
    if not (home / "complete").exists():
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, home], check=True)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", pins], check=True
        )
        (home / "complete").touch()
    return python


def test_a_kubeflow_pipeline_trains_here_and_compiles_for_a_cluster(
    kubeflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    table = training_rows(transactions(600, START, ONSET, seed=3, shifted=False).drop("event_id"))
    rows = TrainingTable.of(table, ModelTask.BINARY, "true")
    data = TrainingData(rows.features, rows.specs, rows.labels, np.ones(600), ModelTask.BINARY, 7)
    fitted = Command(command=[str(kubeflow), "pipeline.py"], directory=str(EXAMPLES)).fit(data)
    scores = fitted.score(rows.features)
    assert scores[rows.labels == 1].mean() > 2 * scores[rows.labels == 0].mean()

    claim = {**os.environ, "CLAIM": "rows", "MOUNT": "/rows", "IMAGE": "registry.bank/train:1"}
    compiled = tmp_path / "pipeline.yaml"
    subprocess.run([kubeflow, EXAMPLES / "pipeline.py", "--compile", compiled], env=claim, check=True)
    text = compiled.read_text()
    assert "image: registry.bank/train:1" in text
    assert text.count("mountPath: /rows") == 2
