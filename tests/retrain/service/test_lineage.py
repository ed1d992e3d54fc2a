"""What a candidate says of the retraining that made it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stationkeeper.contracts.labels.actions import ActionLabels
from stationkeeper.contracts.messages import AGEING, SCHEDULE, GateOutcome, Spared
from stationkeeper.registry import Registered, Registration
from stationkeeper.retrain.core.gate import GateVerdict
from stationkeeper.retrain.core.plan import WindowKind
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.core.selection import Selection
from stationkeeper.retrain.service.lineage import candidate_of, model_card, register_training, request_tags
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.training.job import JOB_FILE, RESULT_FILE, TrainingJob, TrainingResult
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


@pytest.mark.parametrize(("until", "tag"), [(0, "0"), (9_500, "9500"), (None, "")])
def test_a_version_says_how_many_looks_it_had_and_until_when_its_champion_had_learnt(
    tmp_path: Path, until: int | None, tag: str
):
    kept: list[Registration] = []
    registry: Any = SimpleNamespace(remove_orphans=lambda *_, **__: None, register=kept.append)
    snapshots: Any = SimpleNamespace(manifest_path=lambda _: tmp_path / "manifest.json")
    snapshots.manifest_path("").write_text("{}")
    job = TrainingJob.of(RetrainSettings(), model="m", snapshot=Path(), digest="d", windows=(), champion_until_ms=until)
    (tmp_path / JOB_FILE).write_text(job.model_dump_json())
    (tmp_path / RESULT_FILE).write_text(RESULT.model_dump_json())
    state = RetrainState(request=a_request(looks=1), stage=RequestStage.REGISTERING, reason=RequestReason.ACCEPTED)
    tags = {name: text for name, text in request_tags(state).items() if name == "looks"}
    register_training(registry, snapshots, tmp_path, request="r", tags=tags)
    assert (kept[0].tags["champion_until"], kept[0].tags["looks"]) == (tag, "1")


def test_a_model_card_says_whom_labels_do_not_tell_of():
    job = TrainingJob.of(RetrainSettings(), model="m", snapshot=Path(), digest="d", windows=())
    selection = Selection(1_000, 800, (ActionLabels("block", 200, 0),), 200)
    card = model_card(job, RESULT.model_copy(update={"selection": selection}), {}, {}, None)
    assert f"## Whom its labels do not tell of\n\n{selection.words()}." in card
    assert "Whom its labels" not in model_card(job, RESULT, {}, {}, None)
    again = TrainingResult.model_validate_json(RESULT.model_copy(update={"selection": selection}).model_dump_json())
    assert again.selection == selection


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
