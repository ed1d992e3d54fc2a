import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.messages import GateOutcome
from stationkeeper.retrain.core.gate import (
    GateRules,
    blocks_of,
    judge_binary,
    judge_regression,
    paired_interval,
    sign_test,
)
from stationkeeper.retrain.settings import RetrainSettings

RULES = replace(RetrainSettings().gate_rules(), replicates=800, looks=1, min_rows=100, min_positives=10, seed=0)


def scores(labels: np.ndarray, skill: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logit = skill * (labels - 0.5) + rng.normal(0, 1, len(labels)) - 1.0
    return 1 / (1 + np.exp(-logit))


def drawn(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < 0.1


def judge(labels: np.ndarray, old: np.ndarray, new: np.ndarray, rules: GateRules = RULES) -> GateOutcome:
    after = np.arange(len(labels)) >= len(labels) // 3
    return judge_binary(labels, (old, 0.5), (new, 0.5), after, rules).outcome


def test_a_better_model_passes_and_a_worse_one_fails():
    labels = drawn(4_000, 1)
    good, bad = scores(labels, 6, 2), scores(labels, 1, 3)
    assert judge(labels, bad, good) is GateOutcome.PASS
    assert judge(labels, good, bad) is GateOutcome.FAIL


def test_the_same_model_gives_no_evidence():
    labels = drawn(4_000, 1)
    same = scores(labels, 4, 2)
    assert judge(labels, same, same) is GateOutcome.NO_EVIDENCE


def test_too_few_rows_are_no_evidence_and_say_so():
    labels = drawn(90, 1)
    after = np.ones(90, bool)
    found = judge_binary(labels, (scores(labels, 1, 2), 0.5), (scores(labels, 9, 3), 0.5), after, RULES)
    assert found.outcome is GateOutcome.NO_EVIDENCE
    assert "90 held-out rows" in found.reason


def test_equal_models_pass_no_more_often_than_alpha():
    rules = replace(RULES, replicates=300, alpha=0.05)
    passed = 0
    for seed in range(150):
        labels = drawn(1_500, seed)
        old, new = scores(labels, 4, 1_000 + seed), scores(labels, 4, 9_000 + seed)
        passed += judge(labels, old, new, rules) is GateOutcome.PASS
    # Two tests at 2.5 % and a margin on top; a binomial with p = 0.05 exceeds 15 of 150 once in 500.
    assert passed <= 15


def test_for_age_a_better_estimate_is_enough_where_decisions_are_no_worse():
    labels = drawn(6_000, 7)
    old = scores(labels, 4, 8)
    # A little nearer to the truth in each row, but not by a twentieth of the loss.
    new = old + 0.01 * (labels - old)
    new = np.where((old < 0.5) != (new < 0.5), old, new)
    assert judge(labels, old, new) is GateOutcome.NO_EVIDENCE
    aged = replace(RULES, aged=True)
    found = judge_binary(labels, (old, 0.5), (new, 0.5), np.ones(6_000, bool), aged)
    assert found.outcome is GateOutcome.PASS
    assert found.reason.startswith("nothing drifted; estimated better: log loss saved +0.0")
    # No better, or with worse decisions, it stays where it is.
    assert judge(labels, old, old, aged) is GateOutcome.NO_EVIDENCE
    assert judge(labels, new, old, aged) is not GateOutcome.PASS
    worse = judge_binary(labels, (old, 0.5), (new, 0.95), np.ones(6_000, bool), aged)
    assert worse.outcome is not GateOutcome.PASS


def test_for_age_decisions_that_are_shown_to_be_worse_are_refused_though_the_loss_is_estimated_better():
    labels = drawn(6_000, 7)
    old = scores(labels, 4, 8)
    after = np.arange(6_000) >= 1_500
    # Nearer to the truth in each row since the change, by a threshold that misses some: worse within the margin.
    new = np.where(after, old + 0.05 * (labels - old), old)
    aged = replace(RULES, aged=True, margin=0.5)
    found = judge_binary(labels, (old, 0.5), (new, 0.8), after, aged)
    assert found.numbers["log_loss_gain_after"]["difference"] > 0
    assert found.numbers["f1_after"]["high"] < 0
    assert found.outcome is GateOutcome.FAIL
    assert found.reason.startswith("worse after the change: F1 -")


def test_the_gate_tells_how_many_wrong_answers_a_row_were_spared():
    labels = np.arange(1_000) % 10 == 0
    old, new = np.full(1_000, 0.1), np.where(np.arange(1_000) % 20 == 0, 0.9, 0.1)
    found = judge_binary(labels, (old, 0.5), (new, 0.5), np.arange(1_000) >= 500, RULES)
    # One row of twenty, which the champion misses.
    assert (found.numbers["spared"], found.numbers["spared_error"]) == (0.05, 0.009747)


def test_better_after_the_change_but_much_worse_before_it_does_not_pass():
    labels = drawn(6_000, 4)
    after = np.arange(6_000) >= 4_500
    good, bad = scores(labels, 7, 5), scores(labels, 0.5, 6)
    old, new = np.where(after, bad, good), np.where(after, good, bad)
    found = judge_binary(labels, (old, 0.5), (new, 0.5), after, RULES)
    assert found.outcome is GateOutcome.FAIL
    assert "overall" in found.reason


def test_a_sign_test_by_hand():
    # 3 of 3: (1/2)^3; 2 of 3 or more: (3 + 1) / 8.
    assert sign_test(3, 0) == pytest.approx(0.125)
    assert sign_test(2, 1) == pytest.approx(0.5)
    assert sign_test(0, 0) == 1.0


def test_the_interval_of_a_mean_has_the_width_theory_says():
    rng = np.random.default_rng(0)
    values = rng.normal(0.3, 1.0, 2_000)
    cells = np.stack([values, np.ones(2_000)], axis=1)
    found = paired_interval(cells, lambda sums: sums[:, 0] / sums[:, 1], 0.05, 4_000, 1)
    assert found.difference == pytest.approx(values.mean())
    half = 1.645 * values.std() / math.sqrt(2_000)
    assert found.low == pytest.approx(values.mean() - half, abs=0.12 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.12 * half)


@given(n=st.integers(1, 300), blocks=st.integers(1, 60), seed=st.integers(0, 99))
def test_blocks_add_up_to_the_rows(n: int, blocks: int, seed: int):
    columns = np.random.default_rng(seed).normal(size=(n, 3))
    rows = np.random.default_rng(seed + 1).random(n) < 0.7
    rows[0] = True
    sums = blocks_of(columns, rows, blocks)
    assert len(sums) <= blocks
    np.testing.assert_allclose(sums.sum(axis=0), columns[rows].sum(axis=0), atol=1e-9)


def test_regression_compares_absolute_errors():
    rng = np.random.default_rng(0)
    labels = rng.normal(0, 5, 2_000)
    old, new = labels + rng.normal(0, 2, 2_000), labels + rng.normal(0, 1, 2_000)
    after = np.ones(2_000, bool)
    assert judge_regression(labels, old, new, after, RULES).outcome is GateOutcome.PASS
    assert judge_regression(labels, new, old, after, RULES).outcome is GateOutcome.FAIL
    assert judge_regression(labels, new, new, after, RULES).outcome is GateOutcome.NO_EVIDENCE
