"""What every trainer must hold to, for third parties to run in their own tests: ``check_trainer(MyTrainer)``."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.contracts.plugins import NotConforming
from stationkeeper.registry import TOLERANCE, FeatureKind, FeatureSpec, ModelCard, ModelTask
from stationkeeper.retrain.training.export import ExportError, export
from stationkeeper.retrain.training.trainer import FittedModel, Trainer, TrainingData

SPECS: Final = (
    FeatureSpec(name="amount in €", kind=FeatureKind.NUMERIC),
    FeatureSpec(name='size 15"', kind=FeatureKind.NUMERIC),
    FeatureSpec(name="abroad", kind=FeatureKind.BOOLEAN),
    FeatureSpec(name="method", kind=FeatureKind.CATEGORICAL),
)
"""One feature of each kind, and names that any CSV may have: a trainer may not use them as identifiers."""

ROWS: Final = 600
"""Chosen: enough that any learner beats chance on the planted signal (half of it is too few for boosted trees with five
rows a leaf and three kinds of missing values), few enough that the four fits of a task take a second."""


def check_trainer(make: Callable[[], Trainer], tasks: tuple[ModelTask, ...] = (ModelTask.BINARY,)) -> None:
    """Try a trainer on a small table with every kind of feature, missing values and weights.

    Raises ``NotConforming`` where it cannot be constructed without arguments, gives another model for equal data and
    seed, changes its input, ignores the weights, learns nothing, scores in another form than ``(n,)`` finite numbers
    (within 0 and 1 for a binary task; of several classes ``(n, classes)`` that sum to 1), cannot score nulls, one row
    or categories it has not seen, or gives an ONNX model that scores otherwise. O(four fits of ``ROWS`` rows a task).
    """
    trainer = make()
    if not isinstance(trainer, Trainer):
        raise NotConforming(f"{type(trainer).__name__} has no method fit(data)")
    for task in tasks:
        data = _table(task)
        kept = replace(data, labels=data.labels.copy(), weights=data.weights.copy(), features=data.features.clone())
        first, again = trainer.fit(data), make().fit(data)
        _same_input(data, kept)
        if not isinstance(first, FittedModel):
            raise NotConforming(f"fit gives {type(first).__name__}, which lacks score, to_onnx or to_skops")
        scores = _scores(first, data.features, task)
        if not np.array_equal(scores, _scores(again, data.features, task)):
            raise NotConforming(f"{task}: two fits of equal data and seed score differently; use data.seed everywhere")
        _learns(_single(scores), data)
        _weighs(trainer, data)
        _scores_what_comes(first, task)
        _exports(first, data)


def _table(task: ModelTask) -> TrainingData:
    # A signal that any learner finds: a number that decides most, a flag and a category beside it, and little noise.
    # One value in twenty is missing, of every kind.
    rng = np.random.default_rng(7)
    amount, size = rng.normal(size=ROWS), rng.normal(size=ROWS)
    abroad, method = rng.random(ROWS) < 0.3, rng.choice(["card", "wallet", "transfer"], ROWS)
    value = 2.0 * amount + abroad + 1.5 * (method == "wallet") + 0.3 * rng.normal(size=ROWS)
    missing = {spec.name: rng.random(ROWS) < 0.05 for spec in SPECS}
    columns = zip(SPECS, (amount, size, abroad, method), strict=True)
    features = pl.DataFrame({spec.name: pl.Series(spec.name, values.tolist()) for spec, values in columns})
    features = features.with_columns(
        pl.when(pl.Series(missing[name])).then(None).otherwise(pl.col(name)).alias(name) for name in features.columns
    )
    # Three classes in the order of the value, so that one question serves all tasks: do scores follow it?
    parts = np.quantile(value, [1 / 3, 2 / 3] if task is ModelTask.MULTICLASS else [0.5])
    labels = value if task is ModelTask.REGRESSION else np.searchsorted(parts, value).astype(np.float64)
    return TrainingData(features, SPECS, labels, np.ones(ROWS), task, seed=11, classes=_CLASSES[task])


_CLASSES: Final = {
    ModelTask.BINARY: ("false", "true"),
    ModelTask.MULTICLASS: ("low", "middle", "high"),
    ModelTask.REGRESSION: (),
}


def _single(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return one number a row: the score, or of several classes the mean class."""
    return scores if scores.ndim == 1 else scores @ np.arange(scores.shape[1])


