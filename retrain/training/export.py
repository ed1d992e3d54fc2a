"""The export of a trained model to ONNX, proven by parity with the trained one, and its card."""

import hashlib
import importlib.metadata
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl

from stationkeeper.registry import (
    CARD_FILE,
    MODEL_FILE,
    TOLERANCE,
    ArtifactError,
    FeatureSpec,
    GoldenRows,
    ModelCard,
    ModelTask,
    ServedModel,
    raw_columns,
)
from stationkeeper.retrain.training.job import SKOPS_FILE
from stationkeeper.retrain.training.trainer import FittedModel, OnnxModel

GOLDEN_ROWS = 2_000
"""Rows on which trained and exported model are compared, chosen: a category of one in a hundred is among them some
twenty times, and a leaf of one in a thousand twice; scoring them takes milliseconds."""

CARD_ROWS = 32
"""Golden rows that go into the card, chosen: every leaf of a wrong tree need not show, a wrong model does; a card with
a thousand rows would be slower to load than the model."""

TIMED_ROWS = 300
"""Single rows that are timed, chosen: three lie beyond the 99 % quantile; it takes a tenth of a second."""

_OPTIONAL = ("lightgbm", "onnxmltools")
_PACKAGES = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy", "polars")


class ExportError(ValueError):
    """A model that cannot be served: its export fails or gives other scores than the trained model."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An artifact directory with the largest difference found between trained and exported scores."""

    model: ServedModel
    parity: float


def export(fitted: FittedModel, card: ModelCard, golden: pl.DataFrame, directory: Path) -> Exported:
    """Write ``model.onnx`` and ``card.json`` after comparing both on golden rows; raises ``ExportError``.

    ``card`` is complete but for ``output``, ``input_mode`` and ``onnx_sha256``. Where export fails the model is kept
    as skops beside the directory, never as a pickle; it is not served.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        found = fitted.to_onnx()
        served = _load(found, card)
        difference = _parity(fitted, served, golden.head(GOLDEN_ROWS))
        kept_rows = _golden_rows(served, golden.head(CARD_ROWS))
        served = ServedModel(served.card.model_copy(update={"golden": kept_rows}), found.content)
    except Exception as error:  # every converter raises classes of its own
        kept = _keep(fitted, directory.parent / SKOPS_FILE)
        raise ExportError(f"the trained model cannot be served as ONNX: {error}; {kept}") from error
    (directory / MODEL_FILE).write_bytes(found.content)
    (directory / CARD_FILE).write_bytes(served.card.encode())
    return Exported(served, difference)


def serving_cost(directory: Path, rows: pl.DataFrame) -> dict[str, float]:
    """Return what a model takes to be served here: milliseconds to load, of one row (p99), and bytes."""
    began = time.perf_counter()
    model = ServedModel.load(directory)
    load_ms = 1_000 * (time.perf_counter() - began)
    taken = []
    for place in range(TIMED_ROWS):
        # Another row each time: a tree is as deep as the row that goes down in it.
        row = rows[place % len(rows)]
        began = time.perf_counter()
        model.output(raw_columns(row, model.card.features))
        taken.append(1_000 * (time.perf_counter() - began))
    size = (directory / MODEL_FILE).stat().st_size
    return {"load_ms": load_ms, "p99_ms": float(np.quantile(taken, 0.99)), "onnx_bytes": float(size)}


def schema_changes(old: Iterable[FeatureSpec], new: Iterable[FeatureSpec]) -> tuple[str, ...]:
    """Say which inputs mean another thing than the champion's: whoever sends them sends what was agreed with it."""
    before = {spec.name: spec.kind for spec in old}
    changed = [spec for spec in new if spec.name in before and before[spec.name] is not spec.kind]
    return tuple(f"feature {one.name} is {one.kind.value}, was {before[one.name].value}" for one in changed)


def packages() -> dict[str, str]:
    """Return the versions of the packages that shape a model."""
    names = (*_PACKAGES, *(name for name in _OPTIONAL if find_spec(name) is not None))
    return {name: importlib.metadata.version(name) for name in names}


def _load(found: OnnxModel, card: ModelCard) -> ServedModel:
    complete = card.model_copy(
        update={
            "output": found.output,
            "input_mode": found.input_mode,
            "onnx_sha256": hashlib.sha256(found.content).hexdigest(),
        }
    )
    return ServedModel(ModelCard.decode(complete.encode()), found.content)


def _parity(fitted: FittedModel, served: ServedModel, golden: pl.DataFrame) -> float:
    several = served.card.task is ModelTask.MULTICLASS
    trained = fitted.score(golden)
    exported = served.class_scores(golden) if several else served.score(golden)
    if trained.shape != exported.shape:
        raise ArtifactError(f"scores have shape {trained.shape} trained and {exported.shape} exported")
    # Float32 is right to a share of a number: values in the millions differ by more than probabilities can.
    scale = max(1.0, float(np.abs(trained).max())) if served.card.task is ModelTask.REGRESSION else 1.0
    difference = float(np.abs(trained - exported).max()) / scale
    # Written so that NaN fails.
    if not difference <= TOLERANCE:
        worst = np.unravel_index(np.argmax(np.nan_to_num(np.abs(trained - exported), nan=np.inf)), trained.shape)
        raise ArtifactError(
            f"row {worst[0]} of the golden rows scores {trained[worst]:.6g} trained and {exported[worst]:.6g} exported"
        )
    return difference


def _golden_rows(served: ServedModel, golden: pl.DataFrame) -> GoldenRows:
    """Return rows for the card: each column turned by another step, so that no row of the snapshot leaves with it."""
    columns = {}
    for step, (name, values) in enumerate(raw_columns(golden, served.card.features).items()):
        turn = step % max(len(values), 1)
        known = [None if value != value else value for value in values]  # noqa: PLR0124 - only NaN differs from itself
        columns[name] = (*known[turn:], *known[:turn])
    scores = served.output(columns)
    # A row without a finite score cannot be compared when the model is loaded, and JSON has no NaN.
    finite = np.flatnonzero(np.isfinite(scores).all(axis=1)).tolist()
    return GoldenRows(
        columns={name: tuple(values[row] for row in finite) for name, values in columns.items()},
        scores=tuple(tuple(scores[row].tolist()) for row in finite),
    )


def _keep(fitted: FittedModel, path: Path) -> str:
    try:
        content = fitted.to_skops()
    except Exception as error:  # noqa: BLE001 - the first error is the one to report, this is a detail of it
        return f"nor as skops: {error}"
    if content is None:
        return "its trainer has no skops form"
    path.write_bytes(content)
    return f"it is kept as {path.name}"
