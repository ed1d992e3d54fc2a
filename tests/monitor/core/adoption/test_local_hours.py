"""Hours and days by the clock on a wall: a change of it moves nothing that follows it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from stationkeeper.contracts.messages import Level
from stationkeeper.contracts.times import local_ms, local_times, to_ms
from stationkeeper.monitor.core.adoption import AdoptionPeriod, Timeline, adopt, rebase
from stationkeeper.monitor.core.incidents.recovery import moved_since, strata_weights
from stationkeeper.monitor.core.panes import ChartWindow, Pane
from stationkeeper.monitor.core.reference import Reference, dump
from stationkeeper.monitor.core.watch import Watch, WatchSettings
from stationkeeper.monitor.profiling import profile, subject_columns

NEW_YORK = "America/New_York"
HOUR = 3_600_000
# Three weeks before New York's clocks went forward on Sunday, 10 March 2013, at 07:00 UTC.
FIRST = to_ms(datetime(2013, 2, 17, 5, tzinfo=UTC))
CHANGE = to_ms(datetime(2013, 3, 10, 7, tzinfo=UTC))
AN_HOUR = 120


def values(hours: np.ndarray[Any, Any], seed: int, daily: float = 0.0) -> dict[str, Any]:
    """Rows whose value follows the hour that the clock shows: high from 8 to 20; every day moves it by ``daily``."""
    rng = np.random.default_rng(seed)
    local = local_times(hours, NEW_YORK) // HOUR
    busy = (local % 24 >= 8) & (local % 24 < 20)
    mean = np.where(busy, 3.0, 0.0) + np.where(local // 24 % 3, daily, -daily)
    return {"x": rng.normal(np.repeat(mean, AN_HOUR)), "time": np.repeat(hours, AN_HOUR)}


def reference(timezone: str) -> Reference:
    hours = np.arange(FIRST, CHANGE, HOUR)
    return profile(values(hours, 1), time="time", pane="1h", timezone=timezone)


def panes(made: Reference, first: int, last: int, seed: int, daily: float = 0.0) -> list[Pane]:
    hours = np.arange(first, last, HOUR)
    columns = subject_columns(made, values(hours, seed, daily))
    group = np.repeat(np.arange(len(hours)), AN_HOUR)
    vectors = made.layout.tally(columns, group, np.full(len(hours), AN_HOUR))
    return [Pane(int(at), HOUR, AN_HOUR, vector) for at, vector in zip(hours, vectors, strict=True)]


def test_drift_is_judged_by_the_clock_on_the_wall_after_it_changed():
    said = {}
    for zone in ("UTC", NEW_YORK):
        made = reference(zone)
        assert (made.timezone, len(made.subjects[0].strata)) == (zone, 24)
        watch = Watch(made, settings=WatchSettings(timezone=zone))
        found = [v for pane in panes(made, CHANGE, CHANGE + 5 * 24 * HOUR, 2) for v in watch.step(pane).verdicts]
        said[zone] = [verdict for verdict in found if verdict.level is not Level.INFORM]
    assert said["UTC"]
    assert said[NEW_YORK] == []


def as_if_utc(made: list[Pane]) -> list[Pane]:
    """The same panes where the clock on the wall is UTC itself."""
    return [Pane(local_ms(pane.start, NEW_YORK), HOUR, pane.rows, pane.counts) for pane in made]


def test_a_period_teaches_in_its_zone_what_it_teaches_where_the_clock_is_utc():
    untimed = profile({"x": np.random.default_rng(5).normal(1.0, 1.5, 5_000)})
    stream = panes(untimed, CHANGE - 10 * 24 * HOUR, CHANGE + 10 * 24 * HOUR, 3, 0.4)
    local, plain = AdoptionPeriod(untimed, 0, NEW_YORK), AdoptionPeriod(untimed, 0)
    for pane, moved in zip(stream, as_if_utc(stream), strict=True):
        local.add(pane)
        plain.add(moved)
    learned, expected = local.learned(), plain.learned()
    assert len(expected.subjects[0].strata) >= 24
    assert learned.timezone == NEW_YORK
    assert dump(replace(learned, timezone="UTC")) == dump(expected)
    again = AdoptionPeriod(untimed, 0, "Asia/Tokyo")
    again.restore(local.state())
    # Hours of two clocks do not add.
    assert dump(again.learned()) == dump(learned)


def test_rows_and_panes_of_the_past_teach_in_a_zone_what_they_teach_where_the_clock_is_utc():
    hours = np.arange(CHANGE - 14 * 24 * HOUR, CHANGE + 14 * 24 * HOUR, HOUR)
    columns = values(hours, 4, 0.4)
    untimed = profile({"x": columns["x"]}, ordered=True)
    cells = subject_columns(untimed, columns)
    local = adopt(untimed, cells, Timeline.of_times(columns["time"], HOUR, NEW_YORK))
    plain = adopt(untimed, cells, Timeline.of_times(local_times(columns["time"], NEW_YORK), HOUR))
    mine, theirs = local.subjects[0], plain.subjects[0]
    assert len(mine.strata) >= 24
    np.testing.assert_array_equal(mine.strata, theirs.strata)
    assert (mine.phi.tolist(), mine.day_floor) == (theirs.phi.tolist(), theirs.day_floor)
    stream = panes(untimed, int(hours[0]), int(hours[-1]) + HOUR, 4)
    rebased = rebase(untimed, stream, timezone=NEW_YORK)
    assert rebased.timezone == NEW_YORK
    assert rebased.traffic is not None
    assert len(rebased.traffic.rows_per_hour) == 168


def test_what_an_incident_is_compared_with_is_the_mix_of_the_local_hours():
    moved = {}
    for zone in ("UTC", NEW_YORK):
        made = reference(zone)
        stream = panes(made, CHANGE, CHANGE + 5 * 24 * HOUR, 6)
        # Where the clock of UTC before the change had a quiet hour, and where it has one now.
        hours = {8, 17}
        moved[zone] = moved_since(made, "x", [p for p in stream if local_ms(p.start, NEW_YORK) // HOUR % 24 in hours])
        window = ChartWindow(made.layout.width, 24 * HOUR)
        for pane in stream:
            window.add(pane)
        ahead = 0 if zone == "UTC" else -4
        np.testing.assert_array_equal(window.hours(24, zone), np.roll(window.hours(24), ahead))
        np.testing.assert_array_equal(strata_weights(stream[:1], 24, zone).nonzero()[0], [7 + ahead])
    assert moved[NEW_YORK] < 0.1
    assert moved["UTC"] > 0.3
