"""The model artifact: an ONNX file and a JSON card beside it, agreed between who trains and who serves.

In the registry the registered model's name is the model and its version number (as text) is the version; the
version's source is an artifact directory that holds ``MODEL_FILE`` and ``CARD_FILE``. Aliases: ``champion``,
``challenger``.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from stationkeeper.contracts.messages import FeatureValue, Message, SchemaVersion, Text

# The names are the format: versions that are registered already hold these files under these aliases.
MODEL_FILE: Final = "model.onnx"
CARD_FILE: Final = "card.json"
FOREIGN_DIRECTORY: Final = "mlflow"
CHAMPION_ALIAS: Final = "champion"
CHALLENGER_ALIAS: Final = "challenger"
MISSING_CATEGORY: Final = "__missing__"
"""The text that stands for null (and NaN) in a categorical input, in training and in serving; it is inside the
graphs that are registered, so another text would make their missing values unknown categories."""

TENSOR_INPUT: Final = "features"
"""The one input of a graph in ``tensor`` mode; part of the format like the file names."""

Column = Sequence[FeatureValue]


class ArtifactError(ValueError):
    """A version or artifact that cannot be used: absent, damaged, or not what its card says; names what to do."""


class UnusableHere(ArtifactError):
    """A version that this machine cannot use: with other packages, more memory or another copy it may be fit."""


class CardError(ValueError):
    """A value that cannot become a model's input: names the feature, the value and what is allowed."""

    def __init__(self, feature: str, message: str) -> None:
        super().__init__(f"feature {feature!r}: {message}")
        self.feature = feature


class FeatureKind(StrEnum):
    """How a feature enters the model: numeric and boolean as float32 (null is NaN), categorical as text."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    BOOLEAN = "boolean"


class _Card(Message):
    # People write cards, where `thresold` must not mean the default; and a field that a server leaves out could be the
    # one that says how to ask the model.
    reads_newer: ClassVar[bool] = False
    schema_name: ClassVar[str] = "card"


class FeatureSpec(_Card):
    """One feature, in the order of the card."""

    schema_name: ClassVar[str] = "feature-spec"
    name: Text
    kind: FeatureKind


class ModelTask(StrEnum):
    """What the model answers."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


class InputMode(StrEnum):
    """How the ONNX graph takes its input.

    ``columns``: one input per feature, named like it, shape ``(n, 1)``, float32 or string. ``tensor``: one input
    ``features`` of float32, shape ``(n, features)``, card order, for models without categorical features.
    """

    COLUMNS = "columns"
    TENSOR = "tensor"


class GoldenRows(_Card):
    """A few rows and what the model answered them where it was trained: a server that answers alike is the same model.

    ``columns`` holds raw values by feature, all of one length; ``scores`` the model's output by row.
    """

    schema_name: ClassVar[str] = "golden-rows"
    columns: dict[str, tuple[float | str | bool | None, ...]]
    scores: tuple[tuple[float, ...], ...]


class Engine(StrEnum):
    """What answers: a graph here, or the model's own code in a process of its own."""

    ONNX = "onnx"
    PYFUNC = "pyfunc"


