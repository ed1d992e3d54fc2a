"""Where each finished step and each word of a person leads, without a thread, a file or a registry."""

from typing import Literal

import pytest

from stationkeeper.contracts.messages import Approval, GateOutcome
from stationkeeper.contracts.times import to_datetime
from stationkeeper.registry import ArtifactError
from stationkeeper.retrain.core.gate import GateVerdict
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.progress import after_approval, after_error, after_gate, after_training, first_state
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.training.job import TrainingError
from stationkeeper.retrain.training.process import TimedOut
from tests.retrain.bank import START, a_request

SETTINGS = RetrainSettings()


def state(stage: RequestStage, reason: RequestReason = RequestReason.ACCEPTED, **more: object) -> RetrainState:
    return RetrainState.model_validate({"request": a_request(), "stage": stage, "reason": reason, **more})


def word(decision: Literal["approve", "reject", "roll_back"]) -> Approval:
    return Approval(
        time=to_datetime(START), target="request", id="req-1", model="bank", decision=decision, by="ada", note="n"
    )


def test_a_request_is_taken_up_waits_for_a_word_or_has_no_taker():
    rules = SETTINGS.plan_rules()
    asked = SETTINGS.model_copy(update={"approval": True}).plan_rules()
    assert first_state(a_request(), rules, [], "1").stage is RequestStage.PLANNED
    assert first_state(a_request(), asked, [], "1").reason is RequestReason.APPROVAL_PENDING
    assert first_state(a_request(), None, [], "1").reason is RequestReason.NOT_CONFIGURED
    assert first_state(a_request(), rules, [], "2").reason is RequestReason.SUPERSEDED


@pytest.mark.parametrize(
    ("stage", "reason", "decision", "leads_to"),
    [
        (RequestStage.WAITING, RequestReason.APPROVAL_PENDING, "approve", RequestStage.PLANNED),
        (RequestStage.SUPPRESSED, RequestReason.BREAKER, "approve", RequestStage.PLANNED),
        (RequestStage.SUPPRESSED, RequestReason.COOLDOWN, "approve", RequestStage.PLANNED),
        (RequestStage.SUPPRESSED, RequestReason.SUPERSEDED, "approve", None),
        (RequestStage.TRAINING, RequestReason.ENOUGH_LABELS, "reject", RequestStage.REJECTED),
        (RequestStage.CANDIDATE, RequestReason.GATE_PASSED, "reject", None),
        (RequestStage.TRAINING, RequestReason.ENOUGH_LABELS, "roll_back", None),
    ],
)
def test_a_word_of_a_person(stage, reason, decision, leads_to):
    moved = after_approval(state(stage, reason), word(decision))
    assert (moved.stage if moved else None) is leads_to
    if moved is not None and decision == "approve":
        assert after_approval(moved, word("approve")) is None, "said once, it counts once"


def test_a_failed_training_is_tried_again_unless_its_data_are_to_blame():
    now = state(RequestStage.TRAINING)
    for attempt in range(SETTINGS.training.retries):
        now = after_training(now, TrainingError(detail="killed", final=False), SETTINGS)
        assert (now.stage, now.attempts) == (RequestStage.TRAINING, attempt + 1)
    assert after_training(now, TimedOut(3.0), SETTINGS).reason is RequestReason.TRAINING_TIMEOUT
    final = after_training(state(RequestStage.TRAINING), TrainingError(detail="labels", final=True), SETTINGS)
    assert (final.stage, final.reason) == (RequestStage.FAILED, RequestReason.BAD_DATA)


def test_a_gate_without_evidence_looks_again_until_its_looks_are_used():
    now = state(RequestStage.GATE, rows_after=100)
    unclear = GateVerdict(GateOutcome.NO_EVIDENCE, "few rows")
    for look in range(1, SETTINGS.gate.looks):
        now = after_gate(now, unclear, SETTINGS)
        assert (now.stage, now.look, now.judged) == (RequestStage.WAITING, look, 100)
    assert after_gate(now, unclear, SETTINGS).stage is RequestStage.NO_EVIDENCE
    assert after_gate(now, GateVerdict(GateOutcome.FAIL, "worse"), SETTINGS).stage is RequestStage.FAILED
    assert after_gate(now, GateVerdict(GateOutcome.PASS, "better"), SETTINGS).stage is RequestStage.REGISTERING


def test_an_error_that_no_second_try_mends_names_its_kind():
    assert after_error(state(RequestStage.SNAPSHOT), ArtifactError("gone")).reason is RequestReason.NO_CHAMPION
    assert after_error(state(RequestStage.SNAPSHOT), ValueError("odd")).detail == "ValueError: odd"
