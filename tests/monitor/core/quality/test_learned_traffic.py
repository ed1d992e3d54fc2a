"""Live panes teach volume and freshness by hour of the week: quiet nights are usual, outages are not."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.contracts.messages import Level, Verdict, VerdictKind
from stationkeeper.contracts.times import local_ms
from stationkeeper.monitor.core.adoption.traffic import DAY_MS, HOUR_MS
from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.quality.learned_traffic import LearnedTraffic
from stationkeeper.monitor.core.reasons import Check
from stationkeeper.monitor.core.watch import Watch
from tests.monitor.core.streams import SETTINGS, bank, columns_for, reference_of

REFERENCE = reference_of({"age": bank(2_000)["age"]})
LENGTH = HOUR_MS // 2
DAYS = 24
OUTAGE = (20 * DAY_MS + 11 * HOUR_MS, 20 * DAY_MS + 15 * HOUR_MS)
ONE = REFERENCE.layout.tally(
    columns_for(REFERENCE, {"age": bank(1)["age"]}), np.zeros(1, np.int64), np.ones(1, np.int64)
)[0]


def week(*, outage: tuple[int, int] = (0, 0), seed: int = 0) -> Iterator[Pane]:
    """Busy from 6 to 22 o'clock, silent at night."""
    rng = np.random.default_rng(seed)
    for start in range(0, DAYS * DAY_MS, LENGTH):
        hour = start // HOUR_MS % 24
        rows = int(rng.poisson(60 + 5 * hour)) if 6 <= hour < 22 else 0
        rows = 0 if outage[0] <= start < outage[1] else rows
        yield Pane(start, LENGTH, rows, ONE * rows)


def watch(timezone: str = "UTC") -> Watch:
    settings = replace(SETTINGS, budget=replace(SETTINGS.budget, clock="minutes", period=43_200.0))
    return Watch(REFERENCE, settings=replace(settings, learn_traffic=14 * DAY_MS, timezone=timezone))


def traffic(said: list[Verdict]) -> list[Verdict]:
    return [verdict for verdict in said if verdict.subject.check in {Check.FRESHNESS, Check.VOLUME}]


def judged(made: Watch, stream: Iterator[Pane]) -> list[Verdict]:
    return traffic([verdict for pane in stream for verdict in made.step(pane).verdicts])


@pytest.mark.parametrize("seed", [1, 2])
def test_quiet_nights_raise_nothing(seed: int):
    made = watch()
    assert judged(made, week(seed=seed)) == []
    assert made.quality.volume is not None


def test_an_outage_by_day_is_raised_within_its_hours_and_ends():
    made = watch()
    said = judged(made, week(outage=OUTAGE))
    assert VerdictKind.DATA_QUALITY in {verdict.kind for verdict in said}
    first, last = said[0].time.timestamp() * 1_000, said[-1].time.timestamp() * 1_000
    assert OUTAGE[0] < first <= OUTAGE[0] + HOUR_MS
    assert said[-1].kind is VerdictKind.RECOVERED
    assert last < OUTAGE[1] + DAY_MS
    # Every row of this stream is the same one, which is another incident.
    assert [i.leader for i in made.incidents()] == ["feature:age:constant"]


def test_nothing_is_judged_before_two_weeks_have_taught():
    made = watch()
    early = (10 * DAY_MS + 8 * HOUR_MS, 10 * DAY_MS + 18 * HOUR_MS)
    stream = (pane for pane in week(outage=early) if pane.end <= 13 * DAY_MS)
    assert judged(made, stream) == []


def test_means_and_size_by_hand():
    lesson = LearnedTraffic(2 * DAY_MS)
    changed = [
        lesson.add(Pane(at, HOUR_MS, rows, np.zeros(0, np.int64)))
        for at, rows in [(0, 8), (7 * DAY_MS, 12), (8 * DAY_MS, 10)]
    ]
    assert changed == [False, True, False]
    assert (lesson.mean[72], lesson.size) == (10.0, 1e6)


