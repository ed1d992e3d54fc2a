"""One minute's evidence: who is compared with whom, what waits in a pool, what people see."""

import math

import pytest

from stationkeeper.deploy.core.comparison import MIN_POOL, WRONG, calm, harm_limit, log_e, seen_ratio, weigh
from stationkeeper.deploy.core.minutes import ArmCounts, Minute
from stationkeeper.deploy.core.policy import Guardrail
from stationkeeper.deploy.core.state import Controller, Pool, StepLog
from tests.deploy.core.ramp import MINUTE, POLICY, minute, outcomes

RAMP = Controller(steps=(StepLog(weight_bp=5_000, started=0, settled=0),))


def test_before_the_first_bet_there_is_no_evidence_and_no_ratio():
    assert log_e(RAMP, Guardrail.ERRORS, POLICY) == 0.0
    assert seen_ratio(RAMP, Guardrail.ERRORS) is None


def test_the_limit_is_one_over_a_guardrails_share_of_alpha():
    assert math.exp(harm_limit(POLICY)) * POLICY.rail_alpha() == pytest.approx(1.0)


def test_more_errors_in_the_canary_are_evidence_and_as_many_are_not():
    worse = weigh(RAMP, minute(0, {"1": (1_000, 10), "2": (1_000, 100)}), "1", "2", POLICY)
    alike = weigh(RAMP, minute(0, {"1": (1_000, 10), "2": (1_000, 10)}), "1", "2", POLICY)
    assert log_e(worse, Guardrail.ERRORS, POLICY) > harm_limit(POLICY)
    assert log_e(alike, Guardrail.ERRORS, POLICY) <= 0.0
    assert seen_ratio(worse, Guardrail.ERRORS) == pytest.approx(10.0)


def test_a_ratio_without_losses_of_the_champion_cannot_be_told():
    assert seen_ratio(Controller(sums={"errors": Pool(rows_a=10, rows_b=10, loss_b=1.0)}), "errors") is None


@pytest.mark.parametrize(("timed", "bets"), [(9, False), (10, True)])
def test_a_mean_latency_of_few_answers_is_not_compared(timed, bets):
    arms = {"1": ArmCounts(rows=50, timed=50, latency_us=50), "2": ArmCounts(rows=50, timed=timed, latency_us=90_000)}
    weighed = weigh(RAMP, Minute(start=0, length=MINUTE, arms=arms), "1", "2", POLICY)
    assert (Guardrail.LATENCY in weighed.wealth) is bets


def test_labelled_rows_wait_for_those_of_the_other_arm_and_then_bet():
    one = weigh(RAMP, minute(0, {}, (outcomes("2", 0, tp=MIN_POOL),)), "1", "2", POLICY)
    assert (one.labels_b, calm(WRONG) in one.wealth, f"{WRONG}/0" in one.pools) == (MIN_POOL, False, True)
    both = weigh(one, minute(1, {}, (outcomes("1", 0, tp=MIN_POOL),)), "1", "2", POLICY)
    assert (calm(WRONG) in both.wealth, f"{WRONG}/0" in both.pools) == (True, False)


def test_labels_of_a_third_version_count_for_nobody():
    weighed = weigh(RAMP, minute(0, {}, (outcomes("3", 0, tp=100),)), "1", "2", POLICY)
    assert (weighed.labels_b, weighed.pools) == (0, {})
