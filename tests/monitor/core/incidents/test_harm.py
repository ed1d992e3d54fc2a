"""What an incident costs: by labels, else by scores, else unknown with its reason."""

import math
from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.monitor.core.finding import Dated
from stationkeeper.monitor.core.incidents import (
    Harm,
    HarmRules,
    Incident,
    Member,
    does_harm,
    harm_by_labels,
    harm_by_scores,
    harm_words,
    void_share,
)
from stationkeeper.monitor.core.performance import Measure, ValueMatrix, every_measure
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import Labels, OutcomeSums

RULES = HarmRules()


def incident(cause: Cause = Cause.SHIFT, kind: VerdictKind = VerdictKind.DATA_DRIFT, effect: float = 0.1) -> Incident:
    member = Member("feature:x", "x", SubjectType.FEATURE, kind, None, 1, 1, effect)
    return Incident("i", "m", "1", "", 2, Dated(1, 1, 2), "feature:x", kind, cause, "moved", (member,))


def of(confusion: list[int], value: ValueMatrix | None = None) -> dict[str, Measure]:
    return every_measure(None, np.array(confusion), OutcomeSums.none(), value=value)


def test_labels_tell_the_loss_by_hand():
    found = harm_by_labels(of([40, 10, 10, 40]), of([450, 50, 50, 450]))
    assert found is not None
    assert found.lost == pytest.approx(0.1)
    assert found.low < 0.1 < found.high
    assert (found.source, found.rows, found.usual) == ("measured", 100, 0.9)
    worth = ValueMatrix((0.0, -1.0, -10.0, 0.0))
    told = harm_by_labels(of([40, 10, 10, 40], worth), of([450, 50, 50, 450], worth))
    assert told is not None
    # 110 of 100 rows instead of 550 of 1 000.
    assert told.value == pytest.approx(0.55)
    assert "and 0.55 of value a row, measured on 100 labelled rows" in harm_words(told)


def test_too_few_labels_or_a_reference_without_tell_nothing():
    assert harm_by_labels(of([20, 10, 10, 9]), of([450, 50, 50, 450])) is None
    assert harm_by_labels(of([40, 10, 10, 40]), of([0, 0, 0, 0])) is None


def test_a_regression_is_told_in_its_mean_error_and_its_tolerance_is_relative():
    now, usual = Measure("mae", 12.0, 11.0, 13.0, 500), Measure("mae", 10.0, 9.9, 10.1, 900)
    found = harm_by_labels({"mae": now}, {"mae": usual})
    assert found is not None
    assert found.lost == 2.0
    assert found.low == pytest.approx(0.9)
    assert harm_words(found).startswith("costs 2 of mean error (0.9 to 3.1; usually 10)")
    assert does_harm(incident(), found, RULES)
    assert not does_harm(incident(), found, HarmRules(tolerance=0.3))


def reference() -> Labels:
    scored = np.zeros((32, 2), np.int64)
    scored[2], scored[16], scored[29] = (500, 10), (100, 100), (10, 280)
    return Labels(scored, np.array([380, 110, 10, 500]))


def test_scores_tell_the_loss_without_labels():
    scores, labels = np.zeros(32, np.int64), reference()
    usual = harm_by_scores(labels.scored.sum(1), labels, 0.5)
    assert usual is not None
    assert usual.lost == pytest.approx(0.0)
    # Everything now scores where half are positive: half of it is wrong, 120 of 1 000 were.
    scores[16] = 1_000
    found = harm_by_scores(scores, labels, 0.5)
    assert found is not None
    assert found.lost == pytest.approx(0.5 - 0.12)
    assert found.low > 0.3
    assert does_harm(incident(), found, RULES)
    assert harm_by_scores(np.zeros(32, np.int64), labels, 0.5) is None
    # By what mature labels have taught since, three quarters are positive there: .75 now, and .93 of the usual scores.
    taught = labels.scored.copy()
    taught[16] = 100, 300
    found = harm_by_scores(scores, labels, 0.5, replace(labels, scored=taught))
    assert found is not None
    assert found.lost == pytest.approx(0.93 - 0.75)


def test_noise_is_no_harm_and_what_labels_have_shown_is():
    wide = Harm("measured", "", "accuracy", 0.03, -0.01, 0.07, 0.9, 60)
    assert not does_harm(incident(), wide, RULES)
    assert does_harm(incident(kind=VerdictKind.PERFORMANCE), wide, RULES)
    small = structs.replace(wide, lost=0.005, low=0.001)
    assert not does_harm(incident(), small, RULES)


def test_rows_of_which_nothing_can_be_told_count_as_harm_until_labels_come():
    unknown = Harm("unknown", "withdrawn: values that the reference never saw come", void=0.25)
    assert does_harm(incident(), unknown, RULES)
    assert not does_harm(incident(), structs.replace(unknown, void=0.02), RULES)
    measured = Harm("measured", "", "accuracy", 0.0, -0.02, 0.02, 0.9, 900, void=0.25)
    assert not does_harm(incident(), measured, RULES)
    assert harm_words(unknown) == "what it costs is unknown: withdrawn: values that the reference never saw come"


def test_the_share_of_rows_without_an_estimate_is_that_of_new_values():
    assert void_share(incident(Cause.NEW_CATEGORY, effect=0.25)) == 0.25
    assert void_share(incident(Cause.SHIFT, effect=0.25)) == 0.0
    assert math.isclose(void_share(incident(Cause.OUT_OF_RANGE, effect=1.2)), 1.0)
