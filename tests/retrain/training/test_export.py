import hashlib
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stationkeeper.registry import ArtifactError, FeatureKind, FeatureSpec, InputMode, ModelCard, ModelTask, ServedModel
from stationkeeper.retrain.training.encoding import Encoding
from stationkeeper.retrain.training.estimators import EncodedModel
from stationkeeper.retrain.training.export import ExportError, export
from stationkeeper.retrain.training.trainer import OnnxModel, TrainerError, TrainingData, load_trainer
from stationkeeper.retrain.training.tree_ensemble import float32_below

SPECS = (
    FeatureSpec(name="amount", kind=FeatureKind.NUMERIC),
    FeatureSpec(name="label", kind=FeatureKind.NUMERIC),
    FeatureSpec(name="model.x", kind=FeatureKind.CATEGORICAL),
    FeatureSpec(name="foreign", kind=FeatureKind.BOOLEAN),
    FeatureSpec(name="empty", kind=FeatureKind.NUMERIC),
)


def table(n: int = 1_500, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    amount = rng.normal(0, 3, n)
    kind = rng.choice(["a", "b", "c", "rare"], n, p=(0.5, 0.3, 0.199, 0.001))
    frame = pl.DataFrame(
        {
            "amount": np.where(rng.random(n) < 0.1, np.nan, amount),
            "label": rng.normal(1e6, 1e5, n),
            "model.x": [None if gone else text for gone, text in zip(rng.random(n) < 0.1, kind, strict=True)],
            "foreign": rng.random(n) < 0.5,
            "empty": [None] * n,
        },
        schema_overrides={"empty": pl.Float64, "model.x": pl.String},
    ).with_columns(pl.col("amount").fill_nan(None))
    return frame, amount + 2 * (kind == "b") + rng.normal(0, 0.3, n)


def fitted(trainer: str, task: ModelTask):
    frame, value = table()
    parts = [-1.0, 1.5] if task is ModelTask.MULTICLASS else [1.5]
    labels = value if task is ModelTask.REGRESSION else np.searchsorted(parts, value).astype(float)
    data = TrainingData(frame, SPECS, labels, np.ones(len(labels)), task, seed=3, classes=card(task).classes)
    return load_trainer(trainer).fit(data), frame


def card(task: ModelTask) -> ModelCard:
    binary = task is ModelTask.BINARY
    several = ("low", "middle", "high") if task is ModelTask.MULTICLASS else ()
    return ModelCard(
        model="bank",
        task=task,
        features=SPECS,
        classes=("false", "true") if binary else several,
        positive="true" if binary else None,
        onnx_sha256="0" * 64,
    )


@pytest.mark.parametrize("trainer", ["gradient-boosting", "lightgbm", "logistic-regression"])
@pytest.mark.parametrize("task", [ModelTask.BINARY, ModelTask.REGRESSION])
def test_the_server_scores_what_was_trained(trainer: str, task: ModelTask, tmp_path: Path):
    model, _ = fitted(trainer, task)
    unseen, _ = table(seed=9)
    unseen = unseen.with_columns(
        pl.when(pl.int_range(pl.len()) < 20).then(pl.lit("new")).otherwise("model.x").alias("model.x")
    )
    made = export(model, card(task), unseen, tmp_path / "artifact")
    assert made.parity < 1e-5
    again = ServedModel.load(tmp_path / "artifact")
    scale = 1.0 if task is ModelTask.BINARY else float(np.abs(model.score(unseen)).max())
    np.testing.assert_allclose(again.score(unseen), model.score(unseen), atol=1e-5 * scale)
    assert again.card.input_mode is InputMode.COLUMNS


@pytest.mark.parametrize("trainer", ["gradient-boosting", "lightgbm", "logistic-regression"])
@pytest.mark.parametrize("unseen", ["none", "low", "low and middle"])
def test_of_several_classes_each_has_its_column_also_one_without_a_row(trainer: str, unseen: str, tmp_path: Path):
    frame, value = table()
    labels = np.searchsorted([-1.0, 0.5, 1.5], value).astype(float)
    kept = labels > {"none": -1, "low": 0, "low and middle": 1}[unseen]
    classes = ("low", "middle", "high", "top")
    rows = frame.filter(pl.Series(kept))
    data = TrainingData(
        rows, SPECS, labels[kept], np.ones(int(kept.sum())), ModelTask.MULTICLASS, seed=3, classes=classes
    )
    model = load_trainer(trainer).fit(data)
    about = card(ModelTask.MULTICLASS).model_copy(update={"classes": classes})
    served = export(model, about, frame, tmp_path / "artifact").model
    found = served.class_scores(frame)
    np.testing.assert_allclose(found, model.score(frame), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)
    assert (found[kept].argmax(axis=1) == labels[kept]).mean() > 0.5
    assert not found[:, : int(labels[kept].min())].any()


@pytest.mark.parametrize("trainer", ["gradient-boosting", "lightgbm"])
def test_the_same_seed_gives_the_same_bytes(trainer: str):
    one, _ = fitted(trainer, ModelTask.BINARY)
    two, _ = fitted(trainer, ModelTask.BINARY)
    assert one.to_onnx().content == two.to_onnx().content


def test_lightgbm_asks_float32_rows_what_its_graph_asks(tmp_path: Path):
    """Rows just below and at its own thresholds: rounded to the nearest float32, some would go the other way."""
    rng = np.random.default_rng(0)
    # Neighbours on the float32 line: between two of them the nearest to a threshold may be the upper one.
    steps = np.arange(2_000, dtype=np.int32) + np.float32(1_000.0).view(np.int32)
    values = steps.view(np.float32)
    frame = pl.DataFrame({"amount": values.astype(np.float64)})
    labels = (np.sin(np.arange(2_000) / 7) + rng.normal(0, 0.3, 2_000) > 0).astype(float)
    data = TrainingData(frame, SPECS[:1], labels, np.ones(2_000), ModelTask.BINARY, seed=1)
    model = load_trainer("lightgbm", {"leaves": 63}).fit(data)
    about = card(ModelTask.BINARY).model_copy(update={"features": SPECS[:1]})
    served = export(model, about, frame, tmp_path / "artifact").model
    np.testing.assert_allclose(served.score(frame), model.score(frame), atol=1e-6)


def test_lightgbm_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(TrainerError, match=r"pip install 'stationkeeper\[lightgbm\]'"):
        fitted("lightgbm", ModelTask.BINARY)


def test_an_export_that_scores_otherwise_is_refused_and_kept_as_skops(tmp_path: Path):
    model, frame = fitted("logistic-regression", ModelTask.BINARY)
    other, _ = fitted("gradient-boosting", ModelTask.BINARY)

    class Wrong(EncodedModel):
        def to_onnx(self) -> OnnxModel:
            found: OnnxModel = other.to_onnx()
            return found

    assert isinstance(model, EncodedModel)
    wrong = Wrong(model.encoding, model.estimator, model.task)
    with pytest.raises(ExportError, match=r"row \d+ of the golden rows scores .* kept as model\.skops"):
        export(wrong, card(ModelTask.BINARY), frame, tmp_path / "artifact")
    from skops.io import get_untrusted_types

    assert get_untrusted_types(file=tmp_path / "model.skops") == []
    assert not (tmp_path / "artifact" / "card.json").exists()


def test_an_artifact_whose_bytes_changed_is_refused(tmp_path: Path):
    model, frame = fitted("logistic-regression", ModelTask.BINARY)
    export(model, card(ModelTask.BINARY), frame, tmp_path)
    content = (tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(content + b"x")
    with pytest.raises(ArtifactError, match="its card says"):
        ServedModel.load(tmp_path)
    bad = card(ModelTask.BINARY).model_copy(update={"onnx_sha256": hashlib.sha256(b"junk").hexdigest()})
    with pytest.raises(ArtifactError, match="not a model onnxruntime can load"):
        ServedModel(bad, b"junk")


def test_thresholds_are_rounded_so_that_no_float32_crosses():
    rng = np.random.default_rng(0)
    thresholds = rng.normal(size=20_000)
    rounded = float32_below(thresholds)
    assert (rounded.astype(np.float64) <= thresholds).all()
    assert (np.nextafter(rounded, np.float32(np.inf)).astype(np.float64) > thresholds).all()


def test_an_encoding_by_hand():
    frame = pl.DataFrame({"x": [1.0, None, 3.0, 5.0] * 5, "c": ["u", "v", None, "u"] * 5})
    specs = (FeatureSpec(name="x", kind=FeatureKind.NUMERIC), FeatureSpec(name="c", kind=FeatureKind.CATEGORICAL))
    matrix = Encoding.fit(frame, specs).transform(frame[:3])
    # x with its median 3 and an indicator; __missing__, u, v.
    assert matrix.tolist() == [[1, 0, 0, 1, 0], [3, 1, 0, 0, 1], [3, 0, 1, 0, 0]]


@pytest.mark.parametrize("name", ["rows", "text", "count"])
def test_a_feature_may_be_called_as_counts_are(name: str):
    frame = pl.DataFrame({name: ["u", "v", None, "u"] * 5})
    encoding = Encoding.fit(frame, (FeatureSpec(name=name, kind=FeatureKind.CATEGORICAL),))
    assert encoding.columns[0].categories == ("__missing__", "u", "v")


def test_a_trainer_that_cannot_be_loaded_says_why():
    with pytest.raises(TrainerError, match=r"cannot be imported.*no_such"):
        load_trainer("no_such.module:Class")
    with pytest.raises(TrainerError, match="has no method fit"):
        load_trainer("collections:OrderedDict")
    with pytest.raises(TrainerError, match="gradient-boosting, lightgbm, logistic-regression"):
        load_trainer("forest")
