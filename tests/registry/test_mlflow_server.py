"""The registry behind a real `mlflow server`, over HTTP: what holds for a database holds there."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stationkeeper.registry import MODEL_FILE, ArtifactError, Registry, RegistrySettings, read_card
from tests.listening import answers, free_port
from tests.registry import test_mlflow as database
from tests.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server that keeps files for its clients."""
    port, root = free_port(), tmp_path_factory.mktemp("server")
    words = f"server --host 127.0.0.1 --port {port} --workers 1 --backend-store-uri sqlite:///{root}/mlflow.db"
    words += f" --artifacts-destination {root}/artifacts"
    with (root / "log").open("wb") as log:
        # A group of its own, as the server starts its workers as processes.
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words.split()], cwd=root, start_new_session=True, stdout=log, stderr=log
        )
    try:
        until(lambda: answers(port), f"an MLflow server (its log: {root}/log)")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_what_holds_for_a_database_holds_for_a_server(server: str, models: Path, tmp_path: Path):
    registry, artifact = Registry(RegistrySettings(tracking_uri=server), tmp_path / "cache"), models / "fraud" / "1"
    registry.ping()
    made = database.register(registry, artifact, "req-r")
    assert registry.download("fraud", made.version, tmp_path / "back") == read_card(artifact)
    assert (tmp_path / "back" / MODEL_FILE).read_bytes() == (artifact / MODEL_FILE).read_bytes()
    assert registry.tags("fraud", made.version)["incident"] == "inc-9"
    assert registry.alias("fraud", "challenger") == made.version
    registry.set_champion("fraud", made.version)
    assert registry.champion("fraud") == made.version
    # Asked for once more, by whoever was killed after it: it is the same version, and nothing is left over.
    assert registry.remove_orphans("fraud", "req-r", keep=[made.version]) == []
    assert database.versions(registry, "fraud") == {made.version}
    database.test_orphans_of_a_request_are_removed_and_others_stay(registry, artifact)
    with pytest.raises(ArtifactError, match="absent"):
        registry.download("absent", "1", tmp_path / "absent")
