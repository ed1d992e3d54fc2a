"""Tiny real models and an MLflow on SQLite for the tests of this room."""

import os

import pytest

from stationkeeper.registry import Registry, RegistrySettings
from tests.deploy.conftest import models
from tests.retrain.conftest import free_port

__all__ = ["free_port", "models", "registry"]

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """An empty registry, and a cache for what is fetched."""
    root = tmp_path_factory.mktemp("mlflow")
    return Registry(RegistrySettings(tracking_uri=f"sqlite:///{root}/mlflow.db"), root / "cache")
