"""Charts of labels: the latest panes of each version and segment, and which versions are let go."""

import math

import numpy as np
import pytest

from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.reference import AssignedRows, assigned_by_group, drawn_by_group
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


def acted(charts: LabelCharts, who: Who, start: int, *, approved: int, blocked: int, told: int = 0) -> None:
    """Rows of two actions that nobody drew by chance; of those of ``block`` so many get a label."""
    for action, rows, known in (("approve", approved, approved), ("block", blocked, told)):
        drawn, cells = np.full(rows, math.nan), np.full(known, 3)
        every = drawn_by_group(drawn, np.zeros(rows, np.int64), 1)[0]
        labels = assigned_by_group(drawn[:known], cells, np.zeros(known, np.int64), 1)[0]
        charts.add_predicted(who, start, rows, {action: every.pack()})
        charts.add_labelled(who, start, np.array([0, 0, 0, known]), {action: labels.pack()})


def test_all_traffic_of_a_day_says_which_actions_a_segment_gets_no_label_for() -> None:
    charts, until = LabelCharts(), 2 * DAY_MS
    acted(charts, ("1", ""), until - DAY_MS, approved=900, blocked=100)
    # Of the segment's ten blocked rows eight labels were due: too few to tell by.
    acted(charts, ("1", "LU"), until, approved=10, blocked=8)
    acted(charts, ("1", "LU"), until - DAY_MS, approved=500, blocked=1)
    shut = charts.shut(until)
    assert shut == charts.shut(until, ("1", "LU"), shut) == {"block"}
    alone, told = (charts.selection(("1", "LU"), until, until, one) for one in (frozenset[str](), shut))
    assert alone is None
    assert told is not None
    assert (told.rows, told.labelled) == (18, 10)


def test_a_segment_tells_by_its_own_day_where_enough_labels_are_due() -> None:
    charts, until = LabelCharts(), 2 * DAY_MS
    acted(charts, ("1", ""), until, approved=9_000, blocked=1_000, told=50)
    for hour in range(20):
        # One of LU's blocked rows an hour, and no hour tells alone; in FR they have their label, other than elsewhere.
        acted(charts, ("1", "LU"), until - hour * HOUR_MS, approved=9, blocked=1)
        acted(charts, ("1", "FR"), until - hour * HOUR_MS, approved=9, blocked=1, told=1)
    shut = charts.shut(until)
    for usual in (frozenset[str](), shut):
        assert charts.shut(until, ("1", "LU"), usual) == {"block"}
        assert charts.shut(until, ("1", "FR"), usual) == frozenset()
    # The same where of all but the latest hours two numbers are kept.
    charts.drop(until, HOUR_MS, HOUR_MS)
    assert charts.shut(until, ("1", "LU"), ()) == {"block"}
    assert charts.shut(until, ("1", "FR"), shut) == frozenset()


def test_a_day_of_a_segment_is_two_numbers_an_hour_and_goes_after_it() -> None:
    charts, until = LabelCharts(), 2 * DAY_MS
    rows, half = np.full(60, 0.5), 30
    every = drawn_by_group(np.linspace(0.1, 0.9, 60), np.zeros(60, np.int64), 1)[0]
    known = assigned_by_group(rows[:half], np.arange(half) % 4, np.zeros(half, np.int64), 1)[0]
    for who in (("1", ""), ("1", "LU")):
        for minute in (0, 5):
            start = until - 10 * HOUR_MS + minute * 60_000
            charts.add_predicted(who, start, 60, {"approve": every.pack()})
            charts.add_labelled(who, start, np.array([8, 8, 7, 7]), {"approve": known.pack()})
    # What is stored of them changes once an hour.
    assert charts.drop(until, HOUR_MS, 60_000) == {until - 10 * HOUR_MS, until - 10 * HOUR_MS + 5 * 60_000}
    assert charts.drop(until + 59 * 60_000, HOUR_MS, 60_000) == charts.drop(until + HOUR_MS, HOUR_MS, 60_000) == set()
    kept = {whose: (start, sums) for start, whose, sums in charts.actions.items()}
    start, sums = kept["1", "LU", "approve"]
    found = AssignedRows.of(sums)
    assert (start, len(sums.at)) == (until - 10 * HOUR_MS, 2)
    assert (found.rows.sum(), found.labelled.sum()) == (120, 60)
    assert len(kept["1", "", "approve"][1].at) > 2
    charts.drop(until + DAY_MS, HOUR_MS, 60_000)
    assert not list(charts.actions.items())


def test_rows_that_say_no_action_count_beside_those_that_do() -> None:
    charts, until, who = LabelCharts(), DAY_MS, ("1", "")
    # Of a version that never says what was done nothing is kept.
    charts.add_predicted(who, 0, 100, {})
    charts.add_labelled(who, 0, np.array([0, 0, 0, 100]), {})
    assert not list(charts.actions.items())
    acted(charts, who, until, approved=900, blocked=100)
    charts.add_predicted(who, until, 200, {})
    charts.add_labelled(who, until, np.array([20, 30, 50, 100]), {})
    found = charts.selection(who, until, until, ())
    assert found is not None
    assert (found.rows, found.labelled, found.unsaid, found.known) == (1_200, 1_100, 200, False)
    assert "200 labelled rows say no action" in found.words()


def test_what_is_approved_without_saying_so_shows_that_what_is_blocked_gets_no_label() -> None:
    charts, until, who = LabelCharts(), DAY_MS, ("1", "")
    acted(charts, who, until, approved=0, blocked=100)
    charts.add_predicted(who, until, 900, {})
    charts.add_labelled(who, until, np.array([0, 0, 0, 900]), {})
    assert charts.shut(until) == {"block"}


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
