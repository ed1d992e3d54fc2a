"""The model registry and run tracking in MLflow, by the client API alone; mlflow is imported at the first call."""

import contextlib
import importlib
import importlib.metadata
import logging
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import Field

from stationkeeper.contracts.identity import content_id
from stationkeeper.contracts.masking import masked
from stationkeeper.contracts.settings import Duration, Settings
from stationkeeper.registry.artifact import (
    CARD_FILE,
    CHALLENGER_ALIAS,
    CHAMPION_ALIAS,
    FOREIGN_DIRECTORY,
    MODEL_FILE,
    ArtifactError,
    ModelCard,
    read_card,
)
from stationkeeper.registry.run_log import MAX_TAG, MODEL_PATH, SNAPSHOT, log_run
from stationkeeper.streams.errors import DiskUnwritable, StoreUnreachable, unwritable

TAG = "stationkeeper."
"""Our tags on runs and versions start with it, beside those that people set."""
REQUEST_TAG = TAG + "request"
ARTIFACT_TAG = TAG + "artifact"
DIGEST = "onnx_sha256"

PAGE = 1_000
"""Versions asked for at once: an answer of a few MB; MLflow itself gives no more than 10 000 over REST."""

# What MLflow answers for a name or version that is not there; a version that is no number is an invalid parameter.
_GONE = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


class RegistrySettings(Settings):
    """The MLflow tracking and registry server, or a database URI such as ``sqlite:///mlflow.db``.

    ``artifact_root`` (a directory or URI) is where a database-backed registry keeps its files; a server decides for
    itself. ``timeout`` bounds one HTTP request, ``retries`` its repetition.
    """

    tracking_uri: Annotated[str, Field(min_length=1)] = "sqlite:///mlflow.db"
    experiment: Annotated[str, Field(min_length=1)] = "stationkeeper"
    artifact_root: str | None = None
    # Chosen: longer than a slow answer, shorter than the loop may stand still; the step is tried again anyway, so that
    # one repetition is for a connection that was cut, and ten would hold a step up for minutes. MLflow's client counts
    # whole seconds.
    timeout: Annotated[Duration, Field(ge=1_000)] = 10_000
    retries: Annotated[int, Field(ge=0, le=10)] = 1


class ServingRegistry(Protocol):
    """What the router and the controller ask of a registry; raises ``Retryable`` while it cannot be reached."""

    def fetch(self, model: str, version: str) -> Path:
        """Return a local directory with the version's checked artifact; raises ``ArtifactError``."""

    def champion(self, model: str) -> str | None:
        """Return the version that the champion alias names, None without one."""

    def set_champion(self, model: str, version: str) -> None:
        """Move the champion alias."""

    def tags(self, model: str, version: str) -> dict[str, str]:
        """Return the version's own tags; raises ``ArtifactError`` when it does not exist."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What is registered: an artifact directory with the facts that tie it to its cause.

    ``tags`` go on run and version without the prefix ``stationkeeper.``; ``files`` are logged beside the model,
    ``plots`` in a folder of their own. ``description`` is Markdown. A tag ``snapshot`` is the run's dataset, too.
    """

    model: str
    artifact: Path
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    plots: tuple[Path, ...] = ()
    description: str = ""
    request: str | None = None
    alias: str | None = CHALLENGER_ALIAS
    run_name: str | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered version: its number as text, the run it came from and where its artifact lies."""

    version: str
    run_id: str
    artifact: str


class MlflowConnection:
    """The client of one MLflow server or database, made at the first question; a failed start is tried again.

    ``asking`` raises ``ArtifactError`` for a name or version that is not there, ``Retryable`` for all else.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._client: Any = None
        # A router's loader, a rollout's effects and a trainer's worker ask from threads of their own: without it each
        # would make a client.
        self._lock = threading.Lock()

    @contextmanager
    def asking(self, doing: str, into: Path | None = None) -> Iterator[Any]:
        """Give the client to whoever is ``doing`` something, and turn what goes wrong into our two kinds of errors.

        ``into`` is the directory of ours that is written: one that lets nobody in is a disk to wait for.
        """
        client = self.client(doing)
        from mlflow.exceptions import MlflowException

        try:
            yield client
        except MlflowException as error:
            kind = ArtifactError if error.error_code in _GONE else StoreUnreachable
            advice = "; register it or name another version" if kind is ArtifactError else ""
            where = self._settings.tracking_uri
            raise kind(masked(f"could not {doing} at {where}: {error.message}{advice}")) from None
        except OSError as error:
            if unwritable(error, () if into is None else (into,)):
                raise DiskUnwritable(masked(f"could not {doing}: {error}")) from None
            raise StoreUnreachable(masked(f"could not {doing} at {self._settings.tracking_uri}: {error}")) from None

    def client(self, doing: str) -> Any:
        """Return the client, made once; raises ``Retryable`` saying what was being done."""
        with self._lock:
            if self._client is None:
                # The client's own default retries hold a caller for minutes; ours are visible and bounded.
                os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(self._settings.retries))
                os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, self._settings.timeout // 1_000)))
                _import_mlflow()
                from mlflow import MlflowClient
                from mlflow.exceptions import MlflowException

                uri = self._settings.tracking_uri
                try:
                    self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
                except (MlflowException, OSError) as error:
                    raise StoreUnreachable(masked(f"could not {doing} at {uri}: {error}")) from None
            return self._client


