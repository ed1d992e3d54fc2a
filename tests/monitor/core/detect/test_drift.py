from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.monitor.core.detect.drift import effect_floor, plan_subject
from stationkeeper.monitor.core.detect.plan import DENSE_ALTERNATIVES
from tests.monitor.core.streams import bank, reference_of

REFERENCE = reference_of(bank(3_000))


@pytest.mark.parametrize(("day_floor", "floor"), [(0.0, 0.02), (0.01, 0.02), (0.04, 0.06), (0.8, 0.9)])
def test_the_floor_by_hand(day_floor: float, floor: float):
    assert effect_floor(0.02, day_floor) == pytest.approx(floor)


def test_a_plan_takes_what_the_reference_learned():
    age = replace(REFERENCE.by_name["age"], phi=np.full(DENSE_ALTERNATIVES + 2, 2.0), day_floor=0.04, importance=3.0)
    planned = plan_subject(age, 0.02)
    assert (planned.kind, planned.importance) == ("numeric", 3.0)
    assert planned.delta == pytest.approx(0.06)
    assert planned.group_phi().tolist() == [2.0] * (DENSE_ALTERNATIVES + 2)
    np.testing.assert_array_equal(planned.reference, age.counts[None])


def test_a_phi_of_another_build_is_not_guessed_at():
    method = replace(REFERENCE.by_name["method"], phi=np.full(7, 2.0))
    assert plan_subject(method, 0.02).group_phi().tolist() == [1.0, 1.0]
