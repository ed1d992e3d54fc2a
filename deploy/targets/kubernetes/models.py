"""Where the versions of a model lie, and which of them an ``InferenceService`` is told to serve."""

from collections.abc import Collection
from typing import Final

from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.targets.kubernetes.objects import Found
from stationkeeper.deploy.targets.target import filled
from stationkeeper.streams.errors import Retryable

# KServe's weights are whole percents: basis points in one of them, and the percents of all traffic.
PERCENT_BP: Final = 100
ALL_PERCENT: Final = 100


class Models:
    """Addresses by the template ``storage_uri`` of the configuration; a message never brings one."""

    def __init__(self, template: str) -> None:
        self._template = template

    def uri(self, model: str, version: str) -> str:
        """Return where a version's files lie."""
        return filled(self._template, model, version)

    def address(self, found: Found) -> str:
        """Return the address that the stable predictor is told; raises ``Retryable`` where it has none."""
        uri = found["spec"]["predictor"].get("model", {}).get("storageUri")
        if not isinstance(uri, str):
            raise Retryable("the InferenceService has no spec.predictor.model.storageUri: write it in that form")
        return uri

    def version(self, found: Found, model: str, versions: Collection[str | None]) -> str:
        """Return which of some versions the stable predictor is told to serve; raises ``Retryable`` if none."""
        address = self.address(found)
        for version in versions:
            if version and self.uri(model, version) == address:
                return version
        raise Retryable(
            f"{model}: the InferenceService serves {address}, which is none of {sorted(filter(None, versions))}"
        )

    def other(self, found: Found, rollout: Rollout) -> str:
        """Return why the stable predictor is not told to serve the record's champion; empty if it is."""
        address, wanted = self.address(found), self.uri(rollout.model, rollout.champion)
        return "" if address == wanted else f"it serves {address}, champion {rollout.champion} would be {wanted}"

    def unfit(self, status: Found, version: str | None) -> dict[str, str]:
        """Return why KServe gave up loading a version, by a ``modelStatus``."""
        failed = status.get("lastFailureInfo", {})
        if version is None or status.get("transitionStatus") not in {"BlockedByFailedLoad", "InvalidSpec"}:
            return {}
        return {version: f"{failed.get('reason', status['transitionStatus'])}: {failed.get('message', '')}"}
