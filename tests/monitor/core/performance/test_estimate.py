"""Performance expected without labels: right while a score means what it did, withdrawn where that is not known."""

import numpy as np
import pytest

from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.contracts.wire import SCORE_BINS, score_bin
from stationkeeper.monitor.core.performance import estimate, refuted
from stationkeeper.monitor.core.reference import Labels, Task, isotonic, labels_of


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
