"""What a candidate says of the retraining that made it."""

import pytest

from stationkeeper.contracts.messages import AGEING, SCHEDULE, GateOutcome, Spared
from stationkeeper.registry import Registered
from stationkeeper.retrain.core.gate import GateVerdict
from stationkeeper.retrain.core.plan import WindowKind
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.lineage import candidate_of
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.training.job import TrainingResult
from tests.retrain.bank import a_request

RESULT = TrainingResult(
    window=WindowKind.ALL,
    backtest={},
    performance={},
    rows=2_000,
    rows_after=1_000,
    rows_held_out=500,
    features=6,
    parity=0.0,
    onnx_sha256="aa",
    onnx_bytes=1,
    trainer="gradient-boosting",
    code="03",
    seconds={},
    packages={},
)


@pytest.mark.parametrize(
    ("cause", "told"),
    [(AGEING, Spared(version="2", share=0.3)), (SCHEDULE, Spared(version="2", share=0.3)), ("input_drift", None)],
)
def test_what_the_gate_saw_is_told_as_the_gain_of_age_where_age_or_a_calendar_asked(cause: str, told: Spared | None):
    # After a sudden change the gate's rows are all of after it: thirty points are the change's, and taught the curve
    # that a model that never ages loses an eighth of its fresh loss a week.
    state = RetrainState(
        request=a_request(cause=cause),
        stage=RequestStage.REGISTERING,
        reason=RequestReason.ACCEPTED,
        snapshot="snap",
        result=RESULT,
        gate=GateVerdict(GateOutcome.PASS, "better", {"spared": 0.3}),
    )
    found = candidate_of(state, Registered(version="2", run_id="run", artifact="artifact"), "ref", "1")
    assert found.spared == told
