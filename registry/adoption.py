"""A version that a team registered itself, taken as it is: looked at, converted to ONNX where that is exact, pinned."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from stationkeeper.contracts.column import same_class
from stationkeeper.registry.artifact import (
    CARD_FILE,
    MODEL_FILE,
    ArtifactError,
    Engine,
    GoldenRows,
    InputMode,
    ModelCard,
    ModelTask,
    category_text,
)
from stationkeeper.registry.foreign import Floats, ForeignModel, binary_scores, write_card
from stationkeeper.registry.mlflow import Registry
from stationkeeper.registry.pyfunc_process import ONNX_FILES
from stationkeeper.registry.served_model import TOLERANCE, ServedModel

# Letters of a digest that tell one model from another, and of a library's error that one line holds.
_DIGEST_SHOWN: Final = 12
_WHY_SHOWN: Final = 200
# As many as a trained version's card holds (retrain/training/export.py): a wrong model shows on a few rows.
_GOLDEN: Final = 32
# More whole numbers than this are amounts, not classes; the bound by which a reference guesses its task, too.
_FEW_CLASSES: Final = 20


@dataclass(frozen=True, slots=True)
class AdoptionRules:
    """What is known of the model beside the registry; ``task`` None is taken from what the version answers.

    ``allow_pickle`` is a person's consent that code of the version's author may run here.
    """

    positive: str
    # What scikit-learn decides by where nobody says otherwise.
    threshold: float = 0.5
    task: ModelTask | None = None
    allow_pickle: bool = False


def look_at(registry: Registry, model: str, version: str, rules: AdoptionRules) -> str:
    """Make sure that a version can be a champion, and return in words what it is.

    One that was registered with a card is loaded and answers a row. One of another flavour is asked about rows made
    up from its signature in a process of its own; its card, and the ONNX graph where that scores alike, are stored
    beside it, with the digest of its files. Raises ``ArtifactError`` before anything is written where the version does
    not exist, does not load, has no usable signature, does not answer it, or would run code nobody allowed.
    """
    what = f"version {version} of {model}"
    with tempfile.TemporaryDirectory(prefix="stationkeeper-adopt-") as scratch:
        home = Path(scratch)
        source = registry.source(model, version, home / "source")
        if (source / CARD_FILE).is_file():
            card = registry.download(model, version, home / "own")
            _agree(card, rules, what)
            if card.engine is Engine.PYFUNC:
                return f"scored through its pyfunc, pinned to {card.onnx_sha256[:_DIGEST_SHOWN]}"
            ServedModel.load(home / "own", model, version)
            return "ONNX, served by any target"
        found = ForeignModel.inspect(source, what)
        # Before it is asked: asking loads it, and loading runs its code.
        if found.runs_code and not rules.allow_pickle:
            raise ArtifactError(
                f"{what} is of MLflow flavour {found.flavor}, which runs code of its author when it is loaded (a "
                "pickle or a module); if you trust it say --allow-pickle, and exactly these files "
                f"(SHA-256 {found.digest[:_DIGEST_SHOWN]}) are pinned"
            )
        (home / "job").mkdir()
        answer, scores = found.ask(home / "job", what)
        card = _card(model, found, answer, scores, rules, what)
        _agree(card, rules, what)
        exact, words = _exact(card, answer, scores, home / "job")
        write_card(exact.card if exact else card, home / "made")
        if exact is not None:
            graph = home / "job" / ONNX_FILES[exact.card.input_mode.value]
            (home / "made" / MODEL_FILE).write_bytes(graph.read_bytes())
        registry.attach(model, version, home / "made")
    # Of several, by name: a booster numbers its own, and whoever adopts it sees whether labels are called so.
    told = f"classes {', '.join(card.classes)}, " if card.task is ModelTask.MULTICLASS else ""
    return f"MLflow flavour {found.flavor}, {told}{words}"


def _agree(card: ModelCard, rules: AdoptionRules, what: str) -> None:
    if rules.task is not None and card.task is not rules.task:
        raise ArtifactError(
            f"{what} is {card.task.value}, retrain.task of the model is {rules.task.value}; make them agree"
        )


def _card(
    model: str, found: ForeignModel, answer: Mapping[str, Any], scores: Floats, rules: AdoptionRules, what: str
) -> ModelCard:
    classes, task = _task(answer, scores, rules, what)
    positive = None
    if task is ModelTask.BINARY:
        # By meaning: a model may say 1 where events say true.
        positive = next((one for one in classes if same_class(one, rules.positive)), None)
        if positive is None:
            raise ArtifactError(
                f"{what} knows the classes {', '.join(map(repr, classes))}, and positive is {rules.positive!r}; set "
                "positive: of the model to one of them"
            )
        binary_scores(answer, scores, positive, what)
    return ModelCard(
        model=model,
        task=task,
        features=found.features,
        classes=classes,
        positive=positive,
        threshold=rules.threshold,
        engine=Engine.PYFUNC,
        onnx_sha256=found.digest,
        trainer=f"mlflow {found.flavor}",
        notes={"adopted": found.digest, "runs_code": found.runs_code},
    )


def _task(
    answer: Mapping[str, Any], scores: Floats, rules: AdoptionRules, what: str
) -> tuple[tuple[str, ...], ModelTask]:
    """Return the classes and the task that answers speak of."""
    other = "false" if same_class(rules.positive, "true") else f"not {rules.positive}"
    columns = [category_text(one) for one in answer.get("columns", ())]
    # Two columns name classes only where one is the positive one: else they are called as the author liked.
    named = columns if any(same_class(one, rules.positive) for one in columns) else answer.get("classes")
    if named is not None:
        classes = tuple(category_text(one) for one in named)
        return classes, ModelTask.BINARY if len(classes) == 2 else ModelTask.MULTICLASS
    if "labels" in answer:
        classes = tuple(sorted({category_text(one) for one in answer["labels"]}))
        if len(classes) > 2:
            return classes, ModelTask.MULTICLASS
        found = next((one for one in classes if same_class(one, rules.positive)), rules.positive)
        return (next((one for one in classes if one != found), other), found), ModelTask.BINARY
    if not np.isfinite(scores).all():
        raise ArtifactError(f"{what} answers numbers that are not finite to rows without nulls")
    if scores.shape[1] > 2:
        raise ArtifactError(
            f"{what} answers {scores.shape[1]} numbers a row and does not say of which classes; log a model with "
            "classes_, or let its pyfunc answer a data frame with a column of shares for each class"
        )
    # Numbers that all lie between 0 and 1 are taken for probabilities unless a person says regression: a regression on
    # shares has to be told.
    shares = bool(scores.min(initial=0.0) >= 0.0 and scores.max(initial=1.0) <= 1.0)
    if rules.task is not ModelTask.REGRESSION and shares:
        return (other, rules.positive), ModelTask.BINARY
    # Whole numbers, a few of them, are classes; many are amounts.
    whole = scores.shape[1] == 1 and bool(np.all(scores == np.round(scores)))
    classes = tuple(sorted({category_text(float(one)) for one in scores.reshape(-1)})) if whole else ()
    if rules.task is not ModelTask.REGRESSION and 2 < len(classes) <= _FEW_CLASSES:
        return classes, ModelTask.MULTICLASS
    return (), ModelTask.REGRESSION


def _exact(card: ModelCard, answer: Mapping[str, Any], scores: Floats, job: Path) -> tuple[ServedModel | None, str]:
    """Return the converted model where it answers the made-up rows as the version does, and in words what was found."""
    asked = "scored through its pyfunc in a process of its own"
    # Where no form serves, the reason of the last one is told.
    columns, why = answer["rows"], "there is no exact conversion for it"
    for form, output in answer["converted"].items():
        content = (job / ONNX_FILES[form]).read_bytes()
        changed = {
            "engine": Engine.ONNX,
            "input_mode": InputMode(form),
            "output": output,
            "onnx_sha256": hashlib.sha256(content).hexdigest(),
        }
        try:
            made = card.model_copy(update=changed)
            served = ServedModel(made, content)
            found = served.output(columns)
            # Another shape is another answer, however near its numbers.
            difference = float(np.abs(found - scores).max()) if found.shape == scores.shape else float("inf")
        except ValueError as error:
            why = str(error)
            continue
        except Exception as error:  # noqa: BLE001 - onnxruntime raises classes of its own
            why = f"{type(error).__name__}: {error}"
            continue
        # Of a regression relative to its largest answer, as amounts in millions differ by more than a probability may.
        scale = max(1.0, float(np.abs(scores).max())) if card.task is ModelTask.REGRESSION else 1.0
        # Written so that NaN fails.
        if not difference / scale <= TOLERANCE:
            why = f"its graph answers {difference:.3g} away"
            continue
        kept = {name: tuple(values[:_GOLDEN]) for name, values in columns.items()}
        golden = GoldenRows(columns=kept, scores=tuple(tuple(row) for row in found[:_GOLDEN].tolist()))
        words = f"converted to ONNX: {len(scores)} rows answered alike, {difference:.2g} apart at most"
        return ServedModel(made.model_copy(update={"golden": golden}), content), words
    return None, f"{asked} ({' '.join(why.split())[:_WHY_SHOWN]}); the router cannot serve it, other targets may"
