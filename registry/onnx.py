"""Scores of a model artifact on a frame, exactly as the server computes them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.registry.artifact import (
    CARD_FILE,
    MODEL_FILE,
    Column,
    FeatureKind,
    FeatureSpec,
    ModelCard,
    Task,
    model_inputs,
)

MAX_MODEL_BYTES = 512 * 1024 * 1024
BATCH = 20_000


class ArtifactError(ValueError):
    """A model artifact that cannot be used; the message says which file and why."""


def raw_columns(features: pl.DataFrame, specs: tuple[FeatureSpec, ...]) -> dict[str, Column]:
    """Return the columns of a frame as the values an event would carry; a feature the frame lacks is null."""
    columns: dict[str, Column] = {}
    for spec in specs:
        if spec.name not in features.columns:
            columns[spec.name] = [None] * len(features)
            continue
        values = features[spec.name]
        if spec.kind is not FeatureKind.CATEGORICAL and values.dtype == pl.String:
            values = values.cast(pl.Float64, strict=False)
        columns[spec.name] = values.to_list()
    return columns


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An ONNX model with its card, loaded in one thread."""

    card: ModelCard
    session: Any

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Load ``model.onnx`` and ``card.json``; raises ``ArtifactError`` when they do not belong together."""
        try:
            content = (directory / MODEL_FILE).read_bytes()
            card = ModelCard.decode((directory / CARD_FILE).read_bytes())
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{directory} is no model artifact: {error}") from error
        return cls.from_bytes(card, content)

    @classmethod
    def from_bytes(cls, card: ModelCard, content: bytes) -> Self:
        """Load a model from memory; raises ``ArtifactError``."""
        import onnxruntime

        found = hashlib.sha256(content).hexdigest()
        if found != card.onnx_sha256:
            raise ArtifactError(f"{MODEL_FILE} hashes to {found}, the card says {card.onnx_sha256}")
        if len(content) > MAX_MODEL_BYTES:
            raise ArtifactError(f"{MODEL_FILE} has {len(content)} bytes, the limit is {MAX_MODEL_BYTES}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own bare classes
            raise ArtifactError(f"{MODEL_FILE} cannot be loaded: {error}") from error
        return cls(card, session)

    def score(self, features: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Return the positive probability (or the value) of each row, shape ``(n,)``."""
        parts = [self._score(features[start : start + BATCH]) for start in range(0, len(features), BATCH)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _score(self, features: pl.DataFrame) -> npt.NDArray[np.float64]:
        feed = model_inputs(self.card, raw_columns(features, self.card.features))
        (found,) = self.session.run([self.card.output], feed)
        values = np.asarray(found, dtype=np.float64)
        if self.card.task is Task.REGRESSION:
            return values.reshape(-1)
        return values[:, self.card.classes.index(str(self.card.positive))]
