"""More positives of the same kind: found from scores, told with the share, and not confused with moved inputs."""

from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.column import Numbers
from stationkeeper.contracts.messages import Level, Verdict
from stationkeeper.monitor.core.budget import Budget
from stationkeeper.monitor.core.detect import LabelShift, tells_label_shift
from stationkeeper.monitor.core.incidents.explanation import label_shift_of
from stationkeeper.monitor.core.reference import Counts, Reference
from stationkeeper.monitor.core.watch import Watch, WatchSettings
from tests.monitor.core.streams import Columns, columns_for, judge, reference_of

SETTINGS = WatchSettings(budget=Budget(1.0, 72_000.0, "rows"), window=1_000)


def rows(number: int, positives: float, seed: int, shift: float = 0.0) -> Columns:
    """Two inputs that tell the classes apart, a third that does not, and the score that follows from them."""
    rng = np.random.default_rng(seed)
    y = rng.random(number) < positives
    x, z, n = rng.normal(size=(3, number))
    x, z = x + 1.2 * y + shift, z + 0.6 * y
    odds = 1.2 * (x - 0.6) + 0.6 * (z - 0.3) + np.log(0.28 / 0.72)
    return {"x": x, "z": z, "n": n, "score": 1 / (1 + np.exp(-odds)), "label": y.astype(np.int64)}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return reference_of(rows(8_000, 0.28, 1), prediction="score", label="label")


def judged(reference: Reference, data: Columns) -> tuple[Watch, list[Verdict]]:
    watch = Watch(reference, settings=SETTINGS)
    inputs: dict[str, Any] = {**data, "prediction": data["score"]}
    return watch, judge(watch, {name: inputs[name] for name in ("x", "z", "n", "prediction")})


def detector(reference: Reference) -> LabelShift:
    assert reference.prediction is not None
    assert reference.labels is not None
    return LabelShift(reference.prediction, reference.labels, 0.01, 12.0)


def cells_of(reference: Reference, data: Columns) -> Counts:
    subject, scores = reference.prediction, Numbers(data["score"])
    assert subject is not None
    return subject.cells.tally(scores, np.zeros(len(scores), np.int64), 1)[0, : subject.cells.count]


@pytest.mark.parametrize("now", [0.28, 0.4, 0.15])
def test_the_share_of_positives_is_estimated_from_scores_alone(reference: Reference, now: float) -> None:
    found = detector(reference).estimate(cells_of(reference, rows(20_000, now, 5)))
    assert found.before == pytest.approx(0.28, abs=0.01)
    assert found.now == pytest.approx(now, abs=0.03)
    assert found.fits


def test_more_positives_page_and_are_named(reference: Reference) -> None:
    watch, said = judged(reference, rows(6_000, 0.4, 2))
    named = [verdict for verdict in said if verdict.cause == "label_shift"]
    assert named
    assert named[0].subject.name == "prediction"
    assert any(verdict.level is Level.PAGE for verdict in said)
    assert 0.33 < named[0].evidence["positives_now"] < 0.47
    assert str(named[0].reason).startswith("prediction: as if the share of positives went 27.8% -> ")
    assert "if each class looks as it did" in str(named[0].reason)
    told = named[0].evidence
    assert told["positives_low"] < 0.4 < told["positives_high"]
    again = Watch(reference, settings=SETTINGS)
    again.restore(watch.state())
    kept, known = (one.state().drifts["prediction"].labels_log_m for one in (again, watch))
    assert kept is not None
    np.testing.assert_array_equal(kept, known)


def test_moved_inputs_are_not_called_more_positives(reference: Reference) -> None:
    _, said = judged(reference, rows(2_000, 0.28, 3, shift=0.7))
    (page,) = [verdict for verdict in said if verdict.level is Level.PAGE]
    assert (page.subject.name, page.cause) == ("x", "shift")
    assert not detector(reference).estimate(cells_of(reference, rows(20_000, 0.28, 7, shift=0.7))).fits


def test_inputs_that_move_together_are_told_as_a_condition_with_the_share_by_score() -> None:
    def moved(number: int, shift: float, seed: int) -> Columns:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(6, number)) + shift
        score = 1 / (1 + np.exp(1.0 - 0.55 * x.sum(0)))
        label = (rng.random(number) < score).astype(np.int64)
        return {**{f"x{i}": column for i, column in enumerate(x)}, "score": score, "label": label}

    made, now = reference_of(moved(8_000, 0.0, 1), prediction="score", label="label"), moved(1_000, 0.2, 2)
    watch = Watch(made, settings=SETTINGS)
    columns = {
        name: values for name, values in {**now, "prediction": now["score"]}.items() if name not in {"score", "label"}
    }
    counts = made.layout.tally(columns_for(made, columns), np.zeros(1_000, np.int64), np.array([1_000]))[0]
    assert made.prediction is not None
    found = label_shift_of(made, watch.drifts, made.prediction, counts, frozenset())
    # 46 % are positive and the mixture that fits tells 83 %.
    assert found is not None
    assert "as if" in found.reason
    assert "unchanged" not in found.reason
    assert found.evidence["positives_low"] > 0.6
    assert found.evidence["positives_by_score"] == pytest.approx(float(now["label"].mean()), abs=0.03)
    assert label_shift_of(made, watch.drifts, made.prediction, counts, frozenset({"x3"})) is None


def test_a_condition_tells_the_true_share_within_its_interval(reference: Reference) -> None:
    inside = 0
    for seed in range(40):
        found = detector(reference).estimate(cells_of(reference, rows(1_500, 0.4, 100 + seed)))
        inside += found.low <= 0.4 <= found.high
    assert inside >= 34


def test_a_chart_shows_the_evidence_that_lies_higher_above_its_threshold(reference: Reference) -> None:
    watch, _ = judged(reference, rows(2_500, 0.4, 2))
    (drift,) = (one for one in watch.drifts if one.label_shift is not None)
    assert drift.shifted is not None
    assert drift.scores is not None
    share, own = float(drift.shifted.score[0]), float(drift.scores.leading[0])
    own_limit = float(drift.detector.log_threshold[0])
    assert share - float(drift.shifted.log_threshold[0]) > own - own_limit
    assert drift.evidence("prediction") == (share, float(drift.shifted.log_threshold[0]))


def test_the_same_share_says_nothing(reference: Reference) -> None:
    assert not judged(reference, rows(6_000, 0.28, 4))[1]


def test_without_scores_of_both_classes_nothing_is_watched() -> None:
    data = rows(500, 0.28, 6)
    made = reference_of({name: data[name] for name in ("x", "score")}, prediction="score")
    assert not tells_label_shift(made.prediction, made.labels)
    size = np.random.default_rng(7).gamma(2.0, size=500)
    numbers = reference_of(
        {"x": data["x"], "score": size, "label": size * 1.3 + data["x"]}, prediction="score", label="label"
    )
    assert numbers.labels is not None
    assert numbers.labels.numeric
    assert int(numbers.labels.scored.sum(0).min()) >= 50
    assert not tells_label_shift(numbers.prediction, numbers.labels)
    few = reference_of({**data, "label": (np.arange(500) < 10).astype(np.int64)}, prediction="score", label="label")
    assert not tells_label_shift(few.prediction, few.labels)