def test_a_change_of_the_clock_warns_pages_nobody_and_is_learned_in_two_weeks():
    made = watch()
    said: list[Verdict] = []
    for start in range(0, 50 * DAY_MS, HOUR_MS):
        hour = start // HOUR_MS % 24 - (start >= 20 * DAY_MS)
        rows = 600 if 6 <= hour < 22 else 30
        said += traffic(list(made.step(Pane(start, HOUR_MS, rows, ONE * rows)).verdicts))
    assert said
    assert {verdict.level for verdict in said} <= {Level.WARN, Level.INFORM}
    days = [int(verdict.time.timestamp() * 1_000) // DAY_MS for verdict in said]
    assert min(days) == 20
    # Halved each week, what was learned before the change is forgotten in two more.
    assert max(days) <= 41


def test_traffic_that_follows_the_clock_on_the_wall_says_nothing_when_it_changes():
    # Four weeks of 2013 about 10 March, when New York's clocks went forward, and the four about 3 November.
    for first in (15_750, 15_992):
        made = {zone: watch(zone) for zone in ("UTC", "America/New_York")}
        said: dict[str, list[Verdict]] = {zone: [] for zone in made}
        for start in range(first * DAY_MS, (first + 28) * DAY_MS, HOUR_MS):
            rows = 600 if 6 <= local_ms(start, "America/New_York") // HOUR_MS % 24 < 22 else 30
            for zone, one in made.items():
                said[zone] += traffic(list(one.step(Pane(start, HOUR_MS, rows, ONE * rows)).verdicts))
        assert said["UTC"]
        assert said["America/New_York"] == []


def test_what_was_learned_by_one_clock_moves_to_another_by_hand():
    lesson = LearnedTraffic(2 * DAY_MS)
    for at, rows in [(0, 8), (7 * DAY_MS, 12), (8 * DAY_MS, 10)]:
        lesson.add(Pane(at, HOUR_MS, rows, np.zeros(0, np.int64)))
    moved = LearnedTraffic(2 * DAY_MS, "Europe/Berlin")
    moved.restore(lesson.state())
    # Thursday 00:00 UTC is hour 72 of the week, and 01:00 in Berlin in January.
    assert (lesson.sums[0, 72], moved.sums[0, 73], moved.sums[0, 72]) == (1.0, 1.0, 0.0)
    assert moved.state().timezone == "Europe/Berlin"
    back = LearnedTraffic(2 * DAY_MS)
    back.restore(moved.state())
    np.testing.assert_array_equal(back.sums, lesson.sums)
    np.testing.assert_array_equal(back.mean, lesson.mean)


def test_a_watch_restored_in_the_middle_says_the_same():
    every = list(week(outage=OUTAGE))
    whole, expected = watch(), list[Verdict]()
    for pane in every:
        expected += whole.step(pane).verdicts
    for cut in (5 * 48, 14 * 48, 20 * 48 + 25):
        first, second = watch(), watch()
        said = [verdict for pane in every[:cut] for verdict in first.step(pane).verdicts]
        second.restore(first.state())
        said += [verdict for pane in every[cut:] for verdict in second.step(pane).verdicts]
        assert said == expected


def test_quiet_hours_have_a_size_of_their_own_by_hand():
    lesson = LearnedTraffic(8 * DAY_MS)
    # Two busy hours that bring 100 each week, and a quiet one that brought 6, then 14: mean 10, variance 32.
    for at, rows in [(0, 100), (HOUR_MS, 100), (2 * HOUR_MS, 6)]:
        for week, more in ((0, 0), (1, 8 if rows == 6 else 0)):
            lesson.add(Pane(at + week * 7 * DAY_MS, HOUR_MS, rows + more, np.zeros(0, np.int64)))
    lesson.add(Pane(15 * DAY_MS, HOUR_MS, 100, np.zeros(0, np.int64)))
    # r = 2 (10^2 - 32 / 2) / (2 * 32 - 20) = 3.8; the busy ones spread no more than Poisson.
    sizes = lesson.sizes()
    assert lesson.size == 1e6
    assert lesson.quiet_size == pytest.approx(168 / 44)
    assert set(np.round(sizes, 3)) == {3.818, 1e6}
    again = LearnedTraffic(8 * DAY_MS)
    again.restore(lesson.state())
    assert np.array_equal(again.sizes(), sizes)
