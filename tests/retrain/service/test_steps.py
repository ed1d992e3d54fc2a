from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stationkeeper.registry import Registry, RegistrySettings
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.service.steps import ModelInputs, Steps
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot import SnapshotStore
from stationkeeper.retrain.training.job import HELD_OUT_FILE
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from tests.retrain.bank import a_request, reference_builder
from tests.retrain.service.test_lineage import RESULT


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
