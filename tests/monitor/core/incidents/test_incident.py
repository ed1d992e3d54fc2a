from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.finding import PAGE, WARN, Dated, Finding
from stationkeeper.monitor.core.incidents import Incident, merge
from stationkeeper.monitor.core.incidents.incident import OpenIncidents, choose_leader, co_onset
from stationkeeper.monitor.core.incidents.verdict import refusal_of
from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.panes.window import ChartWindow
from stationkeeper.monitor.core.performance import OutcomePane, Performance, measures
from stationkeeper.monitor.core.reasons import CAUSE_HELP, CHECK_HELP, UNKNOWN_HELP, Cause, Check, Unknown
from stationkeeper.monitor.core.reference import Labels


def finding(name: str, strength: float = 1.0, onset: int = 0, **changes: Any) -> Finding:
    made = Finding(
        name,
        SubjectType.FEATURE,
        VerdictKind.DATA_DRIFT,
        PAGE,
        10 + strength,
        10.0,
        onset,
        100,
        Cause.SHIFT,
        f"{name} moved",
    )
    return replace(made, **changes)


def incident(name: str, low: int, high: int) -> Incident:
    return Incident(name, "m", "1", "", high, Dated(low, low, high), name, VerdictKind.DATA_DRIFT, Cause.SHIFT, "moved")


def test_broken_data_lead_the_incident_they_explain():
    fault = finding("b", 0.1, kind=VerdictKind.DATA_QUALITY, check=Check.NULL)
    assert choose_leader([finding("a", 50.0), fault]) is fault


def test_subjects_below_the_threshold_are_named_with_a_page_as_e_d_bh_does():
    leader = finding("a", 2.0)
    second = finding("b", -0.6, level=WARN)
    third = finding("c", -1.2, level=WARN)
    late = finding("d", -0.5, onset=10_000, level=WARN)
    named = co_onset([third, second, leader, late], leader, now=500, pane=10)
    # -log 2 = -.69 and -log 3 = -1.10: the second qualifies, the third does not.
    assert [f.subject for f in named] == ["a", "b"]


def test_a_book_read_back_is_the_same():
    book = OpenIncidents("m", "1", "")
    made = book.open_new(finding("a"), Dated(1, 0, 2, 7), 10, "")
    book.join(made, finding("a"), 10, 0.3)
    again = OpenIncidents("m", "1", "")
    again.restore(book.state())
    assert again.open == book.open


def test_incidents_of_segments_that_began_together_are_merged_by_hand():
    groups = merge([incident("c", 50, 60), incident("a", 10, 20), incident("b", 18, 30)], slack=0)
    assert [[i.id for i in group] for group in groups] == [["a", "b"], ["c"]]


@pytest.mark.parametrize("check", [Check.NULL, Check.UNIT, Check.CONSTANT, Check.SCHEMA_MISSING])
def test_broken_data_refuse_retraining(check: Check):
    assert refusal_of(finding("a", kind=VerdictKind.DATA_QUALITY, check=check))
    assert refusal_of(finding("a")) == ""


def test_every_closed_list_has_its_help():
    assert set(CAUSE_HELP) == set(Cause)
    assert set(CHECK_HELP) == set(Check)
    assert set(UNKNOWN_HELP) == set(Unknown)


def test_a_window_is_the_sum_of_its_latest_panes():
    window = ChartWindow(2, 100, slots=10)
    for start in range(0, 500, 10):
        window.add(Pane(start, 10, 3, np.array([1, 2])))
    assert 10 <= window.counts[0] <= 11
    assert (window.counts[1], window.rows) == (2 * window.counts[0], 3 * window.counts[0])
    again = ChartWindow(2, 100, slots=10)
    again.restore(window.state())
    window.advance(10_000)
    again.advance(10_000)
    assert window.rows == again.rows == 0
    assert not window.counts.any()


def test_measures_by_hand():
    found = measures(np.array([8, 2, 4, 86]))
    assert found["precision"].value == 0.8
    assert found["recall"].value == pytest.approx(8 / 12)
    assert found["accuracy"].value == 0.94
    assert found["f1"].value == pytest.approx(16 / 22)
    assert np.isnan(measures(np.zeros(4, np.int64))["precision"].value)


def labels_of(rate: float, flip: float = 0.0, rows: int = 5_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    bins = np.where(rng.random(rows) < 0.5, 4, 28)
    truth = (rng.random(rows) < np.where(bins == 28, 1 - rate, rate)) ^ (rng.random(rows) < flip)
    scored = np.bincount(bins * 2 + truth, minlength=64).reshape(32, 2)
    said = bins == 28
    parts = [said & truth, said & ~truth, ~said & truth, ~said & ~truth]
    return scored, np.array([np.count_nonzero(part) for part in parts])


def test_errors_that_rise_page_and_steady_ones_do_not():
    reference = Labels(*labels_of(0.1))
    kinds: set[VerdictKind] = set()
    for flip, wanted in ((0.0, False), (0.15, True)):
        made = Performance(reference, alpha=1 / 10_000)
        kinds = set()
        for k in range(60):
            pane = OutcomePane(k * 50, k * 50 + 50, *labels_of(0.1, flip, 50, seed=k + 1))
            kinds |= {f.kind for f in made.step(pane, 50.0) if f.level == PAGE}
        assert bool(kinds) is wanted
    assert VerdictKind.CONCEPT_DRIFT in kinds


@pytest.mark.parametrize(("share", "pages"), [(0.80, False), (0.15, True)])
def test_a_small_region_pages_only_when_half_a_point_of_the_traffic_changed(share: float, pages: bool):
    def labels(rows: int, positive: float) -> tuple[np.ndarray, np.ndarray]:
        few = rows // 100
        hits = round(few * positive)
        scored = np.zeros((32, 2), np.int64)
        scored[4], scored[28] = (rows - few, 0), (few - hits, hits)
        return scored, np.array([hits, few - hits, 0, rows - few])

    made = Performance(Labels(*labels(40_000, 0.99)), alpha=1 / 10_000)
    found = [f for k in range(60) for f in made.step(OutcomePane(k, k + 1, *labels(2_000, share)), 1.0)]
    assert any(f.level == PAGE and f.kind is VerdictKind.CONCEPT_DRIFT for f in found) is pages


def test_incidents_of_builds_that_wrote_members_by_position_are_read():
    member = ["feature:age", "age", "feature", "data_drift", None, 100, 160, 0.25, False]
    plain = {
        "id": "inc-1",
        "model": "m",
        "version": "1",
        "segment": "",
        "opened": 100,
        "onset": [40, 20, 60, None],
        "leader": "feature:age",
        "kind": "data_drift",
        "cause": "shift",
        "reason": "age moved up",
        "closed": None,
        "members": [member],
    }
    book = OpenIncidents("m", "1", "")
    book.restore([state_of(plain, Incident)])
    (incident,) = book.open.values()
    assert incident.leading.effect == 0.25
    assert (incident.onset.low, incident.subjects, incident.refusal) == (20, ("age",), "")
    assert book.recover(incident, "feature:age", 200).closed == 200
    assert [one.id for one in book.closed] == ["inc-1"]
