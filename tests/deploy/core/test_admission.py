"""What comes in from outside: candidates, words of people, data-quality verdicts, the wall clock."""

from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.contracts.messages import GateOutcome, LearningCurve, Level, Rollout, Shadow, VerdictKind
from stationkeeper.contracts.times import to_datetime
from stationkeeper.deploy.core.admission import (
    Origin,
    advance,
    decide,
    disagreement,
    names,
    note_verdict,
    offer,
    queue,
    refuse_unknown,
)
from stationkeeper.deploy.core.moves import promote
from stationkeeper.deploy.core.reasons import Reason, because
from stationkeeper.deploy.core.rollout import tick
from stationkeeper.deploy.core.state import memory
from tests.deploy.core.ramp import MINUTE, POLICY, SETTINGS, Phase, candidate, drive, first, started, verdict, word


def test_broken_data_holds_until_the_incident_recovers():
    rollout = note_verdict(started(), verdict(VerdictKind.DATA_QUALITY, "inc-1"))
    rng = np.random.default_rng(5)
    records, audits = drive(rollout, POLICY, range(1, 30), rng=rng)
    assert records[-1].phase is Phase.HOLD
    assert {one.weight_bp for one in records} == {100}
    assert [one.action.value for one in audits] == ["held"]
    freed = note_verdict(records[-1], verdict(VerdictKind.RECOVERED, "inc-1"))
    records, _ = drive(freed, POLICY, range(30, 40), rng=rng)
    assert records[-1].weight_bp >= 500


def test_drift_and_warnings_hold_nothing():
    rollout = started()
    assert note_verdict(rollout, verdict(VerdictKind.DATA_DRIFT, "inc-1")) is rollout
    assert note_verdict(rollout, verdict(VerdictKind.DATA_QUALITY, "inc-1", Level.WARN)) is rollout


@pytest.mark.parametrize(
    ("offered", "code"),
    [
        (candidate(gate=GateOutcome.FAIL), "gate_failed"),
        (candidate(version="1"), "already_champion"),
        (candidate(champion="0"), "stale_champion"),
    ],
)
def test_candidates_that_cannot_go_out_are_refused_once(offered, code):
    refused = offer(first(), offered, POLICY, MINUTE)
    assert [(one.action.value, one.evidence["code"]) for one in refused.deployments] == [("refused", code)]
    assert refused.rollout.phase is Phase.STEADY
    again = offer(refused.rollout, offered, POLICY, MINUTE)
    assert again.deployments == ()


def test_a_candidate_without_evidence_and_one_that_needs_approval_wait_for_a_person():
    for policy, offered in (
        (POLICY, candidate(gate=GateOutcome.NO_EVIDENCE)),
        (replace(POLICY, approval=True), candidate()),
    ):
        waiting = offer(first(), offered, policy, MINUTE).rollout
        assert (waiting.phase, waiting.weight_bp) == (Phase.AWAITING_APPROVAL, 0)
        going = decide(waiting, word("approve", waiting), policy, 2 * MINUTE)
        assert (going.rollout.phase, going.rollout.weight_bp) == (Phase.CANARY, 100)
        refused = decide(waiting, word("reject", waiting), policy, 2 * MINUTE)
        assert (refused.rollout.phase, refused.deployments[0].action.value) == (Phase.STEADY, "refused")
        assert memory(refused.rollout).rollbacks == 0


def shadow(flipped: int | None) -> Shadow:
    return Shadow(rows=1_000, since=to_datetime(0), until=to_datetime(MINUTE), flipped=flipped)


def test_a_candidate_that_changes_more_decisions_than_it_may_waits_for_a_person_before_the_first_weight():
    bound = SETTINGS.model_copy(update={"most_flips": 0.05}).policy()
    for told, waits in ((shadow(50), False), (shadow(51), True), (shadow(None), True), (None, True)):
        offered = candidate().model_copy(update={"shadow": told})
        moved = offer(first(), offered, bound, MINUTE)
        assert (moved.rollout.phase is Phase.AWAITING_APPROVAL) is waits, told
        assert memory(moved.rollout).shadow == told
        if waits:
            assert moved.deployments[0].evidence["code"] == "many_flips"
            assert "5.00%" in moved.rollout.reason
            going = decide(moved.rollout, word("approve", moved.rollout), bound, 2 * MINUTE).rollout
            assert (going.phase, memory(going).shadow) == (Phase.CANARY, told)
        # Without a bound, which is the default, nobody is asked.
        assert offer(first(), offered, POLICY, MINUTE).rollout.phase is Phase.CANARY


def test_a_person_rolls_back_a_canary_and_a_confirmed_promotion():
    rollout = started()
    back = decide(rollout, word("roll_back", rollout), POLICY, MINUTE)
    assert (back.rollout.champion, back.rollout.canary) == ("1", None)
    records, _ = drive(rollout, POLICY, range(1, 80), rng=np.random.default_rng(1))
    confirmed = records[-1]
    back = decide(confirmed, word("roll_back", confirmed), POLICY, 90 * MINUTE)
    assert back.rollout.champion == "1"
    assert "ana" in back.deployments[0].reason


