"""Slow seasons: what is no noise is followed, so fast and so far; what opens is judged from where it began."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.column import categories, numbers
from stationkeeper.contracts.messages import Level, Verdict, VerdictKind
from stationkeeper.monitor.core.adoption import slow_season
from stationkeeper.monitor.core.adoption.slow_season import (
    SlowSeason,
    move_of,
    movement_of,
    tilted,
    waves_of,
    within,
)
from stationkeeper.monitor.core.budget import Budget
from stationkeeper.monitor.core.charts import coarse_cells
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import Reference
from stationkeeper.monitor.core.watch import Watch, WatchSettings, WatchState
from stationkeeper.monitor.core.watch_plan import plan_drifts
from stationkeeper.monitor.judge.state import WatchRecords
from stationkeeper.monitor.profiling import profile
from stationkeeper.monitor.state_codec import freeze, thaw

HOUR, MONDAY = 3_600_000, 978_307_200_000
DAY, ROWS, WEEK = 24 * HOUR, 1_200, 7
PAST = 28


@cache
def known(rhythm: float = 0.0) -> Reference:
    """Four weeks of a number, by the day or, with a ``rhythm`` of the day, by the hour."""
    rng = np.random.default_rng(1)
    if rhythm:
        at = np.repeat(np.arange(PAST * 24), 50)
        x, times, pane = rng.normal(size=len(at)) + rhythm * (at % 24 < 12), MONDAY + at * HOUR, "1h"
    else:
        at = np.repeat(np.arange(PAST), ROWS)
        x, times, pane = rng.normal(size=len(at)), MONDAY + at * DAY, "1d"
    return profile({"x": x, "t": times}, time="t", pane=pane)


def pane_of(reference: Reference, day: int, mean: float) -> Pane:
    rng = np.random.default_rng([2, day])
    values = numbers(rng.normal(size=ROWS) + mean)
    (counts,) = reference.layout.tally({"x": values}, np.zeros(ROWS, np.int64), np.array([ROWS]))
    return Pane(MONDAY + (PAST + day) * DAY, DAY, ROWS, counts)


def read_back(state: WatchState, without: str = "") -> WatchState:
    """The state as it comes back from its records, ``without`` a field that older builds did not write."""
    written = dict(WatchRecords().changed(state))
    head = thaw(freeze(written.pop("")))
    head["watch"].pop(without, None)
    return WatchRecords().joined(head, {name: thaw(freeze(value), narrow=True) for name, value in written.items()})


def lived(
    means: list[float], *, follow: bool = True, stored: frozenset[int] = frozenset()
) -> tuple[Watch, list[Verdict]]:
    """Days with these means, the watch read back from its state after those that are ``stored``."""
    watch = Watch(known(), settings=WatchSettings(follow_seasons=follow))
    said: list[Verdict] = []
    for day, mean in enumerate(means):
        said += watch.step(pane_of(known(), day, mean)).verdicts
        if day in stored:
            kept = read_back(watch.state())
            watch = Watch(known(), settings=WatchSettings(follow_seasons=follow))
            watch.restore(kept)
    return watch, said


def season_of(watch: Watch) -> SlowSeason:
    assert watch.season is not None
    return watch.season


def opened(said: list[Verdict]) -> list[Verdict]:
    return [one for one in said if one.level in {Level.PAGE, Level.WARN} and one.kind is not VerdictKind.RECOVERED]


def year(size: float) -> list[float]:
    return [size * float(np.sin(2 * np.pi * day / 365)) for day in range(365)]


def test_a_season_of_a_year_says_nothing_and_without_following_it_does():
    watch, said = lived(year(0.1))
    assert opened(said) == []
    # Half of the swing is .04 of the rows; the last days of the year are where it began.
    assert 0 < season_of(watch).moved("x") < 0.02
    _, said = lived(year(0.1), follow=False)
    assert len(opened(said)) >= 2


def test_a_season_too_wide_to_follow_is_one_incident():
    """From its lowest to its highest it moves .16 of the rows, more than may be followed, and comes back."""
    watch, said = lived([0.2 - 0.2 * float(np.cos(2 * np.pi * day / 365)) for day in range(380)])
    assert len([one for one in said if one.level is Level.PAGE and one.kind is not VerdictKind.RECOVERED]) == 1
    assert not watch.incidents()


@pytest.mark.parametrize(("week", "until"), [(0.05, 40), (0.1, 25)])
def test_a_ramp_that_outruns_it_pages_and_is_measured_from_where_it_began(week: float, until: int):
    """.05 sd a week is two points of the rows, twice the speed; .1 is four."""
    watch, said = lived([week * day / WEEK for day in range(until)])
    pages = [one for one in said if one.level is Level.PAGE]
    assert len(pages) == 1
    # The faster one pages before its first week is over: nothing was followed then.
    assert 0 < pages[0].evidence.get("followed", 0.0) <= 0.04 if week < 0.1 else "followed" not in pages[0].evidence
    # What was followed while it began is taken back: less than two weeks' steps are left.
    assert season_of(watch).moved("x") <= 0.02 + 1e-6
    assert season_of(watch).renewed().keys() <= {"x"}


def test_a_slow_drift_without_end_is_told_once_it_has_been_followed_far_enough():
    """Half a point a week is within the speed; after twenty weeks the reach ends it."""
    watch, said = lived([0.0125 * day / WEEK for day in range(44 * WEEK)])
    assert season_of(watch).moved("x") <= 0.1 + 1e-6
    pages = [one for one in said if one.level is Level.PAGE]
    assert len(pages) == 1
    assert pages[0].time.timestamp() * 1000 > MONDAY + (PAST + 20 * WEEK) * DAY


def halves(reference: Reference | None, day: int, mean: float) -> Pane:
    """A day of a number of few values; its coarse cells are as many as its values."""
    assert reference is not None
    values = numbers(np.round(2 * (np.random.default_rng([1, day]).normal(size=ROWS) + mean)) / 2)
    (counts,) = reference.layout.tally({"x": values}, np.zeros(ROWS, np.int64), np.array([ROWS]))
    return Pane(MONDAY + (PAST + day) * DAY, DAY, ROWS, counts)


def test_a_number_of_few_values_pages_from_where_it_began():
    """Its coarse cells, cut anew from what was followed, were others: the page could not be said, at any restart."""
    at = np.repeat(np.arange(PAST), ROWS)
    x = np.round(2 * np.random.default_rng(1).normal(size=len(at))) / 2
    reference = profile({"x": x, "t": MONDAY + at * DAY}, time="t", pane="1d")
    watch = Watch(reference, settings=WatchSettings())
    said: list[Verdict] = []
    for day in range(25):
        said += watch.step(halves(reference, day, 0.05 * day / WEEK)).verdicts
        if said and said[-1].level is Level.PAGE:
            break
    assert said[-1].level is Level.PAGE
    # What the pane said is shown as it was said, though it is compared with what was before the drift.
    assert watch.drifts[0].evidence("x")[0] > 10
    assert season_of(watch).renewed() == {"x": watch.end}
    assert np.array_equal(watch.reference.by_name["x"].grid, reference.by_name["x"].grid)


def test_many_subjects_go_back_to_where_each_began_though_they_are_told_one_by_one():
    rng = np.random.default_rng(1)
    at = np.repeat(np.arange(PAST), ROWS)
    names = [f"x{i}" for i in range(6)]
    made = profile({**{name: rng.normal(size=len(at)) for name in names}, "t": MONDAY + at * DAY}, time="t", pane="1d")
    season = SlowSeason(made, 0.02)
    size = len(waves_of(made.by_name["x0"]))
    for week in (1, 2, 3):
        season._go(MONDAY + 7 * week * DAY, {name: np.eye(1, size, 0, np.float32)[0] * week / 100 for name in names})
    onset, now = MONDAY + 19 * DAY, MONDAY + 25 * DAY
    for minute, name in enumerate(names):
        assert season.withdraw({name: onset}, now + minute)
        assert season.changed == {name}
    assert {round(float(season.followed[name][0]), 3) for name in names} == {0.02}
    assert season.renewed() == {name: now + minute for minute, name in enumerate(names)}
    again = SlowSeason(made, 0.02)
    again.restore(season.state())
    assert again.renewed() == season.renewed()
    assert not again.withdraw({"x0": onset}, now + 9)
    assert again.withdraw({"x0": MONDAY + 8 * DAY}, now + 9)
    assert round(float(again.followed["x0"][0]), 3) == 0.01
    # Of one that began before all that is known, nothing that was followed stays.
    assert again.withdraw({"x0": MONDAY}, now + 10)
    assert "x0" not in again.followed


def test_a_day_without_one_before_it_says_nothing_of_how_days_follow_each_other(monkeypatch: pytest.MonkeyPatch):
    """Seven equal days have six pairs: the mean of c_d c_(d-1) is that of c_d^2."""
    seen: list[Any] = []

    def asked(*told: Any) -> Any:
        seen.append(told)
        return told[0]

    monkeypatch.setattr(slow_season, "move_of", asked)
    season = SlowSeason(known(), 0.02)
    for day in range(WEEK):
        season.add(replace(pane_of(known(), 0, 0.1), start=MONDAY + (PAST + day) * DAY), ())
    season.step(MONDAY + (PAST + WEEK) * DAY, {"x"})
    ((mean, square, lagged, days, _),) = seen
    assert days == WEEK
    assert np.allclose(square, mean**2)
    assert np.allclose(lagged, square)


def test_a_week_that_was_under_way_when_following_was_switched_off_is_not_followed_later():
    watch, _ = lived([0.05] * 5)
    off = Watch(known(), settings=WatchSettings(follow_seasons=False))
    off.restore(read_back(watch.state()))
    on = SlowSeason(known(), 0.02)
    on.restore(season_of(off).state())
    assert not on.over(MONDAY + (PAST + 100) * DAY)
    assert on.state().weight.sum() == 0


def test_days_that_only_differ_move_nothing_far():
    rng = np.random.default_rng(5)
    watch, said = lived([0.03 * float(rng.normal()) for _ in range(20 * WEEK)])
    assert opened(said) == []
    assert season_of(watch).moved("x") < 0.02


def test_any_restart_gives_the_same_verdicts_and_the_same_reference():
    means = [0.02 * day / WEEK + (0.5 if day > 80 else 0.0) for day in range(100)]
    whole, said = lived(means)
    cut, again = lived(means, stored=frozenset(range(0, 100, 3)))
    assert said == again
    assert opened(said)
    one, other = (dict(WatchRecords().changed(watch.state())) for watch in (whole, cut))
    assert freeze(one.pop("").watch.season) == freeze(other.pop("").watch.season)
    assert {name: freeze(value) for name, value in one.items()} == {name: freeze(v) for name, v in other.items()}


def test_nothing_of_an_incident_is_followed_and_a_week_after_it_is_needed():
    watch, _ = lived([0.0] * 30 + [0.6] * 40)
    assert watch.incidents()
    assert season_of(watch).moved("x") < 0.01
    state = season_of(watch).state()
    assert state.weight.tolist() == [0.0]
    assert state.sums.tolist() == [0.0] * 5


def test_a_state_without_a_season_begins_a_week_and_one_of_another_reference_is_refused():
    watch, _ = lived([0.0] * 10)
    again = Watch(known(), settings=WatchSettings())
    again.restore(read_back(watch.state(), without="season"))
    assert season_of(again).begin == -1
    assert season_of(again).followed == {}
    other = SlowSeason(profile({"city": np.array(["a", "b"] * 500, object)}), 0.02)
    with pytest.raises(ValueError, match="does not fit"):
        other.restore(season_of(watch).state())


def test_who_lets_it_follow_no_more_is_judged_by_the_reference_as_it_was_made():
    watch, _ = lived([0.02 * day / WEEK for day in range(60)])
    emptied = season_of(watch).renewed()
    assert season_of(watch).moved("x") > 0.01
    off = Watch(known(), settings=WatchSettings(follow_seasons=False))
    off.restore(read_back(watch.state()))
    assert season_of(off).followed == {}
    np.testing.assert_array_equal(off.reference.subjects[0].counts, known().subjects[0].counts)
    # The bags were emptied while it followed, and what came before is in none of them.
    assert season_of(off).renewed() == emptied
    for day in range(60, 75):
        off.step(pane_of(known(), day, 0.6))
    assert off.incidents()
    assert season_of(off).followed == {}


@pytest.mark.parametrize(("mean", "days"), [(0.0, 21), (0.02, 60)])
def test_a_watch_that_comes_back_plans_its_detectors_once(mean: float, days: int, monkeypatch: pytest.MonkeyPatch):
    watch, _ = lived([mean * day / WEEK for day in range(days)])
    kept, planned = read_back(watch.state()), []

    def counted(*given: Any) -> Any:
        planned.append(given)
        return plan_drifts(*given)

    monkeypatch.setattr("stationkeeper.monitor.core.watch.plan_drifts", counted)
    again = Watch(known(), settings=WatchSettings())
    again.restore(kept)
    assert len(planned) == 1
    # What nothing has moved is the very reference, with all that was worked out of it.
    assert (again.reference is known()) is (season_of(again).followed == {}) is (mean == 0.0)
    assert again.step(pane_of(known(), days, mean)) == watch.step(pane_of(known(), days, mean))


def test_a_clock_of_rows_follows_nothing():
    assert Watch(known(), settings=WatchSettings(budget=Budget(1.0, 50_000.0, "rows"))).season is None


def test_the_move_is_the_part_that_is_no_noise():
    off = np.array([0.01, 0.03, 0.01, 0.03, 0.02])
    mean, square = np.array([off.mean()]), np.array([(off**2).mean()])
    lagged = np.array([(off[1:] * off[:-1]).sum() / 5])
    assert move_of(mean, square, lagged, 5, np.zeros(1)) == pytest.approx([0.019])
    assert move_of(mean, square, lagged, 5, np.array([0.02])) == pytest.approx([0.0])
    # Days that last: r = .5 makes the noise three times as large.
    spread = square - mean**2
    assert move_of(mean, square, mean**2 + 0.5 * spread, 5, np.zeros(1)) == pytest.approx([0.017])


@given(st.lists(st.floats(-0.2, 0.2), min_size=5, max_size=5), st.lists(st.floats(-0.1, 0.1), min_size=5, max_size=5))
def test_no_step_is_longer_than_the_speed_and_none_goes_beyond_the_reach(move: list[float], start: list[float]):
    subject = known().subjects[0]
    before = within(subject, np.zeros(5), np.array(start), 1.0)
    before = before * min(1.0, 0.1 / max(movement_of(subject, before), 1e-12))
    after = within(subject, before, np.array(move), 0.02)
    assert movement_of(subject, after) <= 0.1 + 1e-9
    assert movement_of(subject, after - before) <= 0.02 + 1e-9


def test_waves_are_orthonormal_and_a_shift_is_the_first():
    subject = known().subjects[0]
    waves = waves_of(subject)
    np.testing.assert_allclose(waves @ waves.T, np.eye(5), atol=1e-12)
    drawn, none = np.random.default_rng(0).normal(size=400_000), np.zeros(400_000, np.int64)
    before, after = (
        coarse_cells(subject, subject.cells.tally(numbers(drawn + shift), none, 1)[0, : subject.cells.count])
        for shift in (0.0, 0.1)
    )
    off = waves @ (after - before) / 400_000
    assert abs(off[0]) > 3 * np.abs(off[1:]).max()


def test_hours_keep_their_rhythm_and_rows_and_the_unseen_stays_unseen():
    subject = known(1.0).subjects[0]
    assert len(subject.strata) == 24
    followed = np.array([-0.02, 0.0, 0.0, 0.0, 0.0])
    moved = tilted(subject, followed)
    assert (moved.strata.sum(axis=1) == subject.strata.sum(axis=1)).all()
    assert moved.counts.sum() == subject.counts.sum()
    assert not moved.strata[subject.strata == 0].any()
    middle = np.arange(subject.strata.shape[1])
    before, after = (s @ middle / s.sum(axis=1) for s in (subject.strata, moved.strata))
    assert (after > before).all()
    # Night and day are as far apart as they were.
    assert (after[:12].mean() - after[12:].mean()) == pytest.approx(before[:12].mean() - before[12:].mean(), rel=0.05)
    city = replace(profile({"city": np.array(["a", "b"] * 500, object)}).subjects[0])
    shares = np.zeros(len(waves_of(city)))
    shares[:2] = -0.1, 0.1
    assert tilted(city, shares).counts[:2].tolist() == [400, 600]


def test_a_category_that_no_row_of_the_reference_had_is_never_followed():
    rng = np.random.default_rng(3)
    past = rng.choice(["a", "b", "c"], PAST * ROWS, p=[0.5, 0.3, 0.2]).astype(object)
    reference = profile({"city": past, "t": MONDAY + np.repeat(np.arange(PAST), ROWS) * DAY}, time="t", pane="1d")
    season = SlowSeason(reference, 0.02)
    for day in range(15):
        drawn = rng.choice(["a", "b", "c", "new"], ROWS, p=[0.5, 0.3, 0.19, 0.01]).astype(object)
        (counts,) = reference.layout.tally({"city": categories(drawn)}, np.zeros(ROWS, np.int64), np.array([ROWS]))
        start = MONDAY + (PAST + day) * DAY
        if season.over(start):
            season.step(start, ["city"])
        season.add(Pane(start, DAY, ROWS, counts), ())
    subject = reference.subjects[0]
    unseen = coarse_cells(subject, subject.counts) == 0
    now = coarse_cells(season.reference().subjects[0], season.reference().subjects[0].counts)
    assert not now[unseen].any()
    assert season.followed["city"][: len(unseen)][unseen] == pytest.approx(0)
