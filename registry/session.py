"""A model version loaded for serving: columns of raw values in, scores and decisions out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stationkeeper.registry.artifact import (
    MODEL_FILE,
    TENSOR_INPUT,
    CardError,
    Column,
    FeatureKind,
    InputMode,
    ModelCard,
    Task,
    model_inputs,
)
from stationkeeper.registry.served import ArtifactError, read_card

Prediction = float | dict[str, float] | None
POSITIVE, NEGATIVE = "positive", "negative"


@dataclass(frozen=True, slots=True)
class Answers:
    """What a version answered, by row: the prediction (None where it failed) and the action it stands for."""

    predictions: Sequence[Prediction]
    actions: Sequence[str | None]


class ServedModel:
    """One version in memory: its card and an ONNX session with one thread, so that workers do not fight for cores."""

    def __init__(self, model: str, version: str, directory: Path) -> None:
        """Load and check a version; raises ``ArtifactError`` when graph and card disagree."""
        import onnxruntime

        self.version = version
        self.card: ModelCard = read_card(directory)
        if self.card.model != model:
            raise ArtifactError(f"version {version} of {model} holds a card of {self.card.model!r}; register it anew")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                (directory / MODEL_FILE).read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises its own types and RuntimeError
            raise ArtifactError(f"version {version} of {model} is not a model onnxruntime can load: {error}") from error
        self._check(model)
        self._warm(model)

    def _check(self, model: str) -> None:
        found = {one.name: one.type for one in self._session.get_inputs()}
        if self.card.input_mode is InputMode.TENSOR:
            wanted = {TENSOR_INPUT: "tensor(float)"}
        else:
            kinds = dict.fromkeys(FeatureKind, "tensor(float)") | {FeatureKind.CATEGORICAL: "tensor(string)"}
            wanted = {feature.name: kinds[feature.kind] for feature in self.card.features}
        if found != wanted:
            differ = sorted(set(found.items()) ^ set(wanted.items()))
            raise ArtifactError(f"version {self.version} of {model}: graph and card disagree on the inputs {differ}")
        outputs = [one.name for one in self._session.get_outputs()]
        if self.card.output not in outputs:
            raise ArtifactError(f"version {self.version} of {model}: no output {self.card.output!r} among {outputs}")

    def _warm(self, model: str) -> None:
        """Answer one row of nulls, which also proves that the output has the shape the card promises."""
        row: dict[str, Column] = {name: [None] for name in self.card.names}
        try:
            self.answer(row)
        except Exception as error:
            raise ArtifactError(f"version {self.version} of {model} cannot answer a row of nulls: {error}") from error

    def answer(self, columns: Mapping[str, Column]) -> Answers:
        """Answer a batch of columns of one length n; raises ``CardError`` for a value the model cannot take."""
        raw = self._session.run([self.card.output], model_inputs(self.card, columns))[0]
        output: npt.NDArray[Any] = np.asarray(raw, dtype=np.float64)
        if self.card.task is Task.REGRESSION:
            values: list[Prediction] = [None if value != value else value for value in output.reshape(-1).tolist()]  # noqa: PLR0124
            return Answers(values, [None] * len(values))
        if output.ndim != 2 or output.shape[1] != len(self.card.classes):
            raise ArtifactError(
                f"output {self.card.output!r} has shape {output.shape}, classes are {self.card.classes}"
            )
        return self._binary(output) if self.card.task is Task.BINARY else self._multiclass(output)

    def _binary(self, output: npt.NDArray[np.float64]) -> Answers:
        assert self.card.positive is not None  # noqa: S101 - the card's own validator holds this
        score = output[:, self.card.classes.index(self.card.positive)]
        bad = np.isnan(score)
        positive = score >= self.card.threshold
        predictions: list[Prediction] = score.tolist()
        actions: list[str | None] = [POSITIVE if one else NEGATIVE for one in positive.tolist()]
        for row in np.flatnonzero(bad).tolist():
            predictions[row] = actions[row] = None
        return Answers(predictions, actions)

    def _multiclass(self, output: npt.NDArray[np.float64]) -> Answers:
        classes = self.card.classes
        shares = np.clip(output, 0.0, 1.0)
        best = np.where(np.isnan(output).any(axis=1), -1, np.nan_to_num(output).argmax(axis=1)).tolist()
        rows = shares.tolist()
        predictions = [
            None if b < 0 else dict(zip(classes, row, strict=True)) for b, row in zip(best, rows, strict=True)
        ]
        return Answers(predictions, [None if b < 0 else classes[b] for b in best])


__all__ = ["NEGATIVE", "POSITIVE", "Answers", "CardError", "Prediction", "ServedModel"]
