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


def test_amounts_may_not_be_missing_on_the_few_rows_that_decide():
    """Missing on every fraud, 1 % of the rows, a challenger that flags nobody had gained .02 where it had lost .23."""
    truth, old = np.arange(1_000) < 20, np.arange(1_000) < 40
    worth, nobody = replace(FRAUD, amount="paid"), np.zeros(1_000, np.bool_)
    # As where the amount of a fraud comes with its chargeback; of honest ones; of the one fraud that was lost.
    lost, silenced = old & (np.arange(1_000) > 0), old & ~(np.arange(1_000) == 30)
    for new, missing, told in (
        (nobody, truth, "20 of 20 held-out positives have no paid"),
        (lost, truth & ~lost, "1 of 1 held-out positives that the two decide differently have no paid"),
        (silenced, old & ~silenced, "1 of 1 held-out negatives that the two decide differently have no paid"),
        (nobody, np.arange(1_000) == 0, ""),
    ):
        found = value_columns(truth, (old, new), worth, np.where(missing, np.nan, 1.0))
        assert (found.startswith(told) and bool(told)) if isinstance(found, str) else not told, found


@pytest.mark.parametrize(
    ("missing", "outcome"), [(1, GateOutcome.PASS), (120, GateOutcome.PASS), (201, GateOutcome.NO_EVIDENCE)]
)
def test_a_few_rows_without_amount_are_left_out_and_the_others_valued(missing: int, outcome: GateOutcome):
    amounts = np.ones(4_000)
    amounts[:missing] = np.nan
    one = replace(compared(), worth=replace(FRAUD, amount="paid"), amounts=amounts)
    found = judged(one)
    assert found.outcome is outcome
    assert (f"{missing} of 4000 held-out rows have no paid" in found.reason) == (outcome is GateOutcome.NO_EVIDENCE)
    if outcome is GateOutcome.PASS:
        assert f"{missing} of 4000 rows have no paid and no part in the value" in found.reason
        assert found.numbers["value"]["without_amount"] == missing
        assert "no part" not in judged(replace(one, amounts=np.ones(4_000))).reason
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
