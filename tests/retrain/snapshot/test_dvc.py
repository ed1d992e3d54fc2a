"""Snapshots in a real DVC repository with a local remote, and `dvc repro` as a trainer over the shipped example."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stationkeeper.registry import ModelTask
from stationkeeper.retrain.bootstrap import training_rows
from stationkeeper.retrain.settings import SnapshotSettings
from stationkeeper.retrain.snapshot.dvc import DvcError, DvcRepository, dvc_program, tag_of
from stationkeeper.retrain.snapshot.snapshot import SnapshotStore
from stationkeeper.retrain.snapshot.table import TrainingTable
from stationkeeper.retrain.training.command import Command
from stationkeeper.retrain.training.trainer import TrainingData
from tests.retrain.bank import ONSET, START, transactions

EXAMPLES = Path(__file__).parents[3] / "ops" / "examples" / "training"


def run(directory: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository of a person's own, on a machine where git knows no one."""
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    found = tmp_path / "models"
    found.mkdir()
    run(found, "git", "init", "--quiet")
    run(found, dvc_program(), "init", "--quiet")
    config = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {tmp_path / 'remote'}\n"
    (found / ".dvc" / "config").write_text(config)
    run(found, "git", "add", ".dvc/config")
    run(found, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "DVC")
    return found


def test_each_snapshot_is_a_version_that_dvc_gets_and_compares_and_repro_trains_on(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = SnapshotStore.of(SnapshotSettings(directory=tmp_path / "store", dvc=repository))
    table = training_rows(transactions(600, START, ONSET, seed=3, shifted=False).drop("event_id"))
    first = store.write(table[:400], {"model": "bank"})
    second = store.write(table, {"model": "bank"})
    again = store.write(table, {"model": "bank"})
    assert again.digest == second.digest
    assert store.dvc is not None
    assert store.dvc.tags() == {tag_of(first.digest), tag_of(second.digest)}
    assert run(repository, "git", "status", "--porcelain", "snapshots") == ""
    # From the remote, into a place that knows nothing of ours.
    shutil.rmtree(repository / ".dvc" / "cache")
    get = (dvc_program(), "get", "--rev", tag_of(first.digest), str(repository), "snapshots/bank.parquet")
    run(tmp_path, *get, "-o", "got.parquet")
    assert hashlib.sha256((tmp_path / "got.parquet").read_bytes()).hexdigest() == first.digest
    changed = json.loads(run(repository, dvc_program(), "diff", "--json", tag_of(first.digest), tag_of(second.digest)))
    assert [one["path"] for one in changed["modified"]] == ["snapshots/bank.parquet"]
    assert json.loads(run(repository, "git", "show", "HEAD:snapshots/bank.json"))["digest"] == second.digest

    for name in ("train.py", "dvc.yaml", "repro.sh"):
        shutil.copy(EXAMPLES / name, repository)
    # The stage says `python`, which is here the one that has the libraries, and `dvc` lies beside it.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = TrainingTable.of(table, ModelTask.BINARY, "true")
    weights = np.ones(len(rows.labels))
    data = TrainingData(rows.features, rows.specs, rows.labels, weights, ModelTask.BINARY, 7)
    fitted = Command(command=["./repro.sh"], directory=str(repository)).fit(data)
    scores = fitted.score(rows.features)
    assert scores[rows.labels == 1].mean() > 2 * scores[rows.labels == 0].mean()
    assert getattr(fitted, "metrics", {})["rows"] == 600.0
    assert "train" in (repository / "dvc.lock").read_text()


def test_a_repository_that_is_none_stops_no_snapshot(tmp_path: Path):
    with pytest.raises(DvcError, match="git init && dvc init"):
        DvcRepository(tmp_path).tags()
    store = SnapshotStore(tmp_path / "store", dvc=DvcRepository(tmp_path))
    table = training_rows(transactions(50, START, ONSET, seed=3, shifted=False).drop("event_id"))
    assert store.find(store.write(table, {"model": "bank"}).digest) is not None
