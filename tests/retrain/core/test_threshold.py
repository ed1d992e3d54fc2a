import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.retrain.core.threshold import ThresholdRule, choose_threshold

LABELS = np.array([True, True, False, True, False, False])
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.3, 0.1])


def test_f1_by_hand():
    # Cuts after 1..6 rows have F1 2/4, 4/5, 4/6, 6/7, 6/8, 6/9: the fourth, half way between 0.6 and 0.3.
    found = choose_threshold(LABELS, SCORES, ThresholdRule.F1)
    assert found.value == pytest.approx(0.45)
    assert (found.precision, found.recall) == (0.75, 1.0)


def test_alert_rate_by_hand():
    found = choose_threshold(LABELS, SCORES, ThresholdRule.ALERT_RATE, alert_rate=0.34)
    assert found.value == pytest.approx(0.75)


def test_keep_precision_takes_the_most_alerts_that_keep_it():
    # The monotone fit is 1, 1, 1/2, 1/2, 0, 0: precision of the cuts 1, 1, 5/6, 3/4, 3/5, 1/2.
    found = choose_threshold(LABELS, SCORES, ThresholdRule.KEEP_PRECISION, precision=0.8)
    assert found.value == pytest.approx(0.65)
    assert found.rule is ThresholdRule.KEEP_PRECISION
    exact = choose_threshold(LABELS, SCORES, ThresholdRule.KEEP_PRECISION, precision=1.0)
    assert exact.value == pytest.approx(0.75)


def test_keep_precision_goes_no_further_than_the_largest_f1():
    # The fifth cut would keep 0.6, but the fourth is both more precise and of larger F1.
    found = choose_threshold(LABELS, SCORES, ThresholdRule.KEEP_PRECISION, precision=0.6)
    assert found.value == pytest.approx(0.45)
    assert (found.rule, found.precision) == (ThresholdRule.KEEP_PRECISION, 0.75)


def test_without_a_target_it_is_f1():
    found = choose_threshold(LABELS, SCORES, ThresholdRule.KEEP_PRECISION)
    assert found.rule is ThresholdRule.F1


def test_a_target_out_of_reach_takes_the_highest_that_keeps_recall():
    rng = np.random.default_rng(0)
    labels = rng.random(2_000) < 0.2
    scores = np.clip(0.15 * labels + rng.random(2_000) * 0.85, 0, 1)
    found = choose_threshold(labels, scores, ThresholdRule.KEEP_PRECISION, precision=0.9999)
    best = choose_threshold(labels, scores, ThresholdRule.F1)
    assert "out of reach" in found.detail
    assert found.precision >= best.precision
    assert found.recall >= 0.75 * best.recall - 1e-9


def test_no_positives_is_an_error():
    with pytest.raises(ValueError, match="positive labels"):
        choose_threshold(np.zeros(3, bool), np.ones(3), ThresholdRule.F1)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1, width=32)), min_size=2, max_size=60), st.floats(0, 1))
def test_the_threshold_does_what_it_says_even_in_float32(rows: list[tuple[bool, float]], target: float):
    labels = np.array([label for label, _ in rows])
    scores = np.array([score for _, score in rows])
    if not labels.any():
        labels[0] = True
    for rule in ThresholdRule:
        found = choose_threshold(labels, scores, rule, precision=target)
        alerts = scores >= found.value
        if alerts.any() and len(np.unique(scores)) == len(np.unique(np.round(scores, 5))):
            assert found.precision == pytest.approx((alerts & labels).sum() / alerts.sum())
            assert found.recall == pytest.approx((alerts & labels).sum() / labels.sum())
