"""Amazon SageMaker as a target: versions are production variants of one endpoint, and weights are variant weights.

A version that the endpoint lacks is added by a new endpoint configuration, at weight zero; then weights move alone.
SageMaker has no compare-and-set. What we asked for is written into the endpoint's tags before and after the call, so
that a crash is told from an update that SageMaker undid, and both from a change of somebody else.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from stationkeeper.contracts.identity import content_id
from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.contracts.settings import Duration, Settings
from stationkeeper.deploy.core.split import BUCKETS
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets.target import Abilities, ChangedByOthers, Observation, filled, options_of
from stationkeeper.streams.errors import Retryable

# What SageMaker allows as the name of an endpoint, a variant or a configuration.
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
# Variants of this name are ours, and only ours are ever removed.
_OURS = "stationkeeper-"
# Of an endpoint's name in that of its configurations: 63 characters less "-stationkeeper-" and 20 of the digest.
_NAME_KEPT = 28
# An endpoint in one of these takes no update; it leaves them by itself.
_MOVING = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack"})
# Shares that differ by less are the same: weights are single floats, a basis point is 1e-4.
_SAME = 1e-6
_TAG = "stationkeeper:"


class SageMakerOptions(Settings):
    """How a model's versions are found on SageMaker.

    ``endpoint`` and ``model_name`` are templates: version 2 of fraud is the SageMaker model ``fraud-2``, which the
    team's pipeline creates. ``shift`` is the guardrail of an update that adds or removes a variant: traffic goes to
    the new fleet at once, by ``shift_percent`` first (``canary``) or in such steps (``linear``), waiting ``shift_wait``
    between; ``alarms`` names the CloudWatch alarms that undo it, separated by commas.
    """

    endpoint: Annotated[str, Field(min_length=1)] = "{model}"
    model_name: Annotated[str, Field(pattern=r"\{version\}")] = "{model}-{version}"
    region: str | None = None
    shift: Literal["none", "all_at_once", "canary", "linear"] = "none"
    # SageMaker's own bounds of a canary: at most half of the fleet.
    shift_percent: Annotated[int, Field(ge=1, le=50)] = 10
    # Five minutes are as many points of a usual alarm; SageMaker's limit is an hour.
    shift_wait: Annotated[Duration, Field(le=3_600_000)] = 300_000
    alarms: str = ""
    # An idle variant is paid for; it is removed when the rollout is over.
    keep_old: bool = False

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.shift != "none" and not self.alarms:
            raise ValueError(f"shift: {self.shift} without alarms undoes nothing; name alarms, or write shift: none")
        return self

    def deployment(self) -> dict[str, Any]:
        """Return the arguments of ``UpdateEndpoint`` that say how traffic moves to the new fleet."""
        if self.shift == "none":
            return {}
        routing: dict[str, Any] = {"Type": self.shift.upper(), "WaitIntervalInSeconds": self.shift_wait // 1_000}
        size = {"Type": "CAPACITY_PERCENT", "Value": self.shift_percent}
        routing |= {"canary": {"CanarySize": size}, "linear": {"LinearStepSize": size}}.get(self.shift, {})
        alarms = [{"AlarmName": name.strip()} for name in self.alarms.split(",") if name.strip()]
        return {
            "DeploymentConfig": {
                "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing},
                "AutoRollbackConfiguration": {"Alarms": alarms},
            }
        }


@dataclass(frozen=True, slots=True)
class EndpointMark:
    """What our tags on an endpoint say: who asked for what, and whether it was seen there (``done``)."""

    epoch: int | None = None
    champion: str = ""
    stage: Literal["wanting", "asked", "done"] = "done"
    before: str = ""
    wanted: str = ""

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Self:
        """Read the tags; an endpoint without an epoch is one that nobody gave to us yet."""
        epoch, stage = tags.get(f"{_TAG}epoch", ""), tags.get(f"{_TAG}stage")
        if not epoch.isdecimal():
            return cls()
        texts = {name: tags.get(_TAG + name, "") for name in ("champion", "before", "wanted")}
        return cls(int(epoch), stage="done" if stage == "done" else "asked" if stage == "asked" else "wanting", **texts)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as SageMaker tells of it: by variant the weight (wanted, present) and the version it serves."""

    arn: str
    status: str
    config: str
    why: str
    weights: Mapping[str, float]
    present: Mapping[str, float]
    versions: Mapping[str, str]
    mark: EndpointMark = field(default_factory=EndpointMark)

    @property
    def state(self) -> str:
        """Return configuration and weights as one text, such as ``fraud-1 a=9900 b=100``."""
        return state_of(self.config, self.weights)

    @property
    def undone(self) -> bool:
        """Whether SageMaker took back what it was asked for and says nothing of it."""
        return self.mark.stage == "asked" and self.status == "InService" and self.state == self.mark.before

    def variant(self, version: str) -> str | None:
        """Return the variant of a version; of several the one with most traffic."""
        mine = [name for name, one in self.versions.items() if one == version]
        return max(mine, key=lambda name: (self.weights.get(name, 0.0), name), default=None)


