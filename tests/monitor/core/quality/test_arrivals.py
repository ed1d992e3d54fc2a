"""Whether events arrive: silence becomes evidence, and volume is judged by its hour."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.monitor.core.adoption import DAY_MS, HOUR_MS
from stationkeeper.monitor.core.finding import INFORM, PAGE, WARN, Finding
from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.quality.arrivals import (
    STALE_NATS,
    TRAINING,
    USUAL,
    Arrivals,
    hours_to_silence,
    own_traffic,
)
from stationkeeper.monitor.core.quality.learned_traffic import WEEK_MS
from stationkeeper.monitor.core.reasons import Check
from stationkeeper.monitor.core.reference import HOURS_OF_WEEK, Reference, TrafficProfile

MINUTE = 60_000
NOTHING = np.zeros(1, np.int64)
LIMIT = 12.0


def reference(
    rows_per_hour: float = 6_000, size: float = 20.0, hours: int = HOURS_OF_WEEK, **options: Any
) -> Reference:
    traffic = TrafficProfile(np.full(hours, float(rows_per_hour)), size, MINUTE)
    return Reference("m", "1", (), "", 1_000, traffic=traffic, **{"source": "history", **options})


def arrivals(of: Reference, **options: Any) -> Arrivals:
    settings: dict[str, Any] = {"stale_after": None, "learn_traffic": None, "whole": True, **options}
    return Arrivals(of, settings.pop("limit", LIMIT), LIMIT, **settings)


def feed(made: Arrivals, *volumes: int, start: int = 0, length: int = MINUTE) -> list[list[Finding]]:
    panes = [Pane(start + at * length, length, rows, NOTHING) for at, rows in enumerate(volumes)]
    return [made.step(pane, 1.0) for pane in panes]


def checks(found: list[list[Finding]]) -> list[Check | None]:
    return [finding.check for pane in found for finding in pane]


def test_a_reference_teaches_traffic_only_of_production_and_of_whole_weeks() -> None:
    assert own_traffic(reference()) is not None
    assert own_traffic(reference(source=TRAINING)) is None
    assert own_traffic(reference(hours=1)) is None
    assert not arrivals(reference(source=TRAINING)).known


def test_a_source_of_one_event_a_minute_is_silent_after_thirty_nats_by_hand() -> None:
    # Like Poisson's a minute is a nat. With size 20 an hour is empty with chance (20/80)^20: 27.7 nats, its first
    # quarter with (20/35)^20, and of the next hour three minutes make the other 2.3.
    for size, minutes, nats in ((1e6, 31, 30.0), (20.0, 63, 20 * math.log(4) + 20 * math.log(23 / 20))):
        found = feed(arrivals(reference(60, size=size), limit=None), *[0] * minutes)
        assert [len(pane) for pane in found] == [0] * (minutes - 1) + [1]
        (said,) = found[-1]
        assert (said.check, said.level, said.onset, said.threshold) == (Check.FRESHNESS, PAGE, 0, STALE_NATS)
        assert said.score >= nats > STALE_NATS - 1
        assert said.reason == f"no event for {minutes} minutes"


def test_a_lull_of_an_hour_is_usual_where_hours_differ_widely() -> None:
    assert checks(feed(arrivals(reference(60, size=2.0), limit=None), *[0] * 180)) == []
    assert Check.FRESHNESS in checks(feed(arrivals(reference(60, size=2.0), limit=None), *[0] * 300))


@pytest.mark.parametrize(("rows_per_hour", "size"), [(60, 20.0), (60_000, 1.04), (60_000, 1e6), (600, 2.0)])
def test_how_late_silence_pages_is_known(rows_per_hour: float, size: float) -> None:
    made = arrivals(reference(rows_per_hour, size=size), limit=None)
    told = feed(made, *[0] * 600)
    first = next(at for at, found in enumerate(told, 1) if found)
    assert made.silent_by is not None
    assert first - 1 < 60 * hours_to_silence(made.silent_by) <= first
    assert arrivals(reference(rows_per_hour, size=size), stale_after=60_000).silent_by is None
    # An office is silent most hours of the week, and soon missed in its own.
    office = np.where(np.arange(HOURS_OF_WEEK) < 50, float(rows_per_hour), 0.0)
    assert hours_to_silence(replace(made.silent_by, rows_per_hour=office)) == hours_to_silence(made.silent_by)


def test_one_event_ends_the_silence() -> None:
    made = arrivals(reference(60), limit=None)
    found = feed(made, *[0] * 30, 1, *[0] * 30)
    assert checks(found) == []
    assert made.silent_since == 31 * MINUTE


def test_a_stated_limit_judges_silence_where_no_traffic_is_known() -> None:
    made = arrivals(reference(source=TRAINING), stale_after=3 * MINUTE)
    found = feed(made, 5, 0, 0, 0)
    assert checks(found) == [Check.FRESHNESS]
    assert found[3][0].onset == MINUTE
    # Without either nothing is said, however long it lasts.
    assert checks(feed(arrivals(reference(source=TRAINING)), *[0] * 500)) == []


def test_one_batch_a_day_is_never_called_silent() -> None:
    # The burstiest size (.5): an empty pane is what such a source mostly brings.
    assert checks(feed(arrivals(reference(60, size=0.1), limit=None), *[0] * 500)) == []


def test_bursts_at_any_hour_are_no_surges_and_that_is_known() -> None:
    """Two weeks leave most hours empty, and the next burst in such an hour was a surge a million times the usual."""
    made = arrivals(reference(60, size=0.5))
    assert made.bursty
    assert checks(feed(made, *[0, 500, 0, 30, 3] * 40)) == []
    assert not arrivals(reference()).bursty


def test_an_hour_that_usually_brings_less_than_one_event_tells_of_a_surge_only_where_traffic_is_steady() -> None:
    assert checks(feed(arrivals(reference(59)), *[30] * 40)) == []
    assert Check.VOLUME in checks(feed(arrivals(reference(50, size=1e6)), *[30] * 40))
    assert checks(feed(arrivals(reference(50, size=1e6)), *np.random.default_rng(3).poisson(50 / 60, 5_000))) == []
    assert Check.VOLUME in checks(feed(arrivals(reference(61)), *[30] * 40))


def test_how_many_hours_are_too_quiet_for_volume_is_known() -> None:
    day = np.full(HOURS_OF_WEEK, 6_000.0)
    day[:40] = 30.0
    nights = replace(reference(), traffic=TrafficProfile(day, 20.0, MINUTE))
    assert arrivals(nights).quiet_hours == 40
    # Events that come by chance alone are told at any rate.
    assert arrivals(replace(nights, traffic=TrafficProfile(day, 1e6, MINUTE))).quiet_hours == 0
    assert arrivals(reference(30)).quiet_hours == HOURS_OF_WEEK
    # Nothing is judged there for other reasons, which are told instead.
    assert arrivals(reference(30, size=0.1)).quiet_hours == 0
    assert arrivals(reference(30), limit=None).quiet_hours == 0
    assert arrivals(reference(source=TRAINING)).quiet_hours == 0


def test_a_silent_segment_warns_and_a_silent_model_pages() -> None:
    found = feed(arrivals(reference(6_000), limit=None, whole=False), *[0] * 3)
    assert {finding.level for pane in found for finding in pane} == {WARN}


def test_a_surge_and_a_drop_are_told_with_their_size() -> None:
    found = feed(arrivals(reference()), *[100] * 5, *[20] * 5)
    first = next(finding for pane in found for finding in pane)
    assert (first.check, first.kind, first.rows) == (Check.VOLUME, "data_quality", 20)
    assert first.reason == "20 events in a pane that usually brings 100.0"
    assert first.effect == pytest.approx(-0.8)
    assert PAGE in {finding.level for pane in found for finding in pane}
    assert Check.VOLUME in checks(feed(arrivals(reference()), *[400] * 5))


def test_panes_of_another_length_are_not_judged_by_volume() -> None:
    assert checks(feed(arrivals(reference()), *[400] * 20, length=2 * MINUTE)) == []


def test_nothing_is_usual_before_the_first_pane() -> None:
    assert not arrivals(reference()).usual


def test_volume_is_usual_again_when_the_latest_panes_brought_what_they_should() -> None:
    made = arrivals(reference())
    feed(made, *[100] * 5)
    assert made.usual
    feed(made, *[0] * 5, start=5 * MINUTE)
    # A page starts the sum anew: the hours before it do not end the incident.
    assert made.came == 0
    feed(made, *[100] * 40, start=10 * MINUTE)
    assert 1 / USUAL <= made.came / made.expected <= USUAL
    assert made.usual


def test_quiet_nights_do_not_end_a_loss_that_lasts() -> None:
    """Half of 20 a minute is lost for two days; by night .4 a minute come, of which any ten may look usual."""
    hours = np.arange(HOURS_OF_WEEK) % 24
    by_hour = np.where((hours >= 7) & (hours < 21), 1_200.0, 24.0)
    made = arrivals(replace(reference(), traffic=TrafficProfile(by_hour, 50.0, MINUTE)))
    # The clock of hours of the week begins with a Monday; the epoch was a Thursday.
    start, rng = 4 * DAY_MS, np.random.default_rng(1)
    back = []
    for minute in range(2 * 1_440):
        lost = 0.5 if minute >= 600 else 1.0
        feed(made, int(rng.poisson(by_hour[minute // 60] / 60 * lost)), start=start + minute * MINUTE)
        if minute >= 700 and made.usual:
            back.append(minute)
    assert not back


def test_what_is_no_longer_judged_holds_no_incident_open() -> None:
    made = arrivals(reference())
    feed(made, *[100] * 5, *[0] * 5)
    assert not made.usual
    bursty = arrivals(reference(60, size=0.5))
    bursty.came, bursty.expected = made.came, made.expected
    assert bursty.usual


def test_the_margin_to_a_page_shrinks_with_each_odd_pane() -> None:
    made = arrivals(reference())
    feed(made, *[100] * 5)
    before = made.margin()
    feed(made, 60, start=5 * MINUTE)
    assert before < made.margin() < 0
    assert arrivals(reference(), limit=None).margin() == -np.inf


def test_traffic_that_live_panes_taught_warns_and_never_pages() -> None:
    made = arrivals(reference(source=TRAINING), learn_traffic=2 * WEEK_MS)
    hours = 2 * WEEK_MS // HOUR_MS
    assert checks(feed(made, *[100] * hours, length=HOUR_MS)) == []
    assert made.known
    found = feed(made, *[0] * 10, start=2 * WEEK_MS, length=HOUR_MS)
    volume = [finding.level for pane in found for finding in pane if finding.check is Check.VOLUME]
    assert set(volume) <= {1, WARN}
    assert WARN in volume


def test_evidence_is_kept_when_the_usual_is_learned_anew() -> None:
    made = arrivals(reference(source=TRAINING), learn_traffic=2 * WEEK_MS)
    feed(made, *[100] * (3 * WEEK_MS // HOUR_MS), length=HOUR_MS)
    assert made.learned is not None
    assert made.learned.due == 4 * WEEK_MS
    assert np.isfinite(made.margin())


def test_what_was_learned_survives_a_restart() -> None:
    made, again = (arrivals(reference(source=TRAINING), learn_traffic=2 * WEEK_MS) for _ in range(2))
    feed(made, *[100] * (2 * WEEK_MS // HOUR_MS), 70, length=HOUR_MS)
    assert made.volume is not None
    assert np.isfinite(made.margin())
    again.restore(made.learned_state(), made.volume.state())
    assert again.margin() == made.margin()
    found, expected = (feed(one, 30, 30, start=2 * WEEK_MS + HOUR_MS, length=HOUR_MS) for one in (again, made))
    assert found == expected
    # A reference that teaches traffic itself has nothing learned to keep.
    assert arrivals(reference()).learned_state() is None


@given(st.lists(st.integers(0, 3), max_size=60))
def test_silence_is_dated_from_the_first_empty_pane_after_the_last_event(volumes: list[int]) -> None:
    made = arrivals(reference(600), limit=None)
    found = feed(made, *volumes)
    run = 0
    for at, (rows, said) in enumerate(zip(volumes, found, strict=True)):
        run = 0 if rows else run + 1
        # The minutes of each hour together: of 10 events each.
        hours = np.bincount(np.arange(at - run + 1, at + 1) // 60) if run else np.zeros(1)
        nats = float((20 * np.log1p(10 * hours / 20)).sum())
        assert bool(said) is (run > 0 and nats >= STALE_NATS)
        assert all(finding.onset == (at - run + 1) * MINUTE for finding in said)


def test_learned_traffic_tells_an_odd_evening_only_where_it_is_the_oddest_of_a_quarter() -> None:
    made = arrivals(reference(source=TRAINING), learn_traffic=2 * WEEK_MS)
    told: list[int] = []
    for rows in (100, 100, 20, 30, 5):
        # Another hour each week: what is odd twice is learned as usual.
        week = [100] * (WEEK_MS // HOUR_MS)
        week[90 + 5 * len(told)] = rows
        levels = []
        for at, volume in enumerate(week):
            pane = Pane(len(told) * WEEK_MS + at * HOUR_MS, HOUR_MS, volume, NOTHING)
            said = [made.hold(finding, pane.end) for finding in made.step(pane, 1.0)]
            levels += [finding.level for finding in said if finding.check is Check.VOLUME]
            assert all("nats" in finding.evidence["held"] for finding in said if rows == 30)
        told.append(max(levels, default=0))
    assert told == [0, 0, WARN, INFORM, WARN]


def told(made: Arrivals, start: int, *volumes: int) -> list[int]:
    """Return the levels at which hours of odd volume are told, in order."""
    panes = [Pane(start + at * HOUR_MS, HOUR_MS, rows, NOTHING) for at, rows in enumerate(volumes)]
    found = [(pane, finding) for pane in panes for finding in made.step(pane, 1.0)]
    return [made.hold(finding, pane.end).level for pane, finding in found if finding.check is Check.VOLUME]


@pytest.mark.parametrize("before", [[400] * 6, [0] * 6], ids=["a sale", "an outage"])
def test_neither_a_surge_nor_an_outage_hides_a_loss(before: list[int]) -> None:
    made = arrivals(reference(source=TRAINING), learn_traffic=2 * WEEK_MS, stale_after=8 * HOUR_MS)
    feed(made, *[100] * (2 * WEEK_MS // HOUR_MS), length=HOUR_MS)
    assert WARN in told(made, 2 * WEEK_MS, *before)
    usual = 5 * 24
    assert told(made, 2 * WEEK_MS + 6 * HOUR_MS, *[100] * usual) == []
    assert WARN in told(made, 2 * WEEK_MS + (6 + usual) * HOUR_MS, 20, 20)


def test_a_night_hour_without_its_few_events_belongs_to_the_evening_before_it() -> None:
    made = arrivals(reference(source=TRAINING), learn_traffic=2 * WEEK_MS, stale_after=8 * HOUR_MS)

    def usual(days: int) -> list[int]:
        return ([4] * 8 + [100] * 16) * days

    feed(made, *usual(14), length=HOUR_MS)
    assert WARN in told(made, 2 * WEEK_MS, *[4] * 8, *[100] * 10, 5, 5, 5, *[100] * 3)
    assert told(made, 2 * WEEK_MS + DAY_MS, *usual(5)) == []
    evening = [*[4] * 8, *[100] * 14, 40, 40, 0, 0]
    said = told(made, 2 * WEEK_MS + 6 * DAY_MS, *evening)
    assert len(said) >= 3
    assert WARN not in said
    # An hour that always brings a hundred is another matter.
    assert WARN in told(made, 2 * WEEK_MS + 6 * DAY_MS + 26 * HOUR_MS, *[4] * 6, *[100] * 8, 0)


def test_a_new_versions_watch_knows_the_traffic_that_the_one_before_learned() -> None:
    old, new = (arrivals(reference(source=TRAINING), learn_traffic=2 * WEEK_MS) for _ in range(2))
    feed(old, *[100] * (2 * WEEK_MS // HOUR_MS), length=HOUR_MS)
    new.learn_from(old)
    assert new.known
    found, expected = (feed(one, 5, 5, start=2 * WEEK_MS, length=HOUR_MS) for one in (new, old))
    assert found == expected
    assert Check.VOLUME in checks(found)
    # A reference of production's own traffic needs no lesson.
    own = arrivals(reference())
    own.learn_from(old)
    assert own.learned is None
