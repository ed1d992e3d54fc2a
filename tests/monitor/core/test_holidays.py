"""A declared day is neither judged nor learned from, by the clock of its zone; the days beside it are as ever."""

from dataclasses import replace
from datetime import date

import numpy as np

from stationkeeper.contracts.messages import Level, Verdict, VerdictKind
from stationkeeper.contracts.times import day_number, day_numbers
from stationkeeper.monitor.core.budget import parse_budget
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.watch import Watch, WatchSettings
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
