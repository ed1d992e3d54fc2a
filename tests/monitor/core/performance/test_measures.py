"""Measures from sums are those of scikit-learn on the same rows, however the rows came in panes."""

import numpy as np
import pytest
from sklearn import metrics

from stationkeeper.monitor.core.performance import ValueMatrix, class_names, every_measure, measures
from stationkeeper.monitor.core.performance.measures import MOST_CLASSES, error_measures, pr_auc, roc_auc
from stationkeeper.monitor.core.reference import Task, labels_of, outcome_counts, total
from stationkeeper.monitor.core.reference.outcome_sums import ROWS

ROW_COUNT = 3_000


def scored(seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score = rng.beta(1.2, 4.0, ROW_COUNT).astype(np.float32).astype(np.float64)
    return score, (rng.random(ROW_COUNT) < score**1.3).astype(np.int64)


def test_a_binary_model_has_the_numbers_of_scikit_learn():
    score, truth = scored()
    labels = labels_of(score, truth, Task.BINARY, 0.5, "1")
    found = every_measure(Task.BINARY, labels.confusion, labels.sums)
    called = score >= 0.5
    exact = {
        "precision": metrics.precision_score(truth, called),
        "recall": metrics.recall_score(truth, called),
        "accuracy": metrics.accuracy_score(truth, called),
        "f1": metrics.f1_score(truth, called),
        "log_loss": metrics.log_loss(truth, score),
        "brier": metrics.brier_score_loss(truth, score),
    }
    assert {name: found[name].value for name in exact} == pytest.approx(exact, abs=2e-6)
    for name, value in (
        ("roc_auc", metrics.roc_auc_score(truth, score)),
        ("pr_auc", metrics.average_precision_score(truth, score)),
    ):
        assert abs(found[name].value - value) <= found[name].binning
        assert found[name].binning < 0.03, name
    bins = np.digitize(score, 1 / (1 + np.exp(-np.linspace(-7.5, 7.5, 31))))
    gaps = [abs(score[bins == k].sum() - truth[bins == k].sum()) for k in range(32)]
    assert found["calibration_error"].value == pytest.approx(sum(gaps) / ROW_COUNT, abs=1e-6)


def test_areas_are_exact_where_no_cell_holds_both_answers():
    score, truth = np.arange(1, 10) / 10, np.array([0, 1, 0, 0, 1, 0, 1, 1, 1])
    ranked = labels_of(score, truth, Task.BINARY, 0.5, "1").sums.ranked
    assert roc_auc(ranked).value == pytest.approx(metrics.roc_auc_score(truth, score))
    assert pr_auc(ranked).value == pytest.approx(metrics.average_precision_score(truth, score))
    assert (roc_auc(ranked).binning, pr_auc(ranked).binning) == (0.0, 0.0)
    # Rounded scores tie: then the areas are within what is stated.
    tied = np.round(scored()[0], 1), scored()[1]
    found = pr_auc(labels_of(*tied, Task.BINARY, 0.5, "1").sums.ranked)
    assert abs(found.value - metrics.average_precision_score(tied[1], tied[0])) <= found.binning + 1e-12


def test_areas_by_hand():
    cells = np.array([(2, 0), (1, 1), (0, 2)])
    assert roc_auc(cells).value == pytest.approx(8.5 / 9)
    assert roc_auc(cells).binning == pytest.approx(0.5 / 9)
    found = pr_auc(np.array([(0, 0), (1, 1), (0, 1)]))
    assert [found.value, found.binning] == pytest.approx([11 / 12, 1 / 12])


def test_answers_without_a_probability_have_no_curve():
    truth = np.array([0, 1, 1, 0])
    labels = labels_of(np.array(["no", "yes", "no", "no"]), np.where(truth, "yes", "no"), Task.BINARY, 0.5, "yes")
    found = every_measure(Task.BINARY, labels.confusion, labels.sums)
    assert found["recall"].value == 0.5
    assert "roc_auc" not in found


def test_several_classes_have_the_numbers_of_scikit_learn():
    rng = np.random.default_rng(2)
    names = np.array(["bird", "cat", "dog", "eel"])
    truth = rng.choice(names, ROW_COUNT, p=[0.1, 0.3, 0.55, 0.05])
    guess = np.where(rng.random(ROW_COUNT) < 0.7, truth, rng.choice(names[:3], ROW_COUNT))
    labels = labels_of(guess, truth, Task.MULTICLASS, 0.5, "1")
    found = every_measure(Task.MULTICLASS, labels.confusion, labels.sums, names=class_names(tuple(names)))
    macro = metrics.precision_recall_fscore_support(truth, guess, average="macro", zero_division=0)
    assert found["accuracy"].value == pytest.approx(metrics.accuracy_score(truth, guess))
    assert [found[f"macro_{name}"].value for name in ("precision", "recall", "f1")] == pytest.approx(macro[:3])
    each = metrics.recall_score(truth, guess, average=None, labels=names)
    assert [found[f"recall of {name}"].value for name in names] == pytest.approx(each)
    assert len(names) <= MOST_CLASSES


def test_numbers_have_the_numbers_of_scikit_learn_in_any_unit():
    rng = np.random.default_rng(9)
    for unit in (1e-6, 1.0, 2.5e5):
        truth = unit * rng.gamma(2.0, 1.0, ROW_COUNT)
        guess = truth * rng.lognormal(0.0, 0.3, ROW_COUNT)
        labels = labels_of(guess, truth, Task.REGRESSION, 0.5, "1")
        found = every_measure(Task.REGRESSION, labels.confusion, labels.sums, quantile=0.9)
        exact = {
            "mae": metrics.mean_absolute_error(truth, guess),
            "rmse": metrics.root_mean_squared_error(truth, guess),
            "bias": float(np.mean(guess - truth)),
            "quantile_loss": metrics.mean_pinball_loss(truth, guess, alpha=0.9),
        }
        assert {name: found[name].value for name in exact} == pytest.approx(exact, rel=1e-5)
        assert all(found[name].low <= exact[name] <= found[name].high for name in exact)


def test_numbers_by_hand():
    labels = labels_of(np.array([4.0, 1.0]), np.array([1.0, 2.0]), Task.REGRESSION, 0.5, "1")
    found = error_measures(labels.sums)
    assert [found[name].value for name in ("mae", "rmse", "bias", "quantile_loss")] == pytest.approx(
        [2.0, 5**0.5, 1.0, 1.0], rel=1e-6
    )
    assert labels.numeric
    assert labels.rows == 2


def test_the_value_of_decisions_by_hand():
    confusion = np.array([8, 2, 4, 86])
    labels = labels_of(np.array([0.2]), np.array([1]), Task.BINARY, 0.5, "1")
    found = every_measure(Task.BINARY, confusion, labels.sums, value=ValueMatrix((50.0, -5.0, -20.0, 0.0)))["value"]
    assert found.value == pytest.approx(3.1)
    assert -20 < found.low < 3.1 < found.high < 50


def test_panes_add_up_to_the_whole_whatever_their_order():
    score, truth = scored()
    group = np.arange(ROW_COUNT) % 7
    cells, confusion, sums = outcome_counts(score, truth, Task.BINARY, 0.5, "1", group, 7)
    whole = labels_of(score, truth, Task.BINARY, 0.5, "1")
    assert total(sums[::-1]).pack() == whole.sums.pack()
    assert (sums[0] + sums[1]).one(ROWS) == int((group < 2).sum())
    assert cells.sum(0).tolist() == whole.scored.tolist()
    assert confusion.sum(0).tolist() == whole.confusion.tolist()


def test_no_labels_give_no_measure():
    found = measures(np.zeros(4, np.int64))
    assert all(np.isnan(one.value) for one in found.values())
    assert (found["accuracy"].low, found["accuracy"].high) == (0.0, 1.0)


def test_the_measures_of_a_confusion_table_by_hand() -> None:
    found = measures(np.array([8, 2, 4, 86]))
    assert found["precision"].value == 0.8
    assert found["recall"].value == pytest.approx(8 / 12)
    assert found["accuracy"].value == 0.94
    assert found["f1"].value == pytest.approx(16 / 22)
    assert found["error_rate"].low < 0.06 < found["error_rate"].high
    assert np.isnan(measures(np.zeros(4, np.int64))["precision"].value)
