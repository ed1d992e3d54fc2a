"""Rates against all that came before: false alarms within the budget at any reference, and sooner found than fixed."""

import numpy as np
import pytest

from stationkeeper.monitor.core.detect.rate import RateDetector
from stationkeeper.monitor.core.detect.running_rate import RunningRate


@pytest.mark.parametrize(("rows", "rate", "pane"), [(20, 0.5, 5), (60, 0.02, 40), (2_000, 0.1, 300)])
def test_false_alarms_stay_within_the_budget_whatever_the_reference(rows, rate, pane):
    rng = np.random.default_rng(rows)
    subjects, panes, alpha = 200, 120, 1 / 200
    reference = rng.binomial(rows, rate, subjects)
    detector = RunningRate(reference, rows, 0.0, np.log(1 / alpha))
    alarms = 0
    for t in range(panes):
        found = detector.step(rng.binomial(pane, rate, subjects), np.full(subjects, pane), t, 1.0)
        alarms += int(found.paged.sum())
    budget = alpha * panes * subjects
    assert alarms <= budget + 3 * np.sqrt(budget)


def test_a_region_of_sixty_labels_is_enough_where_a_fixed_reference_needs_thousands():
    rng = np.random.default_rng(5)
    hits, rows, limit = np.full(50, 30), np.full(50, 60), np.log(1e6)
    running, fixed = RunningRate(hits, rows, 0.04, limit), RateDetector(hits, rows, 0.04, 0.0006, limit)
    for t in range(100):
        quiet = rng.binomial(10, 0.5, 50)
        running.step(quiet, np.full(50, 10), t, 10.0)
        fixed.step(quiet, np.full(50, 10), t, 10.0)
    found = {"running": np.zeros(50, bool), "fixed": np.zeros(50, bool)}
    for t in range(100, 140):
        risen = rng.binomial(10, 0.75, 50)
        found["running"] |= running.step(risen, np.full(50, 10), t, 10.0).paged
        found["fixed"] |= fixed.step(risen, np.full(50, 10), t, 10.0).paged
    assert found["running"].mean() > 0.9
    assert found["fixed"].mean() < 0.2


def test_taking_drift_back_leaves_what_was_known_before_and_stops_learning():
    detector = RunningRate([10, 10], [100, 100], 0.0, 30.0)
    detector.step([9, 9], [10, 10], 0, 1.0)
    detector.retract(np.array([9, 9]), np.array([10, 10]), np.array([True, False]))
    detector.step([8, 8], [10, 10], 1, 1.0)
    assert detector.hits.tolist() == [10, 27]
    assert detector.rows.tolist() == [100, 120]


def test_a_restored_detector_goes_on_bit_for_bit_and_an_empty_pane_changes_nothing():
    rng = np.random.default_rng(7)
    panes = rng.binomial(40, 0.2, (30, 4))
    whole, half = (RunningRate([20] * 4, [100] * 4, 0.01, 9.0, key=b"k") for _ in range(2))
    for t, hits in enumerate(panes[:15]):
        whole.step(hits, [40] * 4, t, 1.0)
        half.step(hits, [40] * 4, t, 1.0)
    before = whole.evidence.score()
    assert (whole.step([0] * 4, [0] * 4, 15, 1.0).score == before).all()
    taken = RunningRate([20] * 4, [100] * 4, 0.01, 9.0, key=b"k")
    taken.restore(half.state())
    for t, hits in enumerate(panes[15:], start=16):
        assert (whole.step(hits, [40] * 4, t, 1.0).score == taken.step(hits, [40] * 4, t, 1.0).score).all()


def test_more_successes_than_trials_is_refused():
    with pytest.raises(ValueError, match="successes <= trials"):
        RunningRate([3], [2], 0.0, 5.0)
