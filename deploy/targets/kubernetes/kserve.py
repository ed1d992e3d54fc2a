"""KServe's ``InferenceService`` as a target, by whichever canary its deployment mode has.

Knative mode has ``canaryTrafficPercent`` (`knative`), Standard mode since 0.20 the list ``spec.canary`` (`standard`).
Both take whole percents: 1 % is the least that a canary can get, less is refused, and 2.5 becomes 2.
"""

from dataclasses import replace
from typing import Any

from pydantic import Field

from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets.kubernetes.cluster import Cluster, ClusterOptions
from stationkeeper.deploy.targets.kubernetes.knative import KnativeMode
from stationkeeper.deploy.targets.kubernetes.models import PERCENT_BP, Models
from stationkeeper.deploy.targets.kubernetes.objects import Found, Mark, ObjectTarget, Patch, dns_name
from stationkeeper.deploy.targets.kubernetes.standard import StandardMode
from stationkeeper.deploy.targets.target import Abilities, Observation, filled, options_of
from stationkeeper.streams.errors import Retryable

MODE = "serving.kserve.io/deploymentMode"


class ServiceOptions(ClusterOptions):
    """Which service, where a version's files lie, and what its predictor is called (Standard mode)."""

    service: str = "{model}"
    storage_uri: str = Field(pattern=r"\{version\}")
    predictor: str = Field(default="v{version}", pattern=r"\{version\}")


class ServicePlacement:
    """One ``InferenceService`` a model; its deployment mode decides which canary is used."""

    name = "kserve"

    def __init__(self, namespace: str, options: ServiceOptions) -> None:
        self._namespace, self._service = namespace, options.service
        # Versions that a record gave less than a percent, which will not change by waiting.
        self._refused: dict[str, dict[str, str]] = {}
        models = Models(options.storage_uri)
        self._knative, self._standard = KnativeMode(models), StandardMode(models, options.predictor)

    def path(self, model: str) -> str:
        """Return the service's path."""
        name = dns_name(filled(self._service, model))
        return f"/apis/serving.kserve.io/v1beta1/namespaces/{self._namespace}/inferenceservices/{name}"

    def fields(self, found: Found, mark: Mark, model: str) -> Any:
        """Return our fields in the shape of the mode."""
        return self._mode(found).fields(found, mark, model)

    def mismatch(self, found: Found, rollout: Rollout) -> str:
        """Return why the service does not serve the champion alone."""
        return self._mode(found).mismatch(found, rollout)

    def step(self, found: Found, mark: Mark, rollout: Rollout) -> Patch | None:
        """Return the next change of the mode; raises ``Retryable`` for a weight below a percent."""
        if 0 < rollout.weight_bp < PERCENT_BP:
            why = f"KServe gives whole percents, and the record says {rollout.weight_bp / PERCENT_BP:g}"
            why += ": begin rollout.steps at 0.01"
            self._refused[rollout.model] = {rollout.canary or "": why}
            raise Retryable(f"{rollout.model}: {why}")
        self._refused.pop(rollout.model, None)
        return self._mode(found).step(found, mark, rollout)

    def seen(self, found: Found, mark: Mark, model: str) -> Observation:
        """Return what the mode's status says is served."""
        seen = self._mode(found).seen(found, mark, model)
        return replace(seen, unfit={**seen.unfit, **self._refused.get(model, {})})

    def _mode(self, found: Found) -> KnativeMode | StandardMode:
        said = found["metadata"].get("annotations", {}).get(MODE)
        if said in {"Knative", "Serverless"}:
            return self._knative
        if said == "Standard":
            return self._standard
        # KServe's own admission asks for the very word in Standard mode; a default of the cluster may change.
        raise Retryable(f"annotate the InferenceService with {MODE}: Knative, or Standard from 0.20; it has {said!r}")


class KServeTarget(ObjectTarget):
    """An ``InferenceService`` of the cluster as a target."""

    # Whole percents; requests are drawn one by one, and nothing takes a weight away when nobody is there.
    abilities = Abilities(step_bp=PERCENT_BP, sticky=False, lapses=False)

    def __init__(self, settings: TargetSettings) -> None:
        options = options_of(settings, ServiceOptions)
        cluster = Cluster(settings, options)
        super().__init__(cluster, ServicePlacement(cluster.namespace, options))