@contextmanager
def _gone_already() -> Iterator[None]:
    """Remove what may be gone: a process that was asleep and the one that took over remove the same."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in _GONE:
            raise


class Registry:
    """One MLflow server or database. Every method raises ``Retryable`` while it cannot be reached."""

    def __init__(self, settings: RegistrySettings, cache: Path | None = None) -> None:
        """``cache`` is the directory in which ``fetch`` keeps artifacts."""
        self.settings = settings
        self._cache = cache
        self._connection = MlflowConnection(settings)

    def register(self, registration: Registration) -> Registered:
        """Log a run with the model and make a version of it with tags and alias; raises ``ArtifactError``.

        The stored bytes are read back and compared, because MLflow itself takes a version whose source does not
        exist. Not idempotent: call ``remove_orphans`` with the request first.
        """
        card = read_card(registration.artifact)
        named = {**registration.tags, DIGEST: card.onnx_sha256}
        tags = {TAG + name: value[:MAX_TAG] for name, value in named.items() if value}
        if registration.request is not None:
            tags[REQUEST_TAG] = registration.request
        model = registration.model
        with self._connection.asking(f"register a version of {model}") as client:
            run = client.create_run(_experiment(client, self.settings), tags=tags, run_name=registration.run_name)
        try:
            return self._fill(run, registration, card, tags)
        except ArtifactError as error:
            # A process that was asleep and does not know yet that another took over removes what that one registers.
            if not self._removed(str(run.info.run_id)):
                raise
            raise StoreUnreachable(
                f"another process removed the run in which {model} was being registered: {error}"
            ) from None

    def _fill(self, run: Any, registration: Registration, card: ModelCard, tags: Mapping[str, str]) -> Registered:
        """Log into a run and make the version of it."""
        model, run_id = registration.model, str(run.info.run_id)
        with self._connection.asking(f"register a version of {model}") as client:
            log_run(client, run_id, registration, card)
            source = f"{str(run.info.artifact_uri).rstrip('/')}/{MODEL_PATH}"
            _ensure_model(client, model)
            about = registration.description or None
            made = client.create_model_version(model, source=source, run_id=run_id, tags=tags, description=about)
            version = str(made.version)
            with tempfile.TemporaryDirectory() as scratch:
                # Before the alias: nobody must find a version whose bytes are not there.
                if self.download(model, version, Path(scratch) / "back") != card:
                    raise ArtifactError(f"version {version} of {model} came back with another card than was registered")
            if registration.alias is not None:
                client.set_registered_model_alias(model, registration.alias, version)
            # Last: a run that shows as running is one whose process died on the way here.
            client.set_terminated(run_id, "FINISHED")
            return Registered(version, run_id, source)

    def _removed(self, run_id: str) -> bool:
        """Whether a run was deleted, which `remove_orphans` does before its versions."""
        with self._connection.asking(f"look for run {run_id}") as client:
            return bool(client.get_run(run_id).info.lifecycle_stage != "active")

    def remove_orphans(
        self, model: str, request: str, keep: Collection[str] = (), candidate: str | None = None
    ) -> list[str]:
        """Remove versions and runs that carry the request's tag; returns the versions removed.

        They are what a process left behind that died between registering and writing the candidate to the log. A
        version in ``keep`` (what the log names) or under any alias stays: it may be somebody's champion. But where
        ``candidate``, the log's version of this request, is known, it gets ``challenger`` back from a stray of its
        request: a process that slept while another took over has moved that alias.
        """
        tagged = f"tags.`{REQUEST_TAG}` = '{_quoted(request)}'"
        with self._connection.asking(f"look for versions of request {request}") as client:
            found = client.search_model_versions(f"name = '{_quoted(model)}' and {tagged}")
            strays = {str(v.version) for v in found}.difference(keep)
            if candidate is not None and strays and self.alias(model, CHALLENGER_ALIAS) in strays:
                client.set_registered_model_alias(model, CHALLENGER_ALIAS, candidate)
            # Aliases are read after the versions: one set meanwhile is then kept.
            named = set(keep) | _aliased(client, model)
            kept_runs = {v.run_id for v in found if str(v.version) in named}
            removed = [str(v.version) for v in found if str(v.version) not in named]
            # Runs first: whoever registers just now and finds its version gone looks whether its run was removed.
            for run in client.search_runs([_experiment(client, self.settings)], tagged):
                if run.info.run_id not in kept_runs:
                    with _gone_already():
                        client.delete_run(run.info.run_id)
            for version in removed:
                with _gone_already():
                    client.delete_model_version(model, version)
            return sorted(removed)

    def champion(self, model: str) -> str | None:
        """Return the version under the alias ``champion``, None without one."""
        return self.alias(model, CHAMPION_ALIAS)

    def alias(self, model: str, alias: str) -> str | None:
        """Return the version under an alias, None without one."""
        with self._connection.asking(f"read the alias {alias} of {model}") as client:
            # Not before: imported by itself MLflow would report its use to its makers (``_import_mlflow``).
            from mlflow.exceptions import MlflowException

            try:
                return str(client.get_model_version_by_alias(model, alias).version)
            except MlflowException as error:
                if error.error_code in _GONE:
                    return None
                raise

    def set_champion(self, model: str, version: str) -> None:
        """Move the champion alias; MLflow has no compare-and-set, so the log and not the alias decides."""
        with self._connection.asking(f"move the champion alias of {model} to version {version}") as client:
            client.set_registered_model_alias(model, CHAMPION_ALIAS, version)

    def fetch(self, model: str, version: str) -> Path:
        """Return the version's directory in the cache, downloaded once; without the registry when it is there.

        The directory's name is a hash: names from records and registries never become paths.
        """
        if self._cache is None:
            raise ValueError("this registry was made without a cache; give one, or call download")
        directory = self._cache / content_id("artifact", model, version)
        self.download(model, version, directory)
        return directory

    def download(self, model: str, version: str, directory: Path) -> ModelCard:
        """Copy a version's artifact into ``directory`` and return its card; raises ``ArtifactError``.

        A directory that holds the checked artifact already is left as it is, a damaged one is replaced; a broken
        download leaves nothing.
        """
        what = f"version {version} of {model}"
        if directory.exists():
            with contextlib.suppress(ArtifactError):
                return read_card(directory, what)
        with self._connection.asking(f"fetch {what}", directory.parent) as client:
            directory.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetch-") as scratch:
                found = _bring(client, self.settings.tracking_uri, (model, version), Path(scratch) / "found")
                part = Path(scratch) / "part"
                part.mkdir()
                for name in (MODEL_FILE, CARD_FILE):
                    if (found / name).is_file():
                        shutil.copyfile(found / name, part / name)
                if (part / CARD_FILE).is_file() and not (part / MODEL_FILE).is_file():
                    own = _bring(
                        client, self.settings.tracking_uri, (model, version), Path(scratch) / "own", attached=False
                    )
                    shutil.copytree(own, part / FOREIGN_DIRECTORY)
                card = _pinned_card(client, (model, version), part, what)
                # Only now that what replaces it has been checked.
                shutil.rmtree(directory, ignore_errors=True)
                try:
                    # At once and whole: a reader finds the old directory, none, or the new one, never half of it.
                    part.rename(directory)
                except OSError:
                    # Another process with this cache was first; what it brought has been checked by it.
                    if not directory.is_dir():
                        raise
        return card

    def source(self, model: str, version: str, directory: Path, logged: str = "") -> Path:
        """Copy what a version holds, or what ``attach`` put beside it, and return where it lies; nothing is checked.

        With ``logged``, the file of that name that its training left in the run; ``ArtifactError`` without one.
        """
        with self._connection.asking(f"fetch version {version} of {model}") as client:
            return _bring(client, self.settings.tracking_uri, (model, version), directory, logged=logged)

    def attach(self, model: str, version: str, directory: Path) -> None:
        """Store an artifact directory beside a version of another's making, so that ``download`` finds it.

        The version itself stays as it is; a run of ours holds the files and a tag of the version names them.
        """
        with self._connection.asking(f"adopt version {version} of {model}") as client:
            tags = {TAG + "adopts": f"{model}/{version}"}
            run = client.create_run(_experiment(client, self.settings), tags=tags, run_name=f"adopt {model} {version}")
            client.log_artifacts(run.info.run_id, str(directory), MODEL_PATH)
            uri = f"{str(run.info.artifact_uri).rstrip('/')}/{MODEL_PATH}"
            client.set_terminated(run.info.run_id, "FINISHED")
            client.set_model_version_tag(model, version, ARTIFACT_TAG, uri)

    def tags(self, model: str, version: str) -> dict[str, str]:
        """Return a version's own tags without their prefix; raises ``ArtifactError`` when it does not exist."""
        with self._connection.asking(f"read version {version} of {model}") as client:
            found = client.get_model_version(model, version).tags
        return {name.removeprefix(TAG): value for name, value in found.items() if name.startswith(TAG)}

    def snapshots(self) -> frozenset[str]:
        """Return the snapshots that any version of any model was trained on: who deletes others must ask here first."""
        with self._connection.asking("ask which snapshots are referred to") as client:
            # Page by page to the last: an answer cut short would give away what a version still refers to.
            versions = _paged(lambda page: client.search_model_versions(max_results=PAGE, page_token=page))
            return frozenset(found for one in versions if (found := one.tags.get(TAG + SNAPSHOT)))

    def ping(self) -> None:
        """Prove that the registry answers."""
        with self._connection.asking("reach the registry") as client:
            # The cheapest question that reaches the database behind the server.
            client.search_registered_models(max_results=1)


