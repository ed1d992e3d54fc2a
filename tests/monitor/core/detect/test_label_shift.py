"""More positives of the same kind: found from scores, told with the share, and not confused with moved inputs."""

from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.column import Numbers
from stationkeeper.contracts.messages import Level, Verdict
from stationkeeper.monitor.core.budget import Budget
from stationkeeper.monitor.core.detect import LabelShift, tells_label_shift
from stationkeeper.monitor.core.reference import Counts, Reference
from stationkeeper.monitor.core.watch import Watch, WatchSettings
from tests.monitor.core.streams import Columns, judge, reference_of

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
    assert str(named[0].reason).startswith("prediction: share of positives 27.8% -> ")
    assert "P(x|y) unchanged" in str(named[0].reason)
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


def test_the_same_share_says_nothing(reference: Reference) -> None:
    assert not judged(reference, rows(6_000, 0.28, 4))[1]


def test_without_scores_of_both_classes_nothing_is_watched() -> None:
    data = rows(500, 0.28, 6)
    made = reference_of({name: data[name] for name in ("x", "score")}, prediction="score")
    assert not tells_label_shift(made.prediction, made.labels)
    few = reference_of({**data, "label": (np.arange(500) < 10).astype(np.int64)}, prediction="score", label="label")
    assert not tells_label_shift(few.prediction, few.labels)
