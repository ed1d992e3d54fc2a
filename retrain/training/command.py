"""The trainer ``command``: any program that reads a folder of rows and leaves a model in it.

The folder (its path is in the variable ``STATIONKEEPER_EXCHANGE``, and wherever the command says ``{exchange}``) holds
``data.parquet`` (a column a feature, ``@label``, ``@weight``) and ``job.json`` (``ExchangeJob``). The program writes
``model.onnx``, and may write ``model.json`` (``ExchangeModel``), ``metrics.json`` (numbers by name), ``progress.json``
(``{"share": 0.4, "text": "epoch 4 of 10"}``, as often as it likes) and ``error.txt``. It exits with 0 for a model, 3
for rows or parameters that no second try mends, anything else for a failure that may be tried again.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from stationkeeper.registry import ArtifactError, FeatureKind, InputMode, ModelCard, ModelTask, ServedModel
from stationkeeper.retrain.training.trainer import FittedModel, OnnxModel, TrainerError, TrainingData

EXCHANGE: Final = "STATIONKEEPER_EXCHANGE"
PLACEHOLDER: Final = "{exchange}"
# The names of the folder are its interface: programs of others read and write them.
DATA_FILE, JOB_FILE, MODEL_FILE, CARD_FILE = "data.parquet", "job.json", "model.onnx", "model.json"
METRICS_FILE, PROGRESS_FILE, ERROR_FILE = "metrics.json", "progress.json", "error.txt"
LABEL, WEIGHT = "@label", "@weight"

EXIT_UNFIT: Final = 3
"""The exit code for rows or parameters that no second try mends, as of our own training process."""

PROGRESS_S: Final = 0.5
"""Pause between two looks at the program's progress, chosen: people read it, and a look is one small file."""

# What an exported graph calls its output, where model.json does not say: what skl2onnx calls it.
_OUTPUTS: Final = {
    ModelTask.BINARY: "probabilities",
    ModelTask.MULTICLASS: "probabilities",
    ModelTask.REGRESSION: "variable",
}


class ExchangeFeature(BaseModel):
    """A column of ``data.parquet``: Float64 if numeric, Boolean if boolean, String if categorical; null is missing."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    kind: FeatureKind


class ExchangeJob(BaseModel):
    """What the program is asked: ``job.json`` of the folder.

    ``memory_bytes`` holds for all its processes together; ``seconds`` is how long the whole training may take, of
    which the program's runs are parts. Equal rows, parameters and seed must give an equal model. ``classes`` are those
    of several, which ``@label`` numbers from 0 on; the model answers with a column for each, in this order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: int = 1
    task: ModelTask
    rows: int
    features: tuple[ExchangeFeature, ...]
    parameters: dict[str, Any]
    seed: int
    threads: int
    memory_bytes: int | None
    seconds: float | None
    classes: tuple[str, ...] = ()


class ExchangeModel(BaseModel):
    """How ``model.onnx`` is asked: ``model.json``, which may be left out where the defaults hold.

    ``columns``: an input of shape (n, 1) a feature, named like it, float32 or text; ``tensor``: one input ``features``,
    float32 (n, features) in the order of ``job.json``. ``output`` is (n, 2) probabilities, (n, classes) of
    several, or (n, 1) of a regression.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    input_mode: InputMode = InputMode.COLUMNS
    output: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignFit:
    """The model that a program left: its graph, and the numbers that it gave of itself."""

    served: ServedModel
    onnx: OnnxModel
    metrics: Mapping[str, float]

    def score(self, features: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Return what the graph answers."""
        return _answers(self.served, features)

    def to_onnx(self) -> OnnxModel:
        """Return the graph as the program wrote it."""
        return self.onnx

    def to_skops(self) -> bytes | None:
        """Return None: the graph is all there is."""
        return None


