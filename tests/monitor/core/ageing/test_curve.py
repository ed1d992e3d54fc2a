"""The ageing curve: what promotions gained teaches how fast models age here."""

import numpy as np
import pytest

from stationkeeper.contracts.state import replaced
from stationkeeper.monitor.core.ageing import AgeingCurve, ServedVersion, SuddenChange, Week, sudden_change
from stationkeeper.monitor.core.ageing.curve import CURE, GROWTH, ageing_features


def served(version: str, first: int, rates: list[float], rows: int = 1_000) -> ServedVersion:
    weeks = tuple(Week(first + i, rows, round(rate * rows)) for i, rate in enumerate(rates))
    return ServedVersion(version=version, weeks=weeks)


def ageing(growth: float, versions: int = 8, weeks: int = 8) -> list[ServedVersion]:
    """Versions whose loss grows by a share of .10 a week, replaced every so many weeks."""
    rates = [0.10 * (1 + growth * (week + 0.5)) for week in range(weeks)]
    return [served(str(number), number * weeks, rates, 100_000) for number in range(versions)]


def test_the_excess_by_hand():
    weeks = served("1", 0, [0.10, 0.10, 0.10, 0.11, 0.11, 0.11, 0.12, 0.12, 0.12]).weeks
    assert AgeingCurve(0.02, 0.5).forecast(ageing_features(weeks)).mean == pytest.approx(0.02 * 0.10 * 8.5 + 0.5 * 0.02)


def test_without_a_promotion_the_prior_holds():
    prior = AgeingCurve.fit([served("1", 0, [0.1] * 20)])
    assert prior.growth == pytest.approx(GROWTH)
    assert prior.cure == pytest.approx(CURE)
    assert AgeingCurve.fit([]) == AgeingCurve(GROWTH, CURE)
    flawless = AgeingCurve.fit([served("1", 0, [0.0] * 20)])
    assert (flawless.growth, flawless.cure) == pytest.approx((GROWTH, CURE))


def test_a_model_that_made_no_mistake_at_first_is_not_forecast_with_certainty():
    # One wrong answer of sixty in two of the later weeks: a rise of a hundred and eightieth.
    one = ServedVersion(version="1", weeks=tuple(Week(at, 60, int(at in {3, 5})) for at in range(6)))
    found = AgeingCurve.fit([one]).forecast(ageing_features(one.weeks))
    # The prior's own spread of the cure, .1 / (.2 x root of 3), whatever the loss is.
    assert found.mean == pytest.approx(0.5 * 2 / 180)
    assert found.high - found.mean == pytest.approx(1.645 * 0.1 / (0.2 * 3**0.5) * 2 / 180, rel=1e-3)


def test_promotions_that_gain_nothing_teach_that_models_do_not_age():
    assert AgeingCurve.fit(ageing(0.0)).growth < GROWTH / 2


@pytest.mark.parametrize("growth", [0.05, 0.10])
def test_promotions_that_gain_teach_how_fast(growth: float):
    weeks = ageing(growth)[-1].weeks
    found = AgeingCurve.fit(ageing(growth)).forecast(ageing_features(weeks)).mean
    # What a new version gains is known to a third after seven promotions.
    assert found == pytest.approx(0.10 * growth * 7, rel=0.34)


def test_what_the_gate_saw_on_the_same_rows_outweighs_a_season():
    # Each version begins in a worse season than the last one ended in, so that the weeks say that nothing was gained.
    versions = [served(str(n), n * 8, [0.10 + 0.005 * n] * 8, 100_000) for n in range(4)]
    told = [versions[0], *(replaced(one, spared=0.02) for one in versions[1:])]
    features = ageing_features(versions[-1].weeks)
    blind, seen = (AgeingCurve.fit(history).forecast(features) for history in (versions, told))
    assert blind.mean == 0.0
    assert seen.mean > 0.005