@dataclass(frozen=True, slots=True)
class VariantChange:
    """One change of an endpoint: versions to add, variants to drop, or weights."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)


def state_of(config: str, weights: Mapping[str, float]) -> str:
    """Return a configuration and the weights that are not zero as one text, which a tag can hold."""
    return " ".join([config, *(f"{name}={weight:g}" for name, weight in sorted(weights.items()) if weight)])


def next_change(found: Endpoint, rollout: Rollout, *, keep_old: bool) -> VariantChange | None:
    """Return the next change on the way to what a record says, None when nothing is left to do.

    First what is missing, without traffic; then weights; last, in a steady phase, what we added and nobody needs.
    """
    needed = [version for version in (rollout.champion, rollout.canary) if version]
    missing = tuple(version for version in needed if found.variant(version) is None)
    if missing:
        return VariantChange(add=missing)
    wanted = dict.fromkeys(found.versions, 0.0)
    wanted[found.variant(rollout.champion) or ""] = float(BUCKETS - rollout.weight_bp)
    if rollout.canary:
        wanted[found.variant(rollout.canary) or ""] = float(rollout.weight_bp)
    if shares(found.weights) != shares(wanted):
        return VariantChange(weights=wanted)
    surplus = tuple(name for name in found.versions if name.startswith(_OURS) and not wanted[name])
    if surplus and rollout.phase is RolloutPhase.STEADY and not keep_old:
        return VariantChange(drop=surplus)
    return None


def shares(weights: Mapping[str, float]) -> dict[str, int]:
    """Return each variant's share of the traffic in millionths, those without any left out."""
    total = sum(weights.values()) or 1.0
    return {name: round(weight / total / _SAME) for name, weight in weights.items() if weight}


