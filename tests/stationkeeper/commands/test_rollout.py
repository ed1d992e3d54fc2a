"""What a person is told of a rollout, and that a drill takes nothing back unasked."""

from contextlib import nullcontext
from typing import Any

import pytest
import typer

from stationkeeper.commands.rollout import drill, show_deployment
from stationkeeper.config import Config
from stationkeeper.contracts.messages import RolloutPhase
from stationkeeper.contracts.topics import Topics
from stationkeeper.deploy.adoption import Deployments
from stationkeeper.deploy.targets.target import Abilities
from tests.deploy.core.ramp import POLICY, first, started


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A log whose rollouts a test sets; ``sent`` is what verbs publish."""
    held: dict[str, Any] = {"rollouts": {}, "sent": []}
    settings = Config.parse({"models": {"fraud": {"predictions": "scores"}}, "targets": [{"kind": "dry-run"}]})
    monkeypatch.setattr(
        "stationkeeper.process.wiring.open_reader", lambda _: nullcontext((settings, None, Topics("t")))
    )
    monkeypatch.setattr("stationkeeper.deploy.adoption.read_deployments", lambda *_: Deployments(held["rollouts"], ()))
    monkeypatch.setattr("stationkeeper.process.wiring.publish", lambda _, one: held["sent"].append(one))
    return held


def test_a_canary_is_shown_with_its_steps_and_the_limits_of_its_guardrails(
    log: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    log["rollouts"]["fraud"] = started(POLICY)
    show_deployment("fraud")
    text = capsys.readouterr().out
    assert "fraud: canary, champion 1, canary 2 at 1 %" in text
    assert "step 1 %: current, 0 canary rows" in text
    assert "step 50 %: planned" in text
    assert "errors: evidence 0.00 nats against a ratio above 1; roll_back at 4.61 nats" in text


def test_a_holdback_is_not_claimed_of_a_target_that_cannot_split_it(
    log: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """KServe gives a promoted version 100 %; the log alone says 2 % of the old one."""
    held = {"phase": RolloutPhase.PROBATION, "champion": "2", "canary": None, "weight_bp": 0}
    memory = {"controller": {"previous": "1", "holdback_bp": 200}}
    log["rollouts"]["fraud"] = started(POLICY).model_copy(update=held | memory)
    able = {"dry-run": Abilities(holds_back=True)}
    monkeypatch.setattr("stationkeeper.deploy.targets.abilities_of", lambda target: able[target.name])
    show_deployment("fraud")
    assert "fraud: probation, champion 2, holdback 1 at 2 %\n" in capsys.readouterr().out
    able["dry-run"] = Abilities(holds_back=True, step_bp=500)
    show_deployment("fraud")
    told = "champion 2, holdback 1 at 2 % (not at dry-run: there version 2 has all traffic)\n"
    assert told in capsys.readouterr().out


def test_a_model_without_a_rollout_is_named_with_those_there_are(log: dict[str, Any]) -> None:
    with pytest.raises(typer.BadParameter, match="model 'fraud' has no champion in the log; known: none"):
        show_deployment("fraud")


def test_a_drill_takes_nothing_back_unasked_and_rehearses_where_nothing_is_out(
    log: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    log["rollouts"]["fraud"] = started(POLICY)
    with pytest.raises(typer.BadParameter, match="the drill ends it and leaves version 1 alone; say --yes"):
        drill("fraud", by="ann")
    log["rollouts"]["fraud"] = first()
    assert drill("fraud", by="ann") == 0
    text = capsys.readouterr().out
    assert "rehearsal, nothing was moved" in text
    assert "dry-run: 0.0 s (champion 1, 0 % to nobody)" in text
    assert log["sent"] == []
