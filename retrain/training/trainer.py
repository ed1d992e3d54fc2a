"""What a trainer is: the port that the default trainers and a user's own class satisfy."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.contracts.plugins import PluginError, PluginGroup, load_plugin
from stationkeeper.registry import FeatureSpec, InputMode, ModelTask


class TrainerError(ValueError):
    """A trainer that cannot be loaded or that does not keep its promise; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a model learns from: n rows in time order.

    ``features`` has a column for each of ``specs``: Float64 for numeric, Boolean for boolean, String for categorical,
    null where missing. ``labels`` is float64[n] (1.0 for the positive class of a binary task), ``weights`` float64[n].
    """

    features: pl.DataFrame
    specs: tuple[FeatureSpec, ...]
    labels: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    task: ModelTask
    seed: int
    threads: int = 1


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An exported model: its bytes, the output to read and how it takes its input (see ``registry.InputMode``).

    A binary model's output is float32 probabilities ``(n, 2)``, negative class first; a regression's is ``(n, 1)``.
    """

    content: bytes
    output: str
    input_mode: InputMode


@runtime_checkable
class FittedModel(Protocol):
    """A trained model."""

    def score(self, features: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Return the probability of the positive class, or the value of a regression, shape ``(n,)``."""

    def to_onnx(self) -> OnnxModel:
        """Return the model as ONNX; the trained and the exported model are compared row by row afterwards."""

    def to_skops(self) -> bytes | None:
        """Return the model as a skops file, kept where ONNX export fails; None when there is none. Never a pickle."""


@runtime_checkable
class Trainer(Protocol):
    """Trains a model; constructed without arguments, called several times in one training process."""

    def fit(self, data: TrainingData) -> FittedModel:
        """Return a model fitted to the weighted rows; equal data and seed give an equal model."""


def load_trainer(name: str) -> Trainer:
    """Return the trainer that an entry point of ``stationkeeper.trainers`` or an import path names.

    Raises ``TrainerError``.
    """
    try:
        trainer = load_plugin(PluginGroup.TRAINERS, name)()
    except PluginError as error:
        raise TrainerError(f"trainer {error}") from error
    if not isinstance(trainer, Trainer):
        raise TrainerError(f"trainer {name!r} has no method fit(data); see stationkeeper.retrain.training.Trainer")
    return trainer