class ModelCard(_Card):
    """What the server must know to call ``model.onnx``; stored as ``card.json`` in the same directory.

    A card whose ``engine`` is ``pyfunc`` has no graph: beside it lies, in ``FOREIGN_DIRECTORY``, the MLflow model whose
    ``tree_digest`` is then ``onnx_sha256``.

    ``output`` names the ONNX output: float32 probabilities of shape ``(n, len(classes))`` in the order of
    ``classes`` (skl2onnx with ``zipmap=False``), or for a regression the value, ``(n,)`` or ``(n, 1)``. Classes are
    texts as they appear in label events after ``str``-ing booleans to ``true``/``false``. ``positive`` is the class
    whose probability is a binary model's score; the decision is positive when score >= ``threshold``.
    """

    schema_name: ClassVar[str] = "model-card"
    schema_version: SchemaVersion = 1
    model: Text
    task: ModelTask
    # More than an event may have fields (limits.fields, 4 096); it only keeps a hostile card from filling memory.
    features: Annotated[tuple[FeatureSpec, ...], Field(min_length=1, max_length=10_000)]
    classes: tuple[str, ...] = ()
    positive: str | None = None
    threshold: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    input_mode: InputMode = InputMode.COLUMNS
    output: Text = "probabilities"
    engine: Engine = Engine.ONNX
    onnx_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    request: str | None = None
    snapshot: str | None = None
    trainer: str = ""
    notes: dict[str, Any] = Field(default_factory=dict)
    golden: GoldenRows | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"features: {twice} appear twice; name each feature once")
        if self.task is ModelTask.REGRESSION and self.classes:
            raise ValueError("classes: a regression has none; remove them or change task")
        if self.task is not ModelTask.REGRESSION and len(set(self.classes)) < 2:
            raise ValueError(f"classes: {list(self.classes)} must be two or more different texts")
        # Without it nobody knows whose probability the score is.
        if self.task is ModelTask.BINARY and (len(self.classes) != 2 or self.positive not in self.classes):
            raise ValueError(f"positive: {self.positive!r} must be one of exactly two classes, got {self.classes}")
        if self.input_mode is InputMode.TENSOR and any(f.kind is FeatureKind.CATEGORICAL for f in self.features):
            raise ValueError("input_mode: a tensor holds no text; use columns when a feature is categorical")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The feature names in the model's order."""
        return tuple(feature.name for feature in self.features)


def read_card(directory: Path, what: str | None = None) -> ModelCard:
    """Return the card of an artifact directory after checking the ONNX file against its digest.

    ``what`` names the artifact in messages (the directory without it). Raises ``ArtifactError`` when a file is
    absent, the card is wrong or the bytes are not those that were registered. O(bytes of the model).
    """
    what = what or str(directory)
    try:
        card = ModelCard.decode((directory / CARD_FILE).read_bytes())
    except FileNotFoundError:
        advice = "adopt it (stationkeeper deployments adopt), or export it with its card and register it again"
        raise ArtifactError(f"{what} has no {CARD_FILE}; {advice}") from None
    except ValueError as error:
        raise ArtifactError(f"{what}: {CARD_FILE} is not a model card: {error}") from None
    if card.engine is Engine.PYFUNC:
        found = tree_digest(directory / FOREIGN_DIRECTORY)
        if found != card.onnx_sha256:
            raise ArtifactError(
                f"{what} is not what was adopted: its files have SHA-256 {found}, pinned is {card.onnx_sha256}; adopt "
                "a version that nobody changes"
            )
        return card
    if not (directory / MODEL_FILE).is_file():
        raise ArtifactError(f"{what} has no {MODEL_FILE}; export the model with its card and register it again")
    check_digest(card, (directory / MODEL_FILE).read_bytes(), what)
    return card


