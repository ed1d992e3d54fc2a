"""Each move gives the next record and says in the audit what was done."""

import pytest

from stationkeeper.contracts.messages import DeploymentAction
from stationkeeper.deploy.core.moves import (
    audit,
    begin,
    hold,
    next_exposure,
    next_step,
    promote,
    reseen,
    resume,
    roll_back,
    shown,
)
from stationkeeper.deploy.core.reasons import Reason, because
from stationkeeper.deploy.core.state import Controller, StepLog, memory, remember
from tests.deploy.core.ramp import MINUTE, POLICY, Phase, first, started

HARMLESS = because(Reason.STARTED, candidate="c", weight=0.01)


def test_the_first_record_has_all_traffic_on_the_champion():
    rollout = first()
    assert (rollout.phase, rollout.champion, rollout.canary, rollout.weight_bp) == (Phase.STEADY, "1", None, 0)


def test_an_audit_record_of_the_same_thing_has_the_same_id_and_of_another_another():
    one, again = (audit(first(), DeploymentAction.HELD, HARMLESS, 5) for _ in range(2))
    assert one.id == again.id != audit(first(), DeploymentAction.HELD, HARMLESS, 6).id


def test_a_canary_begins_at_the_first_weight():
    begun = begin(first().model_copy(update={"canary": "2"}), POLICY, MINUTE, HARMLESS)
    assert (begun.rollout.phase, begun.rollout.weight_bp) == (Phase.CANARY, POLICY.steps_bp[0])
    assert [one.action for one in begun.deployments] == [DeploymentAction.STARTED]


def test_a_rollback_of_a_canary_leaves_the_champion_and_says_what_went():
    back = roll_back(started(), because(Reason.TIMEOUT, minutes=1.0), MINUTE)
    assert (back.rollout.champion, back.rollout.canary, back.rollout.weight_bp) == ("1", None, 0)
    assert memory(back.rollout).dropped == back.deployments[0].canary == "2"
    assert memory(back.rollout).rollbacks == 1


def test_a_rollback_from_probation_brings_the_old_champion_back():
    promoted = promote(started(), POLICY, HARMLESS).rollout
    assert (promoted.phase, promoted.champion, memory(promoted).previous) == (Phase.PROBATION, "2", "1")
    back = roll_back(promoted, because(Reason.TIMEOUT, minutes=1.0), MINUTE).rollout
    assert (back.champion, memory(back).dropped, memory(back).previous) == ("1", "2", None)


def test_the_next_step_has_the_next_weight_and_comes_from_the_share_that_was_seen():
    seen = remember(started(), memory(started()).with_step(settled=0, rows_a=990, rows_b=30))
    raised = next_step(seen, POLICY, POLICY.steps_bp[1]).rollout
    assert raised.weight_bp == POLICY.steps_bp[1]
    assert memory(raised).before == 30.5 / 1021.0


def test_the_exposure_of_the_next_weight_goes_by_the_traffic_of_this_step():
    step = StepLog(weight_bp=POLICY.steps_bp[0], started=0, settled=MINUTE, rows_a=900, rows_b=100)
    state = Controller(clock=MINUTE + POLICY.step_ms, steps=(step,))
    assert next_exposure(state, POLICY) == pytest.approx(1_000 * POLICY.steps_bp[1] / 10_000)


def test_a_hold_is_recorded_once_and_the_step_starts_again_after_it():
    why = because(Reason.DATA_QUALITY, incident="inc")
    held = hold(started(), why)
    assert [one.action for one in held.deployments] == [DeploymentAction.HELD]
    assert hold(held.rollout, why).deployments == ()
    going = resume(remember(held.rollout, memory(held.rollout).with_step(rows_a=5, rows_b=5))).rollout
    assert (going.phase, memory(going).held) == (Phase.CANARY, "")
    assert (memory(going).steps[-1].rows_a, memory(going).steps[-1].rows_b) == (0, 0)


def test_what_is_shown_sums_the_canary_over_its_steps():
    steps = (StepLog(weight_bp=1, started=0, rows_b=3), StepLog(weight_bp=2, started=1, rows_b=4))
    assert shown(Controller(steps=steps, labels_b=2)) == {"ratios": {}, "canary_rows": 7, "canary_labels": 2}


def test_a_step_to_be_seen_anew_is_not_settled():
    seen = remember(started(), memory(started()).with_step(settled=9, rows_a=1, rows_b=1))
    step = memory(reseen(seen, 0.25)).steps[-1]
    assert (step.settled, step.rows_a, step.rows_b, memory(reseen(seen, 0.25)).before) == (None, 0, 0, 0.25)
