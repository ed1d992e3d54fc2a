"""Vertex AI as a target: versions are models deployed to one endpoint, weights its traffic split in whole per cents.

The endpoint's ``etag`` is the compare-and-set: split, epoch and what we wrote go in one update that Google refuses when
anybody wrote since we looked. Spoken to by REST with google-auth; Google's whole client brings 26 packages for this.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any, NoReturn, Self
from urllib.parse import quote

from pydantic import Field

from stationkeeper.contracts.identity import content_id
from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.contracts.settings import Settings
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets.target import Abilities, ChangedByOthers, Observation, filled, options_of
from stationkeeper.streams.errors import Retryable

# Basis points in a per cent, which is the least that a traffic split can say, and the per cents of all traffic.
_PERCENT = 100
_ALL = 100
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_LABEL = "stationkeeper-"
# What of a deployed model another is given: all that says where it runs, and nothing that says what it is.
_LIKE = (
    "dedicatedResources", "automaticResources", "sharedResources", "serviceAccount", "enableAccessLogging",
    "disableContainerLogging",
)  # fmt: skip
# Codes of google.rpc: deadline, quota or no machine free, aborted, internal, unavailable. The same deployment may work
# later; with any other code it would fail again.
_PASSING = frozenset({4, 8, 10, 13, 14})
# What the update of an endpoint answers whose etag is not the present one.
_STALE = frozenset({"ABORTED", "FAILED_PRECONDITION"})


class VertexOptions(Settings):
    """How a model's versions are found on Vertex AI.

    ``endpoint`` is the id of the endpoint, ``vertex_model`` that of the model in Vertex AI's registry with its version,
    both templates: version 2 of fraud is ``fraud@2``. ``round_up`` lets a step below 1 % be 1 %, which exceeds what the
    log records; left out such a step is refused.
    """

    project: Annotated[str, Field(min_length=1)]
    location: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    endpoint: Annotated[str, Field(min_length=1)] = "{model}"
    vertex_model: Annotated[str, Field(pattern=r"\{version\}")] = "{model}@{version}"
    round_up: bool = False
    # An idle deployed model is paid for; it is undeployed when the rollout is over.
    keep_old: bool = False


class VertexRefusal(Retryable):
    """What Google answered instead of doing it; ``status`` is its word for it, such as ``NOT_FOUND``."""

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class TrafficSplit:
    """An endpoint as Vertex AI tells of it: by id of a deployed model its per cents, and the version it serves."""

    told: Mapping[str, Any]
    percents: Mapping[str, int]
    versions: Mapping[str, str]
    epoch: int | None
    written: str

    @classmethod
    def of(cls, told: Mapping[str, Any], pattern: re.Pattern[str]) -> Self:
        """Read an endpoint; deployed models that serve no version of ours have none."""
        labels, versions = told.get("labels", {}), {}
        for one in told.get("deployedModels", ()):
            name = one["model"].rpartition("/")[2].partition("@")[0]
            found = pattern.fullmatch(f"{name}@{one.get('modelVersionId', '')}") or pattern.fullmatch(name)
            if found is not None:
                versions[one["id"]] = found[1]
        epoch = labels.get(f"{_LABEL}epoch", "")
        percents = {name: share for name, share in told.get("trafficSplit", {}).items() if share}
        return cls(
            told, percents, versions, int(epoch) if epoch.isdecimal() else None, labels.get(f"{_LABEL}split", "")
        )

    def deployed(self, version: str) -> str | None:
        """Return the id under which a version is deployed; of several the one with most traffic."""
        mine = [name for name, one in self.versions.items() if one == version]
        return max(mine, key=lambda name: (self.percents.get(name, 0), name), default=None)


def digest_of(percents: Mapping[str, int]) -> str:
    """Return a traffic split as 20 hex digits, which a label can hold."""
    return content_id("split", dict(percents)).rpartition("-")[2]


def deployed_id(endpoint: str, version: str) -> str:
    """Return the id of ten digits under which we deploy a version: after a crash the same, and so deployed once."""
    number = int(content_id("deployed", endpoint, version).rpartition("-")[2], 16)
    # Ten digits are what Google takes as an id; from a thousand million on, so that none begins with a zero.
    return str(10**9 + number % (9 * 10**9))


class VertexTarget:
    """The traffic split of one endpoint a model."""

    name = "vertex"

    def __init__(self, settings: TargetSettings) -> None:
        self._options = options_of(settings, VertexOptions)
        self.abilities = Abilities(
            step_bp=_PERCENT, round_up=self._options.round_up, sticky=False, lapses=False, holds_back=True
        )
        self._api = Api(settings, self._options)
        # By model the version and the operation that is under way; by model and version why it can never be served.
        self._pending: dict[str, tuple[str, str]] = {}
        self._unfit: dict[tuple[str, str], tuple[int, str]] = {}

    def apply(self, rollout: Rollout) -> None:
        """Bring the endpoint one change nearer to a record; raises ``Retryable`` until it is there."""
        found = self._look(rollout.model)
        if found is None:
            raise Retryable(f"{self._path(rollout.model)} is not there: create it with version {rollout.champion}")
        self._ours(found, rollout)
        # A later rollout may try again what an earlier one could not do.
        self._unfit = {of: why for of, why in self._unfit.items() if of[0] != rollout.model or why[0] >= rollout.epoch}
        self._finish(rollout)
        weight_bp = self.abilities.weight(rollout.weight_bp)
        canary = rollout.canary
        if canary is not None and weight_bp is None:
            why = f"a weight of {rollout.weight_bp} basis points is below 1 %: raise the step, or set options: round_up"
            self._unfit[rollout.model, canary] = (rollout.epoch, why)
        if canary is not None and self._unfit.get((rollout.model, canary), (-1, ""))[0] == rollout.epoch:
            canary = None
        for version in (rollout.champion, canary):
            if version is not None and found.deployed(version) is None:
                self._deploy(found, rollout, version)
        share = (weight_bp or 0) // _PERCENT if canary is not None else 0
        wanted = {found.deployed(rollout.champion): _ALL - share}
        if canary is not None:
            wanted[found.deployed(canary)] = share
        self._split(found, rollout, {name: part for name, part in wanted.items() if name is not None and part})
        self._tidy(found, rollout)

    def observe(self, model: str) -> Observation | None:
        """Return the split as it is now, and what can never be served."""
        found = self._look(model)
        if found is None:
            return None
        by_version: dict[str, int] = {}
        for name, share in found.percents.items():
            version = found.versions.get(name, name)
            by_version[version] = by_version.get(version, 0) + share
        first = found.versions.get(found.told.get("labels", {}).get(f"{_LABEL}champion", ""))
        champion = first if first in by_version else max(by_version, key=lambda one: by_version[one], default=None)
        others = {version: share for version, share in by_version.items() if version != champion}
        canary = max(others, key=lambda one: others[one], default=None)
        unfit = {version: why for (of, version), (_, why) in self._unfit.items() if of == model}
        return Observation(champion, canary, sum(others.values()) * _PERCENT, unfit)

    def _ours(self, found: TrafficSplit, rollout: Rollout) -> None:
        """Return where the split is as we wrote it; raises ``Retryable`` saying what is not so."""
        where = self._path(rollout.model)
        if found.epoch is not None and found.epoch > rollout.epoch:
            raise Retryable(f"{where}: a later epoch ({found.epoch}) than {rollout.epoch} is in force; it was kept")
        foreign = sorted(name for name in found.percents if name not in found.versions)
        if foreign:
            raise Retryable(
                f"{where}: deployed models {foreign} have traffic and are no version of {rollout.model} by options: "
                "vertex_model"
            )
        if found.epoch is not None and digest_of(found.percents) != found.written:
            raise ChangedByOthers(
                f"{where} splits traffic {dict(found.percents)}, not as epoch {found.epoch} left it; nothing was "
                f"overwritten: set it back, or remove the label {_LABEL}epoch and it is taken over as it is"
            )

    def _finish(self, rollout: Rollout) -> None:
        """Look at the operation that is under way; raises ``Retryable`` while it is."""
        if rollout.model not in self._pending:
            return
        version, operation = self._pending[rollout.model]
        told = self._api.call("GET", operation)
        if not told.get("done"):
            raise Retryable(f"{operation} (version {version}) is under way; it takes no change until it is done")
        del self._pending[rollout.model]
        if "error" not in told:
            return
        why = f"Vertex AI could not deploy or undeploy version {version}: {told['error'].get('message')}"
        if told["error"].get("code") not in _PASSING:
            self._unfit[rollout.model, version] = (rollout.epoch, why)
        raise Retryable(why)

    def _deploy(self, found: TrafficSplit, rollout: Rollout, version: str) -> NoReturn:
        """Ask for one more deployed model, like the one with most traffic and without any."""
        models = {one["id"]: one for one in found.told.get("deployedModels", ())}
        most = max(found.versions, key=lambda name: found.percents.get(name, 0), default=None)
        if most is None:
            raise Retryable(f"{self._path(rollout.model)} has no version of {rollout.model}: deploy its champion once")
        name = filled(self._options.vertex_model, rollout.model, version)
        deployed = {
            "id": deployed_id(self._path(rollout.model), version),
            "model": f"{self._api.parent}/models/{name}",
            "displayName": f"stationkeeper {rollout.model} {version}",
            **{key: value for key, value in models[most].items() if key in _LIKE},
        }
        # Without a split the endpoint's stays as it is, so that the new one has no traffic.
        told = self._api.call("POST", f"{self._path(rollout.model)}:deployModel", {"deployedModel": deployed})
        self._wait(rollout.model, version, told)

    def _tidy(self, found: TrafficSplit, rollout: Rollout) -> None:
        """Undeploy, in a steady phase, one model that we deployed and nobody needs."""
        if rollout.phase is not RolloutPhase.STEADY or self._options.keep_old:
            return
        path = self._path(rollout.model)
        for name, version in found.versions.items():
            ours = name == deployed_id(path, version)
            if ours and version != rollout.champion and name not in found.percents:
                self._wait(
                    rollout.model, version, self._api.call("POST", f"{path}:undeployModel", {"deployedModelId": name})
                )

    def _wait(self, model: str, version: str, told: Mapping[str, Any]) -> NoReturn:
        self._pending[model] = (version, told["name"])
        raise Retryable(f"Vertex AI was asked for {told['name']} (version {version}); it is looked at until it is done")

    def _split(self, found: TrafficSplit, rollout: Rollout, percents: Mapping[str, int]) -> None:
        if found.percents == percents and found.epoch == rollout.epoch:
            return
        labels = {"epoch": str(rollout.epoch), "split": digest_of(percents)}
        labels["champion"] = found.deployed(rollout.champion) or ""
        body = {
            "etag": found.told["etag"],
            "trafficSplit": dict(percents),
            "labels": {**found.told.get("labels", {}), **{_LABEL + name: text for name, text in labels.items()}},
        }
        path = self._path(rollout.model)
        try:
            self._api.call("PATCH", f"{path}?updateMask=trafficSplit,labels", body)
        except VertexRefusal as refusal:
            if refusal.status in _STALE:
                raise ChangedByOthers(f"{path} was changed while we looked; nothing was overwritten") from refusal
            raise
        if found.percents != percents:
            # What was needless before may be undeployed once the split is seen.
            raise Retryable(f"{path} was asked for {dict(percents)}; it is looked at again")

    def _look(self, model: str) -> TrafficSplit | None:
        pattern = re.escape(self._options.vertex_model).replace(r"\{model\}", re.escape(model))
        try:
            told = self._api.call("GET", self._path(model))
        except VertexRefusal as refusal:
            if refusal.status == "NOT_FOUND":
                return None
            raise
        return TrafficSplit.of(told, re.compile(pattern.replace(r"\{version\}", "(.+)")))

    def _path(self, model: str) -> str:
        return f"{self._api.parent}/endpoints/{quote(filled(self._options.endpoint, model), safe='')}"


class Api:
    """Vertex AI's REST interface for one project and location, with the credentials that Google's tools find."""

    def __init__(self, settings: TargetSettings, options: VertexOptions) -> None:
        if missing := [name for name in ("google.auth", "requests") if not _installed(name)]:
            raise ValueError(f"targets: vertex lacks {', '.join(missing)}: install stationkeeper[vertex]")
        self._settings = settings
        self._host = (settings.url or f"https://{options.location}-aiplatform.googleapis.com").rstrip("/")
        self.parent = f"projects/{quote(options.project, safe='')}/locations/{options.location}"
        self._session: Any = None

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON answer; raises ``VertexRefusal`` for an error that Google words, else ``Retryable``."""
        import requests
        from google.auth.exceptions import GoogleAuthError

        try:
            if self._session is None:
                self._session = self._authorized()
            answer = self._session.request(
                method, f"{self._host}/v1/{path}", json=body, timeout=self._settings.timeout / 1_000
            )
            found = answer.json()
        except (requests.RequestException, GoogleAuthError, ValueError) as error:
            raise Retryable(f"Vertex AI does not answer {method} {path}: {error}") from error
        if answer.ok:
            return found
        told = found.get("error", {}) if isinstance(found, dict) else {}
        word, why = str(told.get("status")), told.get("message")
        raise VertexRefusal(f"Vertex AI answers {method} {path} with {answer.status_code} {word}: {why}", word)

    def _authorized(self) -> Any:
        import google.auth
        from google.auth.transport.requests import AuthorizedSession
        from google.oauth2.credentials import Credentials

        token = self._settings.token
        credentials = Credentials(token.read("targets.token")) if token else google.auth.default(scopes=[_SCOPE])[0]
        session = AuthorizedSession(credentials)
        session.verify = True if self._settings.ca_file is None else str(self._settings.ca_file)
        return session


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        # The package that should hold it is not there either.
        return False
