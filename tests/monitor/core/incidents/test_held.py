"""What drifts is kept out of the bags from its onset on, and fills them again once it has come back."""

from typing import Any, cast

import numpy as np

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.monitor.core.finding import PAGE, Finding
from stationkeeper.monitor.core.incidents.held import HeldSubjects
from stationkeeper.monitor.core.panes import Pane, Recent
from stationkeeper.monitor.core.reasons import Cause


class Bags:
    """A detector that notes what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def hold(self, names: list[str], panes: list[Pane]) -> None:
        self.told.append(("hold", *names, [pane.start for pane in panes]))

    def release(self, names: list[str]) -> None:
        self.told.append(("release", *names))


def held(bags: Bags, **renewed: int) -> HeldSubjects:
    recent = Recent(2)
    for start in (0, 10, 20, 30):
        recent.add(Pane(start, 10, 5, np.array([3, 2])))
    return HeldSubjects(cast("Any", [bags]), recent, renewed)


def test_a_subject_is_held_once_and_what_came_since_its_onset_is_taken_out() -> None:
    bags = Bags()
    made = held(bags)
    made.hold("age", 20)
    made.hold("age", 0)
    assert bags.told == [("hold", "age", [20, 30])]


def test_what_came_before_a_bag_was_emptied_is_not_taken_out() -> None:
    bags = Bags()
    made = held(bags, age=20)
    made.hold("age", 0)
    made.hold("fee", 0)
    assert bags.told == [("hold", "age", [20, 30]), ("hold", "fee", [0, 10, 20, 30])]


def test_a_new_drift_takes_nothing_out_from_before_its_subject_came_back() -> None:
    bags = Bags()
    made = held(bags)
    made.hold("age", 0)
    made.release("age", 30)
    made.hold("age", 10)
    assert bags.told == [("hold", "age", [0, 10, 20, 30]), ("release", "age"), ("hold", "age", [30])]


def test_when_a_subject_came_back_bounds_the_next_onset_through_a_restart() -> None:
    finding = Finding("age", SubjectType.FEATURE, VerdictKind.DATA_DRIFT, PAGE, 11.0, 10.0, 10, 9, Cause.SHIFT, "moved")
    made, again, bags = held(Bags()), held(other := Bags()), other
    assert made.since(finding) == 10
    made.hold("fee", 0)
    made.release("age", 30)
    again.restore(*made.state())
    assert (again.since(finding), again.came_back_at("age", 30), again.came_back_at("age", 40)) == (30, True, False)
    again.hold("fee", 0)
    assert bags.told == []
