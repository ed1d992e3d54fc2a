"""The model registry as deployment needs it: fetch a version's artifact, read and move the champion alias."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from stationkeeper.registry.artifact import CARD_FILE, CHAMPION_ALIAS, MODEL_FILE, ModelCard
from stationkeeper.streams.errors import Retryable


class ArtifactError(ValueError):
    """A registered version that cannot be served: names the version, what is wrong and what to do."""


class Registry(Protocol):
    """What the router and the controller ask of a registry; raises ``Retryable`` while it cannot be reached."""

    def fetch(self, model: str, version: str) -> Path:
        """Return a local directory with the version's checked artifact; raises ``ArtifactError``."""

    def champion(self, model: str) -> str | None:
        """Return the version that the champion alias names, None without one."""

    def set_champion(self, model: str, version: str) -> None:
        """Move the champion alias."""


def read_card(directory: Path) -> ModelCard:
    """Return the card of an artifact directory after checking the ONNX file against its digest.

    Raises ``ArtifactError`` when a file is absent, the card is wrong or the bytes are not those that were registered.
    """
    model, card = directory / MODEL_FILE, directory / CARD_FILE
    for file in (model, card):
        if not file.is_file():
            raise ArtifactError(f"{directory} has no {file.name}; export the model again with its card")
    try:
        parsed = ModelCard.decode(card.read_bytes())
    except ValidationError as error:
        raise ArtifactError(f"{card} is not a model card: {error}") from None
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    if digest != parsed.onnx_sha256:
        raise ArtifactError(f"{model} has SHA-256 {digest}, its card says {parsed.onnx_sha256}; do not serve it")
    return parsed


class MlflowRegistry:
    """An MLflow registry; mlflow is imported at the first call, because its import takes seconds."""

    def __init__(self, tracking_uri: str, cache_dir: Path) -> None:
        self._uri = tracking_uri
        self._cache = cache_dir
        self._client: Any = None
        # The client's own default retries hold a caller for minutes; ours are visible and bounded.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

    def fetch(self, model: str, version: str) -> Path:
        """Return the version's directory in the cache, downloading it once; a broken download leaves nothing."""
        target = self._cache / model / version
        if target.is_dir():
            with contextlib.suppress(ArtifactError):
                read_card(target)
                return target
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch, self._asking(f"fetch {model} {version}"):
            from mlflow.artifacts import download_artifacts

            uri = self._mlflow().get_model_version_download_uri(model, version)
            found = Path(download_artifacts(artifact_uri=uri, dst_path=scratch, tracking_uri=self._uri))
            read_card(found)
            with contextlib.suppress(FileExistsError, OSError):
                found.rename(target)
        read_card(target)
        return target

    def champion(self, model: str) -> str | None:
        """Return the version that the champion alias names, None without one."""
        from mlflow.exceptions import MlflowException

        with self._asking(f"read the champion alias of {model}"):
            try:
                return str(self._mlflow().get_model_version_by_alias(model, CHAMPION_ALIAS).version)
            except MlflowException as error:
                if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                    return None
                raise

    def set_champion(self, model: str, version: str) -> None:
        """Move the champion alias; MLflow has no compare-and-set, so the log and not the alias decides."""
        with self._asking(f"move the champion alias of {model} to {version}"):
            self._mlflow().set_registered_model_alias(model, CHAMPION_ALIAS, version)

    def _mlflow(self) -> Any:
        if self._client is None:
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        return self._client

    @contextlib.contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise ArtifactError(
                    f"could not {doing}: {error.message}; register it or name another version"
                ) from None
            raise Retryable(f"could not {doing} at {self._uri}: {error.message}") from error
        except OSError as error:
            raise Retryable(f"could not {doing} at {self._uri}: {error}") from error
