"""Tiny real models, a registry of directories and a log in memory for the tests of this room."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import uvicorn
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from stationkeeper.deploy.router.router import Router
from stationkeeper.deploy.router.server import Server
from stationkeeper.deploy.router.traffic import TrafficTable
from stationkeeper.deploy.settings import ServeSettings
from stationkeeper.process.listener import Access, bound, server_for
from stationkeeper.registry import (
    CARD_FILE,
    MODEL_FILE,
    ArtifactError,
    FeatureKind,
    FeatureSpec,
    InputMode,
    ModelCard,
    ModelTask,
)
from stationkeeper.streams.errors import Retryable
from tests.deploy.serving import NOW, RolloutsLog, Served, record

FEATURES = (
    FeatureSpec(name="amount", kind=FeatureKind.NUMERIC),
    FeatureSpec(name="method", kind=FeatureKind.CATEGORICAL),
)


def write_model(
    directory: Path, *, model: str = "fraud", threshold: float = 0.5, extra: bool = False, flip: bool = False
) -> Path:
    """Train a tiny classifier on amount and method (and ``extra`` an hour) and export it with its card."""
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {"amount": rng.normal(size=400), "method": rng.choice(["card", "wallet"], 400), "hour": rng.normal(size=400)}
    )
    target = (table["amount"] + (table["method"] == "wallet") > 0.5).to_numpy()
    features = (*FEATURES, FeatureSpec(name="hour", kind=FeatureKind.NUMERIC)) if extra else FEATURES
    table = table.select([one.name for one in features])
    # A null amount is scored like zero, so that a row of nulls has an answer.
    encode = ColumnTransformer(
        [("method", OneHotEncoder(handle_unknown="ignore"), ["method"])], remainder="passthrough"
    )
    fitted = make_pipeline(encode, LogisticRegression()).fit(table, target != flip)
    types = [
        (one.name, StringTensorType([None, 1]) if one.kind is FeatureKind.CATEGORICAL else FloatTensorType([None, 1]))
        for one in features
    ]
    graph = to_onnx(fitted, initial_types=types, options={"zipmap": False}).SerializeToString()
    card = ModelCard(
        model=model,
        task=ModelTask.BINARY,
        features=features,
        classes=("false", "true"),
        positive="true",
        threshold=threshold,
        input_mode=InputMode.COLUMNS,
        onnx_sha256=hashlib.sha256(graph).hexdigest(),
    )
    directory.mkdir(parents=True)
    (directory / MODEL_FILE).write_bytes(graph)
    (directory / CARD_FILE).write_bytes(card.encode())
    return directory


class DirectoryRegistry:
    """A registry whose versions are directories; ``reachable`` False plays an outage, ``gate`` holds a fetch back."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reachable = True
        self.gate = threading.Event()
        self.gate.set()
        self.aliases: dict[str, str] = {}
        self.made: dict[str, dict[str, str]] = {}

    def tags(self, model: str, version: str) -> dict[str, str]:
        """Return the tags in ``made``, else those of the tests' candidate of this version."""
        self._check()
        if not (self.root / model / version).is_dir():
            raise ArtifactError(f"version {version} of {model} is not registered")
        return self.made.get(version, {"request": "req-1", "candidate": f"cand-{version}"})

    def fetch(self, model: str, version: str) -> Path:
        self.gate.wait(30)
        self._check()
        directory = self.root / model / version
        if not directory.is_dir():
            raise ArtifactError(f"version {version} of {model} is not registered")
        return directory

    def champion(self, model: str) -> str | None:
        self._check()
        return self.aliases.get(model)

    def set_champion(self, model: str, version: str) -> None:
        self._check()
        self.aliases[model] = version

    def _check(self) -> None:
        if not self.reachable:
            raise Retryable("the registry is switched off")


class ListLog:
    """A prediction log that keeps what it got; ``durable`` False leaves acknowledgements out, ``up`` False fails."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, bytes]] = []
        self.durable = True
        self.up = True
        self.waiting: list[Future[None]] = []
        self.unacknowledged = 0
        self.lost: dict[tuple[str, str], int] = {}
        self.trouble: str | None = None

    def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> Future[None]:
        if not self.up:
            raise Retryable("the broker is switched off")
        self.records += [(topic, key, value) for key, value in zip(keys, values, strict=True)]
        future: Future[None] = Future()
        if self.durable:
            future.set_result(None)
        else:
            self.unacknowledged += len(keys)
            self.waiting.append(future)
        return future

    def pending(self) -> int:
        return self.unacknowledged

    def unlogged(self) -> dict[tuple[str, str], int]:
        return self.lost

    def problem(self) -> str | None:
        return self.trouble

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 (champion), 2 (its opposite), 3 (with one more feature) of ``fraud``."""
    root = tmp_path_factory.mktemp("models")
    write_model(root / "fraud" / "1")
    write_model(root / "fraud" / "2", flip=True)
    write_model(root / "fraud" / "3", extra=True)
    return root


@pytest.fixture
def registry(models: Path) -> DirectoryRegistry:
    return DirectoryRegistry(models)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Return a function that waits for a condition, at most half a minute."""
    tick = threading.Event()

    def wait(condition: Callable[[], bool]) -> None:
        for _ in range(3_000):
            if condition():
                return
            tick.wait(0.01)
        pytest.fail("the condition did not become true")

    return wait


@pytest.fixture
def list_log() -> ListLog:
    return ListLog()


@pytest.fixture
def serve(
    registry: DirectoryRegistry, eventually: Callable[[Callable[[], bool]], None], list_log: ListLog
) -> Iterator[Callable[..., Served]]:
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(
        *,
        wait: bool = True,
        exists: bool = True,
        names: Sequence[str] = ("fraud",),
        refused: Sequence[str] = (),
        **settings: Any,
    ) -> Served:
        log, rollouts, clock = list_log, RolloutsLog(), [NOW]
        rollouts.write(record())
        rollouts.exists = exists
        router = Router(
            ServeSettings(**settings),
            {name: f"{name}.predictions" for name in names},
            "rollouts",
            rollouts,
            log,
            TrafficTable(registry, lambda: clock[0]),
            refused,
        )
        server = server_for(Server(router).app, Access(max_body_bytes=None), grace_s=5)
        socket = bound("127.0.0.1", 0, "serve.port")
        port = socket.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
        thread.start()
        running.append((server, thread))
        eventually(lambda: server.started)
        served = Served(port, router, rollouts, log, registry, clock)
        if wait:
            eventually(lambda: not router.readiness())
        return served

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(20)