class Account:
    """The endpoints of one account and region: what is read of them and written to them, through botocore."""

    def __init__(self, settings: TargetSettings, options: SageMakerOptions) -> None:
        self._options, self._client = options, _client(settings, options.region)
        # Configurations never change.
        self._configs: dict[str, Mapping[str, Any]] = {}

    def look(self, model: str) -> Endpoint | None:
        """Return a model's endpoint as it is now, None where there is none."""
        endpoint = self.named_for(model)
        try:
            with _asking():
                told = self._client.describe_endpoint(EndpointName=endpoint)
        except Retryable as error:
            if "Could not find" in str(error):
                return None
            raise
        with _asking():
            tags = self._client.list_tags(ResourceArn=told["EndpointArn"])["Tags"]
        variants = told.get("ProductionVariants", ())
        return Endpoint(
            told["EndpointArn"],
            told["EndpointStatus"],
            told["EndpointConfigName"],
            told.get("FailureReason") or "SageMaker gives no reason",
            {one["VariantName"]: one.get("DesiredWeight", 0.0) for one in variants},
            {one["VariantName"]: one.get("CurrentWeight", 0.0) for one in variants},
            self.versions(model, told["EndpointConfigName"]),
            EndpointMark.of({one["Key"]: one["Value"] for one in tags}),
        )

    def versions(self, model: str, config: str) -> dict[str, str]:
        """Return the version of each variant of a configuration, without those that serve none of the model."""
        pattern = re.escape(self._options.model_name).replace(r"\{model\}", re.escape(model))
        named = re.compile(pattern.replace(r"\{version\}", "(.+)"))
        variants = self._config(config)["ProductionVariants"]
        served = {one["VariantName"]: named.fullmatch(one.get("ModelName", "")) for one in variants}
        return {name: found[1] for name, found in served.items() if found}

    def _config(self, name: str) -> Mapping[str, Any]:
        if name not in self._configs:
            with _asking():
                self._configs[name] = self._client.describe_endpoint_config(EndpointConfigName=name)
        return self._configs[name]

    def planned(self, found: Endpoint, model: str, change: VariantChange) -> tuple[str, dict[str, Any]]:
        """Return the configuration after a change: all else as it is, who is added like the one with most traffic."""
        told = self._config(found.config)
        known = self._client.meta.service_model.operation_model("CreateEndpointConfig").input_shape.members
        content = {name: value for name, value in told.items() if name in known and name != "EndpointConfigName"}
        variants = [
            {**one, "InitialVariantWeight": found.weights.get(one["VariantName"], 0.0)}
            for one in told["ProductionVariants"]
            if one["VariantName"] not in change.drop
        ]
        like = max(variants, key=lambda one: one["InitialVariantWeight"])
        for version in change.add:
            names = {
                "VariantName": self._named(_OURS + version),
                "ModelName": filled(self._options.model_name, model, version),
            }
            variants.append({**like, **names, "InitialVariantWeight": 0.0})
        content["ProductionVariants"] = variants
        digest = content_id("config", json.dumps(content, sort_keys=True, default=str)).rpartition("-")[2]
        kept = self.named_for(model)[:_NAME_KEPT].rstrip("-")
        return self._named(f"{kept}-{_OURS}{digest}"), content

    def create(self, config: str, content: Mapping[str, Any]) -> None:
        """Make a configuration, unless it is there."""
        try:
            self._config(config)
        except Retryable:
            # Named by its content: whoever was first made the same one.
            with _asking():
                self._client.create_endpoint_config(EndpointConfigName=config, **content)

    def update(self, model: str, config: str) -> None:
        """Ask for another configuration."""
        self._client.update_endpoint(
            EndpointName=self.named_for(model), EndpointConfigName=config, **self._options.deployment()
        )

    def weigh(self, model: str, change: VariantChange) -> None:
        """Ask for other weights."""
        weights = [{"VariantName": name, "DesiredWeight": weight} for name, weight in change.weights.items()]
        self._client.update_endpoint_weights_and_capacities(
            EndpointName=self.named_for(model), DesiredWeightsAndCapacities=weights
        )

    def mark(self, arn: str, rollout: Rollout, stage: str, before: str, wanted: str) -> None:
        """Write what was asked for into the endpoint's tags."""
        tags = {"epoch": str(rollout.epoch), "champion": rollout.champion, "stage": stage}
        tags |= {"before": before, "wanted": wanted}
        with _asking():
            self._client.add_tags(
                ResourceArn=arn, Tags=[{"Key": _TAG + name, "Value": value} for name, value in tags.items()]
            )

    def named_for(self, model: str) -> str:
        """Return the name of a model's endpoint."""
        return self._named(filled(self._options.endpoint, model))

    def _named(self, name: str) -> str:
        if _NAME.fullmatch(name) is None:
            raise Retryable(
                f"{name!r} is no name that SageMaker allows (letters, digits and hyphens, at most 63): write "
                "targets: options: endpoint: or model_name:, one target for each such model with models: [NAME]"
            )
        return name


