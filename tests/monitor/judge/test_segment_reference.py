"""A segment of a model with seasons learns a whole day before it is judged, hour by hour."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.messages import Level, Verdict
from stationkeeper.contracts.state import state_of
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.adoption.traffic import DAY_MS, HOUR_MS
from stationkeeper.monitor.core.budget import parse_budget
from stationkeeper.monitor.core.charts.chart import measure
from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.reference import Reference, ReferenceSubject, dump, in_season, load, rank_grid
from stationkeeper.monitor.core.watch import Watch, WatchSettings
from stationkeeper.monitor.judge.segment_reference import FirstPanes, SegmentAdoptionState, segment_reference
from stationkeeper.monitor.profiling import subject_columns
from stationkeeper.monitor.state_codec import freeze, thaw
from stationkeeper.monitor.status.subject import cells_of

LENGTH = HOUR_MS // 2
PER_PANE = 100
SETTINGS = WatchSettings(budget=parse_budget("1 per 30 days"), segments=("", "country=de"))


def rows(times: Any, rng: np.random.Generator, level: float) -> dict[str, Any]:
    """Amounts are larger by day than by night: .8 sd up and down."""
    hour = times // HOUR_MS % 24
    return {"amount": rng.normal(level + np.where((hour >= 8) & (hour < 20), 0.8, -0.8), 1.0, len(times)).round(6)}


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(0)
    times = np.arange(0, 14 * DAY_MS, LENGTH // PER_PANE)
    made = profile({"t": times, **rows(times, rng, 0.0)}, time="t", pane="30m")
    assert len(made.by_name["amount"].strata) in {24, 168}
    return made


def panes(reference: Reference, first: int, days: float, *, seed: int, level: float = 2.0) -> Iterator[Pane]:
    rng = np.random.default_rng(seed)
    for start in range(first, first + int(days * DAY_MS), LENGTH):
        times = np.full(PER_PANE, start)
        columns = subject_columns(reference, rows(times, rng, level))
        counts = reference.layout.tally(columns, np.zeros(PER_PANE, np.int64), np.array([PER_PANE]))[0]
        yield Pane(start, LENGTH, PER_PANE, counts)


def adopted(reference: Reference) -> tuple[Reference, int]:
    first = FirstPanes.of(reference)
    for pane in panes(reference, 20 * DAY_MS, 8, seed=1):
        again = FirstPanes.restored(state_of(thaw(freeze(first.state("1", "d", "country=de"))), SegmentAdoptionState))
        assert (again.rows, again.panes, again.by_hour) == (first.rows, first.panes, first.by_hour)
        first = again
        if first.add(pane.start, pane.rows, pane.counts):
            return segment_reference(reference, first.counts), pane.end
    raise AssertionError("a week taught nothing")


def judged(watch: Watch, stream: Iterator[Pane]) -> list[Verdict]:
    said = [verdict for pane in stream for verdict in watch.step(pane).verdicts]
    return [verdict for verdict in said if verdict.level is Level.PAGE]


def test_a_segment_takes_a_day_and_its_nights_are_no_drift_afterwards(reference: Reference):
    mine, end = adopted(reference)
    # Sixty panes of half an hour, which is a whole day too.
    assert end - 20 * DAY_MS == 60 * LENGTH
    subject = mine.by_name["amount"]
    assert subject.strata.shape == (24, subject.cells.count)
    np.testing.assert_array_equal(subject.strata.sum(axis=0), subject.counts)
    watch = Watch(mine, "country=de", SETTINGS)
    assert judged(watch, panes(reference, end, 4, seed=2)) == []
    found = judged(watch, panes(reference, end + 4 * DAY_MS, 1, seed=3, level=2.6))
    assert [verdict.segment for verdict in found] == ["country=de"]


def test_the_first_hours_alone_would_page_every_night(reference: Reference):
    first = list(panes(reference, 20 * DAY_MS + 9 * HOUR_MS, 0.4, seed=1))
    counts = np.sum([pane.counts for pane in first], axis=0)
    watch = Watch(segment_reference(reference, np.atleast_2d(counts)), "country=de", SETTINGS)
    assert judged(watch, panes(reference, first[-1].end, 1, seed=2))


def test_a_model_without_seasons_takes_its_first_three_thousand_rows():
    plain = profile({"amount": np.random.default_rng(0).normal(0, 1, 5_000)})
    first = FirstPanes.of(plain)
    enough = [first.add(at * 60_000, 60, plain.layout.zeros()) for at in range(60)]
    assert enough.index(True) == 59
    assert first.counts.shape == (1, plain.layout.width)
    # A state written before hours were told apart.
    old = FirstPanes.restored(state_of(["1", "d", "", plain.layout.zeros(), 2_999, 70], SegmentAdoptionState))
    assert old.add(0, 1, plain.layout.zeros())


def test_an_hour_that_never_brings_rows_is_waited_for_a_week(reference: Reference):
    first = FirstPanes.of(reference)
    ends = [
        pane.end
        for pane in panes(reference, 0, 8, seed=4)
        if 8 <= pane.start // HOUR_MS % 24 < 20 and first.add(pane.start, pane.rows, pane.counts)
    ]
    assert 7 * DAY_MS < ends[0] < 8 * DAY_MS
    strata = segment_reference(reference, first.counts).by_name["amount"].strata
    assert strata.sum(axis=1).min() > 0


def test_a_chart_compares_a_night_with_nights(reference: Reference):
    watch = Watch(reference, settings=WatchSettings(budget=parse_budget("1 per 30 days"), window=4 * HOUR_MS))
    assert judged(watch, panes(reference, 20 * DAY_MS, 0.2, seed=5, level=0.0)) == []
    chart = watch.chart("amount")
    night = chart.compared
    pooled = measure(reference.by_name["amount"], watch.window.counts[reference.layout["amount"].histogram])
    # N(-.8, 1) against an even mixture with N(.8, 1): half of 2 Phi(.8) - 1 would seem to have moved, 28.8 %.
    assert pooled["tv"].value == pytest.approx(0.288, abs=0.02)
    assert chart.effect < 0.05
    assert cells_of(watch, chart)["reference"] == coarse_of(night)


def test_hours_in_few_bytes_decide_as_those_in_eight(reference: Reference):
    # Hours of as many rows each would hide sums that do not fit a byte: they would be wrong alike.
    busy = 5 * (np.arange(24) == 22)[:, None]
    read = load(dump(reference.with_watched([replace(one, strata=one.strata + busy) for one in reference.watched])))
    assert read.by_name["amount"].strata.itemsize == 1
    wide = read.with_watched([replace(one, strata=one.strata.astype(np.int64)) for one in read.watched])
    said = []
    for one in (read, wide):
        # Its chart mixes hours, until an incident compares with them all.
        watch = Watch(one, settings=WatchSettings(budget=parse_budget("1 per 30 days"), window=4 * HOUR_MS))
        for day in (0, 1):
            found = judged(watch, panes(one, (20 + day) * DAY_MS, 1, seed=day, level=2.0 * day))
            said.append((found, watch.charts()))
    assert said[:2] == said[2:]
    assert (said[0][0], bool(said[1][0])) == ([], True)


def coarse_of(subject: ReferenceSubject) -> list[int]:
    grid = rank_grid(subject.counts[:-1], 18)
    counts = np.bincount(grid, weights=subject.counts[:-1]).astype(np.int64)
    return [*counts.tolist(), int(subject.counts[-1])]


def test_strata_mix_by_hand():
    made = profile({"kind": np.array(["a"] * 5 + ["b"] * 5, object)}).by_name["kind"]
    strata = np.zeros((2, made.cells.count), np.int64)
    strata[:, :2] = [[8, 2], [2, 8]]
    two = replace(made, strata=strata)
    assert in_season([two], np.array([1, 1]))[0].counts[:2].tolist() == [10, 10]
    assert in_season([two], np.array([5, 0]))[0].counts[:2].tolist() == [8, 2]
    assert in_season([two], np.zeros(2, np.int64))[0] is two
    assert in_season([made], np.array([1]))[0] is made
