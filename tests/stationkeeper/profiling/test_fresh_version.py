import numpy as np
import polars as pl

from stationkeeper.monitor.core.reference import Task, load
from stationkeeper.profiling.fresh_version import build_reference
from stationkeeper.registry import FeatureKind, FeatureSpec, ModelCard, ModelTask
from stationkeeper.retrain.service.steps import ReferenceRows


def test_a_new_version_keeps_the_text_of_the_positive_class() -> None:
    rng = np.random.default_rng(1)
    spec = FeatureSpec(name="amount", kind=FeatureKind.NUMERIC)
    card = ModelCard.__new__(ModelCard)
    object.__setattr__(card, "threshold", 0.5)
    object.__setattr__(card, "task", ModelTask.BINARY)
    score = rng.random(200)
    rows = ReferenceRows(
        model="m",
        version="2",
        card=card,
        specs=(spec,),
        times=1_777_593_600_000 + np.arange(200) * 60_000,
        features=pl.DataFrame({"amount": rng.random(200)}),
        scores=score,
        labels=(rng.random(200) < score).astype(float),
        snapshot="",
        positive="fraud",
    )
    digest, text = build_reference(rows)
    made = load(text)
    assert (made.positive, made.digest) == ("fraud", digest)
    assert made.labels is not None
    assert 0.3 < made.labels.positives < 0.7


def test_of_several_classes_the_reference_has_their_texts_also_where_only_two_are_answered() -> None:
    rng = np.random.default_rng(2)
    spec = FeatureSpec(name="amount", kind=FeatureKind.NUMERIC)
    card = ModelCard(
        model="m", task=ModelTask.MULTICLASS, features=(spec,), classes=("cat", "dog", "owl"), onnx_sha256="0" * 64
    )
    answered = rng.integers(0, 2, 200).astype(float)
    truth = np.where(rng.random(200) < 0.8, answered, 2.0)
    truth[:5] = np.nan
    rows = ReferenceRows(
        model="m",
        version="2",
        card=card,
        specs=(spec,),
        times=1_777_593_600_000 + np.arange(200) * 60_000,
        features=pl.DataFrame({"amount": rng.random(200)}),
        scores=answered,
        labels=truth,
        snapshot="",
    )
    _, text = build_reference(rows)
    made = load(text)
    assert made.task is Task.MULTICLASS
    assert made.labels is not None
    assert made.labels.rows == 195
    assert '"cat"' in text.decode()
