"""Which snapshots outlive their retention, with a real MLflow on SQLite."""

import os
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from stationkeeper.registry import Registration, Registry, RegistrySettings
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.requests import RequestStates
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.service.steps import Steps
from stationkeeper.retrain.snapshot import SnapshotStore
from stationkeeper.retrain.training.job import HELD_OUT_FILE, LOG_FILE, RESULT_FILE, SCORED_FILE, SHADOW_FILE
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from tests.deploy.conftest import models
from tests.retrain.bank import a_request, reference_builder

__all__ = ["models"]

YEAR_MS = 365 * 86_400_000


def steps_with(registry: Registry, directory: Path) -> Steps:
    store = SnapshotStore(directory / "snapshots", retention_ms=YEAR_MS)
    return Steps({}, registry, store, lambda: MemoryReader(MemoryLog()), reference_builder, directory / "work")


def old_snapshot(steps: Steps, number: int, base: str | None = None) -> str:
    """Write a snapshot two years ago."""
    rows = {"@event_id": ["e"], "@time": [number], "@version": ["1"], "@label": ["true"], "@label_time": [number]}
    made = steps.snapshots.write(pl.DataFrame(rows), {"model": "fraud", "base": base})
    os.utime(made.path, (made.path.stat().st_mtime - 2 * YEAR_MS / 1_000,) * 2)
    return made.digest


def ended(snapshot: str, **changes: object) -> RetrainState:
    facts: Mapping[str, object] = {"stage": RequestStage.FAILED, "reason": RequestReason.GATE_FAILED} | changes
    return RetrainState.model_validate({"request": a_request(), "snapshot": snapshot, **facts})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(RegistrySettings(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"))


def test_only_a_snapshot_that_no_version_and_no_open_request_refers_to_is_deleted(
    registry: Registry, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two versions a page or fewer, so that a second page is asked for.
    monkeypatch.setattr("stationkeeper.registry.mlflow.PAGE", 1)
    steps = steps_with(registry, tmp_path)
    first = old_snapshot(steps, 1)
    grown = old_snapshot(steps, 2, base=first)
    others = old_snapshot(steps, 3)
    in_work = old_snapshot(steps, 4)
    nobodys = old_snapshot(steps, 5)
    for model, snapshot in (("fraud", grown), ("another", others), ("elsewhere", "f" * 64)):
        registry.register(Registration(model, models / "fraud" / "1", tags={"snapshot": snapshot}))
    requests = RequestStates("state")
    requests.move(ended(in_work, stage=RequestStage.TRAINING, reason=RequestReason.ACCEPTED))
    steps.clean(ended(nobodys), in_work=requests.snapshots)
    kept = {path.stem for path in steps.snapshots.directory.glob("*.parquet")}
    assert kept == {first, grown, others, in_work}
    assert {path.stem for path in steps.snapshots.directory.glob("*.json")} == kept
    # The version goes, and the last that names its rows with it.
    registry._connection.client("delete").delete_model_version("another", "1")
    steps.clean(ended(nobodys), in_work=requests.snapshots)
    assert not steps.snapshots.manifest_path(others).exists()


def test_a_request_that_ends_without_a_version_keeps_its_log_and_no_persons_scores(
    registry: Registry, tmp_path: Path
) -> None:
    steps = steps_with(registry, tmp_path)
    state = ended(old_snapshot(steps, 1), look=1)
    first, last = steps.directory(state) / "look-0", steps.training_directory(state)
    for look in (first, last):
        look.mkdir(parents=True)
        for name in (HELD_OUT_FILE, SCORED_FILE, SHADOW_FILE, LOG_FILE, RESULT_FILE):
            (look / name).write_text("x")
    steps.clean(state)
    assert {path.name for look in (first, last) for path in look.iterdir()} == {LOG_FILE, RESULT_FILE}
    steps.clean(state)


def test_a_registry_that_is_away_deletes_nothing(tmp_path: Path, free_port: int) -> None:
    away = RegistrySettings(tracking_uri=f"http://127.0.0.1:{free_port}", timeout=1_000, retries=0)
    steps = steps_with(Registry(away), tmp_path)
    nobodys = old_snapshot(steps, 1)
    with pytest.raises(Retryable, match="which snapshots are referred to"):
        steps.clean(ended(nobodys))
    assert steps.snapshots.find(nobodys) is not None
