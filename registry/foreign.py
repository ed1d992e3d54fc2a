"""Versions of other MLflow flavours: what such a model is, and how it is asked without being loaded here."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt
import yaml

from stationkeeper.contracts.column import same_class
from stationkeeper.registry import pyfunc_process as child
from stationkeeper.registry.artifact import (
    CARD_FILE,
    FOREIGN_DIRECTORY,
    ArtifactError,
    Engine,
    FeatureKind,
    FeatureSpec,
    ModelCard,
    ModelTask,
    category_text,
    read_card,
    tree_digest,
)
from stationkeeper.registry.served_model import ServedModel

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]

_KINDS: Final[Mapping[str, FeatureKind]] = {
    **dict.fromkeys(("double", "float", "integer", "long"), FeatureKind.NUMERIC),
    "boolean": FeatureKind.BOOLEAN,
    "string": FeatureKind.CATEGORICAL,
}
# Loaders of MLflow itself that read formats without code in them; any other may unpickle or import what it finds.
_PLAIN_LOADERS: Final = frozenset({"mlflow.onnx", "mlflow.xgboost", "mlflow.lightgbm", "mlflow.catboost"})
_PICKLES: Final = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth", ".dill", ".py"})
# Chosen: a million rows through a slow model; MLflow alone takes seconds to import. Half cuts off a slow one that
# works.
_TIMEOUT_S: Final = 1_800.0
# What of a failed process is shown: the last lines of a traceback.
_SHOWN: Final = 600


class Scorer(Protocol):
    """What the gate and the training ask of a champion, whatever it is made of."""

    card: ModelCard

    def score(self, features: "pl.DataFrame") -> Floats:
        """Return the positive probability (or the value) of each row."""

    def class_scores(self, features: "pl.DataFrame") -> Floats:
        """Return the probability of each of the card's classes, float64[n, classes]; of several classes only."""


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """An MLflow model directory as its ``MLmodel`` describes it; nothing of it has been loaded.

    ``types`` are the columns of its signature; ``runs_code`` says that loading it executes what its author wrote.
    """

    directory: Path
    flavor: str
    types: Mapping[str, str]
    runs_code: bool
    digest: str

    @classmethod
    def inspect(cls, directory: Path, what: str) -> Self:
        """Read the description; raises ``ArtifactError`` that says what is missing and how to log it."""
        try:
            # safe_load: the file is its author's, and a plain load would build any object it names.
            described = yaml.safe_load((directory / "MLmodel").read_text())
            loader = str(described["flavors"]["python_function"]["loader_module"])
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
            raise ArtifactError(
                f"{what} is no MLflow model with a python_function flavour; log it with MLflow"
            ) from None
        files = [path for path in directory.rglob("*") if path.is_file()]
        # By suffix, beside the loader: a plain loader may still be given a model with a pickle in its extras.
        pickled = any(path.suffix.lower() in _PICKLES for path in files)
        return cls(
            directory,
            next((name for name in described["flavors"] if name != "python_function"), "python_function"),
            _signature(described, what),
            # Unknown loaders count as code: MLflow imports what they name.
            loader not in _PLAIN_LOADERS or pickled,
            tree_digest(directory),
        )

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """The columns of the signature as features."""
        return tuple(FeatureSpec(name=name, kind=_KINDS[kind]) for name, kind in self.types.items())

    def ask(self, job: Path, what: str, rows: "pl.DataFrame | None" = None) -> tuple[dict[str, Any], Floats]:
        """Ask the model in a process of its own about rows, or (None) about rows made up from its signature.

        ``job`` is an empty directory. Returns the answer beside the scores, float64[n, outputs]; raises
        ``ArtifactError`` with the model's own error.
        """
        probe = {"model": str(self.directory.resolve()), "types": dict(self.types), "probe": rows is None}
        (job / child.JOB_FILE).write_text(json.dumps(probe))
        if rows is not None:
            rows.write_parquet(job / child.ROWS_FILE)
        log = job / "log"
        # -P: a module of the working directory must not take the place of one of ours.
        command = [sys.executable, "-P", "-m", child.__name__, str(job / child.JOB_FILE), str(os.getpid())]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        try:
            process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise ArtifactError(f"{what} did not answer within {_TIMEOUT_S:g} s") from None
        finally:
            if process.poll() is None:
                # The group: a model may have started processes of its own.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        try:
            answer = json.loads((job / child.ANSWER_FILE).read_text())
        except (OSError, ValueError):
            # A process that was killed, as for want of memory, has left no answer; its log may say why.
            answer = {"error": log.read_text(errors="replace")[-_SHOWN:]}
        if "error" in answer:
            raise ArtifactError(f"{what} (MLflow flavour {self.flavor}) cannot be asked: {answer['error']}")
        return answer, np.load(job / child.SCORES_FILE, allow_pickle=False)


