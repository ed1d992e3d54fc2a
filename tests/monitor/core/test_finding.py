"""A finding takes the level that the budgets of pages and warnings give it."""

import math
from dataclasses import replace

import pytest

from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.monitor.core.finding import INFORM, NONE, PAGE, WARN, Finding, subject_of_key
from stationkeeper.monitor.core.reasons import Cause

FINDING = Finding("age", SubjectType.FEATURE, VerdictKind.DATA_DRIFT, WARN, 15.0, 16.4, 0, 1, Cause.SHIFT)


@pytest.mark.parametrize(
    ("score", "level", "warnings_a_page", "found"),
    [
        (14.95, WARN, 30 / 7, WARN),
        (14.94, WARN, 30 / 7, INFORM),
        (14.2, INFORM, 10.0, WARN),
        (16.3, WARN, 1.0, INFORM),
        # What is held at a warning for another reason stays there, however high its evidence.
        (20.0, WARN, 1.0, WARN),
        (20.0, PAGE, 30 / 7, PAGE),
        (3.0, NONE, 30 / 7, NONE),
    ],
)
def test_a_warning_needs_evidence_that_the_budget_of_warnings_carries(
    score: float, level: int, warnings_a_page: float, found: int
):
    assert math.isclose(16.4 - math.log(30 / 7), 14.945, abs_tol=0.001)
    assert replace(FINDING, score=score, level=level).levelled(warnings_a_page).level == found


def test_a_rule_without_an_e_value_keeps_its_level():
    assert replace(FINDING, score=0.0, budgeted=False).levelled(1.0).level == WARN


@pytest.mark.parametrize(
    ("key", "subject"),
    [
        ("feature:amount", "amount"),
        ("feature:amount:null", "amount"),
        ("feature:geo:lat", "geo:lat"),
        ("feature:geo:lat:unit", "geo:lat"),
        ("performance:error_rate", "error_rate"),
        ("feature:null", "null"),
    ],
)
def test_the_subject_of_a_key_may_hold_colons(key: str, subject: str):
    assert subject_of_key(key) == subject
