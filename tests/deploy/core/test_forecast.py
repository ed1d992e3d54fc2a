"""The forecast agrees with rollouts that are played, and says when the deadline comes first."""

import numpy as np
import pytest

from benchmarks.rules.canary import World, shipped
from stationkeeper.deploy.core.forecast import forecast
from stationkeeper.deploy.settings import RolloutSettings
from tests.deploy.core.ramp import NO_LATENCY

POLICY = RolloutSettings(guardrails=NO_LATENCY).policy()


@pytest.mark.parametrize(("per_minute", "base"), [(1_000, 0.008), (200, 0.02)])
def test_half_of_the_rollouts_that_are_played_end_within_a_third_of_the_forecast(per_minute, base):
    told = forecast(POLICY, per_minute, base, 2.0)
    for ratio, minutes, how in ((1.0, told.promoted, "promoted"), (2.0, told.caught, "harm")):
        world = World("one", per_minute, base, ratio)
        ended = [shipped(world, np.random.default_rng(seed), POLICY) for seed in range(21)]
        assert sum(one.how == how for one in ended) >= 20
        assert minutes == pytest.approx(np.median([one.minutes for one in ended if one.how == how]), rel=0.3)


def test_tenants_with_hours_split_by_request_hold_the_first_step_as_long_as_the_forecast_says():
    """It said minute 99 where rollouts ended at 260 to 400: the wait until the split shows was left out."""
    told = forecast(POLICY, 100, 0.05, 2.0, entities=20, by_request=True)
    rows = forecast(POLICY, 100, 0.05, 2.0)
    assert told.promoted is not None
    assert rows.promoted is not None
    assert told.promoted > 2 * rows.promoted
    world = World("one", 100, 0.05, users=20, by_request=True, hours=True)
    ended = [shipped(world, np.random.default_rng(seed), POLICY) for seed in range(11)]
    found = [one.minutes for one in ended if one.how == "promoted"]
    assert len(found) >= 10
    assert told.promoted == pytest.approx(np.median(found), rel=0.3)


def test_traffic_too_thin_for_the_deadline_is_told():
    told = forecast(POLICY, 1.0, 0.002, 2.0)
    assert (told.promoted, told.caught, told.deadline) == (None, None, 7 * 24 * 60)


def test_rows_that_fail_together_take_longer():
    alone, together = (forecast(POLICY, 100, 0.02, 2.0, effect) for effect in (1.0, 4.0))
    assert alone.promoted is not None
    assert together.promoted is not None
    assert together.promoted > 1.5 * alone.promoted


def test_of_few_entities_that_keep_their_version_no_time_is_enough():
    """A hundred times the rows of two hundred people are still two hundred people."""
    told = {count: forecast(POLICY, 1_000, 0.05, 2.0, entities=count) for count in (5_000, 500, 200, 20)}
    rows = forecast(POLICY, 1_000, 0.05, 2.0)
    assert told[5_000].promoted == rows.promoted
    assert told[500].promoted is not None
    assert told[500].promoted > rows.promoted
    assert (told[200].promoted, told[20].promoted) == (None, None)
    assert told[200].caught is not None
    assert told[20].caught is None