def test_a_forecast_is_surer_the_more_promotions_gained_alike():
    features = ageing_features(ageing(0.05)[-1].weeks)
    few, many = (AgeingCurve.fit(ageing(0.05, versions=n)).forecast(features) for n in (2, 12))
    assert few.low < few.mean < few.high
    assert many.high - many.low < (few.high - few.low) / 2
    # By hand: variances .0001 and .04 of features .85 and .02 are .00007225 + .000016, of which the root is .0094.
    found = AgeingCurve(0.02, 0.5, (0.0001, 0.0, 0.04)).forecast(np.array([0.85, 0.02]))
    assert found.mean == pytest.approx(0.027)
    assert found.high - found.mean == pytest.approx(1.645 * 0.0093941, rel=1e-3)
    assert AgeingCurve(0.02, 0.5, (1.0, 0.0, 1.0)).forecast(np.array([0.85, 0.02])).low == 0.0


def test_a_season_that_a_new_version_does_not_cure_is_not_called_age():
    # All versions rise alike within their time and begin high: the rise was the season's.
    season = [0.10 + 0.004 * week for week in range(40)]
    versions = [served(str(n), n * 8, season[n * 8 : n * 8 + 8], 100_000) for n in range(5)]
    features = ageing_features(versions[-1].weeks)
    learned, plain = (curve.forecast(features).mean for curve in (AgeingCurve.fit(versions), AgeingCurve(GROWTH, CURE)))
    assert learned < plain / 2


def test_one_lucky_promotion_never_says_that_age_is_a_gain():
    curve = AgeingCurve.fit([served("1", 0, [0.1] * 8), served("2", 8, [0.2] * 8)])
    assert curve.growth >= 0
    assert curve.cure >= 0


def weeks(*wrong: int, first: int = 0) -> tuple[Week, ...]:
    return tuple(Week(first + at, 1_000, one) for at, one in enumerate(wrong))


def test_a_sudden_change_is_dated_and_noise_and_slow_growth_are_none():
    calm = ServedVersion(version="1", weeks=weeks(100, 95, 104, 110, 98))
    slow = ServedVersion(version="1", weeks=weeks(*range(100, 160, 5)))
    assert sudden_change([calm]) is None
    assert sudden_change([slow]) is None
    found = sudden_change([ServedVersion(version="1", weeks=weeks(100, 95, 105, 300, 310))])
    assert found is not None
    assert found.week == 3
    assert found.lost == pytest.approx(0.2)
    # Of a version without errors a single one is no change, a tenth of wrong answers is.
    assert sudden_change([ServedVersion(version="1", weeks=weeks(0, 0, 1))]) is None
    assert sudden_change([ServedVersion(version="1", weeks=weeks(0, 0, 100))]) is not None


def test_what_a_model_that_knows_more_rows_since_a_change_spares_by_hand():
    # Six weeks that nobody counted and four before the change: trained at week 4 all rows are from before it, at week 6
    # ten of twelve, at week 14 ten of twenty.
    history = [ServedVersion(version="1", weeks=weeks(*[100] * 4, *[300] * 10))]
    change = SuddenChange(4, 0.2)
    assert change.spared(history, 0, 6) == pytest.approx(0.2 * 2 / 12)
    assert change.spared(history, 6, 14) == pytest.approx(0.2 * (10 / 12 - 10 / 20))
    assert change.spared(history, 6, 6) == 0.0


def test_a_change_in_the_very_week_of_a_promotion_is_a_change_and_teaches_nothing_of_promotions():
    # Four times as many wrong from the first week of version 2 on: of its own weeks none is above the others.
    history = [ServedVersion("1", weeks(150, 150, 150, 150)), ServedVersion("2", weeks(600, 610, 590, first=4))]
    found = sudden_change(history)
    assert found is not None
    assert found.week == 4
    assert found.lost == pytest.approx(0.45)
    learned = AgeingCurve.fit(history)
    assert learned.growth == pytest.approx(GROWTH)
    assert learned.cure == pytest.approx(CURE)
    # A season that is half as bad again is none, and neither is a version that is better.
    for later in (225, 60):
        assert sudden_change([history[0], ServedVersion("2", weeks(later, later, first=4))]) is None
