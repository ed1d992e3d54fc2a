"""What takes traffic from a canary is taken for a model whose entry is refused; what would go on with it is not."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from stationkeeper.commands.operate import DEPLOYMENT_VERBS
from stationkeeper.contracts.messages import Approval, Rollout, RolloutPhase
from stationkeeper.explain import lineage
from stationkeeper.process import wiring


@pytest.mark.parametrize(("verb", "taken"), [
    ("roll-back", True), ("abort", True), ("reject", True), ("promote", False)
])  # fmt: skip
def test_a_canary_of_a_refused_model_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, taken: bool
) -> None:
    path = tmp_path / "stationkeeper.yaml"
    path.write_text("models:\n  fraud: {predictions: f, window: often}\n  churn: {predictions: c}\n")
    rollout = Rollout(
        time=datetime.now(UTC),
        model="fraud",
        epoch=3,
        champion="1",
        canary="2",
        weight_bp=500,
        phase=RolloutPhase.CANARY,
        reason="began",
        salt="00",
        candidate="c-1",
    )
    log = SimpleNamespace(requests={}, candidates={}, rollouts={"fraud": rollout})
    written: list[Any] = []
    monkeypatch.setattr(lineage, "Lineage", lambda *_: log)
    monkeypatch.setattr(wiring, "reader_for", lambda *_: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(wiring, "publish", lambda _, record: written.append(record))
    if not taken:
        with pytest.raises(typer.BadParameter, match="refused until its entry is mended"):
            DEPLOYMENT_VERBS[verb]("fraud", by="me", config=path)
    else:
        DEPLOYMENT_VERBS[verb]("fraud", by="me", config=path)
    assert len(written) == taken


def test_abort_ends_a_canary_and_never_takes_back_what_was_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "stationkeeper.yaml"
    path.write_text("models:\n  fraud: {predictions: f}\n")
    told = {"time": datetime.now(UTC), "model": "fraud", "epoch": 3, "champion": "2", "candidate": "c-1"}
    promoted = Rollout.model_validate(told | {"phase": "probation", "controller": {"previous": "1"}})
    log = SimpleNamespace(requests={}, candidates={}, rollouts={"fraud": promoted})
    written: list[Any] = []
    monkeypatch.setattr(lineage, "Lineage", lambda *_: log)
    monkeypatch.setattr(wiring, "reader_for", lambda *_: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(wiring, "publish", lambda _, record: written.append(Approval.decode(record.value)))
    with pytest.raises(typer.BadParameter, match="no canary under way: there is nothing to abort; roll-back takes"):
        DEPLOYMENT_VERBS["abort"]("fraud", by="me", config=path)
    log.rollouts["fraud"] = promoted.model_copy(update={"phase": RolloutPhase.CANARY, "canary": "3"})
    DEPLOYMENT_VERBS["abort"]("fraud", by="me", note="pages went up", config=path)
    (word,) = written
    assert (word.decision, word.by, word.note, word.canary) == ("roll_back", "me", "pages went up", "3")
