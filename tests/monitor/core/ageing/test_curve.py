"""The ageing curve: what promotions gained teaches how fast models age here."""

import pytest

from stationkeeper.monitor.core.ageing import AgeingCurve, ServedVersion, Week
from stationkeeper.monitor.core.ageing.curve import CURE, GROWTH


def served(version: str, first: int, rates: list[float], rows: int = 1_000) -> ServedVersion:
    weeks = tuple(Week(first + i, rows, round(rate * rows)) for i, rate in enumerate(rates))
    return ServedVersion(version=version, weeks=weeks)


def ageing(growth: float, versions: int = 8, weeks: int = 8) -> list[ServedVersion]:
    """Versions whose loss grows by a share of .10 a week, replaced every so many weeks."""
    rates = [0.10 * (1 + growth * (week + 0.5)) for week in range(weeks)]
    return [served(str(number), number * weeks, rates, 100_000) for number in range(versions)]


def test_the_excess_by_hand():
    weeks = served("1", 0, [0.10, 0.10, 0.10, 0.11, 0.11, 0.11, 0.12, 0.12, 0.12]).weeks
    assert AgeingCurve(0.02, 0.5).excess(weeks) == pytest.approx(0.02 * 0.10 * 8.5 + 0.5 * 0.02)


def test_without_a_promotion_the_prior_holds():
    assert AgeingCurve.fit([served("1", 0, [0.1] * 20)]) == AgeingCurve(GROWTH, CURE)
    assert AgeingCurve.fit([]) == AgeingCurve(GROWTH, CURE)
    assert AgeingCurve.fit([served("1", 0, [0.0] * 20)]) == AgeingCurve(GROWTH, CURE)


def test_promotions_that_gain_nothing_teach_that_models_do_not_age():
    assert AgeingCurve.fit(ageing(0.0)).growth < GROWTH / 2


@pytest.mark.parametrize("growth", [0.05, 0.10])
def test_promotions_that_gain_teach_how_fast(growth: float):
    weeks = ageing(growth)[-1].weeks
    found = AgeingCurve.fit(ageing(growth)).excess(weeks)
    # What a new version gains is known to a third after seven promotions.
    assert found == pytest.approx(0.10 * growth * 7, rel=0.34)


def test_a_season_that_a_new_version_does_not_cure_is_not_called_age():
    # All versions rise alike within their time and begin high: the rise was the season's.
    season = [0.10 + 0.004 * week for week in range(40)]
    versions = [served(str(n), n * 8, season[n * 8 : n * 8 + 8], 100_000) for n in range(5)]
    curve, plain = AgeingCurve.fit(versions), AgeingCurve(GROWTH, CURE)
    assert curve.excess(versions[-1].weeks) < plain.excess(versions[-1].weeks) / 2


def test_one_lucky_promotion_never_says_that_age_is_a_gain():
    curve = AgeingCurve.fit([served("1", 0, [0.1] * 8), served("2", 8, [0.2] * 8)])
    assert curve.growth >= 0
    assert curve.cure >= 0
