"""Where an incident's change lies, from the panes of segments in history."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.wire import OutcomeDelta, PaneDelta, encode, pack
from stationkeeper.monitor.core.reference import Reference
from stationkeeper.page.words import percent
from stationkeeper.report.gather import Case, Report, ReportedFinding, from_log
from stationkeeper.report.history import Moved
from stationkeeper.report.page import report_page
from stationkeeper.report.segments import gaps_of, located
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from tests.monitor.rig import MINUTE, START, TOPICS, Rig, fraud, predictions, reference

ONE = reference()


def pane(minute: int, segment: str, moved: float, *, of: Reference = ONE, length: int = MINUTE) -> list[PaneDelta]:
    """A hundred rows of a segment, of which a share lies in the last cell of amount, in two blocks of the vector."""
    whole = np.zeros(of.layout.width, np.int64)
    place = of.layout["amount"].histogram
    whole[place.start], whole[place.stop - 2] = 100 - int(100 * moved), int(100 * moved)
    cut = place.stop - 2
    fields = ("fraud", "1", of.digest, "prediction", segment, START + minute * MINUTE, length, 100)
    blocks = ((0, whole[:cut]), (cut, whole[cut:]))
    return [PaneDelta(*fields, first, of.layout.width, pack(block)) for first, block in blocks]


def history(*panes: Sequence[PaneDelta | OutcomeDelta]) -> MemoryReader:
    log = MemoryLog()
    for topic in TOPICS.all():
        log.create(topic)
    values = [encode([one]) for records in panes for one in records]
    at = partition_of("fraud", TOPICS.history.partitions)
    log.produce(TOPICS.history.name, values, keys=[b"fraud"] * len(values), partition=at)
    return MemoryReader(log)


CASE = Moved("inc-1", ["amount", "age"], START + 10 * MINUTE, START + 20 * MINUTE)


def test_the_change_is_found_in_the_segment_that_made_it_before_and_after_the_incident_left_out():
    panes = []
    for minute in range(24):
        drifts = 10 <= minute < 20
        panes += [pane(minute, "", 0.3), pane(minute, "shop=a", 0.4 if drifts else 0.1), pane(minute, "shop=b", 0.2)]
        panes += [pane(minute, "land=x", 0.5 if drifts else 0.2)]
        # History repeats minutes in longer panes.
        panes += [pane(minute, "shop=b", 0.9, length=60 * MINUTE)]
    found = located(history(*panes), TOPICS, "fraud", [CASE], {ONE.digest: ONE}, length=MINUTE)
    parts = [(one.segment, round(one.share, 6), round(one.moved, 6), one.rows, one.before) for one in found["inc-1"]]
    assert parts == [
        ("land=x", 1.0, 0.3, 1_000, 1_000),
        ("shop=a", 1.0, 0.3, 1_000, 1_000),
        ("shop=b", 0.0, 0.0, 1_000, 1_000),
    ]
    later = START + 5 * MINUTE
    bounded = located(history(*panes), TOPICS, "fraud", [CASE], {ONE.digest: ONE}, length=MINUTE, start=later)
    assert {one.before for one in bounded["inc-1"]} == {500}


def test_an_incident_without_segments_before_it_or_without_cells_is_left_out():
    panes = [pane(minute, "shop=a", 0.4) for minute in range(10, 20)]
    cases = [CASE, Moved("inc-2", ["volume"], START, None)]
    assert located(history(*panes), TOPICS, "fraud", cases, {ONE.digest: ONE}, length=MINUTE) == {}


def test_of_several_references_the_one_with_the_most_rows_tells():
    other = reference(shift=0.5)
    panes = [pane(minute, "shop=a", 0.1 if minute < 10 else 0.4) for minute in range(20)]
    panes += [pane(9, "shop=b", 0.1, of=other), pane(10, "shop=b", 0.9, of=other)]
    references = {ONE.digest: ONE, other.digest: other}
    (part,) = located(history(*panes), TOPICS, "fraud", [CASE], references, length=MINUTE)["inc-1"]
    assert (part.segment, math.isclose(part.moved, 0.3)) == ("shop=a", True)


def test_a_report_says_in_which_country_the_amounts_moved():
    rig = Rig({"fraud": fraud(segments=["country"], window="20m")})
    rig.put_reference(ONE)
    rig.send("scores", predictions(60, 60))
    moved = []
    for value in predictions(40, 60, first=10_000, start=START + 60 * MINUTE):
        event = json.loads(value)
        if event["features"]["country"] == "de":
            event["features"]["amount"] += 1.5
        moved.append(json.dumps(event).encode())
    rig.send("scores", moved)
    rig.turn(14)
    report = from_log(MemoryReader(rig.log), TOPICS, "fraud")
    case = next(case for case in report.cases if case.first.subject == "amount" and not case.first.segment)
    germany, *others = report.segments[case.id]
    assert germany.segment == "country=de"
    assert germany.share > 0.8
    assert germany.moved - germany.noise > 0.3
    assert all(abs(part.moved) < 0.15 for part in others)
    assert {part.segment for part in others} == {"country=fr", "country=us"}
    page = report_page(report)
    assert "Where it changed" in page
    assert f"<td>{percent(germany.share)}</td>" in page.replace(' class="number"', "")


def test_gaps_between_segments_count_matured_labels_and_their_corrections():
    def outcome(segment: str, confusion: list[int], corrected: int = 0) -> OutcomeDelta:
        rows = 0 if corrected else sum(confusion)
        fields = (
            "fraud",
            "1",
            segment,
            START,
            MINUTE,
            rows,
            START,
            pack(np.array(confusion)),
            pack(np.zeros(64, np.int64)),
        )
        return OutcomeDelta(*fields, 0, 0, b"", corrected)

    told = [outcome("", [150, 10, 50, 190]), outcome("sex=a", [90, 5, 10, 95]), outcome("sex=b", [70, 5, 30, 95])]
    told += [outcome("sex=b", [-10, 0, 10, 0], 10), outcome("land=x", [90, 5, 10, 95])]
    true, false, approved = gaps_of(history(told), TOPICS, "fraud", length=MINUTE)
    assert (true.rate, true.lowest, round(true.gap, 6), true.low > 0) == ("true positive rate", "sex=b", 0.3, True)
    assert (false.gap, approved.rate) == (0.0, "approval rate")
    report = Report("fraud", "a log", START, START + MINUTE, (), (), gaps=(true, false, approved))
    page = report_page(report)
    assert "How far segments lie apart" in page
    assert percent(true.gap) in page
    assert gaps_of(history(told), TOPICS, "fraud", length=MINUTE, start=START + 1) == ()


def test_gaps_of_fairness_that_were_told_are_a_table_with_their_end():
    def told(identity: str, kind: str, at: int, cause: str = "fairness", reason: str = "") -> ReportedFinding:
        return ReportedFinding(
            identity, at, None, "fraud", "1", "", "fairness of country", kind, "page", cause, reason, 300, "inc-1"
        )

    gap = "country=de: approval rate 20.0% of 300 rows, the others 50.0% of 600: -30.0 points (-41.0 to -18.2)"
    first = told("ver-1", "performance", START, reason=gap)
    closed = Case("inc-1", (first,), told("ver-2", "recovered", START + MINUTE))
    drift = Case("inc-2", (replace(first, subject="amount", cause="shift", incident="inc-2"),))
    page = report_page(Report("fraud", "a log", START, START + MINUTE, (closed, drift), (first,)))
    table = page.split("Fairness: gaps beyond what is tolerated")[-1].split("</table>")[0]
    assert "-30.0 points" in table
    assert "not closed" not in table
    assert "amount" not in table
    page = report_page(Report("fraud", "a log", START, START + MINUTE, (Case("inc-1", (first,)),), (first,)))
    assert "not closed" in page.split("Fairness: gaps beyond what is tolerated")[-1].split("</table>")[0]
    assert "Fairness: gaps" not in report_page(Report("fraud", "a log", START, START + MINUTE, (drift,), (first,)))
