"""A follow-up: once the first model of a change stays, and as many more rows came as its learning curve asks for."""

import msgspec
import numpy as np
import pytest

from stationkeeper.contracts.messages import LearningCurve, Rollout, RolloutPhase
from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.times import to_datetime
from stationkeeper.monitor.core.ageing import FollowUp, FollowUpState
from stationkeeper.monitor.core.ageing.follow_up import forecast
from stationkeeper.monitor.core.incidents import RequestPolicy, RequestRules, WatchIdentity
from stationkeeper.monitor.core.performance import OutcomePane
from stationkeeper.monitor.core.reasons import Cause

HOUR = 3_600_000
TRAINED = 5 * HOUR
NEW, OLD = WatchIdentity("m", "2", "", "digest"), WatchIdentity("m", "1", "", "digest")
CURVE = LearningCurve(
    version="2", onset=to_datetime(HOUR), until=to_datetime(TRAINED), rows=3_000, loss=0.01, quarter=0.015, error=0.002
)


def rollout(phase: RolloutPhase = RolloutPhase.STEADY, champion: str = "2", curve: LearningCurve = CURVE) -> Rollout:
    return Rollout(model="m", epoch=1, time=to_datetime(0), phase=phase, champion=champion, request="req", curve=curve)


def labels(hour: int, rows: int = 1_000, wrong: int = 10) -> OutcomePane:
    return OutcomePane(
        hour * HOUR, (hour + 1) * HOUR, np.zeros((32, 2), np.int64), np.array([0, wrong, 0, rows - wrong])
    )


def grown(follow_up: FollowUp, hours: range, curve: LearningCurve = CURVE) -> FollowUp:
    for hour in hours:
        # Whoever answered: half of the rows are the old version's.
        follow_up.learn("2", labels(hour, 500, 5), curve)
        follow_up.learn("1", labels(hour, 500, 5), curve)
    return follow_up


def asks(follow_up: FollowUp, who: WatchIdentity = NEW, one: Rollout | None = None, now: int = 20 * HOUR, **more: str):
    return follow_up.ask(who, RequestPolicy(RequestRules()), now, one or rollout(), **more)[1]


def test_it_asks_once_there_are_four_times_the_rows_and_says_by_which_numbers():
    follow_up = grown(FollowUp(0.1, None), range(6, 14))
    assert asks(follow_up) == []
    grown(follow_up, range(14, 15))
    (request,) = asks(follow_up)
    assert (request.cause, request.version, request.looks) == (Cause.MORE_ROWS, "2", 1)
    assert request.onset.time == to_datetime(HOUR)
    # By hand: .005 of .010 is what more rows may spare; four times as many spare half of it.
    assert request.evidence["reason"] == (
        "3000 labelled rows since the change gave a loss of 0.01, a quarter of them 0.015; by that curve 12000 give "
        "0.0075, 25% less (requests.follow_up: 10%)"
    )
    assert (request.evidence["late"], request.evidence["forecast"]) == (0.01, 0.0025)
    # Once, whatever comes.
    assert asks(grown(follow_up, range(15, 60)), now=90 * HOUR) == []


@pytest.mark.parametrize(("most", "asked"), [(11_999, 0), (12_000, 1), (None, 1)])
def test_rows_that_no_training_takes_are_not_waited_for(most: int | None, asked: int):
    capped = CURVE.model_copy(update={"most": most})
    (follow_up, told) = grown(FollowUp(0.1, None), range(6, 40), capped), rollout(curve=capped)
    found = asks(follow_up, one=told)
    assert len(found) == asked
    if most is not None:
        assert all(f"by that curve {most} give" in request.evidence["reason"] for request in found)


def test_a_process_that_starts_anew_asks_by_the_same_name():
    follow_up = grown(FollowUp(0.1, None), range(6, 15))
    kept = state_of(msgspec.to_builtins(follow_up.state), FollowUpState)
    resumed = FollowUp(0.1, None)
    resumed.state = kept
    (one,), (two,) = asks(follow_up), asks(resumed)
    assert one.encode() == two.encode()


def test_rows_that_it_learnt_from_and_rows_of_an_earlier_version_do_not_count():
    assert asks(grown(FollowUp(0.1, None), range(-10, 6))) == []
    earlier = grown(FollowUp(0.1, None), range(6, 30), CURVE.model_copy(update={"version": "1"}))
    assert asks(grown(earlier, range(30, 31))) == []


