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


def state(cause: str, **numbers: float) -> RetrainState:
    return RetrainState(
        request=a_request(cause=cause),
        stage=RequestStage.REGISTERING,
        reason=RequestReason.ACCEPTED,
        snapshot="snap",
        result=RESULT,
        gate=GateVerdict(GateOutcome.PASS, "better", numbers),
    )


REGISTERED = Registered(version="2", run_id="run", artifact="artifact")


@pytest.mark.parametrize(
    ("cause", "told"),
    [(AGEING, Spared(version="2", share=0.3)), (SCHEDULE, Spared(version="2", share=0.3)), ("input_drift", None)],
)
def test_what_the_gate_saw_is_told_as_the_gain_of_age_where_age_or_a_calendar_asked(cause: str, told: Spared | None):
    # After a sudden change the gate's rows are all of after it: thirty points are the change's, and taught the curve
    # that a model that never ages loses an eighth of its fresh loss a week.
    assert candidate_of(state(cause, spared=0.3), REGISTERED, "ref", "1").spared == told


@pytest.mark.parametrize(("seen", "error", "told"), [(0.02, 0.01, 0.015), (0.005, 0.0065, 0.0), (0.0, 0.0, 0.0)])
def test_what_may_be_luck_is_not_told_as_a_gain(seen: float, error: float, told: float):
    # Of equal models those pass that had luck; told whole, a model that never ages is taken for one that does.
    found = candidate_of(state(AGEING, spared=seen, spared_error=error), REGISTERED, "ref", "1").spared
    assert found is not None
    assert found.share == pytest.approx(told)
