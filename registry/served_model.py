"""A model version in memory: rows in, scores and decisions out; the same computation in training, gate and serving."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from stationkeeper.registry.artifact import (
    MODEL_FILE,
    TENSOR_INPUT,
    ArtifactError,
    Column,
    Engine,
    FeatureKind,
    FeatureSpec,
    InputMode,
    ModelCard,
    ModelTask,
    UnusableHere,
    check_digest,
    model_inputs,
    read_card,
)

if TYPE_CHECKING:
    import polars as pl

Prediction = float | dict[str, float] | None
POSITIVE, NEGATIVE = "positive", "negative"

MAX_MODEL_BYTES = 512 * 1024 * 1024
"""Chosen: the trees of the default trainer take below 1 MiB. A router holds up to six versions of a model in memory
(four kept, champion, canary), so twice the bound would let one model take 6 GiB."""

TOLERANCE = 1e-4
"""Largest difference between a score in training and the same row's elsewhere; float32 arithmetic stays below 1e-5,
and ten times as much would hide a threshold that moved."""

BATCH = 20_000
"""Rows scored in one call, chosen: bounds the arrays of a batch (20 000 rows of 100 float32 features take 8 MB) where
a snapshot has a million rows. Half of it costs more calls, twice of it more memory; scores are the same."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a version answered, by row: the prediction (None where it failed) and the action it stands for."""

    predictions: Sequence[Prediction]
    actions: Sequence[str | None]


