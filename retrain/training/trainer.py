"""What a trainer is: the port that the default trainers and a user's own class satisfy."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.contracts.plugins import PluginError, PluginGroup, load_plugin
from stationkeeper.registry import FeatureSpec, InputMode, ModelTask


class TrainerError(ValueError):
    """A trainer that cannot be loaded or that does not keep its promise; the message says which and what to do."""


def say_nothing(share: float | None, text: str) -> None:
    """Drop what a trainer says of its progress."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a model learns from: n rows in time order.

    ``features`` has a column for each of ``specs``: Float64 for numeric, Boolean for boolean, String for categorical,
    null where missing. ``labels`` is float64[n] (1.0 for the positive class of a binary task, of several classes the
    index in ``classes``, which are all that labels of this training have, also where these rows lack one), ``weights``
    float64[n].
    ``memory_bytes`` (of all processes together) and ``seconds`` (of the whole training, of which a fit is a part) are
    its limits, None without; ``progress`` may be told what share is done (None: unknown) and a few words.
    """

    features: pl.DataFrame
    specs: tuple[FeatureSpec, ...]
    labels: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    task: ModelTask
    seed: int
    threads: int = 1
    memory_bytes: int | None = None
    seconds: float | None = None
    progress: Callable[[float | None, str], None] = say_nothing
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An exported model: its bytes, the output to read and how it takes its input (see ``registry.InputMode``).

    A binary model's output is float32 probabilities ``(n, 2)``, negative class first; one of several classes has a
    column for each of ``TrainingData.classes``; a regression's is ``(n, 1)``.
    """

    content: bytes
    output: str
    input_mode: InputMode

    @property
    def digest(self) -> str:
        """The SHA-256 of the bytes."""
        return hashlib.sha256(self.content).hexdigest()


@runtime_checkable
class FittedModel(Protocol):
    """A trained model."""

    def score(self, features: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Return the probability of the positive class or the value, shape ``(n,)``; of several classes ``(n, k)``."""

    def to_onnx(self) -> OnnxModel:
        """Return the model as ONNX; the trained and the exported model are compared row by row afterwards."""

    def to_skops(self) -> bytes | None:
        """Return the model as a skops file, kept where ONNX export fails; None when there is none. Never a pickle."""


@runtime_checkable
class Trainer(Protocol):
    """Trains a model; constructed with ``retrain.parameters`` as keywords, called several times in one process."""

    def fit(self, data: TrainingData) -> FittedModel:
        """Return a model fitted to the weighted rows; equal data and seed give an equal model."""


def load_trainer(name: str, parameters: Mapping[str, Any] | None = None) -> Trainer:
    """Return the trainer that an entry point of ``stationkeeper.trainers`` or an import path names.

    ``parameters`` are the keywords of its class. Raises ``TrainerError``.
    """
    given = parameters or {}
    try:
        make = load_plugin(PluginGroup.TRAINERS, name)
    except PluginError as error:
        raise TrainerError(f"trainer {error}") from error
    try:
        trainer = make(**given)
    except TypeError as error:
        raise TrainerError(
            f"trainer {name!r} cannot be made with retrain.parameters ({', '.join(given) or 'none'}): {error}"
        ) from error
    if not isinstance(trainer, Trainer):
        raise TrainerError(f"trainer {name!r} has no method fit(data); see stationkeeper.retrain.training.Trainer")
    return trainer
