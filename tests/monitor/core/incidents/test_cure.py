"""Whether a retraining helped: by the subject that asked and by labels, with every way to not know."""

import numpy as np
import pytest

from stationkeeper.contracts.messages import CureOutcome, Level, Onset, RetrainRequest, SubjectType, VerdictKind
from stationkeeper.contracts.state import replaced
from stationkeeper.contracts.times import to_datetime
from stationkeeper.monitor.core.finding import Dated
from stationkeeper.monitor.core.incidents import (
    PATIENCE_MS,
    Before,
    Cure,
    CureRules,
    Incident,
    Member,
    Trial,
    after_labels,
    after_pane,
    before_change,
    cure_verdict,
    judge_cure,
)
from stationkeeper.monitor.core.performance import OutcomePane
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import Labels, Task, labels_of

RULES = CureRules(tolerance=0.01, patience=PATIENCE_MS)
AMOUNT = "feature:amount"
# 30 of 1 000 answers were wrong.
BEFORE = before_change(Labels(np.tile([[25, 5]], (32, 1)), np.array([100, 20, 10, 870])))


def request() -> RetrainRequest:
    at = to_datetime(0)
    return RetrainRequest(
        id="req-1",
        time=at,
        model="fraud",
        version="1",
        incident="inc-1",
        verdict="ver-1",
        kind=VerdictKind.DATA_DRIFT,
        cause="location",
        onset=Onset(time=at, low=at, high=at),
        subjects=("amount",),
    )


def trial(**changes: object) -> Trial:
    known = {"lost": 0.10, "new": "2", "since": 1_000, "confirmed": 2_000, **changes}
    return replaced(Trial(request().encode().decode(), (AMOUNT,), "", BEFORE), **known)


def incident(name: str, key: str) -> Incident:
    member = Member(key, key.split(":")[1], SubjectType.FEATURE, VerdictKind.DATA_DRIFT, None, 0, 0)
    kind, dated = VerdictKind.DATA_DRIFT, Dated(0, 0, 0)
    return Incident(name, "fraud", "2", "", 0, dated, key, kind, Cause.ERROR_RATE, "", members=(member,))


def labelled(one: Trial, rows: int, wrong: int, start: int = 5_000) -> Trial:
    confusion = np.array([0, wrong, 0, rows - wrong])
    return after_labels(one, OutcomePane(start, start + 1, np.zeros((32, 2), np.int64), confusion))


def steady(one: Trial, panes: int = 30) -> Trial:
    for _ in range(panes):
        one = after_pane(one, 50, (), judged=True)
    return one


def test_cured_is_a_steady_subject_and_a_loss_that_is_shown_to_be_back():
    assert BEFORE.loss == pytest.approx(0.03)
    one = labelled(steady(trial()), 2_000, 60)
    found = judge_cure(one, RULES, 3_000)
    assert found is not None
    assert found.outcome is CureOutcome.CURED
    # Half of the ten points that were lost, above the three that were wrong before.
    assert found.numbers["limit"] == pytest.approx(0.08)
    assert found.numbers["high"] <= 0.08
    assert "amount was steady under version 2 for 30 panes with 1500 rows" in found.reason
    assert "3.00% (" in found.reason
    # Neither part alone.
    assert judge_cure(labelled(steady(trial(), 29), 2_000, 60), RULES, 3_000) is None
    assert judge_cure(steady(trial()), RULES, 3_000) is None
    # Before the end of probation nothing is told.
    assert judge_cure(replaced(one, confirmed=0), RULES, 3_000) is None


def test_a_loss_that_stays_is_not_cured_even_where_inputs_are_steady():
    found = judge_cure(labelled(steady(trial()), 2_000, 260), RULES, 3_000)
    assert found is not None
    assert found.outcome is CureOutcome.NOT_CURED
    assert found.reason.startswith("wrong answers 13.00%")


def test_without_harm_that_was_shown_the_room_is_the_tolerance():
    some = labelled(steady(trial(lost=0.0)), 2_000, 60)
    assert judge_cure(some, RULES, 3_000) is None
    many = labelled(some, 50_000, 1_500)
    found = judge_cure(many, RULES, 3_000)
    assert found is not None
    assert found.numbers["limit"] == pytest.approx(0.04)


def test_a_subject_that_moves_again_is_not_cured_until_it_was_steady_once():
    again = after_pane(steady(trial(), 20), 50, [incident("inc-2", AMOUNT)], judged=True)
    assert (again.panes, again.again) == (0, "inc-2")
    found = judge_cure(again, RULES, 3_000)
    assert found is not None
    assert found.outcome is CureOutcome.NOT_CURED
    assert "amount moves again under version 2 (inc-2)" in found.reason
    # Of another subject, or after the cure was shown, it is another change.
    other = after_pane(trial(), 50, [incident("inc-3", "feature:age")], judged=True)
    assert (other.panes, other.again) == (1, "")
    later = after_pane(steady(trial()), 50, [incident("inc-4", AMOUNT)], judged=True)
    assert judge_cure(later, RULES, 3_000) is None


def test_what_cannot_be_told_is_unknown_with_what_is_missing():
    adopting = after_pane(trial(), 50, (), judged=False)
    assert judge_cure(adopting, RULES, 2_000 + PATIENCE_MS - 1) is None
    found = judge_cure(adopting, RULES, 2_000 + PATIENCE_MS)
    assert found is not None
    assert found.outcome is CureOutcome.UNKNOWN
    assert "in 0 panes with 0 rows, needed 30 and 500" in found.reason
    assert "no labels of version 2 so far" in found.reason
    unlabelled = replaced(trial(), before=before_change(None))
    told = judge_cure(steady(unlabelled), RULES, 3_000)
    assert told is not None
    assert told.outcome is CureOutcome.UNKNOWN
    assert "the reference of the version before has no labels" in told.reason


