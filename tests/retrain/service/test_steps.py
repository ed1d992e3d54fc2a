from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from stationkeeper.registry import (
    CARD_FILE,
    FeatureKind,
    FeatureSpec,
    ModelCard,
    ModelTask,
    Registry,
    RegistrySettings,
)
from stationkeeper.retrain.core.labels import NegativeRule
from stationkeeper.retrain.core.plan import LabelStatistics
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.progress import after_survey
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.service.steps import ModelInputs, ReferenceRows, Steps, Survey, reference_of
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot import EVENT_ID, LABEL, LABEL_TIME, TIME, VERSION, SnapshotStore
from stationkeeper.retrain.training.job import ARTIFACT_DIRECTORY, HELD_OUT_FILE, SCORED_FILE
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from tests.retrain.bank import a_request, reference_builder
from tests.retrain.service.test_lineage import RESULT


def test_the_snapshot_is_written_by_the_rule_of_the_plan(tmp_path: Path) -> None:
    inputs = {"bank": ModelInputs("bank", (), RetrainSettings())}
    card = SimpleNamespace(snapshot=None)
    registry: Any = SimpleNamespace(download=lambda *_: card)
    store = SnapshotStore(tmp_path / "snapshots")
    steps = Steps(inputs, registry, store, lambda: MemoryReader(MemoryLog()), reference_builder, tmp_path / "work")
    given: list[Any] = []

    def pieces(*arguments: Any) -> Iterator[pl.DataFrame]:
        given.append(arguments)
        yield pl.DataFrame({EVENT_ID: ["a"], TIME: [1], VERSION: ["1"], LABEL: ["true"], LABEL_TIME: [2]})

    rows: Any = SimpleNamespace(
        pieces=pieces, advance=lambda *_: 0, begin={}, end={}, since_ms=0, columns=SimpleNamespace(unusable=0)
    )
    rule = NegativeRule(7, ("block",))
    waiting = RetrainState(request=a_request(), stage=RequestStage.PLANNED, reason=RequestReason.ACCEPTED)
    counted = LabelStatistics(50, 10, 0, 10_000, 5_000, rule=rule)
    rules = inputs["bank"].settings.plan_rules()
    planned = RetrainState.decode(after_survey(waiting, Survey(counted, 50, {}), rules).encode())
    steps._rows[planned.id] = rows
    assert steps.snapshot(planned).rows == 1
    assert given == [(50, 10, None, rule)]


@pytest.mark.parametrize(("looks", "level"), [(None, 0.01), (1, 0.05), (2, 0.025)])
def test_the_gate_divides_its_level_by_the_looks_that_the_request_may_have(
    tmp_path: Path, looks: int | None, level: float
) -> None:
    inputs = {"bank": ModelInputs("bank", (), RetrainSettings.model_validate({"task": "regression"}))}
    registry = Registry(RegistrySettings(tracking_uri=f"sqlite:///{tmp_path / 'none.db'}"))
    store = SnapshotStore(tmp_path / "snapshots")
    steps = Steps(inputs, registry, store, lambda: MemoryReader(MemoryLog()), reference_builder, tmp_path / "work")
    state = RetrainState(
        request=a_request(looks=looks), stage=RequestStage.GATE, reason=RequestReason.ENOUGH_LABELS, result=RESULT
    )
    steps.training_directory(state).mkdir(parents=True)
    truth = np.arange(400.0)
    held = pl.DataFrame({"label": truth, "champion": truth + 2.0, "challenger": truth + 1.0, "after": True})
    held.write_parquet(steps.training_directory(state) / HELD_OUT_FILE)
    assert steps.gate(state).numbers["gain_after"]["alpha"] == pytest.approx(level)


def test_a_reference_holds_the_models_answers_where_features_are_called_score_and_known(tmp_path: Path) -> None:
    ids = ["a", "b"]
    reserved = {EVENT_ID: ids, TIME: [1, 2], VERSION: ["1", "1"], LABEL: ["false", "true"], LABEL_TIME: [3, 4]}
    store = SnapshotStore(tmp_path / "snapshots")
    made = store.write(pl.DataFrame(reserved | {"score": [640.0, 710.0], "known": [7.0, 8.0]}), {"model": "bank"})
    specs = tuple(FeatureSpec(name=name, kind=FeatureKind.NUMERIC) for name in ("score", "known"))
    card = ModelCard(model="bank", task=ModelTask.REGRESSION, features=specs, onnx_sha256="0" * 64)
    (tmp_path / ARTIFACT_DIRECTORY).mkdir()
    (tmp_path / ARTIFACT_DIRECTORY / CARD_FILE).write_bytes(card.encode())
    scored = {EVENT_ID: ids, TIME: [1, 2], "score": [0.1, 0.9], "known": [0.0, 1.0]}
    pl.DataFrame(scored).write_parquet(tmp_path / SCORED_FILE)
    given: list[ReferenceRows] = []

    def build(rows: ReferenceRows) -> tuple[str, bytes]:
        given.append(rows)
        return "digest", b"{}"

    job: Any = SimpleNamespace(digest=made.digest, data_rows=10, onset_ms=None, model="bank", positive="true")
    reference_of(job, tmp_path, "2", store, build)
    [rows] = given
    assert rows.scores.tolist() == [0.1, 0.9]
    assert rows.labels.tolist() == [0.0, 1.0]
    assert rows.features["score"].to_list() == [640.0, 710.0]
