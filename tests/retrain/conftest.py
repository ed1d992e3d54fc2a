"""The bank's first champion, trained and registered once for the tests of this room."""

import os
import socket

import pytest

from stationkeeper.registry import Registry, RegistrySettings
from stationkeeper.retrain.bootstrap import bootstrap, training_rows
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot.snapshot import SnapshotStore
from tests.retrain.bank import HOUR, SMALL, START, Bank, reference_builder, transactions

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    directory = tmp_path_factory.mktemp("bank")
    settings = RetrainSettings.model_validate(SMALL)
    registry = Registry(RegistrySettings(tracking_uri=f"sqlite:///{directory}/mlflow.db"))
    snapshots = SnapshotStore(directory / "snapshots")
    table = transactions(8_000, START - 100 * HOUR, START - HOUR, seed=1, shifted=False).drop("event_id")
    champion = bootstrap(
        "bank",
        training_rows(table),
        settings,
        registry=registry,
        snapshots=snapshots,
        build_reference=reference_builder,
        work_dir=directory / "work",
    )
    return Bank(directory, registry, snapshots, champion, settings)


@pytest.fixture
def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
