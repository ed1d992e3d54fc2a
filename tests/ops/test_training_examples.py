"""The Kubeflow pipeline and Ray task of ops/examples/training, run by kfp and Ray, called as a trainer calls them."""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from stationkeeper.registry import ModelTask
from stationkeeper.retrain.bootstrap import training_rows
from stationkeeper.retrain.snapshot.table import TrainingTable
from stationkeeper.retrain.training.command import Command
from stationkeeper.retrain.training.trainer import TrainingData
from tests.listening import answers, free_port
from tests.retrain.bank import ONSET, START, transactions
from tests.waiting import until

EXAMPLES = Path(__file__).parents[2] / "ops" / "examples" / "training"


def environment(name: str) -> Path:
    """The interpreter of an environment with what ``requirements-NAME.txt`` pins, made once a machine.

    kfp needs an older protobuf than we, and Ray nothing that we need.
    """
    pins = EXAMPLES / f"requirements-{name}.txt"
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stationkeeper"
    home = root / f"{name}-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    uv, python = Path(sys.executable).with_name("uv"), home / "bin" / "python"
    if not (home / "complete").exists():
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, home], check=True)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", pins], check=True
        )
        (home / "complete").touch()
    return python


def trains(*command: str | Path) -> None:
    """Call the program as `trainer: command` does: it learns which payments are fraud."""
    table = training_rows(transactions(600, START, ONSET, seed=3, shifted=False).drop("event_id"))
    rows = TrainingTable.of(table, ModelTask.BINARY, "true")
    data = TrainingData(rows.features, rows.specs, rows.labels, np.ones(600), ModelTask.BINARY, 7)
    fitted = Command(command=[str(word) for word in command], directory=str(EXAMPLES)).fit(data)
    scores = fitted.score(rows.features)
    assert scores[rows.labels == 1].mean() > 2 * scores[rows.labels == 0].mean()


def test_a_kubeflow_pipeline_trains_here_and_compiles_for_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kubeflow = environment("kubeflow")
    trains(kubeflow, "pipeline.py")

    claim = {**os.environ, "CLAIM": "rows", "MOUNT": "/rows", "IMAGE": "registry.bank/train:1"}
    compiled = tmp_path / "pipeline.yaml"
    subprocess.run([kubeflow, EXAMPLES / "pipeline.py", "--compile", compiled], env=claim, check=True)
    text = compiled.read_text()
    assert "image: registry.bank/train:1" in text
    assert text.count("mountPath: /rows") == 2


def test_a_training_runs_on_a_ray_cluster_that_sees_no_folder_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # With the tokens that Ray makes by itself its client port does not come up (2.60).
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    python, port = environment("ray"), free_port()
    # Sockets have a path of 107 bytes at most. It is ended by its group, as `ray stop` ends every cluster of a machine.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as session:
        words = f"start --head --block --port {free_port()} --ray-client-server-port {port} --num-cpus 1"
        words += f" --object-store-memory {2**28} --include-dashboard=false --disable-usage-stats --temp-dir {session}"
        cluster = subprocess.Popen(
            [python.with_name("ray"), *words.split()],
            # The workers hold the packages, and neither train.py nor the folder's path.
            cwd=session,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: answers(port), "a Ray cluster that takes tasks")
            address = f"ray://127.0.0.1:{port}"
            trains(python, "on_ray.py", address)
            # What train.py says of rows that give no model is said here.
            (tmp_path / "data.parquet").write_bytes(b"")
            (tmp_path / "job.json").write_text('{"task": "regression", "threads": 1, "memory_bytes": 1}')
            told = {**os.environ, "STATIONKEEPER_EXCHANGE": str(tmp_path)}
            ended = subprocess.run([python, EXAMPLES / "on_ray.py", address], env=told, check=False)
            assert ended.returncode == 3
            assert (tmp_path / "error.txt").read_text().startswith("this program trains binary models")
        finally:
            os.killpg(cluster.pid, signal.SIGKILL)
            cluster.wait()
