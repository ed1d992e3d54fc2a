"""Performance expected without labels: right while a score means what it did, withdrawn where that is not known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.contracts.wire import SCORE_BINS, score_bin
from stationkeeper.monitor.core.finding import PAGE
from stationkeeper.monitor.core.performance import (
    OutcomePane,
    Performance,
    estimate,
    judged,
    judged_answers,
    refuted,
    split_errors,
)
from stationkeeper.monitor.core.reference import Labels, Reference, Task, by_confidence, isotonic, labels_of


def labelled(scored: np.ndarray) -> Labels:
    return Labels(scored, np.array([scored.sum(), 0, 0, 0]))


def test_one_bin_by_hand():
    scores, scored = np.zeros(SCORE_BINS, np.int64), np.zeros((SCORE_BINS, 2), np.int64)
    scores[-1], scored[-1] = 10, (50, 50)
    found = estimate(scores, labelled(scored), 0.5)
    precision = found.measures["precision"]
    assert precision.value == 0.5
    assert (precision.high - precision.low) / 2 == pytest.approx(1.96 * (0.025 + 0.0025) ** 0.5, abs=1e-4)
    assert found.measures["recall"].value == 1.0
    assert found.novel == 0.0


def test_neighbours_in_the_wrong_order_are_pooled_and_empty_bins_join():
    pool, positives, rows = isotonic(np.array([(3, 1), (1, 3), (2, 2), (0, 0)]))
    assert (pool.tolist(), positives.tolist(), rows.tolist()) == ([0, 1, 1, 1], [1, 5], [4, 8])
    assert isotonic(np.array([(0, 0), (1, 1)]))[1].tolist() == [1]


def test_scores_that_the_reference_never_had_are_novel_and_withdraw():
    scores, scored = np.zeros(SCORE_BINS, np.int64), np.zeros((SCORE_BINS, 2), np.int64)
    scored[4], scores[4], scores[20] = (90, 10), 95, 5
    found = estimate(scores, labelled(scored), 0.5)
    assert found.novel == 0.05
    assert "5% of the scores" in refuted(found.novel, [], [])
    assert refuted(0.0, [], []) == ""
    assert "i1" in refuted(0.0, [(VerdictKind.CONCEPT_DRIFT, "i1")], [])
    assert "i2" in refuted(0.0, [(VerdictKind.DATA_DRIFT, "i3")], ["i2"])


def test_the_truth_lies_within_the_interval_while_inputs_alone_shift():
    rng = np.random.default_rng(5)

    def rows(count: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
        odds = rng.normal(-1.0 + shift, 1.5, count)
        score = 1 / (1 + np.exp(-odds))
        # A model that is too sure of itself: only the reference's labels tell what a score stands for.
        return score, rng.random(count) < 1 / (1 + np.exp(-0.7 * odds))

    within = []
    for _ in range(60):
        old, told = rows(4_000, 0.0)
        known = labels_of(old, told.astype(float), Task.BINARY, 0.5, "1")
        score, truth = rows(1_000, 0.6)
        found = estimate(np.bincount(score_bin(score), minlength=SCORE_BINS), known, 0.5).measures
        called = score >= 0.5
        real = {
            "precision": truth[called].mean(),
            "recall": called[truth].mean(),
            "accuracy": (called == truth).mean(),
            "f1": 2 * (called & truth).sum() / (called.sum() + truth.sum()),
        }
        within += [found[name].low <= value <= found[name].high for name, value in real.items()]
    assert np.mean(within) >= 0.9


CLASSES = np.array(["bird", "cat", "dog"])


def several(rng: np.random.Generator, rows: int, shift: float, concept: float = 0.0) -> tuple[np.ndarray, ...]:
    """Answers, their probabilities and truths of a model of three classes that is too sure of itself.

    ``shift`` makes inputs harder to tell; ``concept`` is the share of truths that became another class.
    """
    odds = rng.normal(0.0, 2.0 - shift, (rows, 3))
    shares = np.exp(odds) / np.exp(odds).sum(1, keepdims=True)
    true = np.exp(0.7 * odds) / np.exp(0.7 * odds).sum(1, keepdims=True)
    truth = (rng.random((rows, 1)) > true.cumsum(1)).sum(1)
    truth = np.where(rng.random(rows) < concept, (truth + 1) % 3, truth)
    return CLASSES[shares.argmax(1)], shares.max(1), CLASSES[np.minimum(truth, 2)]


def known_of(rng: np.random.Generator, rows: int) -> Labels:
    answer, sure, truth = several(rng, rows, 0.0)
    labels = labels_of(answer, truth, Task.MULTICLASS, 0.5, "1", confidence=sure)
    found = judged(Reference("m", "1", (), "", rows, task=Task.MULTICLASS, labels=labels))
    assert found is not None
    return found


def test_several_classes_by_hand():
    scores, scored = np.zeros(SCORE_BINS, np.int64), np.zeros((SCORE_BINS, 2), np.int64)
    high, low = score_bin(np.array([0.9, 0.4])).tolist()
    scores[[high, low]], scored[high], scored[low] = (6, 4), (20, 80), (60, 40)
    found = estimate(scores, Labels(scored, np.array([0, 80, 0, 120]), several=True), 0.5)
    assert list(found.measures) == ["accuracy"]
    accuracy = found.measures["accuracy"]
    assert accuracy.value == pytest.approx(0.64)
    variance = (6 * 0.16 + 4 * 0.24) / 100 + (0.36 * 0.16 + 0.16 * 0.24) / 100
    assert (accuracy.high - accuracy.low) / 2 == pytest.approx(1.96 * variance**0.5, rel=0.01)


def test_answers_without_a_probability_are_unknown_and_a_reference_without_any_estimates_nothing():
    rng = np.random.default_rng(3)
    answer, sure, truth = several(rng, 3_000, 0.0)
    # A tenth of the reference's answers had none either: they teach nothing of those that have.
    lacking = np.where(rng.random(3_000) < 0.1, np.nan, sure)
    labels = labels_of(answer, truth, Task.MULTICLASS, 0.5, "1", confidence=lacking)
    known = judged(Reference("m", "1", (), "", 3_000, task=Task.MULTICLASS, labels=labels))
    assert known is not None
    _, sure, _ = several(rng, 900, 0.0)
    scores = np.bincount(score_bin(np.append(sure, np.zeros(100))), minlength=SCORE_BINS)
    assert estimate(scores, known, 0.5).novel == pytest.approx(0.1, abs=0.01)
    answer, _, truth = several(rng, 100, 0.0)
    bare = labels_of(answer, truth, Task.MULTICLASS, 0.5, "1")
    found = judged(Reference("m", "1", (), "", 100, task=Task.MULTICLASS, labels=bare))
    assert found is not None
    assert not found.several


@pytest.mark.parametrize("size", [500, 4_000])
def test_the_accuracy_of_several_classes_lies_within_the_interval_while_inputs_alone_shift(size: int):
    rng = np.random.default_rng(6)
    within, moved = [], []
    for _ in range(100):
        known = known_of(rng, size)
        answer, sure, truth = several(rng, 1_000, 0.8)
        found = estimate(np.bincount(score_bin(sure), minlength=SCORE_BINS), known, 0.5).measures["accuracy"]
        real = (answer == truth).mean()
        within.append(found.low <= real <= found.high)
        moved.append(1 - known.error_rate - real)
    # Inputs that are harder to tell cost nine points or so, which the reference's own accuracy would not say.
    assert np.mean(moved) > 0.05
    assert np.mean(within) >= 0.9


def test_another_concept_is_not_within_the_interval_and_the_test_of_it_says_so():
    rng = np.random.default_rng(7)
    known = known_of(rng, 4_000)
    made, kinds = Performance(known, alpha=1 / 10_000), set()
    outside = []
    for k in range(60):
        answer, sure, truth = several(rng, 200, 0.0, concept=0.15)
        found = estimate(np.bincount(score_bin(sure), minlength=SCORE_BINS), known, 0.5).measures["accuracy"]
        outside.append(not found.low <= (answer == truth).mean() <= found.high)
        told = labels_of(answer, truth, Task.MULTICLASS, 0.5, "1", confidence=sure)
        pane = judged_answers(OutcomePane(k, k + 1, told.scored, told.confusion), known)
        for one in made.step(pane, 1.0):
            kinds |= {one.kind} if one.level == PAGE else set()
            if one.kind is VerdictKind.CONCEPT_DRIFT:
                assert "fewer right answers" in one.evidence["region"]
    assert np.mean(outside) > 0.5
    assert VerdictKind.CONCEPT_DRIFT in kinds


def test_what_the_mix_of_probabilities_explains_is_no_concept():
    rng = np.random.default_rng(8)
    known = known_of(rng, 8_000)
    for shift, concept, mixed in ((0.8, 0.0, True), (0.0, 0.1, False)):
        answer, sure, truth = several(rng, 4_000, shift, concept)
        told = labels_of(answer, truth, Task.MULTICLASS, 0.5, "1", confidence=sure)
        pane = judged_answers(OutcomePane(0, 1, told.scored, told.confusion), known)
        split = split_errors(pane.scored, known, (answer != truth).mean(), 0.5)
        assert split is not None
        assert bool(split.low <= 0 <= split.high) is mixed
        assert bool(split.mix > 0.05) is mixed


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 31)), max_size=40))
def test_rows_by_probability_are_the_same_rows_and_counted_twice_the_same(rows: list[tuple[int, int]]):
    scored, confusion = np.zeros((SCORE_BINS, 2), np.int64), np.zeros(4, np.int64)
    wanted = np.zeros((SCORE_BINS, 2), np.int64)
    for right, place in rows:
        confusion[3 if right else 1] += 1
        wanted[place, right] += 1
        # As the join counts them: without a probability a right answer has the highest score.
        scored[(place, right) if place else (31 * right, 0)] += 1
    assert np.array_equal(by_confidence(scored, confusion), wanted)
    assert np.array_equal(by_confidence(wanted, confusion), wanted)


def test_answers_without_a_probability_on_one_side_alone_are_no_concept():
    rng = np.random.default_rng(9)
    answer, sure, truth = several(rng, 10_000, 0.0)
    lacking = np.where(rng.random(10_000) < 0.5, np.nan, sure)
    labels = labels_of(answer, truth, Task.MULTICLASS, 0.5, "1", confidence=lacking)
    known = judged(Reference("m", "1", (), "", 10_000, task=Task.MULTICLASS, labels=labels))
    assert known is not None
    answer, sure, truth = several(rng, 5_000, 0.0)
    for now in (sure, np.where(rng.random(5_000) < 0.8, np.nan, sure)):
        told = labels_of(answer, truth, Task.MULTICLASS, 0.5, "1", confidence=now)
        pane = judged_answers(OutcomePane(0, 1, told.scored, told.confusion), known)
        split = split_errors(pane.scored, known, told.error_rate, 0.5)
        assert split is not None
        assert split.low <= 0 <= split.high
        assert abs(split.concept) < 0.03
