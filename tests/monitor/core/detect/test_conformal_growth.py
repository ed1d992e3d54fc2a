from typing import Any

import numpy as np
import pytest

from stationkeeper.monitor.core.detect.conformal import NOTHING, BagGrowth, RankBag, mark_of
from stationkeeper.monitor.core.detect.detector import DriftDetector
from stationkeeper.monitor.core.detect.plan import DetectorPlan, PlannedSubject
from stationkeeper.monitor.core.panes.recent import Recent
from stationkeeper.monitor.core.panes.window import ChartWindow
from stationkeeper.monitor.judge.state import WatchRecords
from tests.monitor.core.streams import state_with

STRATA = 24
RNG = np.random.default_rng(0)
SUBJECTS = tuple(
    PlannedSubject(name, "numeric", RNG.multinomial(400, np.full(cells, 1 / cells), size=STRATA))
    for name, cells in (("amount", 40), ("age", 12))
)


def detector() -> DriftDetector:
    return DriftDetector(DetectorPlan("fraud", "3", "", SUBJECTS, 1e-4))


def pane(seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.multinomial(30, s.reference[0] / s.reference[0].sum()) for s in SUBJECTS])


def padded(stratum: int) -> np.ndarray[Any, Any]:
    """The reference's fine cells of a stratum, as wide as the widest subject's."""
    return np.stack([np.pad(s.reference[stratum, :-1], (0, 40 - s.reference.shape[1])) for s in SUBJECTS])


def growth_of(made: DriftDetector) -> BagGrowth:
    growth = made.state().bag_growth
    assert isinstance(growth, BagGrowth)
    return growth


def written(records: WatchRecords, made: DriftDetector) -> dict[str, Any]:
    state = state_with(Recent(9).state(), window=ChartWindow(9, 60).state(), drifts={"feature": made.state()})
    return dict(records.changed(state))


def test_growth_is_what_the_bags_hold_beyond_the_reference():
    made = detector()
    assert list(growth_of(made).grown()) == []
    made.step(pane(1), 0, 5, 1.0)
    growth = growth_of(made)
    assert [stratum for stratum, _ in growth.grown()] == [5]
    assert growth.shape == np.asarray(growth).shape == (STRATA, 2, 39)
    assert np.asarray(growth)[5].sum() == growth[5].sum() == pane(1).sum() - pane(1)[[39, 51]].sum()
    assert not np.asarray(growth)[[*range(5), *range(6, STRATA)]].any()


def test_growth_stays_what_it_was_while_the_bags_go_on():
    made = detector()
    made.step(pane(1), 0, 5, 1.0)
    growth, before = growth_of(made), growth_of(made)[5]
    made.step(pane(2), 60_000, 5, 1.0)
    np.testing.assert_array_equal(growth[5], before)
    assert growth_of(made).marks[5] != growth.marks[5]


def test_what_is_taken_back_leaves_no_mark():
    made = detector()
    made.step(pane(1), 0, 5, 1.0)
    assert growth_of(made).marks[5] != NOTHING
    made.retract([(pane(1), 5)], ["amount", "age"])
    assert set(growth_of(made).marks) == {NOTHING}


def test_a_restored_detector_has_the_same_growth_and_marks():
    made, again = detector(), detector()
    for i in range(6):
        made.step(pane(i), 60_000 * i, i % 3, 1.0)
    again.restore(made.state())
    np.testing.assert_array_equal(np.asarray(growth_of(again)), np.asarray(growth_of(made)))
    assert growth_of(again).marks == growth_of(made).marks


def test_a_bag_is_made_when_the_first_pane_of_its_hour_comes():
    made, again = detector(), detector()
    for i in range(6):
        made.step(pane(i), 60_000 * i, i % 3, 1.0)
    asked: list[int] = []

    class Asked:
        shape = (STRATA, 2, 39)

        def __getitem__(self, stratum: int) -> Any:
            asked.append(stratum)
            return padded(stratum)

    bag = RankBag(Asked())
    bag.restore(growth_of(made))
    assert bag.growth().marks == growth_of(made).marks
    assert asked == []
    again.restore(made.state())
    np.testing.assert_array_equal(bag.stratum(1), again.bag.stratum(1))
    np.testing.assert_array_equal(bag.stratum(7), padded(7))
    assert asked == [1, 7]


def test_growth_without_a_subject_is_that_of_the_others():
    made = detector()
    made.step(pane(1), 0, 5, 1.0)
    growth = growth_of(made).where(np.array([True, False]))
    assert growth[5][0].tolist() == growth_of(made)[5][0].tolist()
    assert not growth[5][1].any()
    assert [stratum for stratum, _ in growth.grown()] == [5]
    assert list(growth_of(made).where(np.zeros(2, np.bool_)).grown()) == []


def test_a_pane_writes_the_bag_of_its_hour_alone():
    made, records = detector(), WatchRecords()
    for i in range(6):
        made.step(pane(i), 60_000 * i, i % 3, 1.0)
    assert {name for name in written(records, made) if name.startswith("bag/")} == {
        f"bag/feature/{i}" for i in (0, 1, 2)
    }
    made.step(pane(7), 7 * 60_000, 2, 1.0)
    found = written(records, made)
    assert {name for name in found if name.startswith("bag/")} == {"bag/feature/2"}
    np.testing.assert_array_equal(found["bag/feature/2"], growth_of(made)[2])


@pytest.mark.parametrize("dtype", [np.int64, np.uint32])
def test_a_mark_tells_growth_by_its_content(dtype: type):
    one: np.ndarray[Any, Any] = np.arange(12, dtype=dtype).reshape(3, 4)
    assert mark_of(one) == mark_of(one.astype(np.int64))
    assert mark_of(one) != mark_of(one[::-1])
    assert mark_of(np.zeros((3, 4), dtype)) == NOTHING
