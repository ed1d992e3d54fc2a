"""What runs beside the loop, without a loop."""

from pathlib import Path

from stationkeeper.registry import Registry, RegistrySettings
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.service.steps import ModelInputs, Steps
from stationkeeper.retrain.service.worker import RequestRunner
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot import SnapshotError, SnapshotStore
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from tests.retrain.bank import a_request, reference_builder
from tests.waiting import until


def test_a_damaged_snapshot_is_what_became_of_its_own_request_and_does_not_end_the_role(tmp_path: Path) -> None:
    digest = "a" * 64
    store = SnapshotStore(tmp_path)
    (tmp_path / f"{digest}.parquet").write_bytes(b"half a file")
    store.manifest_path(digest).write_text("{}")
    inputs = {"bank": ModelInputs("bank", (), RetrainSettings())}
    registry = Registry(RegistrySettings(tracking_uri=f"sqlite:///{tmp_path}/none.db"))
    steps = Steps(inputs, registry, store, lambda: MemoryReader(MemoryLog()), reference_builder, tmp_path / "work")
    runner = RequestRunner(steps, lambda: 0.0, lambda _model: (), tuple)
    state = RetrainState(
        request=a_request(), stage=RequestStage.TRAINING, reason=RequestReason.ACCEPTED, snapshot=digest
    )
    runner.start([state])
    (done,) = until(runner.collect, "the step ends")
    runner.close()
    assert (done.request, done.stage) == (state.id, RequestStage.TRAINING)
    assert isinstance(done.error, SnapshotError)
    assert f"remove {tmp_path / digest}.parquet" in str(done.error)