def test_a_word_on_a_canary_alone_takes_back_neither_its_promotion_nor_the_next_canary():
    rollout = started()
    meant = word("roll_back", rollout).model_copy(update={"canary": "2"})
    assert decide(rollout, meant, POLICY, MINUTE).rollout.canary is None
    promoted = promote(rollout, POLICY, because(Reason.RISK_ACCEPTED, by="ana", risk="none", note="")).rollout
    for late in (promoted, promoted.model_copy(update={"phase": Phase.STEADY})):
        refused = decide(late, meant, POLICY, MINUTE)
        assert (refused.rollout.champion, refused.deployments[0].evidence["code"]) == ("2", "not_waiting")
    other = rollout.model_copy(update={"canary": "3"})
    assert decide(other, meant, POLICY, MINUTE).rollout.canary == "3"


def test_a_word_about_nothing_is_refused_in_the_log():
    rollout = started()
    unknown = decide(rollout, word("approve", rollout, "roll-x"), POLICY, MINUTE)
    assert unknown.deployments[0].evidence["code"] == "unknown_rollout"
    idle = decide(rollout, word("approve", rollout), POLICY, MINUTE)
    assert idle.deployments[0].evidence["code"] == "not_waiting"


def test_a_second_candidate_waits_and_the_newest_is_offered_when_the_rollout_ends():
    rollout = offer(started(), candidate("3"), POLICY, MINUTE).rollout
    queued = offer(rollout, candidate("4"), POLICY, MINUTE)
    assert [one.evidence["code"] for one in queued.deployments] == ["queued", "superseded"]
    records, audits = drive(queued.rollout, POLICY, range(1, 60), rng=np.random.default_rng(2), bad=0.3)
    assert [one.action.value for one in audits][:2] == ["rolled_back", "started"]
    assert next(one for one in records if one.epoch == 2).canary == "4"


def test_the_wall_clock_ends_a_rollout_for_which_no_minute_closes():
    rollout = started()
    assert tick(rollout, POLICY, MINUTE + POLICY.max_ms - 1).rollout is rollout
    assert tick(rollout, POLICY, MINUTE + POLICY.max_ms).rollout.canary is None


def test_only_the_same_request_and_candidate_are_the_same_maker():
    offered = candidate()
    assert disagreement(offered, None) is None
    assert disagreement(offered, Origin("req-2", "cand-2")) is None
    for origin in (Origin(None, None), Origin("req-2", None), Origin("req-2", "cand-1"), Origin("req-1", "cand-2")):
        why = disagreement(offered, origin)
        assert why is not None
        assert why.evidence["code"] == "unknown_origin"
        assert "retrain" in why.text


def test_a_stranger_during_a_rollout_is_refused_once_and_does_not_wait():
    rollout = started()
    moved = offer(rollout, candidate("3"), POLICY, 0, Origin(None, None))
    assert [one.evidence["code"] for one in moved.deployments] == ["unknown_origin"]
    assert memory(moved.rollout).after is None
    assert offer(moved.rollout, candidate("3"), POLICY, 0, Origin(None, None)).deployments == ()


def test_a_candidate_waits_for_what_it_is_told_to_wait_for():
    why = because(Reason.AWAITING_REGISTRY, candidate="cand-2", version="2")
    moved = queue(first(), candidate(), 0, why)
    assert moved.deployments[0].evidence["code"] == "awaiting_registry"
    assert advance(moved, POLICY, 0, Origin("req-2", "cand-2")).rollout.canary == "2"
    assert advance(moved, POLICY, 0, Origin("req-2", "cand-9")).deployments[-1].evidence["code"] == "unknown_origin"


def test_a_model_without_champion_or_configuration_is_refused_by_its_own_reason():
    assert refuse_unknown(candidate(), configured=True).evidence["code"] == "no_champion"
    assert refuse_unknown(candidate(), configured=False).evidence["code"] == "not_configured"


def test_a_rollout_goes_by_its_candidate_its_request_and_its_own_id():
    assert names(first()) == set()
    assert {"cand-2", "req-2"} < names(started())
    assert len(names(started())) == 3


def test_a_rollout_carries_the_learning_curve_of_its_candidate_for_the_monitor():
    when = to_datetime(0)
    curve = LearningCurve(version="2", onset=when, until=when, rows=3_000, loss=0.01, quarter=0.012, error=0.001)
    told = candidate().model_copy(update={"curve": curve})
    begun = offer(first(), told, POLICY, MINUTE).rollout
    assert Rollout.decode(begun.encode()).curve == curve
    # The next candidate's takes its place, also where it has none.
    ended = begun.model_copy(update={"phase": Phase.STEADY, "champion": "2", "canary": None, "weight_bp": 0})
    assert offer(ended, candidate("3", "2"), POLICY, 2 * MINUTE).rollout.curve is None
