"""The model registry and run tracking in MLflow, by the client API alone; mlflow is imported at the first call."""

import hashlib
import importlib
import logging
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from stationkeeper.registry.artifact import CARD_FILE, CHALLENGER_ALIAS, CHAMPION_ALIAS, MODEL_FILE, ModelCard
from stationkeeper.registry.flavor import write_flavor
from stationkeeper.registry.settings import RegistrySettings
from stationkeeper.streams.errors import Retryable

TAG = "stationkeeper."
REQUEST_TAG = TAG + "request"
MODEL_PATH = "model"
MAX_TAG = 4_000
_GONE = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


class RegistryError(ValueError):
    """A version that is absent or not what was registered; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What is registered: an artifact directory with the facts that tie it to its cause.

    ``tags`` go on run and version without the prefix ``stationkeeper.``; ``files`` are logged beside the model.
    """

    model: str
    artifact: Path
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    request: str | None = None
    alias: str | None = CHALLENGER_ALIAS
    run_name: str | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered version: its number as text, the run it came from and where its artifact lies."""

    version: str
    run_id: str
    artifact: str


class Registry:
    """One MLflow server or database. Every method raises ``Retryable`` while it cannot be reached."""

    def __init__(self, settings: RegistrySettings) -> None:
        self.settings = settings
        self._client: Any = None
        self._lock = threading.Lock()

    def register(self, registration: Registration) -> Registered:
        """Log a run with the model and make a version of it with tags and alias; raises ``RegistryError``.

        The stored bytes are read back and compared, because MLflow itself takes a version whose source does not
        exist. Not idempotent: call ``remove_orphans`` with the request first.
        """
        card = ModelCard.decode((registration.artifact / CARD_FILE).read_bytes())
        tags = {TAG + name: value[:MAX_TAG] for name, value in registration.tags.items() if value}
        if registration.request is not None:
            tags[REQUEST_TAG] = registration.request
        with self._asking(f"register a version of {registration.model}") as client:
            run = client.create_run(self._experiment(client), tags=tags, run_name=registration.run_name)
            run_id = str(run.info.run_id)
            self._log(client, run_id, registration, card)
            source = f"{str(run.info.artifact_uri).rstrip('/')}/{MODEL_PATH}"
            self._ensure_model(client, registration.model)
            made = client.create_model_version(registration.model, source=source, run_id=run_id, tags=tags)
            version = str(made.version)
            self._verify(client, registration.model, version, card)
            if registration.alias is not None:
                client.set_registered_model_alias(registration.model, registration.alias, version)
            client.set_terminated(run_id, "FINISHED")
            return Registered(version, run_id, source)

    def remove_orphans(self, model: str, request: str, keep: str | None = None) -> list[str]:
        """Remove versions and runs that carry the request's tag but are not version ``keep``; returns versions.

        They are what a process left behind that died between registering and writing the candidate to the log.
        """
        with self._asking(f"look for versions of request {request}") as client:
            found = client.search_model_versions(f"name = '{_quoted(model)}' and tags.`{REQUEST_TAG}` = '{request}'")
            kept_runs = {v.run_id for v in found if str(v.version) == keep}
            removed = []
            for version in found:
                if str(version.version) != keep:
                    client.delete_model_version(model, str(version.version))
                    removed.append(str(version.version))
            runs = client.search_runs([self._experiment(client)], f"tags.`{REQUEST_TAG}` = '{request}'")
            for run in runs:
                if run.info.run_id not in kept_runs:
                    client.delete_run(run.info.run_id)
            return sorted(removed)

    def champion(self, model: str) -> str | None:
        """Return the version under the alias ``champion``, None without one."""
        return self.alias(model, CHAMPION_ALIAS)

    def alias(self, model: str, alias: str) -> str | None:
        """Return the version under an alias, None without one."""
        from mlflow.exceptions import MlflowException

        with self._asking(f"read the alias {alias} of {model}") as client:
            try:
                return str(client.get_model_version_by_alias(model, alias).version)
            except MlflowException as error:
                if error.error_code in _GONE:
                    return None
                raise

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Move an alias; the log decides who is champion, the alias follows."""
        with self._asking(f"move the alias {alias} of {model} to version {version}") as client:
            client.set_registered_model_alias(model, alias, version)

    def fetch(self, model: str, version: str, directory: Path) -> ModelCard:
        """Copy a version's artifact into ``directory`` and return its card; raises ``RegistryError``.

        A directory that already holds the checked artifact is left as it is.
        """
        with self._asking(f"fetch version {version} of {model}") as client:
            self._download(client, model, version, directory)
        return _checked(directory, f"version {version} of {model}")

    def tags(self, model: str, version: str) -> dict[str, str]:
        """Return a version's own tags without their prefix; raises ``RegistryError`` when it does not exist."""
        with self._asking(f"read version {version} of {model}") as client:
            found = client.get_model_version(model, version).tags
        return {name.removeprefix(TAG): value for name, value in found.items() if name.startswith(TAG)}

    def ping(self) -> None:
        """Prove that the registry answers."""
        with self._asking("reach the registry") as client:
            client.search_registered_models(max_results=1)

    def _log(self, client: Any, run_id: str, registration: Registration, card: ModelCard) -> None:
        from mlflow.entities import Metric, Param
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        metrics = [Metric(name, float(value), now, 0) for name, value in registration.metrics.items()]
        params = [Param(name, str(value)[:MAX_TAG]) for name, value in registration.params.items()]
        client.log_batch(run_id, metrics=metrics, params=params)
        with tempfile.TemporaryDirectory() as scratch:
            flavored = Path(scratch) / MODEL_PATH
            write_flavor(registration.artifact, card, flavored)
            client.log_artifacts(run_id, str(flavored), MODEL_PATH)
        for file in registration.files:
            if file.exists():
                client.log_artifact(run_id, str(file))

    def _verify(self, client: Any, model: str, version: str, card: ModelCard) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            back = Path(scratch) / "back"
            self._download(client, model, version, back)
            found = _checked(back, f"version {version} of {model}")
        if found != card:
            raise RegistryError(f"version {version} of {model} came back with another card than was registered")

    def _download(self, client: Any, model: str, version: str, directory: Path) -> None:
        from mlflow.artifacts import download_artifacts

        if (directory / CARD_FILE).exists():
            return
        uri = client.get_model_version_download_uri(model, version)
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetch-") as scratch:
            uri_path = download_artifacts(artifact_uri=uri, dst_path=scratch, tracking_uri=self.settings.tracking_uri)
            part = Path(scratch) / "part"
            part.mkdir()
            # The card comes last: a directory with a card is whole.
            for name in (MODEL_FILE, CARD_FILE):
                source = Path(uri_path) / name
                if not source.exists():
                    raise RegistryError(
                        f"version {version} of {model} has no {name}; adopt it with stationkeeper deployments adopt"
                    )
                shutil.copyfile(source, part / name)
            shutil.rmtree(directory, ignore_errors=True)
            part.rename(directory)

    def _experiment(self, client: Any) -> str:
        from mlflow.exceptions import MlflowException

        name = self.settings.experiment
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(client.create_experiment(name, artifact_location=self._artifact_location()))
        except MlflowException:
            # Another process was first.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def _artifact_location(self) -> str | None:
        uri, root = self.settings.tracking_uri, self.settings.artifact_root
        if root is not None:
            return root if "://" in root else str(Path(root).resolve())
        if uri.startswith("sqlite:///"):
            return str(Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts")
        return None

    def _ensure_model(self, client: Any, model: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @contextmanager
    def _asking(self, doing: str) -> Iterator[Any]:
        client = self._connect(doing)
        from mlflow.exceptions import MlflowException

        try:
            yield client
        except MlflowException as error:
            if error.error_code in _GONE:
                raise RegistryError(f"could not {doing} at {self._where}: {error.message}") from error
            raise Retryable(f"could not {doing} at {self._where}: {error.message}") from error
        except OSError as error:
            raise Retryable(f"could not {doing} at {self._where}: {error}") from error

    def _connect(self, doing: str) -> Any:
        with self._lock:
            if self._client is None:
                # The client's own default retries hold a caller for minutes; ours are visible and bounded.
                os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(self.settings.retries))
                os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, self.settings.timeout // 1_000)))
                _import_mlflow()
                from mlflow import MlflowClient
                from mlflow.exceptions import MlflowException

                uri = self.settings.tracking_uri
                try:
                    self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
                except (MlflowException, OSError) as error:
                    raise Retryable(f"could not {doing} at {self._where}: {error}") from error
            return self._client

    @property
    def _where(self) -> str:
        """The registry's address without a user's name or password."""
        found = urlparse(self.settings.tracking_uri)
        return found._replace(netloc=found.netloc.rpartition("@")[2]).geturl()


def _import_mlflow() -> None:
    """Import mlflow without the warnings of its own modules, and keep its telemetry and chatter off."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("mlflow.pyfunc", "mlflow.onnx"):
            importlib.import_module(name)


def _quoted(text: str) -> str:
    return text.replace("'", "\\'")


def _checked(directory: Path, what: str) -> ModelCard:
    try:
        card = ModelCard.decode((directory / CARD_FILE).read_bytes())
        found = hashlib.sha256((directory / MODEL_FILE).read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise RegistryError(f"{what} has no usable artifact: {error}") from error
    if found != card.onnx_sha256:
        raise RegistryError(f"{what} is damaged: {MODEL_FILE} hashes to {found}, its card says {card.onnx_sha256}")
    return card
