"""The stream of a demo stays near those who follow it, however slow the machine is."""

from functools import partial
from typing import Any

import pytest

from stationkeeper.contracts.messages import DeploymentAction
from stationkeeper.demo.loop_history import LoopHistory
from stationkeeper.demo.pace import PATIENCE_S, Pace, RoleStatuses
from tests.stationkeeper.test_lineage import CANDIDATE, PROMOTED, REQUEST

LEAD = 1_000
MODEL = REQUEST.model
NOW_S = 50.0


def monitor(watermark: int | None = 1_000, *, heartbeat_s: float = NOW_S, lag: int = 0, at_s: float = NOW_S) -> Any:
    join = {"role": "join", "heartbeat": heartbeat_s * 1_000, "lag": lag}
    return {"generated": at_s * 1_000, "models": [{"model": MODEL, "watermark": watermark}], "roles": [join]}


def retrain(*requests: Any, at_s: float = NOW_S) -> Any:
    return {"generated": at_s * 1_000, "requests": list(requests)}


def request(stage: str, clock: int = 0, created: int = 0) -> Any:
    return {"id": REQUEST.id, "stage": stage, "clock": clock, "created": created}


def serve(champion: str, weight_bp: int) -> Any:
    return {"models": [{"model": MODEL, "champion": champion, "weight_bp": weight_bp}]}


def history(*actions: DeploymentAction, asked: bool = True) -> LoopHistory:
    found = LoopHistory(requests=[REQUEST] if asked else [])
    for action in actions:
        weight = {DeploymentAction.STEP: 500, DeploymentAction.PROMOTED: 10_000}.get(action, 0)
        champion = "2" if action is DeploymentAction.PROMOTED else "1"
        found.deployments.append(
            PROMOTED.model_copy(update={"action": action, "weight_bp": weight, "champion": champion})
        )
    return found


def waits_for(statuses: RoleStatuses, story: LoopHistory | None = None, until_ms: int = 500) -> str:
    story = story or history(asked=False)
    return Pace(MODEL, LEAD, story, lambda: statuses, lambda: 0.0, lambda: NOW_S).waits_for(until_ms)


def test_nobody_is_waited_for_before_they_have_spoken_or_when_they_are_near() -> None:
    assert waits_for(RoleStatuses()) == ""
    near = RoleStatuses(monitor(), retrain(request("waiting")), serve("1", 500))
    assert waits_for(near, history(DeploymentAction.STEP)) == ""
    assert waits_for(RoleStatuses(monitor(None))) == ""


@pytest.mark.parametrize(
    ("statuses", "held"),
    [
        (RoleStatuses(monitor(), retrain(request("training"))), "a model is trained"),
        (RoleStatuses(monitor(), retrain()), "the request is taken up"),
        (RoleStatuses(monitor(2_000), retrain(request("waiting", 400))), "labels are counted"),
        (RoleStatuses(monitor(heartbeat_s=NOW_S - 3)), "labels are joined"),
        (RoleStatuses(monitor(lag=1_000)), "labels are joined"),
        (RoleStatuses(monitor(at_s=NOW_S - 3)), "the roles answer"),
        (RoleStatuses(monitor(2_000), retrain(request("done"), at_s=NOW_S - 3)), "the roles answer"),
    ],
)
def test_who_is_behind_is_waited_for(statuses: RoleStatuses, held: str) -> None:
    assert waits_for(statuses, history(), 1_500) == held


def test_the_stream_stays_near_the_watermark() -> None:
    assert waits_for(RoleStatuses(monitor(0)), until_ms=LEAD) == ""
    assert waits_for(RoleStatuses(monitor(0)), until_ms=LEAD + 1) == "panes are closed"


@pytest.mark.parametrize(
    ("action", "applied", "held"),
    [
        (DeploymentAction.STEP, ("1", 100), True),
        (DeploymentAction.STEP, ("1", 500), False),
        (DeploymentAction.PROMOTED, ("1", 500), True),
        (DeploymentAction.PROMOTED, ("2", 0), False),
        (DeploymentAction.PROMOTED, ("2", 200), False),
        (DeploymentAction.ROLLED_BACK, ("1", 500), True),
        (DeploymentAction.ROLLED_BACK, ("1", 0), False),
    ],
)
def test_a_weight_is_waited_for_until_the_router_has_it(
    action: DeploymentAction, applied: tuple[str, int], *, held: bool
) -> None:
    statuses = RoleStatuses(monitor(), retrain(request("done")), serve(*applied))
    assert waits_for(statuses, history(action)) == ("the router follows" if held else "")


def test_who_never_comes_is_not_waited_for_for_ever() -> None:
    now = [0.0]
    statuses = RoleStatuses(monitor(), retrain())
    pace = Pace(MODEL, LEAD, history(), lambda: statuses, lambda: now[0], lambda: NOW_S)
    assert pace.waits_for(500) == "the request is taken up"
    now[0] = PATIENCE_S + 1
    assert pace.waits_for(500) == ""


def test_the_stream_stays_near_while_a_canary_is_out_or_labels_are_counted() -> None:
    for story, asked, near in (
        (history(DeploymentAction.STEP), None, True),
        (history(asked=False), retrain(request("waiting")), True),
        (LoopHistory(candidates=[CANDIDATE]), None, True),
        (history(DeploymentAction.PROMOTED), None, False),
    ):
        statuses = RoleStatuses(monitor(490), asked)
        pace = Pace(MODEL, LEAD, story, partial(_same, statuses), lambda: 0.0, lambda: NOW_S, near_ms=5)
        assert (pace.waits_for(500) == "panes are closed") == near


def test_the_stream_need_not_stay_near_before_a_label_can_have_come() -> None:
    statuses = RoleStatuses(monitor(490), retrain(request("waiting", created=480)))
    story = history(asked=False)
    pace = Pace(MODEL, LEAD, story, partial(_same, statuses), lambda: 0.0, lambda: NOW_S, near_ms=5, soonest_ms=20)
    assert pace.waits_for(499) == ""
    assert pace.waits_for(500) == "panes are closed"


def _same(statuses: RoleStatuses) -> RoleStatuses:
    return statuses
