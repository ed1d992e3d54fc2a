"""Performance from end to end in memory: what a model answers, what turns out true, what the status says of it."""

import json
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from stationkeeper.contracts.model_status import PerformanceStatus
from stationkeeper.contracts.status import check
from stationkeeper.monitor.core.performance import WEEK_MS
from stationkeeper.monitor.core.reference import Reference, Task, profile
from stationkeeper.monitor.status.performance import PerformanceView
from stationkeeper.monitor.verify import verify
from stationkeeper.streams.memory.ports import MemoryReader
from tests.monitor.rig import MINUTE, START, TOPICS, Rig, fraud

ROWS, A_MINUTE = 1_800, 20


def shown(answers: list[Any], truths: list[Any], **settings: Any) -> dict[str, PerformanceStatus]:
    """The measures of all traffic: labels come a minute late, and predictions are judged at the age of ten."""
    reference = profile(
        {"guess": np.array(answers), "truth": np.array(truths)}, model="fraud", prediction="guess", label="truth"
    )
    return played(reference, answers, truths, **settings)[0]


def played(
    reference: Reference, answers: list[Any], truths: list[Any], **settings: Any
) -> tuple[dict[str, PerformanceStatus], Rig]:
    rig = Rig({"fraud": fraud(label_maturity="10m", window="2h", quality={"learn_traffic": "0d"}, **settings)})
    rig.put_reference(reference)
    made, told = [], []
    for i, (answer, truth) in enumerate(zip(answers, truths, strict=True)):
        at = START + i * MINUTE // A_MINUTE
        event = {"event_id": f"e{i}", "time": at, "model": "fraud"}
        made.append(json.dumps(event | {"kind": "prediction", "version": "1", "prediction": answer}).encode())
        told.append(json.dumps(event | {"kind": "label", "time": at + MINUTE, "label": truth}).encode())
    rig.send("scores", made)
    rig.send("outcomes", told)
    # Ten seconds pass before the join hears how far labels are.
    rig.turn(24)
    status = rig.stage("judge").status()
    check(status)
    assert not [one for one in rig.verdicts() if one.level == "page"]
    return {one["measure"]: one for one in status["models"][0]["performance"]}, rig


def values(found: dict[str, PerformanceStatus], rows: int) -> dict[str, float]:
    assert {one["rows"] for name, one in found.items() if name in {"accuracy", "mae", "log_loss"}} == {rows}
    return {name: one["value"] for name, one in found.items()}


def test_a_binary_model_shows_what_scikit_learn_has_of_the_same_rows():
    rng = np.random.default_rng(1)
    score = rng.beta(1.0, 3.0, ROWS).astype(np.float32).astype(np.float64)
    truth = (rng.random(ROWS) < score).astype(int)
    worth = {"true_positive": 50, "false_positive": -5, "false_negative": -20}
    found = shown(score.tolist(), truth.tolist(), value=worth)
    rows = found["accuracy"]["rows"]
    seen = values(found, rows)
    assert rows > 1_000
    assert seen["log_loss"] == pytest.approx(metrics.log_loss(truth[:rows], score[:rows]), abs=1e-5)
    assert seen["brier"] == pytest.approx(metrics.brier_score_loss(truth[:rows], score[:rows]), abs=1e-5)
    assert seen["f1"] == pytest.approx(metrics.f1_score(truth[:rows], score[:rows] >= 0.5))
    area = metrics.roc_auc_score(truth[:rows], score[:rows])
    assert abs(seen["roc_auc"] - area) <= found["roc_auc"]["binning"]
    assert found["roc_auc"]["low"] < area < found["roc_auc"]["high"]
    _, fp, fn, tp = metrics.confusion_matrix(truth[:rows], score[:rows] >= 0.5).ravel()
    assert seen["value"] == pytest.approx((50 * tp - 5 * fp - 20 * fn) / rows)
    assert found["value"]["share"] is False
    accuracy = found["accuracy"]
    assert accuracy["estimated_low"] < accuracy["value"] < accuracy["estimated_high"]
    assert accuracy["estimate_error"] < 0.03
    assert found["roc_auc"]["reference"] == pytest.approx(metrics.roc_auc_score(truth, score), abs=0.01)