def _signature(described: Any, what: str) -> dict[str, str]:
    advice = "log it with signature=infer_signature(data_frame, predictions)"
    try:
        inputs = (described.get("signature") or {}).get("inputs")
        columns = [(one.get("name"), one.get("type")) for one in json.loads(inputs)] if inputs else []
    except (ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{what} has a signature that cannot be read ({error}); {advice}") from None
    if not columns:
        raise ArtifactError(f"{what} has no signature, so nobody knows its features; {advice}")
    types: dict[str, str] = {}
    for name, kind in columns:
        if name is None or kind == "tensor":
            raise ArtifactError(f"{what} has a signature without column names ({kind}); {advice}")
        if kind not in _KINDS:
            raise ArtifactError(f"{what}: column {name!r} is {kind}; features are {', '.join(_KINDS)}")
        types[name] = kind
    return types


class ForeignScorer:
    """A champion of another flavour: a card without a graph, and the model that it pins by digest."""

    def __init__(self, card: ModelCard, model: ForeignModel, what: str) -> None:
        self.card, self._model, self._what = card, model, what

    def score(self, features: "pl.DataFrame") -> Floats:
        """Return the positive probability (or the value) of each row of a frame; starts a process."""
        if self.card.task is ModelTask.MULTICLASS:
            raise ArtifactError(f"{self._what} has several classes: it has no one score to compare")
        answer, scores = self._ask(features)
        if self.card.task is ModelTask.REGRESSION:
            return scores.reshape(-1)
        return binary_scores(answer, scores, str(self.card.positive), self._what)

    def class_scores(self, features: "pl.DataFrame") -> Floats:
        """Return the probability of each class; 1 and 0 where the model answers classes only."""
        answer, scores = self._ask(features)
        if "labels" in answer:
            told = [category_text(one) for one in answer["labels"]]
            return np.array([[float(one == name) for name in self.card.classes] for one in told])
        names = [category_text(one) for one in answer.get("classes", self.card.classes)]
        if sorted(names) != sorted(self.card.classes) or scores.shape[1] != len(names):
            raise ArtifactError(f"{self._what} answers {scores.shape[1]} numbers a row, its classes are {names}")
        return scores[:, [names.index(name) for name in self.card.classes]]

    def _ask(self, features: "pl.DataFrame") -> tuple[dict[str, Any], Floats]:
        # A snapshot may lack a column; the child fills it with nulls and the model says what it makes of them.
        present = [name for name in self.card.names if name in features.columns]
        with tempfile.TemporaryDirectory(prefix="stationkeeper-ask-") as job:
            return self._model.ask(Path(job), self._what, features.select(present))


def binary_scores(answer: Mapping[str, Any], scores: Floats, positive: str, what: str) -> Floats:
    """Return the positive class's score: its probability, the one number, or 1 and 0 where classes are answered."""
    if "labels" in answer:
        return np.array([float(same_class(category_text(one), positive)) for one in answer["labels"]])
    classes = [category_text(one) for one in answer.get("classes", answer.get("columns", ()))]
    place = next((place for place, one in enumerate(classes) if same_class(one, positive)), None)
    if place is not None:
        return scores[:, place]
    if "classes" in answer:
        raise ArtifactError(
            f"{what} answers the classes {', '.join(map(repr, classes))}, and its card says {positive!r} is positive; "
            "adopt a version whose classes are those of the card"
        )
    # Two columns without the positive class's name: its share is the second, as scikit-learn has it.
    if scores.shape[1] == 2:
        return scores[:, 1]
    if scores.shape[1] != 1:
        raise ArtifactError(f"{what} answers {scores.shape[1]} numbers a row; one probability is expected")
    return scores.reshape(-1)


def load_scorer(directory: Path) -> Scorer:
    """Load an artifact directory to be compared with: ONNX in this process, any other flavour in one of its own.

    Raises ``ArtifactError`` where the files are not those that the card was written for.
    """
    card = read_card(directory)
    if card.engine is Engine.ONNX:
        return ServedModel.load(directory)
    what = f"the champion of {card.model}"
    return ForeignScorer(card, ForeignModel.inspect(directory / FOREIGN_DIRECTORY, what), what)


def write_card(card: ModelCard, directory: Path) -> None:
    """Write a card into an artifact directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CARD_FILE).write_bytes(card.encode())