def _scores(model: FittedModel, features: pl.DataFrame, task: ModelTask) -> npt.NDArray[np.float64]:
    scores = np.asarray(model.score(features))
    several = task is ModelTask.MULTICLASS
    if scores.shape != ((len(features), len(_CLASSES[task])) if several else (len(features),)):
        raise NotConforming(f"{task}: score gives shape {scores.shape} for {len(features)} rows")
    if not np.isfinite(scores).all():
        raise NotConforming(f"{task}: score gives numbers that are not finite")
    # As far as float32 scores of the exported model may differ from the trained one's.
    if several and not np.allclose(scores.sum(axis=1), 1.0, atol=TOLERANCE):
        raise NotConforming(f"{task}: the probabilities of a row do not sum to 1")
    if task is not ModelTask.REGRESSION and (scores.min(initial=0.0) < 0.0 or scores.max(initial=1.0) > 1.0):
        raise NotConforming(f"{task}: score gives {scores.min()} to {scores.max()}, a probability is within 0 and 1")
    return scores


def _same_input(data: TrainingData, kept: TrainingData) -> None:
    arrays = np.array_equal(data.labels, kept.labels) and np.array_equal(data.weights, kept.weights)
    if not arrays or not data.features.equals(kept.features):
        raise NotConforming("fit changes the data it is given; copy what you change")


def _learns(scores: npt.NDArray[np.float64], data: TrainingData) -> None:
    # A correlation of .5 with what it has seen: a linear model reaches .8 here, chance .04.
    if scores.std() == 0.0 or np.corrcoef(scores, data.labels)[0, 1] < 0.5:
        raise NotConforming(f"{data.task}: the scores hardly follow the labels of the rows learnt from")


def _weighs(trainer: Trainer, data: TrainingData) -> None:
    """Turn the labels of every second row around: whichever half weighs more decides."""
    # Fifty to one, so that a trainer that only half follows the weights still decides for the heavy half.
    turned = np.arange(ROWS) % 2 == 1
    # Of classes the last becomes the first.
    opposite = -data.labels if data.task is ModelTask.REGRESSION else data.labels.max() - data.labels
    mixed = replace(data, labels=np.where(turned, opposite, data.labels))
    heavy, light = (
        np.corrcoef(
            _single(_scores(trainer.fit(replace(mixed, weights=weights)), data.features, data.task)), data.labels
        )[0, 1]
        for weights in (np.where(turned, 1.0, 50.0), np.where(turned, 50.0, 1.0))
    )
    if not heavy > 0.0 > light:
        raise NotConforming(f"{data.task}: fit ignores data.weights")


def _scores_what_comes(model: FittedModel, task: ModelTask) -> None:
    schema = {"amount in €": pl.Float64, 'size 15"': pl.Float64, "abroad": pl.Boolean, "method": pl.String}
    rows = [[None] * len(SPECS), [1e30, -1e30, True, "never seen"], [0.0, 0.0, False, ""]]
    for row in rows:
        frame = pl.DataFrame([row], schema=schema, orient="row")
        try:
            _scores(model, frame, task)
        except NotConforming:
            raise
        except Exception as error:
            raise NotConforming(f"{task}: cannot score the row {row}: {error}") from error


def _exports(model: FittedModel, data: TrainingData) -> None:
    card = ModelCard(
        model="conformance",
        task=data.task,
        features=SPECS,
        classes=data.classes,
        positive="true" if data.task is ModelTask.BINARY else None,
        onnx_sha256="0" * 64,
    )
    with TemporaryDirectory() as scratch:
        try:
            export(model, card, data.features, Path(scratch) / "artifact")
        except ExportError as error:
            raise NotConforming(f"{data.task}: {error}") from error
