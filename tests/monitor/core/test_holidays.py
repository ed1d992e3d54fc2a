"""A declared day is neither judged nor learned from, by the clock of its zone; the days beside it are as ever."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from stationkeeper.contracts.messages import Level, Verdict, VerdictKind
from stationkeeper.contracts.times import check_day, day_number, day_numbers, days_between
from stationkeeper.monitor.core.budget import parse_budget
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reasons import Check
from stationkeeper.monitor.core.watch import Watch, WatchSettings
from stationkeeper.monitor.core.watch_plan import declared
from stationkeeper.monitor.settings import ModelSettings
from tests.monitor.rig import reference

HOUR = 3_600_000
NOON = 1_735_128_000_000  # 2024-12-25 12:00 UTC
CHRISTMAS = day_numbers([date(2024, 12, 25)])


def test_days_are_those_of_the_clock_on_the_wall():
    assert day_numbers([date(1970, 1, 1), date(1970, 1, 3)]) == {0, 2}
    assert day_number(NOON, "UTC") in CHRISTMAS
    # From 5:00 UTC on it is the 25th in New York, up to 4:59 on the 26th.
    assert day_number(NOON - 8 * HOUR, "America/New_York") not in CHRISTMAS
    assert day_number(NOON + 16 * HOUR, "America/New_York") in CHRISTMAS


def played(start: int, hours: int, *, moved: bool = True, nulls: bool = False, **settings: object) -> list[Verdict]:
    made = reference()
    watch = Watch(
        replace(made, subjects=tuple(replace(one, phi=np.ones(1)) for one in made.subjects)),
        settings=replace(WatchSettings(budget=parse_budget("1 per 30 days"), adoption=None), **settings),  # type: ignore[arg-type]
    )
    found: list[Verdict] = []
    place = made.layout["amount"]
    for hour in range(hours):
        counts = np.zeros(made.layout.width, np.int64)
        rng = np.random.default_rng(hour)
        for subject in made.subjects:
            mine = made.layout[subject.name].histogram
            counts[mine] = rng.multinomial(500, subject.counts / subject.counts.sum())
        if moved:
            counts[place.histogram] //= 2
            counts[place.histogram.start + 3] += 250
        if nulls:
            counts[place.histogram] = 0
            counts[place.histogram.stop - 1] = 500
            counts[place.counter("null")] = 500
        found += watch.step(Pane(start + hour * HOUR, HOUR, 500, counts)).verdicts
    return found


def test_a_declared_day_says_nothing_of_drift_and_the_next_pages():
    start = NOON - 12 * HOUR
    usual = [one for one in played(start, 30) if one.level is Level.PAGE]
    assert min(one.time.day for one in usual) == 25
    held = [one for one in played(start, 24, holidays=CHRISTMAS) if one.level is not Level.INFORM]
    assert held == []
    found = [one for one in played(start, 30, holidays=CHRISTMAS) if one.level is Level.PAGE]
    assert found
    assert {(one.time.day, one.time.hour >= 0) for one in found} == {(26, True)}
    # It is dated on a day that was judged.
    assert all(one.onset is None or one.onset.time.day == 26 for one in found)


def test_broken_data_pages_also_on_a_declared_day():
    found = played(NOON - 12 * HOUR, 24, moved=False, nulls=True, holidays=CHRISTMAS)
    assert any(one.level is Level.PAGE and one.kind is VerdictKind.DATA_QUALITY for one in found)


def test_a_pane_is_passed_over_for_every_part_of_a_declared_day():
    """Panes are aligned to UTC: of New York's 25th a pane of a day that begins on it holds a fifth."""
    day = NOON - 12 * HOUR
    assert list(days_between(day, day + 24 * HOUR, "UTC")) == list(CHRISTMAS)
    (number,) = CHRISTMAS
    assert list(days_between(day, day + 24 * HOUR, "America/New_York")) == [number - 1, number]
    settings = WatchSettings(holidays=CHRISTMAS, timezone="America/New_York")
    counts = np.zeros(1, np.int64)
    found = [declared(settings, Pane(day + days * 24 * HOUR, 24 * HOUR, 0, counts)) for days in (-1, 0, 1, 2)]
    assert found == [False, True, True, False]
    # The first hour after midnight is no longer the day.
    hours = [declared(settings, Pane(day + hour * HOUR, HOUR, 0, counts)) for hour in (4, 5, 28, 29)]
    assert hours == [False, True, True, False]


def test_a_declared_day_teaches_no_rate_of_values_outside_the_range():
    made = reference()
    watches = [Watch(made, settings=WatchSettings(adoption=None, holidays=days)) for days in (CHRISTMAS, frozenset())]
    usual = np.zeros(made.layout.width, np.int64)
    for subject in made.subjects:
        mine = made.layout[subject.name].histogram
        usual[mine] = np.random.default_rng(1).multinomial(500, subject.counts / subject.counts.sum())
    odd = usual.copy()
    odd[[made.layout["amount"].counter(name) for name in ("above", "null")]] = 5
    learned = []
    for watch in watches:
        watch.step(Pane(NOON - 24 * HOUR, HOUR, 500, usual))
        before = [watch.quality.margin("amount", check) for check in (Check.ABOVE, Check.NULL)]
        watch.step(Pane(NOON, HOUR, 500, odd))
        after = [watch.quality.margin("amount", check) for check in (Check.ABOVE, Check.NULL)]
        learned.append([now - then for now, then in zip(after, before, strict=True)])
    assert learned[0][0] == 0
    assert learned[1][0] > 1
    # What is broken is broken on such a day too.
    assert learned[0][1] == learned[1][1] > 1


@pytest.mark.parametrize("day", [1_767_225_600, "1767225600", True, "25.12.2026", "2026-12-25T10:00:00"])
def test_what_is_no_day_is_refused_with_what_to_write(day: object):
    with pytest.raises(ValueError, match="is no day; write year, month and day, such as 2026-12-25"):
        ModelSettings(name="m", predictions="p", holidays=(day,))  # type: ignore[arg-type]
    assert check_day("2026-12-25") == check_day(date(2026, 12, 25)) == date(2026, 12, 25)