def tree_digest(directory: Path) -> str:
    """Return the SHA-256 over the relative names and contents of all files of a directory; O(bytes)."""
    whole = hashlib.sha256()
    # Sorted, and each name with its length before it: no file can pass for a part of its neighbour.
    for path in sorted(one for one in directory.rglob("*") if one.is_file()):
        name = path.relative_to(directory).as_posix().encode()
        whole.update(len(name).to_bytes(4, "big") + name + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def check_digest(card: ModelCard, content: bytes, what: str) -> None:
    """Raise ``UnusableHere`` unless ``content`` is the model that the card was written for."""
    found = hashlib.sha256(content).hexdigest()
    if found != card.onnx_sha256:
        raise UnusableHere(
            f"{what} is damaged: {MODEL_FILE} has SHA-256 {found}, its card says {card.onnx_sha256}; register it again"
        )


def category_text(value: FeatureValue) -> str:
    """Return the text of a categorical value: what is no number as ``MISSING_CATEGORY``, whole numbers without a point.

    >>> category_text(7.0), category_text(True), category_text(None)
    ('7', 'true', '__missing__')
    """
    if isinstance(value, str):
        return value
    # NaN and the infinities too: the reading of events makes neither a category.
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING_CATEGORY
    if isinstance(value, bool):
        return "true" if value else "false"
    # 7.0 is 7, as JSON writers spell it either way: training and serving must meet in one text.
    return str(int(value)) if value == int(value) else repr(float(value))


def column_input(feature: FeatureSpec, column: Column) -> npt.NDArray[Any]:
    """Return one feature's values as the model takes them, shape ``(n, 1)``: float32, or object of str.

    Raises ``CardError`` naming the feature where a text stands in a numeric column or a number is infinite.
    """
    if feature.kind is FeatureKind.CATEGORICAL:
        texts = [value if type(value) is str else category_text(value) for value in column]
        return np.array(texts, dtype=object).reshape(-1, 1)
    numbers = np.empty(0, dtype=np.float32)
    try:
        # What is too large for float32 becomes an infinity, which is refused below by name.
        with np.errstate(over="ignore"):
            numbers = np.array(column, dtype=np.float64).astype(np.float32)
        # numpy reads the text "5" as a number; in a request it is a fault of whoever sends it.
        numeric = not any(type(value) is str for value in column)
    except OverflowError:
        # JSON has whole numbers of any length.
        raise CardError(feature.name, "a whole number is beyond float32; send a smaller one or null") from None
    except (TypeError, ValueError):
        numeric = False
    if not numeric:
        bad = next(
            (value for value in column if not isinstance(value, bool | int | float | None)),
            None,
        )
        allowed = "true, false or null" if feature.kind is FeatureKind.BOOLEAN else "a number or null"
        raise CardError(feature.name, f"{bad!r} is not {feature.kind}; send {allowed}")
    if np.isinf(numbers).any():
        infinite = column[int(np.flatnonzero(np.isinf(numbers))[0])]
        raise CardError(
            feature.name,
            f"{infinite!r} is infinite or beyond float32; send a finite number or null",
        )
    return numbers.reshape(-1, 1)


def _tensor(columns: "Sequence[Column | None]") -> npt.NDArray[np.float32] | None:
    """Return numeric columns of one length as float32 ``(n, columns)``; None where ``column_input`` refuses a value."""
    # numpy reads the text "5" as a number, and none at all of a column that is absent.
    found = [one for one in columns if one is not None]
    if len(found) < len(columns) or str in set(map(type, chain.from_iterable(found))):
        return None
    try:
        with np.errstate(over="ignore"):
            table = np.array(found, dtype=np.float64).astype(np.float32).T
    except (TypeError, ValueError, OverflowError):
        return None
    return None if np.isinf(table).any() else np.ascontiguousarray(table)


def model_inputs(card: ModelCard, columns: Mapping[str, Column]) -> dict[str, npt.NDArray[Any]]:
    """Return what ``InferenceSession.run`` takes, from a column of raw values for every feature of the card.

    Training and serving both call this, so a value means the same to both. Columns have one length n; a missing
    column raises ``CardError``. O(n * features).
    """
    if card.input_mode is InputMode.TENSOR:
        # All columns by one conversion: by twelve of them a row costs five times what the model itself takes.
        table = _tensor([columns.get(feature.name) for feature in card.features])
        if table is not None:
            return {TENSOR_INPUT: table}
    # Slower, and says which feature is wrong.
    arrays: dict[str, npt.NDArray[Any]] = {}
    for feature in card.features:
        if feature.name not in columns:
            raise CardError(feature.name, f"missing; the model takes {', '.join(card.names)}")
        arrays[feature.name] = column_input(feature, columns[feature.name])
    if card.input_mode is InputMode.TENSOR:
        return {TENSOR_INPUT: np.concatenate([arrays[name] for name in card.names], axis=1)}
    return arrays
