"""Charts of labels: the latest panes of each version and segment, and which versions are let go."""

import math

import numpy as np
import pytest

from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.reference import assigned_by_group, drawn_by_group
from stationkeeper.monitor.judge.labels import charts as charts_module
from stationkeeper.monitor.judge.labels.charts import LabelCharts
from stationkeeper.monitor.judge.labels.slots import CohortSlot, Who
from stationkeeper.monitor.settings import DAY_MS, HOUR_MS

HALF = np.array([1, 2, 3, 4])


def test_sums_are_of_the_panes_since_a_time() -> None:
    charts = LabelCharts()
    for start in (0, 10, 20):
        charts.add_mature(("1", ""), start, HALF)
        charts.add_scores(("1", ""), start, np.full(32, start))
    assert charts.confusion("1", "", 10).tolist() == [2, 4, 6, 8]
    assert charts.scored("1", "", 20).tolist() == [20] * 32
    assert charts.confusion("2", "", 0).tolist() == [0] * 4
    assert charts.oldest() == 0


def test_a_version_goes_when_nobody_watches_it_and_its_last_pane_is_old() -> None:
    charts = LabelCharts()
    for version, start in (("1", 0), ("2", 0), ("3", 50)):
        charts.add_scores((version, ""), start, HALF)
        charts.add_mature((version, ""), start, HALF)
    # The second is watched, the third is young: its labels may still come.
    assert charts.forget({"2"}, 40) == [0, 0]
    assert {who[0] for who in charts.scores} == {who[0] for who in charts.mature} == {"2", "3"}


def acted(charts: LabelCharts, who: Who, start: int, *, approved: int, blocked: int) -> None:
    """Rows of two actions that nobody drew by chance; those of ``block`` never get a label."""
    for action, rows, told in (("approve", approved, approved), ("block", blocked, 0)):
        drawn, cells = np.full(rows, math.nan), np.full(told, 3)
        every = drawn_by_group(drawn, np.zeros(rows, np.int64), 1)[0]
        labels = assigned_by_group(drawn[:told], cells, np.zeros(told, np.int64), 1)[0]
        charts.add_actions(who, start, {action: (every + labels).pack()})


def test_all_traffic_of_a_day_says_which_actions_a_segment_gets_no_label_for() -> None:
    charts, until = LabelCharts(), 2 * DAY_MS
    acted(charts, ("1", ""), until - DAY_MS, approved=900, blocked=100)
    # Of the segment's ten blocked rows eight labels were due: too few to tell by.
    acted(charts, ("1", "LU"), until, approved=10, blocked=8)
    acted(charts, ("1", "LU"), until - DAY_MS, approved=500, blocked=1)
    shut = charts.shut(until)
    assert shut == {"block"}
    alone, told = (charts.selection(("1", "LU"), until, until, one) for one in (frozenset[str](), shut))
    assert alone is None
    assert told is not None
    assert (told.rows, told.labelled) == (18, 10)
    # A day of each segment would take too much.
    charts.drop(until, HOUR_MS, HOUR_MS)
    assert [(whose, start) for start, whose, _ in charts.actions.items()] == [
        (("1", "", "approve"), until - DAY_MS),
        (("1", "", "block"), until - DAY_MS),
        (("1", "LU", "approve"), until),
        (("1", "LU", "block"), until),
    ]


def test_what_sums_hold_of_before_the_rings_is_kept_and_goes_with_its_version() -> None:
    charts = LabelCharts()
    charts.add_mature(("1", ""), 90, HALF)
    acted(charts, ("1", ""), 30, approved=5, blocked=5)
    charts.sums.add(("1", ""), 60, drawn_by_group(np.full(3, math.nan), np.zeros(3, np.int64), 1)[0])
    assert charts.oldest() == 30
    assert sorted(charts.forget((), 100)) == [30, 30, 60, 90]
    assert charts.oldest() is None


def test_a_full_ring_drops_when_read_what_it_had_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts_module, "KEPT", 2)
    charts = LabelCharts()
    rows = [["1", "", np.array([0, 10]), np.stack([HALF, HALF])], ["1", "", np.array([20]), HALF[None]]]
    for number, row in enumerate(rows):
        charts.load(state_of({"slot": number, "mature": [row]}, CohortSlot))
    assert [start for start, _ in charts.mature["1", ""]] == [10, 20]