def test_labels_before_the_promotion_and_selective_ones_do_not_count():
    assert labelled(trial(), 100, 50, start=999).labels == 0
    some = OutcomePane(5_000, 6_000, np.zeros((32, 2), np.int64), np.array([0, 5, 0, 5]), selective=True)
    assert after_labels(trial(), some).labels == 0


def test_rows_that_depend_on_each_other_count_less():
    one = labelled(steady(trial()), 600, 18)
    assert judge_cure(one, RULES, 3_000) is not None
    dependent = replaced(one, before=replaced(BEFORE, phi=20.0))
    assert judge_cure(dependent, RULES, 3_000) is None


def test_of_numbers_the_mean_error_is_compared():
    rng = np.random.default_rng(1)

    def off(size: float) -> Labels:
        truth = rng.gamma(2.0, 100.0, 20_000)
        return labels_of(truth + size * rng.laplace(0.0, 20.0, 20_000), truth, Task.REGRESSION, 0.5, "1")

    before = before_change(off(1.0))
    assert before.numeric
    # The mean of |Laplace(20)|.
    assert before.loss == pytest.approx(20.0, rel=0.05)
    one = steady(replaced(trial(), before=before, lost=before.loss))
    for size, outcome in ((1.0, CureOutcome.CURED), (3.0, CureOutcome.NOT_CURED)):
        labels = off(size)
        found = judge_cure(after_labels(one, OutcomePane(5_000, 6_000, labels.scored, labels.confusion)), RULES, 3_000)
        assert found is not None
        assert found.outcome is outcome
        assert found.reason.startswith("mean error") or outcome is CureOutcome.CURED


@pytest.mark.parametrize(
    ("now", "outcome"), [(0.9, CureOutcome.CURED), (0.99, CureOutcome.CURED), (1.02, None), (1.6, None)]
)
def test_no_outcome_rests_on_where_in_their_octave_errors_lie(now: float, outcome: CureOutcome | None) -> None:
    def off(size: float) -> Labels:
        truth = np.linspace(0.0, 100.0, 5_000)
        return labels_of(truth + size, truth, Task.REGRESSION, 0.5, "1")

    before = before_change(off(0.9))
    assert before.loss == pytest.approx(0.9, abs=1e-4)
    labels, one = off(now), steady(replaced(trial(), before=before, lost=0.4))
    found = judge_cure(after_labels(one, OutcomePane(5_000, 6_000, labels.scored, labels.confusion)), RULES, 3_000)
    # At most 1.1 is a cure: errors of the octave from 1 to 2 may lie below and above, those from .5 to 1 may not.
    assert (None if found is None else found.outcome) is outcome


def test_the_verdict_is_in_the_incident_that_asked_and_warns_where_it_did_not_help():
    cure = Cure("req-1", "inc-1", CureOutcome.NOT_CURED, "why", 3_000, {"rows": 1_500.0})
    told = cure_verdict(trial(), cure, "digest")
    assert (told.kind, told.level, told.incident, told.version) == (VerdictKind.CURE, Level.WARN, "inc-1", "2")
    assert told.reason == "not cured: why"
    assert told.evidence["request"] == "req-1"
    good = cure_verdict(trial(), replaced(cure, outcome=CureOutcome.CURED), "")
    assert (good.level, good.state) == (Level.INFORM, "steady")


@pytest.mark.parametrize(
    ("rows", "wrong", "outcome", "spared"),
    [
        (20_000, 2_000, CureOutcome.CURED, "it spared 2.00 (1.12 to 2.84)"),
        (10_000, 1_000, CureOutcome.UNKNOWN, "it spared 2.00 (0.77 to 3.15)"),
        (20_000, 2_400, CureOutcome.NOT_CURED, "it spared 0.00 (-0.9"),
        (0, 0, CureOutcome.UNKNOWN, "no label of it says what it spared"),
    ],
)
def test_what_came_of_a_forecast_is_told_after_a_week(rows: int, wrong: int, outcome: CureOutcome, spared: str):
    one = trial(keys=(), before=Before(0.12), lost=0.02)
    if rows:
        one = labelled(one, rows, wrong)
    assert judge_cure(one, RULES, 2_000 + PATIENCE_MS - 1) is None, "a new version's first days may be a weekend"
    found = judge_cure(one, RULES, 2_000 + PATIENCE_MS)
    assert found is not None
    assert (found.outcome, found.numbers["forecast"]) == (outcome, 0.02)
    assert found.reason.startswith("version 2 was forecast to spare 2.00 of 12.00 wrong answers in a hundred; ")
    assert spared in found.reason
    # Nothing is broken: nobody has to get up.
    assert cure_verdict(one, found, "").level is Level.INFORM


def test_a_subject_with_a_colon_in_its_name_keeps_it() -> None:
    one = trial(keys=("feature:geo:lat",), panes=40, rows=900, steady=True)
    found = Cure("req-1", "inc-1", CureOutcome.CURED, "", 3_000)
    assert cure_verdict(one, found, "").subject.name == "geo:lat"
    told = judge_cure(replaced(one, labels=1_000, loss=20.0, square=20.0), RULES, 5_000)
    assert told is not None
    assert told.reason.startswith("geo:lat was steady under version 2")
