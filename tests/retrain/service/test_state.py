import json

import pytest

from stationkeeper.contracts.messages import GateOutcome
from stationkeeper.retrain.core.gate import GateVerdict
from stationkeeper.retrain.core.labels import NegativeRule
from stationkeeper.retrain.core.plan import TrainingWindow, WindowKind
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.requests import RequestStates
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.training.job import TrainingResult
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Partition
from tests.retrain.bank import a_request

# A record of a build that still kept cooldown and budget here, as it lies on the state topic.
OLD = {
    "schema_version": 1,
    "request": json.loads(a_request().encode()),
    "stage": "suppressed",
    "reason": "cooldown",
    "detail": "the last retrain began 5m before",
    "clock_ms": 7,
    "ends": [{"topic": "t", "partition": 2, "end": 9}],
    "windows": [{"kind": "last", "rows": 500, "weight": 1.0}, {"kind": "all", "rows": 0, "weight": 1.0}],
    "gate": {"outcome": "no_evidence", "reason": "few rows", "numbers": {"f1_after": {"low": -0.1}}},
    "history": [{"stage": "suppressed", "entered": 7, "note": "n"}],
}


def test_the_state_of_an_older_build_is_read_and_written_alike():
    state = RetrainState.decode(json.dumps(OLD).encode())
    assert (state.stage, state.reason) == (RequestStage.SUPPRESSED, RequestReason.COOLDOWN)
    assert state.windows == (TrainingWindow(WindowKind.LAST, 500), TrainingWindow(WindowKind.ALL))
    assert state.gate == GateVerdict(GateOutcome.NO_EVIDENCE, "few rows", {"f1_after": {"low": -0.1}})
    assert state.end_offsets() == {Partition("t", 2): 9}
    written = json.loads(state.encode())
    assert {name: written[name] for name in OLD} == OLD
    assert RetrainState.decode(state.encode()) == state


def test_a_regression_has_no_threshold_and_its_state_is_read_back():
    result = TrainingResult(
        window=WindowKind.SINCE_CHANGE,
        backtest={"all": 283.9, "since_change": 49.6},
        performance={"mean_absolute_error": 48.1},
        rows=21_001,
        rows_after=1_801,
        rows_held_out=1_082,
        features=6,
        parity=2e-7,
        onnx_sha256="aa",
        onnx_bytes=87_702,
        trainer="gradient-boosting",
        code="03",
        seconds={"fit": 0.2},
        packages={"numpy": "2.4.6"},
    )
    state = RetrainState.decode(json.dumps(OLD).encode()).model_copy(update={"result": result})
    assert RetrainState.decode(state.encode()) == state


@pytest.mark.parametrize("newer", [{"schema_version": 2}, {"learnt_later": 1}])
def test_the_state_of_a_newer_build_is_refused_with_what_to_do(newer):
    states = RequestStates("retrain-state")
    with pytest.raises(Fatal, match=r"(?s)state of request req-1 in retrain-state cannot be read.*upgrade this role"):
        states.restore({b"req-1": json.dumps(OLD | newer).encode()})


def test_what_only_the_snapshot_needs_is_left_out_once_no_way_leads_back_to_it():
    """A build before this one cannot read it, and would end at a request that is long over.

    Gate and registration train again where files are gone, and a training without a snapshot has it made again.
    """
    state = RetrainState.decode(json.dumps(OLD).encode())
    ready = state.enter(RequestStage.SNAPSHOT, RequestReason.ENOUGH_LABELS, negatives=NegativeRule(7, ("block",), 3))
    state = ready
    for stage in (RequestStage.TRAINING, RequestStage.GATE, RequestStage.REGISTERING):
        state = state.enter(stage, RequestReason.ENOUGH_LABELS)
        assert RetrainState.decode(state.encode()).negatives == NegativeRule(7, ("block",), 3)
    over = state.enter(RequestStage.CANDIDATE, RequestReason.ENOUGH_LABELS)
    assert b"negatives" not in over.encode()
    assert b"negatives" not in ready.enter(RequestStage.FAILED, RequestReason.BAD_DATA).encode()


def test_no_change_of_a_state_lets_a_credential_out():
    state = RetrainState.decode(json.dumps(OLD).encode())
    said = "no answer from http://bob:hunter22@mlflow:5000/api?token=abcdefgh"
    for told in (
        state.model_copy(update={"detail": said}),
        state.enter(RequestStage.FAILED, RequestReason.BAD_DATA, said),
        state.model_copy(update={"cure_reason": said}),
    ):
        assert b"hunter22" not in told.encode()
        assert b"abcdefgh" not in told.encode()
        assert "hunter22" not in told.words()
        assert "***@mlflow:5000" in told.words() + told.cure_reason