@dataclass(frozen=True, slots=True)
class Command:
    """Runs ``command`` (words, no shell) in ``directory``, with ``parameters`` for the program to read.

    ``retrain: {trainer: command, parameters: {command: [python, train.py], directory: /srv/models}}``.
    """

    command: Sequence[str] = ()
    directory: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be run before any row is read."""
        if isinstance(self.command, str) or not self.command or not all(isinstance(one, str) for one in self.command):
            raise TrainerError(
                f"parameters.command is {self.command!r}; write the program and its arguments as a list of texts, "
                "for example [dvc, repro]"
            )

    def fit(self, data: TrainingData) -> FittedModel:
        """Run the program once; raises ``TrainerError`` for exit code 3, ``RuntimeError`` for any other but 0.

        The folder lies among the training's temporary files and stays there after a failure, to be looked at.
        """
        folder = Path(tempfile.mkdtemp(prefix="exchange-"))
        self._write(folder, data)
        words = [word.replace(PLACEHOLDER, str(folder)) for word in self.command]
        try:
            child = subprocess.Popen(
                words, cwd=self.directory, env=os.environ | {EXCHANGE: str(folder)}, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            raise TrainerError(f"parameters.command {words[0]!r} cannot be run: {error}") from error
        while (code := child.poll()) is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(PROGRESS_S)
            data.progress(*_progress(folder))
        if code:
            said = _text(folder / ERROR_FILE) or "it left no error.txt; see the training's log"
            found = f"{words[0]} ended with exit code {code}: {said}"
            raise TrainerError(found) if code == EXIT_UNFIT else RuntimeError(found)
        fitted = _read(folder, data)
        shutil.rmtree(folder, ignore_errors=True)
        return fitted

    def _write(self, folder: Path, data: TrainingData) -> None:
        rows = data.features.with_columns(pl.Series(LABEL, data.labels), pl.Series(WEIGHT, data.weights))
        rows.write_parquet(folder / DATA_FILE)
        job = ExchangeJob(
            task=data.task,
            rows=len(rows),
            features=tuple(ExchangeFeature(name=one.name, kind=one.kind) for one in data.specs),
            parameters=dict(self.parameters),
            seed=data.seed,
            threads=data.threads,
            memory_bytes=data.memory_bytes,
            seconds=data.seconds,
            classes=data.classes if data.task is ModelTask.MULTICLASS else (),
        )
        (folder / JOB_FILE).write_text(job.model_dump_json(indent=1))


def _read(folder: Path, data: TrainingData) -> ForeignFit:
    try:
        content = (folder / MODEL_FILE).read_bytes()
    except OSError as error:
        raise TrainerError(f"the program ended well but left no {MODEL_FILE} in the exchange folder") from error
    try:
        about = ExchangeModel.model_validate_json(_text(folder / CARD_FILE) or "{}")
        found = json.loads(_text(folder / METRICS_FILE) or "{}")
        metrics = {str(name): float(value) for name, value in found.items()}
    except (ValidationError, ValueError, TypeError, AttributeError) as error:
        raise TrainerError(f"the program left a {CARD_FILE} or {METRICS_FILE} that is no such file: {error}") from error
    onnx = OnnxModel(content, about.output or _OUTPUTS[data.task], about.input_mode)
    binary, several = data.task is ModelTask.BINARY, data.task is ModelTask.MULTICLASS
    card = ModelCard(
        model="command",
        task=data.task,
        features=data.specs,
        classes=data.classes if several else ("false", "true") if binary else (),
        positive="true" if binary else None,
        input_mode=onnx.input_mode,
        output=onnx.output,
        onnx_sha256=onnx.digest,
    )
    try:
        return ForeignFit(ServedModel(card, content), onnx, metrics)
    except ArtifactError as error:
        raise TrainerError(f"the program's {MODEL_FILE} cannot be served: {error}") from error


def _answers(served: ServedModel, features: pl.DataFrame) -> npt.NDArray[np.float64]:
    several = served.card.task is ModelTask.MULTICLASS
    return served.class_scores(features) if several else served.score(features)


def _progress(folder: Path) -> tuple[float | None, str]:
    """Return what the program says of itself; a file that is half written says nothing."""
    try:
        found = json.loads(_text(folder / PROGRESS_FILE) or "{}")
        share = found.get("share")
        return (float(share) if share is not None else None), str(found.get("text", ""))
    except (ValueError, TypeError, AttributeError):
        return None, ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
