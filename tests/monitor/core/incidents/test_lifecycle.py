"""What an incident saw since its onset: exact sums, however long it is open."""

import numpy as np
import pytest

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.monitor.core.finding import PAGE, Dated, Finding
from stationkeeper.monitor.core.incidents import DecisionTime, Incident
from stationkeeper.monitor.core.incidents.lifecycle import OnsetCounts
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.watch import Watch
from tests.monitor.core.streams import SETTINGS, bank, reference_of

ONE, TWO = (
    Incident(name, "m", "1", "", 2, Dated(1, 1, 2), name, VerdictKind.DATA_DRIFT, Cause.SHIFT, "moved")
    for name in ("one", "two")
)


def test_each_incident_adds_up_what_came_since_its_own_onset() -> None:
    sums = OnsetCounts()
    sums.begin(ONE, 0, 3, np.array([1, 2]))
    before = sums.of(ONE)[2]
    sums.add(Pane(10, 10, 4, np.array([4, 0])))
    sums.begin(TWO, 10, 4, np.array([4, 0]))
    sums.add(Pane(20, 10, 1, np.array([0, 1])))
    again = OnsetCounts()
    again.restore(sums.state())
    for one in (sums, again):
        start, rows, counts = one.of(ONE)
        assert (start, rows, counts.tolist()) == (0, 8, [5, 3])
        assert one.of(TWO)[2].tolist() == [4, 1]
    # What a verdict was given stays as it was.
    assert before.tolist() == [1, 2]
    sums.end(ONE)
    sums.end(ONE)
    with pytest.raises(KeyError):
        sums.of(ONE)


def test_a_subject_that_pages_on_stands_in_its_own_open_incident_alone() -> None:
    def gap(name: str, onset: int, score: float) -> Finding:
        kind = VerdictKind.PERFORMANCE
        return Finding(name, SubjectType.FAIRNESS, kind, PAGE, score, 10.0, onset, 100, Cause.FAIRNESS, effect=0.1)

    lifecycle = Watch(reference_of(bank(500)), settings=SETTINGS).lifecycle
    lifecycle.fold([gap("one", 0, 12.0)], DecisionTime(250, 50, None))
    # Half of the time since the second onset reaches back to the first, so that the two would count as one change.
    lifecycle.fold([gap("one", 0, 12.0), gap("two", 1_000, 15.0)], DecisionTime(4_000, 50, None))
    assert [one.subjects for one in lifecycle.incidents.open.values()] == [("one",), ("two",)]
