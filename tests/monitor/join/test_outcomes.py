"""What paired rows add up to: of two answers, of several classes and of numbers, as the same rows in a table."""

import numpy as np
import pytest

from stationkeeper.contracts.wire import OF_CLASSES, OF_NUMBERS, OutcomeDelta, score_bin
from stationkeeper.monitor.core.performance import every_measure, judged_counts
from stationkeeper.monitor.core.reference import AssignedRows, OutcomeSums, Task, by_confidence, class_code, labels_of
from stationkeeper.monitor.join.outcomes import merged_outcomes, outcomes_of
from stationkeeper.monitor.join.store import WAITING_ROW, Owner, Owners
from tests.monitor.rig import MINUTE, START


def paired(
    score: np.ndarray,
    label: np.ndarray,
    decision: np.ndarray,
    *,
    of: int = 0,
    kind: int | None = None,
    sure: np.ndarray | None = None,
) -> list[OutcomeDelta]:
    """The outcomes of rows that met, with one segment; ``of`` marks both sides, ``kind`` the labels differently.

    ``sure`` are the probabilities of answers of several classes, 0 where none came with it.
    """
    n = len(score)
    predictions, labels = np.zeros(n, WAITING_ROW), np.zeros(n, WAITING_ROW)
    predictions["score"], predictions["decision"] = score, decision | of
    known = np.zeros(n) if of == OF_CLASSES else np.nan_to_num(score)
    predictions["bin"] = score_bin(known if sure is None else sure)
    predictions["time"] = labels["time"] = START + (np.arange(n) % 3) * MINUTE
    labels["label"] = label
    labels["decision"] = kind if kind is not None else (OF_CLASSES if of == OF_CLASSES else 0)
    owners = Owners()
    predictions["owner"] = owners.codes([Owner("fraud", "1", ("country=de",))])[0]
    return outcomes_of(owners, predictions, labels, MINUTE)


def whole(outcomes: list[OutcomeDelta], segment: str = "") -> tuple[np.ndarray, np.ndarray, OutcomeSums]:
    mine = [one for one in outcomes if one.segment == segment]
    confusion, scored, sums = np.zeros(4, np.int64), np.zeros(64, np.int64), OutcomeSums.none()
    for one in merged_outcomes(mine):
        confusion = confusion + np.frombuffer(one.confusion, "<i8")
        scored = scored + np.frombuffer(one.scored, "<i8")
        sums = sums + OutcomeSums.unpack(one.sums)
    return confusion, scored, sums


def test_two_answers_add_up_to_what_a_profile_has_of_the_same_rows():
    rng = np.random.default_rng(1)
    score = rng.beta(1, 3, 900).astype(np.float32).astype(np.float64)
    truth = (rng.random(900) < score).astype(np.int64)
    found = paired(score, truth, score >= 0.5)
    known = labels_of(score, truth, Task.BINARY, 0.5, "1")
    confusion, scored, sums = whole(found)
    assert confusion.tolist() == known.confusion.tolist()
    assert scored.tolist() == known.scored.ravel().tolist()
    assert sums.pack() == known.sums.pack()
    segment = whole(found, "country=de")[2]
    assert (segment.ranked.sum(), segment.one(0)) == (0, 900)


def test_several_classes_are_right_or_wrong_and_counted_each():
    guess, truth = np.array(["cat", "dog", "cat", "eel"]), np.array(["cat", "cat", "cat", "dog"])
    codes = [np.array([float(class_code(one)) for one in side]) for side in (guess, truth)]
    confusion, scored, sums = whole(paired(codes[0], codes[1], np.zeros(4, np.uint8), of=OF_CLASSES))
    known = labels_of(guess, truth, Task.MULTICLASS, 0.5, "1")
    assert confusion.tolist() == known.confusion.tolist() == [0, 2, 0, 2]
    assert scored.tolist() == known.scored.ravel().tolist()
    found = every_measure(Task.MULTICLASS, confusion, sums, names={class_code("cat"): "cat"})
    assert found["recall of cat"].value == pytest.approx(2 / 3)
    assert found["accuracy"].value == 0.5


def test_several_classes_with_probabilities_are_counted_by_them_as_a_profile_does():
    guess, truth = np.array(["cat", "dog", "cat", "eel"]), np.array(["cat", "cat", "cat", "dog"])
    codes = [np.array([float(class_code(one)) for one in side]) for side in (guess, truth)]
    sure = np.array([0.9, 0.5, 0.0, 0.5])
    confusion, scored, sums = whole(paired(codes[0], codes[1], np.zeros(4, np.uint8), of=OF_CLASSES, sure=sure))
    known = labels_of(guess, truth, Task.MULTICLASS, 0.5, "1", confidence=np.where(sure > 0, sure, np.nan))
    assert confusion.tolist() == known.confusion.tolist() == [0, 2, 0, 2]
    assert scored.tolist() == known.scored.ravel().tolist()
    high, middle = score_bin(np.array([0.9, 0.5])).tolist()
    table = by_confidence(scored.reshape(-1, 2), confusion)
    assert (table[high].tolist(), table[middle].tolist(), table[0].tolist()) == ([0, 1], [2, 0], [0, 1])
    assert sums.several


def test_numbers_are_judged_by_their_errors_whatever_they_are():
    guess, truth = np.array([0.0, 1.0, 5.0, 7.5]), np.array([1.0, 1.0, 0.0, 7.0])
    confusion, scored, sums = whole(paired(guess, truth, np.zeros(4, np.uint8), of=OF_NUMBERS))
    assert confusion.tolist() == [0, 0, 0, 0]
    known = labels_of(guess, truth, Task.REGRESSION, 0.5, "1")
    assert sums.pack() == known.sums.pack()
    judged = judged_counts(confusion, scored, sums)
    assert judged[0].tolist() == known.confusion.tolist()
    assert judged[1].tolist() == known.scored.ravel().tolist()


def test_a_class_and_a_number_compare_in_nothing():
    codes = np.array([float(class_code("cat")), 1.0])
    (one,) = [d for d in merged_outcomes(paired(codes[:1], codes[1:], np.zeros(1, np.uint8), of=OF_CLASSES, kind=0))
              if not d.segment]  # fmt: skip
    assert (one.rows, one.loss, sum(np.frombuffer(one.confusion, "<i8")), one.sums) == (1, 0, 0, b"")


def test_what_was_done_is_told_by_action_and_not_of_corrections():
    predictions, labels = np.zeros(3, WAITING_ROW), np.zeros(3, WAITING_ROW)
    predictions["decision"], predictions["label"] = [1, 1, 0], [0.25, 0.25, np.nan]
    labels["label"] = [1, 0, 0]
    owners = Owners()
    who = [Owner("fraud", "1", (), "approve"), Owner("fraud", "1", (), "approve"), Owner("fraud", "1", ())]
    predictions["owner"] = owners.codes(who)
    (one,) = merged_outcomes(outcomes_of(owners, predictions, labels, MINUTE))
    assert (one.rows, list(one.actions)) == (3, ["approve"])
    found = AssignedRows.of(OutcomeSums.unpack(one.actions["approve"]))
    assert (found.labelled.sum(0).tolist(), found.inverse.sum(0).tolist()) == ([1, 1, 0, 0], [4.0, 4.0, 0.0, 0.0])
    # A pair that is kept has its label where its probability was.
    assert not any(one.actions for one in outcomes_of(owners, predictions, labels, MINUTE, corrects=True))
