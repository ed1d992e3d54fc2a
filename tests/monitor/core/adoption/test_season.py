"""Seasons by partial pooling: what is different is kept apart, what is alike is shared, and days are no season."""

import numpy as np
import pytest

from stationkeeper.contracts.column import numbers
from stationkeeper.contracts.messages import Level
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.adoption.adopt import excess_floor, widening
from stationkeeper.monitor.core.adoption.season import SeasonSums, block_squares, learn_season, pooling, weekday_of
from stationkeeper.monitor.core.budget import parse_budget
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.power import power_card
from stationkeeper.monitor.core.reference import CategoricalCells, dump, load
from stationkeeper.monitor.core.watch import Watch, WatchSettings

HOUR, MONDAY = 3_600_000, 978_307_200_000


def rows_of(days, rows, rng, weekend=0.5, night=0.0, moves=0.0):
    """``rows`` numbers an hour from a Monday on: weekends, and six hours of night, lie higher; days move."""
    hours = np.repeat(np.arange(24 * days), rows)
    own = rng.normal(size=days) * moves
    values = (
        rng.normal(size=len(hours)) + weekend * (hours // 24 % 7 >= 5) + night * (hours % 24 < 6) + own[hours // 24]
    )
    return MONDAY + hours * HOUR, values


def test_groups_that_are_alike_are_pooled_and_others_not():
    rng = np.random.default_rng(0)
    alike = rng.multinomial(100, [0.5, 0.3, 0.2], size=(24, 10))
    of = np.zeros(24, np.int64)
    assert pooling(alike.sum(1), of, block_squares(alike.reshape(-1, 3)), 240) == np.inf
    apart = alike.copy()
    apart[:6] = rng.multinomial(100, [0.2, 0.3, 0.5], size=(6, 10))
    assert pooling(apart.sum(1), of, block_squares(apart.reshape(-1, 3)), 240) < 100
    # By hand: equal halves have nothing between them.
    even = np.full((2, 2), 50)
    assert pooling(even, np.zeros(2, np.int64), block_squares(np.full((4, 2), 25)), 4) == np.inf


def test_days_that_move_together_are_no_season():
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(10):
        times, values = rows_of(21, 30, rng, weekend=0.0, moves=0.1)
        found += len(profile({"x": values, "t": times}, time="t", pane="1h").by_name["x"].strata) > 0
    assert found <= 1


def test_a_weekend_gets_a_mix_of_its_own_and_no_floor():
    times, values = rows_of(14, 100, np.random.default_rng(2))
    made = profile({"x": values, "t": times}, time="t", pane="1h")
    subject = made.by_name["x"]
    assert len(subject.strata) == 168
    # Pooled with weekends, days move by a tenth of the traffic, and hours lean on each other a hundredfold.
    assert subject.day_floor < 0.02
    assert subject.phi.max() < 3
    upper = subject.strata[:, len(subject.counts) // 2 :].sum(1) / subject.strata.sum(1)
    assert upper[5 * 24 :].min() > upper[: 5 * 24].max()
    assert load(dump(made)).by_name["x"].strata.shape == (168, len(subject.counts))


def test_a_night_of_few_rows_leans_on_the_day_without_vanishing_in_it():
    """Six rows an hour at night and 100 by day: the night's mix is its own, with the rows that taught it."""
    rng = np.random.default_rng(3)
    hours = np.arange(24 * 21)
    rows = np.where(hours % 24 < 6, 6, 100)
    at = np.repeat(hours, rows)
    city = np.where(rng.random(len(at)) < np.where(at % 24 < 6, 0.6, 0.1), "late", "early").astype(object)
    made = profile({"city": city, "t": MONDAY + at * HOUR}, time="t", pane="1h").by_name["city"]
    assert isinstance(made.cells, CategoricalCells)
    late = made.strata[:, made.cells.values.index("late")] / made.strata.sum(1)
    night = np.arange(len(made.strata)) % 24 < 6
    assert late[night].min() > 0.4
    assert late[~night].max() < 0.2
    assert made.strata.sum(1)[night].max() < made.strata.sum(1)[~night].min()


def pages_after(shift, rng, adopted=False):
    """Hours until a page once ``shift`` sd began after two quiet days, None where a week brings none."""
    rows, first = 300, 14 * 24
    times, values = rows_of(14 + 9, rows, rng)
    past = slice(0, first * rows)
    if adopted:
        made = profile({"x": rng.permutation(values[past])})
        watch = Watch(made, settings=WatchSettings(adoption=14 * 24 * HOUR))
    else:
        made = profile({"x": values[past], "t": times[past]}, time="t", pane="1h")
        watch = Watch(made, settings=WatchSettings())
    onset = first + 48
    for hour in range(0 if adopted else first, (14 + 9) * 24):
        mine = values[hour * rows : (hour + 1) * rows] + shift * (hour >= onset)
        (vector,) = made.layout.tally({"x": numbers(mine)}, np.zeros(rows, np.int64), np.array([rows]))
        found = watch.step(Pane(MONDAY + hour * HOUR, HOUR, rows, vector))
        if any(verdict.level is Level.PAGE for verdict in found.verdicts):
            return hour + 1 - onset
    return None


@pytest.mark.parametrize("adopted", [False, True])
def test_with_a_weekday_rhythm_shifts_are_found_and_weekends_are_not(adopted):
    assert pages_after(0.0, np.random.default_rng(4), adopted) is None
    assert 0 < pages_after(0.25, np.random.default_rng(5), adopted) <= 12
    assert 0 < pages_after(0.5, np.random.default_rng(6), adopted) <= 4


def test_few_days_widen_the_floor_and_the_power_card_says_so():
    assert widening(2) == pytest.approx(6.314 / 1.645)
    assert widening(10) == pytest.approx(1.833 / 1.645)
    assert widening(20) == widening(0) == 1.0
    times, values = rows_of(10, 200, np.random.default_rng(7), weekend=0.0, moves=0.3)
    made = profile({"x": values, "t": times}, time="t", pane="1h")
    text = power_card(made, parse_budget("1 per 30 days"), rows_per_hour=200).text()
    assert "from 10 days: floors are 1.11 times as wide" in text
    whole = profile(
        {"x": np.tile(values, 3), "t": np.concatenate([times + k * 10 * 24 * HOUR for k in range(3)])},
        time="t",
        pane="1h",
    )
    assert "floors are" not in power_card(whole, parse_budget("1 per 30 days"), rows_per_hour=200).text()


def test_a_day_is_compared_with_its_weekday():
    usual = np.array([[0.8, 0.2], [0.2, 0.8]])
    days = np.array([[800, 200], [200, 800]] * 5)
    assert excess_floor(days) > 0.2
    assert excess_floor(days, np.tile(usual, (5, 1)), np.full(10, 0.2)) == 0.0


def test_sums_by_pane_are_those_of_whole_hours():
    rng = np.random.default_rng(8)
    minutes = rng.integers(0, 5, (24 * 60 * 3, 4))
    by_pane, by_hour = SeasonSums(4, 4), SeasonSums(4, 4)
    for i, counts in enumerate(minutes):
        by_pane.add(MONDAY + i * 60_000, counts, counts, [slice(0, 4)])
        if i == 1000:
            restored = SeasonSums(4, 4)
            restored.hours = by_pane.hours.copy()
            restored.restore(by_pane.state())
            by_pane = restored
    whole = minutes.reshape(-1, 60, 4).sum(1)
    by_hour.add_blocks(MONDAY + np.arange(len(whole)) * HOUR, whole, whole)
    np.testing.assert_array_equal(by_pane.hours, by_hour.hours)
    np.testing.assert_array_equal(by_pane.week, by_hour.week)
    # The last hour is still open.
    np.testing.assert_allclose(by_pane.squares, by_hour.squares - block_squares(whole[-1:]))


def test_a_constant_has_one_stratum():
    sums = SeasonSums(2, 2)
    whole = np.tile([5, 0], (24 * 14, 1))
    sums.add_blocks(MONDAY + np.arange(len(whole)) * HOUR, whole, whole)
    days = whole.reshape(14, 24, 2).sum(1)
    weekday = weekday_of(MONDAY // (24 * HOUR) + np.arange(14))
    assert weekday[:8].tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    assert len(learn_season(sums.counts(slice(None), slice(None), days, weekday, np.arange(2))).strata) == 1
