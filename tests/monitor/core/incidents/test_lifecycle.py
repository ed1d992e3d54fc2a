"""What an incident saw since its onset: exact sums, however long it is open."""

import numpy as np
import pytest

from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.monitor.core.finding import Dated
from stationkeeper.monitor.core.incidents import Incident
from stationkeeper.monitor.core.incidents.lifecycle import OnsetCounts
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reasons import Cause

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
