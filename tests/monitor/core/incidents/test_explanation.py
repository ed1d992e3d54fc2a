"""What is known to be broken in a subject explains its drift when it is at least half of it."""

import numpy as np
import pytest

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.monitor.core.finding import PAGE, Finding
from stationkeeper.monitor.core.incidents.explanation import Explainer, explained_by_faults
from stationkeeper.monitor.core.incidents.new_value_shares import NewValueShares
from stationkeeper.monitor.core.panes import Recent
from stationkeeper.monitor.core.performance import RecentOutcomes
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.core.reference import Counts
from tests.monitor.core.streams import bank, columns_for, reference_of

REFERENCE = reference_of({"age": bank(2_000)["age"]})
EXPLAINER = Explainer(REFERENCE, (), Recent(REFERENCE.layout.width), RecentOutcomes(), NewValueShares(REFERENCE))


def finding(kind: VerdictKind = VerdictKind.DATA_DRIFT, check: Check | None = None) -> Finding:
    return Finding("age", SubjectType.FEATURE, kind, PAGE, 20.0, 16.0, 60, 100, Cause.SHAPE, check=check)


def with_text(share: float) -> Counts:
    age = bank(1_000, 1)["age"].astype(object)
    age[: int(1_000 * share)] = "forty"
    rows = np.array([1_000])
    counts: Counts = REFERENCE.layout.tally(columns_for(REFERENCE, {"age": age}), np.zeros(1_000, np.int64), rows)[0]
    return counts


@pytest.mark.parametrize(("effect", "explained"), [(0.40, True), (0.75, True), (0.77, False)])
def test_a_fault_of_half_the_drift_explains_it_by_hand(effect: float, explained: bool) -> None:
    known = [finding(VerdictKind.DATA_QUALITY, Check.WRONG_TYPE)]
    assert explained_by_faults(known, REFERENCE, finding(), effect, with_text(0.38)) is explained
    assert not explained_by_faults([], REFERENCE, finding(), effect, with_text(0.38))


def test_a_fault_of_every_value_explains_all() -> None:
    known = [finding(VerdictKind.DATA_QUALITY, Check.UNIT)]
    assert explained_by_faults(known, REFERENCE, finding(), 1.0, REFERENCE.layout.zeros())


def test_the_effect_of_a_check_is_how_far_its_share_rose() -> None:
    assert EXPLAINER.effect(finding(check=Check.WRONG_TYPE), with_text(0.38)) == pytest.approx(0.38)


def test_drift_is_explained_by_the_cells_that_moved() -> None:
    explained = EXPLAINER.explain(finding(), with_text(0.38), 60)
    assert (explained.finding.cause, explained.rows) == (Cause.MISSING, 1_000)
    assert explained.effect == pytest.approx(0.38, abs=0.05)


def test_a_change_is_not_dated_before_the_last_recovery() -> None:
    shift = finding(check=Check.NULL)
    assert EXPLAINER.date(shift, 0, 200).time == 60
    assert EXPLAINER.date(shift, 120, 200).time == 120
