"""Registered models: how one is stored, found in MLflow, fetched, and loaded to answer.

In: an artifact directory (``model.onnx`` and ``card.json``) with the facts of its training. Out: versions with tags and
aliases in MLflow, checked copies on disk, and models in memory that score rows. State: none of its own but a cache of
artifacts, named by hashes and checked against their digests at each use. Invariant: bytes that are not those the card
was written for are never loaded, and a version that an alias or the log names is never deleted.

Read ``artifact`` (the format, values into inputs), ``served_model`` (a version in memory), ``mlflow`` (the registry
and its settings), ``run_log`` (what a run holds; ``pyfunc_graph`` travels in it), ``foreign`` (a version of another
flavour, asked through ``pyfunc_process``), ``adoption`` (how one is taken).
"""

from stationkeeper.registry.adoption import AdoptionRules, look_at
from stationkeeper.registry.artifact import (
    CARD_FILE,
    CHALLENGER_ALIAS,
    CHAMPION_ALIAS,
    MISSING_CATEGORY,
    MODEL_FILE,
    ArtifactError,
    CardError,
    Column,
    Engine,
    FeatureKind,
    FeatureSpec,
    GoldenRows,
    InputMode,
    ModelCard,
    ModelTask,
    UnusableHere,
    category_text,
    read_card,
)
from stationkeeper.registry.foreign import Scorer, load_scorer
from stationkeeper.registry.mlflow import (
    MlflowConnection,
    Registered,
    Registration,
    Registry,
    RegistrySettings,
    ServingRegistry,
    retrained_runs,
)
from stationkeeper.registry.run_log import read_run_file, write_run_file
from stationkeeper.registry.served_model import (
    NEGATIVE,
    POSITIVE,
    TOLERANCE,
    Answers,
    Prediction,
    ServedModel,
    raw_columns,
)

__all__ = [
    "CARD_FILE",
    "CHALLENGER_ALIAS",
    "CHAMPION_ALIAS",
    "MISSING_CATEGORY",
    "MODEL_FILE",
    "NEGATIVE",
    "POSITIVE",
    "TOLERANCE",
    "AdoptionRules",
    "Answers",
    "ArtifactError",
    "CardError",
    "Column",
    "Engine",
    "FeatureKind",
    "FeatureSpec",
    "GoldenRows",
    "InputMode",
    "MlflowConnection",
    "ModelCard",
    "ModelTask",
    "Prediction",
    "Registered",
    "Registration",
    "Registry",
    "RegistrySettings",
    "Scorer",
    "ServedModel",
    "ServingRegistry",
    "UnusableHere",
    "category_text",
    "load_scorer",
    "look_at",
    "raw_columns",
    "read_card",
    "read_run_file",
    "retrained_runs",
    "write_run_file",
]
