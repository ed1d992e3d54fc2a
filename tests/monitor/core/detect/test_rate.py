import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stationkeeper.monitor.core.detect.rate import CEILING, RateDetector

NO_THRESHOLD = np.inf


def test_one_pane_by_hand():
    detector = RateDetector(0, 1, 0.1, 0.5, NO_THRESHOLD)
    detector.null_rate[:] = 0.1
    # Against .1, the bet on .2 with 3 of 10: 3 log 2 + 7 log(8/9).
    exact = RateDetector(10_000_000, 100_000_000, 0.0, 0.5, NO_THRESHOLD)
    at = 4  # factor 2
    log_e = 3 * exact.log_hit[0, at] + 7 * exact.log_miss[0, at]
    assert log_e == pytest.approx(3 * np.log(2) + 7 * np.log(8 / 9), abs=1e-4)


@given(st.integers(0, 50), st.integers(50, 5000), st.floats(0, 0.1))
@settings(max_examples=40, deadline=None)
def test_no_rate_of_the_null_gives_any_bet_a_mean_above_one(x, n, tolerance):
    detector = RateDetector(x, n, tolerance, 1e-4, NO_THRESHOLD)
    for p in (0.0, detector.null_rate[0] / 2, detector.null_rate[0]):
        mean = p * np.exp(detector.log_hit[0]) + (1 - p) * np.exp(detector.log_miss[0])
        assert (mean <= 1 + 1e-9).all()


def test_the_null_edge_is_clopper_pearson_plus_tolerance():
    detector = RateDetector([0, 100], [10_000, 10_000], [0.0, 0.005], 1e-3, NO_THRESHOLD)
    assert detector.null_rate[0] == pytest.approx(stats.beta.isf(1e-3, 1, 10_000), rel=1e-6)
    assert detector.null_rate[1] == pytest.approx(stats.beta.isf(1e-3, 101, 9_900) + 0.005, rel=1e-6)


def test_a_rate_at_its_ceiling_bets_nothing():
    detector = RateDetector(100, 100, 0.0, 0.01, 0.0)
    assert detector.null_rate[0] == CEILING
    for t in range(100):
        assert np.isneginf(detector.step([10], [10], t, 1e6).score[0])


def test_a_tripled_rate_pages_and_a_steady_one_does_not():
    rng = np.random.default_rng(1)
    detector = RateDetector([100, 100], [10_000, 10_000], 0.0, 1e-4, np.log(1.3e7))
    first = np.full(2, -1)
    for t in range(100):
        p = [0.01, 0.01 if t < 20 else 0.05]
        scores = detector.step(rng.binomial(50, p), [50, 50], t, 1.0)
        for f in np.flatnonzero(scores.paged & (first < 0)):
            first[f] = t
            assert abs(scores.onset[f] - 20) <= 6
    assert first[0] == -1
    assert 20 < first[1] < 50


def test_false_alarms_of_rates_stay_within_the_budget():
    rng = np.random.default_rng(2)
    f, panes, asked = 200, 300, 200.0
    reference = rng.binomial(500, 0.1, f)
    detector = RateDetector(reference, 500, 0.0, 0.01, np.log(asked))
    pages = sum(detector.step(rng.binomial(50, 0.1, f), np.full(f, 50), t, 1.0).paged.sum() for t in range(panes))
    budget = f * panes / asked
    assert pages <= budget + 3 * np.sqrt(budget)


def test_silence_keeps_evidence_and_state_goes_round():
    detector = RateDetector([5, 5], [1000, 1000], 0.0, 0.01, 50.0)
    before = detector.step([3, 0], [50, 50], 0, 1.0)
    after = detector.step([0, 0], [0, 0], 1, 43_200.0)
    np.testing.assert_array_equal(before.score, after.score)
    other = RateDetector([5, 5], [1000, 1000], 0.0, 0.01, 50.0)
    other.restore(detector.state())
    one, two = detector.step([9, 1], [50, 50], 2, 1.0), other.step([9, 1], [50, 50], 2, 1.0)
    np.testing.assert_array_equal(one.score, two.score)
    with pytest.raises(ValueError, match="start without it"):
        RateDetector(5, 1000, 0.0, 0.01, 50.0).restore(detector.state())


@pytest.mark.parametrize(("x", "n"), [(-1, 10), (11, 10), (0, 0)])
def test_an_impossible_reference_rate_is_refused(x, n):
    with pytest.raises(ValueError, match="reference rate"):
        RateDetector(x, n, 0.0, 0.01, 1.0)