class ServedModel:
    """A card and an ONNX session with one thread, so that workers do not fight for cores."""

    def __init__(self, card: ModelCard, content: bytes, *, version: str = "", what: str = MODEL_FILE) -> None:
        """Load and check a model; raises ``ArtifactError`` (naming ``what``) when graph and card disagree."""
        import onnxruntime

        self.card, self.version, self._what = card, version, what
        if len(content) > MAX_MODEL_BYTES:
            raise ArtifactError(f"{what} has {len(content)} bytes, the limit is {MAX_MODEL_BYTES}")
        check_digest(card, content, what)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # 3 is errors only: what onnxruntime warns of (unused initializers) helps nobody who reads our log.
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own types and RuntimeError
            raise UnusableHere(f"{what} is not a model onnxruntime can load: {error}") from error
        self._check()

    @classmethod
    def load(cls, directory: Path, model: str | None = None, version: str = "") -> Self:
        """Load an artifact directory, of version ``version`` of ``model`` where they are known.

        Raises ``ArtifactError`` when the files do not belong together or the card is another model's.
        """
        what = f"version {version} of {model}" if model is not None else str(directory)
        card = read_card(directory, what)
        if card.engine is not Engine.ONNX:
            raise ArtifactError(
                f"{what} is scored through its MLflow pyfunc: it can be compared with, and served by other targets, "
                "not here"
            )
        if model is not None and card.model != model:
            raise ArtifactError(f"{what} holds a card of {card.model!r}; register it anew")
        return cls(card, (directory / MODEL_FILE).read_bytes(), version=version, what=what)

    def _check(self) -> None:
        """Compare graph and card, and answer one row of nulls, which proves the shape of the output."""
        found = {one.name: one.type for one in self._session.get_inputs()}
        if self.card.input_mode is InputMode.TENSOR:
            wanted = {TENSOR_INPUT: "tensor(float)"}
        else:
            kinds = dict.fromkeys(FeatureKind, "tensor(float)") | {FeatureKind.CATEGORICAL: "tensor(string)"}
            wanted = {feature.name: kinds[feature.kind] for feature in self.card.features}
        if found != wanted:
            differ = sorted(set(found.items()) ^ set(wanted.items()))
            raise ArtifactError(f"{self._what}: graph and card disagree on the inputs {differ}")
        outputs = [one.name for one in self._session.get_outputs()]
        if self.card.output not in outputs:
            raise ArtifactError(f"{self._what}: no output {self.card.output!r} among {outputs}")
        try:
            self.answer({name: [None] for name in self.card.names})
        except Exception as error:
            raise UnusableHere(f"{self._what} cannot answer a row of nulls: {error}") from error
        self._check_golden()

    def _check_golden(self) -> None:
        """Answer the card's golden rows; another answer than in training means another model in effect."""
        golden = self.card.golden
        if golden is None or not self.proven:
            return
        try:
            wanted, found = np.array(golden.scores), self.output(golden.columns)
            scale = max(1.0, float(np.abs(wanted).max())) if self.card.task is ModelTask.REGRESSION else 1.0
            difference = float(np.abs(found - wanted).max()) / scale
        except Exception as error:
            raise UnusableHere(f"{self._what} cannot answer its golden rows: {error}") from error
        # Written so that NaN fails.
        if not difference <= TOLERANCE:
            raise UnusableHere(
                f"{self._what} answers its golden rows {difference:.3g} away from what it answered in training: "
                "run the onnxruntime it was trained with, or train again"
            )

    @property
    def proven(self) -> bool:
        """Whether the card has golden rows: a version that does not answer them alike is never in memory."""
        return self.card.golden is not None and bool(self.card.golden.scores)

    def output(self, columns: Mapping[str, Column]) -> npt.NDArray[np.float64]:
        """Return the raw output of columns of one length n, shape ``(n, outputs)``."""
        found = self._run(columns)
        return found.reshape(len(found), -1)

    def score(self, features: "pl.DataFrame") -> npt.NDArray[np.float64]:
        """Return the positive probability (or the value) of each row of a frame, shape ``(n,)``; binary, regression."""
        parts = [self._score(features[start : start + BATCH]) for start in range(0, len(features), BATCH)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def class_scores(self, features: "pl.DataFrame") -> npt.NDArray[np.float64]:
        """Return the probability of each class for the rows of a frame, shape ``(n, classes)``."""
        starts = range(0, len(features), BATCH)
        parts = [self._run(raw_columns(features[at : at + BATCH], self.card.features)) for at in starts]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.card.classes)))

    def _score(self, features: "pl.DataFrame") -> npt.NDArray[np.float64]:
        output = self._run(raw_columns(features, self.card.features))
        if self.card.task is ModelTask.REGRESSION:
            return output.reshape(-1)
        return output[:, self.card.classes.index(str(self.card.positive))]

    def answer(self, columns: Mapping[str, Column]) -> Answers:
        """Answer a batch of columns of one length n; raises ``CardError`` for a value the model cannot take."""
        output = self._run(columns)
        if self.card.task is ModelTask.REGRESSION:
            values: list[Prediction] = [None if value != value else value for value in output.reshape(-1).tolist()]  # noqa: PLR0124
            return Answers(values, [None] * len(values))
        return self._binary(output) if self.card.task is ModelTask.BINARY else self._multiclass(output)

    def _run(self, columns: Mapping[str, Column]) -> npt.NDArray[np.float64]:
        raw = self._session.run([self.card.output], model_inputs(self.card, columns))[0]
        output: npt.NDArray[Any] = np.asarray(raw, dtype=np.float64)
        classes = self.card.classes
        if self.card.task is not ModelTask.REGRESSION and (output.ndim != 2 or output.shape[1] != len(classes)):
            raise ArtifactError(f"output {self.card.output!r} has shape {output.shape}, classes are {classes}")
        return output

    def _binary(self, output: npt.NDArray[np.float64]) -> Answers:
        assert self.card.positive is not None  # noqa: S101 - the card's own validator holds this
        score = output[:, self.card.classes.index(self.card.positive)]
        predictions: list[Prediction] = score.tolist()
        actions: list[str | None] = [POSITIVE if one else NEGATIVE for one in (score >= self.card.threshold).tolist()]
        for row in np.flatnonzero(np.isnan(score)).tolist():
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


def raw_columns(features: "pl.DataFrame", specs: tuple[FeatureSpec, ...]) -> dict[str, Column]:
    """Return the columns of a frame as the values an event would carry; a feature the frame lacks is null."""
    import polars as pl

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
