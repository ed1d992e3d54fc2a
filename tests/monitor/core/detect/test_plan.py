import numpy as np
import pytest

from stationkeeper.monitor.core.detect.plan import DetectorPlan, PlannedSubject

AMOUNT = PlannedSubject("amount", "numeric", np.array([[4, 6, 1], [1, 1, 0]]))
COUNTRY = PlannedSubject("country", "categorical", np.array([[9, 1], [5, 0]]))
PLAN = DetectorPlan("fraud", "3", "", (AMOUNT, COUNTRY), 1e-3, segments=2)


def test_a_plan_by_hand():
    assert PLAN.offsets().tolist() == [0, 3, 5]
    assert PLAN.reference(1).tolist() == [1, 1, 0, 5, 0]
    assert PLAN.reference().tolist() == [5, 7, 1, 14, 1]
    assert PLAN.eta_subject == pytest.approx(0.01 / (2 * 2 * 2))
    # Two e-detectors watch a number, one a category.
    np.testing.assert_allclose(PLAN.log_thresholds(), np.log([4_000.0, 2_000.0]))


def test_the_draws_of_two_plans_differ():
    assert PLAN.key != DetectorPlan("fraud", "3", "country=de", (AMOUNT, COUNTRY), 1e-3).key


@pytest.mark.parametrize("kind", ["<u1", "<u2", "<i4"])
def test_hours_in_few_bytes_are_summed_whole(kind: str):
    full = np.full((168, 3), np.iinfo(kind).max, kind)
    reference = DetectorPlan("m", "1", "", (PlannedSubject("x", "categorical", full),), 1.0).reference()
    assert reference.dtype == np.dtype(np.int64)
    assert reference.tolist() == [168 * int(np.iinfo(kind).max)] * 3


def test_other_numbers_of_strata_are_refused():
    with pytest.raises(ValueError, match="same number of strata"):
        DetectorPlan("m", "1", "", (AMOUNT, PlannedSubject("x", "numeric", np.array([[1, 1]]))), 1e-3)
