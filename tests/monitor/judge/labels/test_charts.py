"""Charts of labels: the latest panes of each version and segment, and which versions are let go."""

import numpy as np
import pytest

from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.judge.labels import charts as charts_module
from stationkeeper.monitor.judge.labels.charts import LabelCharts
from stationkeeper.monitor.judge.labels.slots import CohortSlot

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


def test_a_full_ring_drops_when_read_what_it_had_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts_module, "KEPT", 2)
    charts = LabelCharts()
    rows = [["1", "", np.array([0, 10]), np.stack([HALF, HALF])], ["1", "", np.array([20]), HALF[None]]]
    for number, row in enumerate(rows):
        charts.load(state_of({"slot": number, "mature": [row]}, CohortSlot))
    assert [start for start, _ in charts.mature["1", ""]] == [10, 20]