def test_several_classes_are_not_all_right():
    rng = np.random.default_rng(2)
    names = np.array(["bird", "cat", "dog"])
    truth = rng.choice(names, ROWS, p=[0.2, 0.3, 0.5])
    guess = np.where(rng.random(ROWS) < 0.8, truth, rng.choice(names, ROWS))
    found = shown(guess.tolist(), truth.tolist())
    rows = found["accuracy"]["rows"]
    seen = values(found, rows)
    assert seen["accuracy"] == pytest.approx(metrics.accuracy_score(truth[:rows], guess[:rows]))
    assert seen["macro_f1"] == pytest.approx(metrics.f1_score(truth[:rows], guess[:rows], average="macro"))
    assert seen["recall of cat"] == pytest.approx((guess[:rows] == "cat")[truth[:rows] == "cat"].mean())


def test_the_accuracy_of_several_classes_is_estimated_from_their_probabilities():
    rng = np.random.default_rng(4)
    names = np.array(["bird", "cat", "dog"])
    odds = rng.normal(0.0, 2.0, (ROWS, 3))
    shares = np.exp(odds) / np.exp(odds).sum(1, keepdims=True)
    truth = names[np.minimum((rng.random((ROWS, 1)) > shares.cumsum(1)).sum(1), 2)]
    guess, sure = names[shares.argmax(1)], shares.max(1)
    columns = {"guess": guess, "truth": truth, "sure": sure}
    made = profile(columns, model="fraud", prediction="guess", label="truth", confidence="sure")
    assert made.task is Task.MULTICLASS
    answers = [dict(zip(names.tolist(), row, strict=True)) for row in shares.tolist()]
    found, rig = played(made, answers, truth.tolist())
    accuracy = found["accuracy"]
    rows = accuracy["rows"]
    assert rows > 1_000
    assert accuracy["value"] == pytest.approx((guess == truth)[:rows].mean())
    assert accuracy["estimated_low"] < accuracy["value"] < accuracy["estimated_high"]
    assert accuracy["estimate_error"] < 0.03
    assert "estimated" not in found["macro_f1"]
    # Once the first week is over its labels count beside the reference's.
    assert accuracy["estimate_labels"] == 0
    judge = rig.stage("judge").judges["fraud"]
    calibration = next(watch for key, watch in judge.watches.items() if not key.segment).performance.calibration
    calibration.add(calibration.state().begin + WEEK_MS, np.zeros((32, 2), np.int64), calm=True)
    shown_now = PerformanceView().statuses(judge, rig.stage("judge").references)
    again = next(one for one in shown_now if one["measure"] == "accuracy")
    assert rows <= again["estimate_labels"] <= ROWS
    assert again["estimated_high"] - again["estimated_low"] < accuracy["estimated_high"] - accuracy["estimated_low"]
    assert verify(MemoryReader(rig.log), rig.models, TOPICS, clock="stream").equal
    # A producer that no longer tells its probabilities leaves nothing to estimate from, and that is said.
    found, _ = played(made, guess.tolist(), truth.tolist())
    assert found["accuracy"]["estimate_reason"].startswith("withdrawn: 100% of the scores")
    assert found["accuracy"]["value"] == pytest.approx((guess == truth)[:rows].mean())


def test_a_regression_is_judged_by_its_errors():
    rng = np.random.default_rng(3)
    truth = np.round(rng.gamma(2.0, 100.0, ROWS))
    guess = np.round(truth + rng.laplace(0.0, 20.0, ROWS), 3)
    made = profile({"guess": guess, "truth": truth}, model="fraud", prediction="guess", label="truth")
    assert made.task is Task.REGRESSION
    found = shown(guess.tolist(), truth.tolist(), quantile=0.9)
    rows = found["mae"]["rows"]
    seen = values(found, rows)
    exact = metrics.mean_absolute_error(truth[:rows], guess[:rows])
    assert rows > 1_000
    assert seen["mae"] == pytest.approx(exact, rel=1e-4)
    assert seen["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth[:rows], guess[:rows]), rel=1e-4)
    assert seen["quantile_loss"] == pytest.approx(
        metrics.mean_pinball_loss(truth[:rows], guess[:rows], alpha=0.9), rel=1e-4
    )
    assert found["mae"]["state"] == "steady"
    assert found["mae"]["low"] < exact < found["mae"]["high"]