class SageMakerTarget:
    """The production variants of one endpoint a model."""

    name = "sagemaker"
    # Weights are floats of any size. A caller may name a variant itself, but nothing keeps an entity with one.
    abilities = Abilities(sticky=False, lapses=False, holds_back=True)

    def __init__(self, settings: TargetSettings) -> None:
        self._options = options_of(settings, SageMakerOptions)
        self._account = Account(settings, self._options)

    def apply(self, rollout: Rollout) -> None:
        """Bring the endpoint one change nearer to a record; raises ``Retryable`` until it is there."""
        found, where = self._account.look(rollout.model), f"endpoint {self._account.named_for(rollout.model)}"
        if found is None:
            raise Retryable(f"{where} is not there: create it with version {rollout.champion} of {rollout.model}")
        self._settle(found, rollout, where)
        change = next_change(found, rollout, keep_old=self._options.keep_old)
        if change is None:
            if found.mark.epoch is None or found.mark.epoch < rollout.epoch:
                self._account.mark(found.arn, rollout, "done", found.state, found.state)
            return
        if change.weights:
            self._ask(
                found,
                rollout,
                state_of(found.config, change.weights),
                lambda: self._account.weigh(rollout.model, change),
            )
        config, content = self._account.planned(found, rollout.model, change)
        weights = {one["VariantName"]: one["InitialVariantWeight"] for one in content["ProductionVariants"]}
        self._account.create(config, content)
        self._ask(found, rollout, state_of(config, weights), lambda: self._account.update(rollout.model, config))

    def observe(self, model: str) -> Observation | None:
        """Return what the endpoint serves now, and why a version that was added and undone cannot be served."""
        found = self._account.look(model)
        if found is None:
            return None
        total = sum(found.present.values()) or 1.0
        by_version: dict[str, float] = {}
        for name, weight in found.present.items():
            version = found.versions.get(name, name)
            by_version[version] = by_version.get(version, 0.0) + weight / total
        largest = max(by_version, key=lambda version: by_version[version], default=None)
        champion = found.mark.champion if found.mark.champion in by_version else largest
        others = {version: share for version, share in by_version.items() if share and version != champion}
        canary = max(others, key=lambda version: others[version], default=None)
        return Observation(champion, canary, round(sum(others.values()) * BUCKETS), dict(self._unfit(model, found)))

    def _settle(self, found: Endpoint, rollout: Rollout, where: str) -> None:
        """Return where the endpoint is as we left it and takes a change; raises ``Retryable`` saying what is not so."""
        mark = found.mark
        if mark.epoch is not None and mark.epoch > rollout.epoch:
            raise Retryable(f"{where}: a later epoch ({mark.epoch}) than {rollout.epoch} is in force; it was kept")
        if found.status in _MOVING:
            raise Retryable(f"{where} is {found.status}; it takes no change until it is InService")
        if found.status != "InService":
            raise Retryable(f"{where} is {found.status} ({found.why}): mend it in SageMaker")
        foreign = sorted(name for name in found.weights if name not in found.versions)
        if foreign:
            raise Retryable(f"{where}: variants {foreign} serve no version of {rollout.model} by options: model_name")
        if mark.epoch is None:
            return
        if found.state == mark.wanted:
            if mark.stage != "done":
                self._account.mark(found.arn, rollout, "done", mark.before, mark.wanted)
        elif mark.stage == "done" or found.state != mark.before:
            raise ChangedByOthers(
                f"{where} has [{found.state}], epoch {mark.epoch} left [{mark.wanted}]; nothing was overwritten: set "
                f"it back, or remove the tag {_TAG}epoch and it is taken over as it is"
            )

    def _ask(self, found: Endpoint, rollout: Rollout, wanted: str, call: Callable[[], object]) -> None:
        mark = found.mark
        if found.undone and (mark.wanted, mark.epoch) == (wanted, rollout.epoch):
            raise Retryable(f"SageMaker undid [{wanted}] and serves [{found.state}] ({found.why}); not asked again")
        self._account.mark(found.arn, rollout, "wanting", found.state, wanted)
        with _asking():
            call()
        self._account.mark(found.arn, rollout, "asked", found.state, wanted)
        raise Retryable(f"SageMaker was asked for [{wanted}]; it is looked at until it is InService with it")

    def _unfit(self, model: str, found: Endpoint) -> Iterator[tuple[str, str]]:
        broken = found.status not in _MOVING and found.status != "InService"
        config = found.mark.wanted.partition(" ")[0]
        if not found.mark.epoch or not (found.undone or broken) or config in {"", found.config}:
            return
        for version in set(self._account.versions(model, config).values()) - set(found.versions.values()):
            yield version, f"the endpoint is {found.status} without configuration {config}, which added it: {found.why}"


@contextmanager
def _asking() -> Iterator[None]:
    """Turn what botocore raises into ``Retryable``: rights, models and limits that lack today may be there tomorrow."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise Retryable(f"SageMaker: {error}") from error


@cache
def _session() -> Any:
    """Return the one session: it reads the model of the service, some megabytes, once."""
    from botocore.session import Session

    return Session()


def _client(settings: TargetSettings, region: str | None) -> Any:
    try:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise ValueError(f"targets: sagemaker needs the extra: install stationkeeper[sagemaker] ({error})") from error
    # The effects' thread asks again itself; retries here would hold the other models up.
    seconds = settings.timeout / 1_000
    config = Config(connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 1})
    verify = None if settings.ca_file is None else str(settings.ca_file)
    try:
        return _session().create_client(
            "sagemaker", region_name=region, endpoint_url=settings.url, config=config, verify=verify
        )
    except (BotoCoreError, ValueError) as error:
        raise ValueError(f"targets: sagemaker: {error}; write options: region: eu-west-1 or another") from error