def retrained_runs(connection: MlflowConnection) -> list[str]:
    """Return the runs of all versions that retraining ever registered; raises ``Retryable``.

    Found by their tag and not through their versions: a run outlives its version, and a deleted one keeps its files
    until `mlflow gc`.
    """
    with connection.asking("ask for the runs of retrained versions") as client:
        from mlflow.entities import ViewType

        asked, every = f"tags.`{REQUEST_TAG}` LIKE '%'", ViewType.ALL
        # All experiments: the setting that names ours may have changed since.
        places = _paged(lambda page: client.search_experiments(every, max_results=PAGE, page_token=page))
        named = [one.experiment_id for one in places]
        runs = _paged(lambda page: client.search_runs(named, asked, every, max_results=PAGE, page_token=page))
        return sorted(str(one.info.run_id) for one in runs)


def _paged(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yield all that a question to MLflow finds, which answers a page and the token of the next."""
    page: str | None = None
    while True:
        found = ask(page)
        yield from found
        page = found.token
        if not page:
            return


def _experiment(client: Any, settings: RegistrySettings) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(settings.experiment)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(settings.experiment, artifact_location=_artifact_location(settings)))
    except MlflowException:
        # Another process was first.
        found = client.get_experiment_by_name(settings.experiment)
        if found is None:
            raise
        return str(found.experiment_id)


def _pinned_card(client: Any, named: tuple[str, str], directory: Path, what: str) -> ModelCard:
    """Return the card of a downloaded artifact, whose digest must be the one that the version was registered with.

    Card and graph lie side by side: whoever may write there can change both alike. The tag lies in the registry's
    database. Versions of builds that set none are taken as their card says. Raises ``ArtifactError``.
    """
    card = read_card(directory, what)
    pinned = client.get_model_version(*named).tags.get(TAG + DIGEST, card.onnx_sha256)
    if pinned != card.onnx_sha256:
        raise ArtifactError(
            f"{what} was registered with SHA-256 {pinned}, its artifact now holds {card.onnx_sha256}: somebody has "
            "changed the files; register it again, or put them back"
        )
    return card


def _bring(
    client: Any, where: str, named: tuple[str, str], directory: Path, *, attached: bool = True, logged: str = ""
) -> Path:
    """Copy what a version holds, was attached to it, or is ``logged`` in its run, from the registry at ``where``."""
    from mlflow.artifacts import download_artifacts

    tags = client.get_model_version(*named).tags if attached else {}
    uri = tags.get(ARTIFACT_TAG) or client.get_model_version_download_uri(*named)
    if logged:
        run = client.get_model_version(*named).run_id
        # Asked before: MLflow answers for a file that is not there as it does for a disk that is away.
        if not run or logged not in {file.path for file in client.list_artifacts(run)}:
            raise ArtifactError(f"version {named[1]} of {named[0]} has no {logged}: it was not trained by this role")
        uri = f"runs:/{run}/{logged}"
    directory.mkdir(parents=True, exist_ok=True)
    return Path(download_artifacts(artifact_uri=uri, dst_path=str(directory), tracking_uri=where))


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


def _aliased(client: Any, model: str) -> set[str]:
    """Return the versions that any alias names; none where the model does not exist yet."""
    from mlflow.exceptions import MlflowException

    try:
        return {str(version) for version in client.get_registered_model(model).aliases.values()}
    except MlflowException as error:
        if error.error_code in _GONE:
            return set()
        raise


def _artifact_location(settings: RegistrySettings) -> str | None:
    uri, root = settings.tracking_uri, settings.artifact_root
    if root is not None:
        return root if "://" in root else str(Path(root).resolve())
    if uri.startswith("sqlite:///"):
        return str(Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts")
    return None


def _ensure_model(client: Any, model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        # By trying and not by asking first: two processes may register the first version at once.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _quoted(text: str) -> str:
    return text.replace("'", "\\'")
