from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.contracts.wire import score_bin
from stationkeeper.monitor.core.performance import judged
from stationkeeper.monitor.core.reference import Task, load
from stationkeeper.profiling.fresh_version import build_reference
from stationkeeper.registry import FeatureKind, FeatureSpec, ModelCard, ModelTask
from stationkeeper.retrain.service.steps import ReferenceRows

AMOUNT = FeatureSpec(name="amount", kind=FeatureKind.NUMERIC)
Floats = npt.NDArray[np.float64]


def rows(card: ModelCard, scores: Floats, labels: Floats, positive: str = "") -> ReferenceRows:
    """200 minutes of version 2 of a model with one number."""
    return ReferenceRows(
        model="m",
        version="2",
        card=card,
        specs=(AMOUNT,),
        times=1_777_593_600_000 + np.arange(200) * 60_000,
        features=pl.DataFrame({"amount": np.random.default_rng(1).random(200)}),
        scores=scores,
        labels=labels,
        snapshot="",
        positive=positive,
    )


def test_a_new_version_keeps_the_text_of_the_positive_class() -> None:
    rng = np.random.default_rng(1)
    card = ModelCard.__new__(ModelCard)
    object.__setattr__(card, "threshold", 0.5)
    object.__setattr__(card, "task", ModelTask.BINARY)
    score = rng.random(200)
    digest, text = build_reference(
        rows(card, score, (rng.random(200) < score).astype(float), "fraud"), {"m": "Europe/Berlin"}
    )
    made = load(text)
    assert (made.positive, made.digest, made.timezone) == ("fraud", digest, "Europe/Berlin")
    assert made.labels is not None
    assert 0.3 < made.labels.positives < 0.7


def test_of_several_classes_the_reference_has_their_texts_also_where_only_two_are_answered() -> None:
    rng = np.random.default_rng(2)
    card = ModelCard(
        model="m", task=ModelTask.MULTICLASS, features=(AMOUNT,), classes=("cat", "dog", "owl"), onnx_sha256="0" * 64
    )
    answered = rng.integers(0, 2, 200).astype(float)
    truth = np.where(rng.random(200) < 0.8, answered, 2.0)
    truth[:5] = np.nan
    sure = np.where(answered == truth, 0.9, 0.5)
    given = replace(rows(card, answered, truth), confidence=sure)
    _, text = build_reference(given, {"other": "Europe/Berlin"})
    made = load(text)
    known = judged(made)
    assert known is not None
    high, low = score_bin(np.array([0.9, 0.5])).tolist()
    # Answers are scored by their own probability, and right or wrong: what is right is estimated from it.
    assert known.several
    assert (known.scored[high, 0], known.scored[low, 1]) == (0, 0)
    assert "@confidence" not in made.by_name
    assert (made.task, made.timezone) == (Task.MULTICLASS, "UTC")
    assert made.labels is not None
    assert made.labels.rows == 195
    assert '"cat"' in text.decode()
