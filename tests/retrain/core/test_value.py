"""What decisions are worth, by hand and in the gate."""

from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.contracts.messages import GateOutcome
from stationkeeper.retrain.core.value import Worth, value_columns, value_gain
from tests.retrain.core.test_verdict import compared, judged

FRAUD = Worth((90.0, -5.0, -100.0, 0.0))


def test_the_share_won_by_hand():
    truth, both, none = np.array([True, False]), np.array([True, True]), np.array([False, False])
    found = value_columns(truth, (none, both), FRAUD, None)
    assert not isinstance(found, str)
    # Missing the fraud and letting the honest one pass wins 5 of 195 above the worst, flagging both 190.
    assert found.sum(axis=0).tolist() == [5.0, 190.0, 195.0]
    assert value_gain(found.sum(axis=0, keepdims=True)).tolist() == [pytest.approx(185 / 195)]


def test_amounts_weigh_rows_and_many_missing_ones_are_no_evidence():
    truth, flagged = np.array([True, True]), (np.array([True, False]), np.array([False, True]))
    worth = replace(FRAUD, amount="paid")
    found = value_columns(truth, flagged, worth, np.array([1.0, -3.0]))
    assert not isinstance(found, str)
    assert found.sum(axis=0).tolist() == [190.0, 570.0, 760.0]
    for amounts, missing in ((np.array([1.0, np.nan]), 1), (None, 2)):
        told = value_columns(truth, flagged, worth, amounts)
        assert told == f"{missing} of 2 held-out rows have no paid, by which decisions are valued; at most 5% may"


@pytest.mark.parametrize(
    ("missing", "outcome"), [(1, GateOutcome.PASS), (200, GateOutcome.PASS), (201, GateOutcome.NO_EVIDENCE)]
)
def test_a_few_rows_without_amount_are_left_out_and_the_others_valued(missing: int, outcome: GateOutcome):
    amounts = np.ones(4_000)
    amounts[:missing] = np.nan
    one = replace(compared(), worth=replace(FRAUD, amount="paid"), amounts=amounts)
    found = judged(one)
    assert found.outcome is outcome
    assert (f"{missing} of 4000 held-out rows have no paid" in found.reason) == (outcome is GateOutcome.NO_EVIDENCE)
    if outcome is GateOutcome.PASS:
        assert (
            found.numbers["value"]["possible"]
            < judged(replace(one, amounts=np.ones(4_000))).numbers["value"]["possible"]
        )


def test_decisions_that_are_worth_the_same_say_nothing():
    told = value_columns(np.array([True]), (np.array([True]), np.array([False])), Worth((1.0, 0.0, 1.0, 0.0)), None)
    assert told == "the decisions on the held-out rows are worth the same either way"


def test_a_challenger_that_is_right_more_often_and_worth_less_fails():
    one = compared()
    assert judged(replace(one, worth=FRAUD)).outcome is GateOutcome.PASS
    # It flags only what is sure: better F1 than the old one's, and most of the money is lost.
    careful = replace(one, worth=FRAUD, thresholds=(0.05, 0.9))
    assert judged(replace(careful, worth=None)).outcome is GateOutcome.PASS
    found = judged(careful)
    assert found.outcome is GateOutcome.FAIL
    assert "worth less overall" in found.reason
    assert found.numbers["value"]["high"] < -0.03
    assert found.numbers["value"]["champion"] > found.numbers["value"]["challenger"]


def test_without_amounts_the_gate_has_no_evidence():
    one = replace(compared(), worth=replace(FRAUD, amount="paid"))
    found = judged(one)
    assert (found.outcome, "4000 of 4000 held-out rows have no paid" in found.reason) == (GateOutcome.NO_EVIDENCE, True)
    assert judged(replace(one, amounts=np.ones(4_000))).outcome is GateOutcome.PASS


def test_a_challenger_that_may_be_worth_less_has_no_evidence():
    # As good as the champion, of few rows: what a handful of frauds is worth tells neither.
    found = judged(compared(n=600, old=3.0, new=3.0, worth=FRAUD))
    assert found.outcome is GateOutcome.NO_EVIDENCE
    assert "may be worth less overall" in found.reason
