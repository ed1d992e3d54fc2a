import numpy as np
import pytest

from stationkeeper.monitor.core.adoption.traffic import DAY_MS, HOUR_MS, fit_volume, traffic_of
from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.quality.learned_traffic import LearnedTraffic

MINUTE = 60_000


def test_fit_recovers_means_by_hour_and_the_size():
    rng = np.random.default_rng(3)
    strata = np.arange(168 * 40) % 168
    mean = 50 + 40 * np.sin(strata / 168 * 2 * np.pi)
    x = rng.negative_binomial(8, 8 / (8 + mean))
    model = fit_volume(x, strata, 168)
    assert model.size == pytest.approx(8, rel=0.2)
    np.testing.assert_allclose(model.mean, mean[:168], rtol=0.35)
    assert fit_volume([5, 5, 5], [0, 0, 0], 2).mean[1] == 5
    assert fit_volume([5, 5, 5], [0, 0, 0], 1).size == 1e6
    with pytest.raises(ValueError, match="2 past panes"):
        fit_volume([5], [0], 1)


def test_two_weeks_of_bursts_at_any_hour_are_bursty_although_they_see_each_hour_twice():
    """The square of a mean of two is too large by half of the variance: most of these had a size above .5."""
    for seed in range(20):
        x = np.random.default_rng(seed).negative_binomial(0.1, 0.1 / 60.1, 168 * 2)
        assert fit_volume(x, np.arange(168 * 2) % 168, 168).size == 0.5


@pytest.mark.parametrize("weeks", [2, 3, 4])
def test_bursts_of_an_hour_are_bursty_in_panes_of_a_minute(weeks: int):
    """Sixty panes of one burst are one sight of it: taken as sixty, sizes were .7 to 1.7 and each new burst paged."""
    rng = np.random.default_rng(weeks)
    hours = weeks * 168
    rows = rng.poisson(np.repeat((rng.random(hours) < 0.25) * rng.uniform(30, 500, hours) / 60, 60))
    busy = np.flatnonzero(rows)
    made = traffic_of(busy * MINUTE, MINUTE, rows[busy])
    assert made is not None
    assert made.size == 0.5
    lesson = LearnedTraffic(weeks * 7 * DAY_MS - HOUR_MS)
    for at, volume in enumerate(rows[busy[0] :], busy[0]):
        lesson.add(Pane(int(at) * MINUTE, MINUTE, int(volume), np.zeros(0, np.int64)))
    assert (lesson.size, lesson.quiet_size) == (0.5, 0.5)


def test_hours_that_differ_no_more_than_their_panes_leave_the_size_as_it_is():
    rows = np.random.default_rng(1).poisson(5.0, 3 * 168 * 60)
    made = traffic_of(np.arange(len(rows)) * MINUTE, MINUTE, rows)
    assert made is not None
    assert made.size > 100


def test_two_weeks_tell_hours_apart_and_less_does_not():
    starts = np.arange(14 * 24) * HOUR_MS
    # 1970-01-01 was a Thursday: hour 72 of the week.
    rows = np.where(starts % DAY_MS < 12 * HOUR_MS, 100, 20)
    made = traffic_of(starts, HOUR_MS, rows)
    assert made is not None
    assert (made.rows_per_hour[72], made.rows_per_hour[72 + 12]) == (100, 20)
    short = traffic_of(starts[:48], HOUR_MS, rows[:48])
    assert short is not None
    assert short.rows_per_hour.tolist() == [60]


def test_hours_of_a_week_are_those_of_the_zone():
    starts = np.arange(14 * 24) * HOUR_MS
    # Berlin was an hour ahead of UTC: from 00:00 to 12:00 there.
    rows = np.where((starts + HOUR_MS) % DAY_MS < 12 * HOUR_MS, 100, 20)
    made = traffic_of(starts, HOUR_MS, rows, "Europe/Berlin")
    assert made is not None
    assert made.rows_per_hour[72 : 72 + 24].tolist() == [100] * 12 + [20] * 12


def test_a_source_that_is_nearly_always_silent_has_no_traffic():
    assert traffic_of(np.array([0, 200 * HOUR_MS]), HOUR_MS, np.array([5, 5])) is None


def test_a_week_without_a_rhythm_has_its_mean_in_every_hour_and_one_with_a_rhythm_has_none():
    rng = np.random.default_rng(8)
    starts = np.arange(8 * 24 * 4) * (HOUR_MS // 4)
    steady = traffic_of(starts, HOUR_MS // 4, rng.poisson(30, len(starts)))
    assert steady is not None
    assert len(steady.rows_per_hour) == 168
    assert steady.rows_per_hour.max() == steady.rows_per_hour.min() == pytest.approx(120, rel=0.02)
    night = np.where(starts % DAY_MS < 8 * HOUR_MS, 20, 30)
    for rows, days in ((rng.poisson(night), 8), (rng.poisson(30, len(starts)), 6)):
        unknown = traffic_of(starts[: days * 96], HOUR_MS // 4, rows[: days * 96])
        assert unknown is not None
        assert len(unknown.rows_per_hour) == 1
