"""Points of charts: one a closed pane, in a catch-up one in five, and none of watches that are gone."""

from types import SimpleNamespace
from typing import Any, cast

from stationkeeper.contracts.model_status import MAX_POINTS
from stationkeeper.monitor.judge import WatchKey
from stationkeeper.monitor.status.series import GLANCE, ChartSeries

KEY = WatchKey("1", "sha256:0", "")


def watches(end: int | None, evidence: float = 2.0, threshold: float = 8.0) -> Any:
    psi = SimpleNamespace(value=0.3, noise=0.1)
    chart = SimpleNamespace(subject="age", evidence=evidence, threshold=threshold, distances={"psi": psi}, unknown=None)
    return {KEY: SimpleNamespace(end=end, charts=lambda: [chart])}


def test_a_closed_pane_is_one_point_however_often_it_is_read() -> None:
    series = ChartSeries()
    for end in (None, 10, 10, 20):
        ((_, _, chart),) = series.note(watches(end))
        assert chart.subject == "age"
    assert series.of(KEY, "age") == {
        "time": [10, 20],
        "ratio": [0.25, 0.25],
        "distance": [0.3, 0.3],
        "distance_name": "psi",
        "noise": [0.1, 0.1],
    }
    assert series.ended == {KEY: 20}


def test_what_has_no_ratio_is_a_gap() -> None:
    series = ChartSeries()
    series.note(watches(10, evidence=float("inf")))
    series.note(watches(20, threshold=0.0))
    found = series.of(KEY, "age")
    assert found is not None
    assert found["ratio"] == [None, None]


def test_a_catch_up_notes_one_pane_in_five_of_those_that_a_chart_holds() -> None:
    series = ChartSeries()
    for left in range(MAX_POINTS + 20, 0, -1):
        series.glance(cast("Any", watches(-left)), left)
    found = series.of(KEY, "age")
    assert found is not None
    assert (len(found["time"]), found["time"][0]) == (MAX_POINTS // GLANCE, -MAX_POINTS)


def test_a_watch_that_is_gone_takes_its_points_with_it() -> None:
    series = ChartSeries()
    series.note(watches(10))
    series.keep({})
    assert (series.of(KEY, "age"), series.ended) == (None, {})