def test_a_version_that_does_not_stay_asks_for_nothing():
    follow_up = grown(FollowUp(0.1, None), range(6, 30))
    for phase in (RolloutPhase.CANARY, RolloutPhase.HOLD, RolloutPhase.PROBATION):
        assert asks(follow_up, one=rollout(phase)) == []
    # Taken back: the old version serves again, the record still names the curve.
    assert asks(follow_up, OLD, rollout(champion="1")) == []
    assert asks(FollowUp(0.1, None)) == []
    assert len(asks(follow_up)) == 1


def test_a_candidate_that_was_taken_back_does_not_end_the_champions_follow_up():
    follow_up = grown(FollowUp(0.1, None), range(6, 10))
    three = CURVE.model_copy(update={"version": "3", "until": to_datetime(10 * HOUR)})
    grown(follow_up, range(10, 14), three)
    back = rollout(curve=three)
    assert asks(follow_up, one=back) == []
    grown(follow_up, range(14, 15), three)
    # All of its nine hours count, those of the canary too, by its own curve.
    (request,) = asks(follow_up, one=back)
    assert (request.version, request.evidence["rows"]) == ("2", 12_000)
    # A candidate that has no curve of its own changes as little; asked once it does not ask again.
    assert asks(follow_up, one=rollout().model_copy(update={"curve": None})) == []
    # Ever more candidates leave the state small.
    for version in range(4, 40):
        follow_up.learn(str(version), labels(50), CURVE.model_copy(update={"version": str(version)}))
    assert len(follow_up.state.earlier) == 7


def test_the_state_of_a_build_that_kept_no_curve_goes_on_with_its_rows():
    old = FollowUp(0.1, None)
    old.state = state_of(
        {"version": "2", "rows": 8_000, "own": 4_000, "wrong": 40, "first": 1, "last": 2}, FollowUpState
    )
    assert asks(old) == []
    assert len(asks(grown(old, range(14, 15)))) == 1


def test_a_curve_that_shows_nothing_more_to_learn_asks_for_nothing():
    flat = CURVE.model_copy(update={"quarter": 0.0115})
    noisy = CURVE.model_copy(update={"error": 0.006})
    small = CURVE.model_copy(update={"quarter": 0.0118, "error": 0.0001})
    for curve in (flat, noisy, small):
        assert asks(grown(FollowUp(0.1, None), range(6, 15), curve), one=rollout(curve=curve)) == []
    assert asks(grown(FollowUp(None, None), range(6, 30))) == []


def test_a_price_is_paid_by_the_wrong_answers_that_it_spares():
    # By hand: 5 wrong an hour of its own are 1 680 in two weeks, a quarter of them 420.
    for cost, asked in ((419.0, 1), (421.0, 0)):
        assert len(asks(grown(FollowUp(0.1, cost), range(6, 15)))) == asked


def test_broken_data_and_the_budget_hold_it_back_and_a_cooldown_does_not():
    follow_up = grown(FollowUp(0.1, None), range(6, 15))
    assert asks(follow_up, broken="inc-1 is open: broken data (null)") == []
    # An hour later it asks again, by itself.
    assert asks(follow_up, now=20 * HOUR + 1) == []
    second = CURVE.model_copy(update={"version": "3"})
    for most, asked in ((1, 0), (2, 1)):
        policy = RequestPolicy(RequestRules(most=most))
        (one,) = grown(FollowUp(0.1, None), range(6, 15)).ask(NEW, policy, 20 * HOUR, rollout())[1]
        later = FollowUp(0.1, None)
        for hour in range(6, 15):
            later.learn("3", labels(hour), second)
        stays = rollout(champion="3", curve=second).model_copy(update={"request": one.id})
        third = WatchIdentity("m", "3", "", "digest")
        assert len(later.ask(third, policy, 21 * HOUR, stays)[1]) == asked


def test_a_learning_curve_forecasts_by_the_root_of_the_rows_and_nothing_that_it_has_not_shown():
    when = to_datetime(0)
    curve = LearningCurve(onset=when, until=when, rows=3_000, loss=0.01, quarter=0.012, error=0.001)
    assert [forecast(curve, rows) for rows in (1_000, 3_000)] == [0.0, 0.0]
    assert forecast(curve, 12_000) == pytest.approx(0.1)
    assert forecast(curve, 48_000) == pytest.approx(0.15)
    assert forecast(curve.model_copy(update={"error": 0.002}), 12_000) == 0.0
    # No loss falls below none: a tenth of the loss is then what four times the rows leave at least.
    assert forecast(curve.model_copy(update={"quarter": 0.5}), 12_000) == pytest.approx(0.5)
