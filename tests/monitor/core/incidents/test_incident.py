from dataclasses import replace
from typing import Any

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.finding import PAGE, WARN, Dated, Finding
from stationkeeper.monitor.core.incidents import Incident, merge
from stationkeeper.monitor.core.incidents.incident import OpenIncidents, choose_leader, co_onset
from stationkeeper.monitor.core.reasons import Cause, Check


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


def test_fairness_takes_no_other_findings_in_and_joins_none_of_theirs():
    changes: dict[str, Any] = {"type": SubjectType.FAIRNESS, "kind": VerdictKind.PERFORMANCE, "cause": Cause.FAIRNESS}
    gap, moved, other = finding("fairness of a", 2.0, **changes), finding("age"), finding("fairness of b", **changes)
    errors = finding("error_rate", type=SubjectType.PERFORMANCE, kind=VerdictKind.PERFORMANCE)
    for leader, mine, apart in ((gap, other, [moved, errors]), (moved, errors, [gap, other])):
        assert co_onset([gap, moved, other, errors], leader, 500, 10)[0] is leader
        assert {f.key for f in co_onset([gap, moved, other, errors], leader, 500, 10)} == {leader.key, mine.key}
        book = OpenIncidents("m", "1", "")
        made = book.join(book.open_new(leader, Dated(1, 0, 2), 10, ""), leader, 10, 0.1)
        assert book.holder(leader, Dated(1, 0, 2), 10) == book.holder(mine, Dated(1, 0, 2), 10) == made
        assert [book.holder(one, Dated(1, 0, 2), 10) for one in apart] == [None, None]
