"""KServe in Standard mode (since 0.20): canaries in ``spec.canary`` beside the stable predictor.

A new entry begins at 0 % and gets traffic when it is ready: 0.20.0 routes to canaries that are not (kserve#5983).
A promotion makes the entry's predictor the stable one, by name, so that its pods go on. The list is replaced
as a whole by a patch, so entries of others are written back as they were read.
"""

from typing import Any

from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.targets.kubernetes.models import ALL_PERCENT, PERCENT_BP, Models
from stationkeeper.deploy.targets.kubernetes.objects import Found, Mark, Patch, dns_name
from stationkeeper.deploy.targets.target import Observation, filled
from stationkeeper.streams.errors import Retryable

# KServe's own default for the one container of a predictor; the definition of 0.20 asks for it in canaries alone.
_CONTAINER = "kserve-container"
# What a canary may not say of itself (KServe's validation): it has a fixed number of pods.
_STABLE_ONLY = frozenset(
    {
        "maxReplicas",
        "scaleTarget",
        "scaleMetric",
        "scaleMetricType",
        "autoScaling",
        "workerSpec",
        "canaryTrafficPercent",
    }
)


class StandardMode:
    """Plain values in, values out; ``models`` says where a version's files lie, ``predictor`` what it is called."""

    def __init__(self, models: Models, predictor: str) -> None:
        self._models, self._predictor = models, predictor

    def fields(self, found: Found, mark: Mark, model: str) -> Any:
        """Return the stable predictor's name and address, and name, percentage and address of our entries."""
        ours = {self._name(model, one) for one in (mark.champion, mark.canary) if one}
        stable = found["spec"]["predictor"]
        entries = [one for one in _entries(found) if _named(one) in ours]
        return {
            "stable": [stable.get("name"), self._models.address(found)],
            "canary": [[_named(one), one["trafficPercent"], _uri(one)] for one in entries],
        }

    def mismatch(self, found: Found, rollout: Rollout) -> str:
        """Return why the service does not serve the champion alone."""
        taking = [_named(one) for one in _entries(found) if one["trafficPercent"]]
        if taking:
            return f"spec.canary sends traffic to {taking}: end those canaries first"
        return self._models.other(found, rollout)

    def step(self, found: Found, mark: Mark, rollout: Rollout) -> Patch | None:
        """Return the next change on the way to the record; None when the service is there."""
        model = rollout.model
        served = self._models.version(found, model, (rollout.champion, mark.served))
        if served != rollout.champion:
            return self._promote(found, rollout)
        ours = {self._name(model, one) for one in (mark.champion, mark.canary, rollout.champion) if one}
        wanted = [self._wanted(found, rollout.canary, rollout)] if rollout.canary else []
        placed = {_named(one): one for one in wanted}
        # Each entry keeps its place, so that a list with nothing to change stays as it is.
        kept = [placed.pop(name, one) for one in _entries(found) if (name := _named(one)) in placed or name not in ours]
        entries = [*kept, *placed.values()]
        total = sum(one["trafficPercent"] for one in entries)
        if total > ALL_PERCENT:
            raise Retryable(f"{model}: spec.canary would give {total} % away; other canaries leave too little")
        return None if entries == _entries(found) else Patch({"canary": entries or None})

    def seen(self, found: Found, mark: Mark, model: str) -> Observation:
        """Return the shares that the spec gives: the status repeats them and knows no traffic of its own."""
        version = self._models.version(found, model, (mark.champion, mark.served))
        entries = {_named(one): one["trafficPercent"] for one in _entries(found)}
        name = mark.canary and self._name(model, mark.canary)
        status = _canary_status(found, name or "")
        unfit = self._models.unfit(status.get("modelStatus", {}), mark.canary)
        return Observation(version, mark.canary, entries.get(name or "", 0) * PERCENT_BP, unfit)

    def _wanted(self, found: Found, version: str, rollout: Rollout) -> Found:
        """Return the entry of a canary: at nothing until it is ready, then at the record's weight."""
        name = self._name(rollout.model, version)
        known = next((one for one in _entries(found) if _named(one) == name), None)
        percent = rollout.weight_bp // PERCENT_BP
        if known is None:
            return {"predictor": self._copy(found, rollout.model, version), "trafficPercent": 0}
        if percent > known["trafficPercent"] and not _canary_status(found, name).get("ready"):
            raise Retryable(
                f"{rollout.model}: waiting until canary {name} is ready; it gets {known['trafficPercent']} %"
            )
        return known if known["trafficPercent"] == percent else {**known, "trafficPercent": percent}

    def _promote(self, found: Found, rollout: Rollout) -> Patch:
        """Make the record's champion the stable predictor; where it is not there yet it comes as an entry first."""
        model, version = rollout.model, rollout.champion
        name = self._name(model, version)
        known = next((one for one in _entries(found) if _named(one) == name), None)
        if known is None:
            entry = {"predictor": self._copy(found, model, version), "trafficPercent": 0}
            return Patch({"canary": [*_entries(found), entry]})
        if not _canary_status(found, name).get("ready"):
            raise Retryable(f"{model}: waiting until {name} is ready to be the stable predictor")
        rest = [one for one in _entries(found) if one is not known]
        # The stable predictor keeps what it says of its scaling; name and model are what the running pods have.
        predictor = {"name": name, "model": known["predictor"]["model"]}
        return Patch({"predictor": predictor, "canary": rest or None}, {"served": version})

    def _copy(self, found: Found, model: str, version: str) -> Found:
        stable = found["spec"]["predictor"]
        kept = {key: value for key, value in stable.items() if key not in _STABLE_ONLY}
        uri = self._models.uri(model, version)
        return {
            **kept,
            "name": self._name(model, version),
            "model": {"name": _CONTAINER, **stable["model"], "storageUri": uri},
        }

    def _name(self, model: str, version: str) -> str:
        return dns_name(filled(self._predictor, model, version))


def _entries(found: Found) -> list[Found]:
    return list(found["spec"].get("canary", ()))


def _named(entry: Found) -> str:
    return str(entry["predictor"]["name"])


def _uri(entry: Found) -> Any:
    return entry["predictor"].get("model", {}).get("storageUri")


def _canary_status(found: Found, name: str) -> Found:
    statuses = found.get("status", {}).get("canaryStatuses", ())
    return next((one for one in statuses if one.get("name") == name), {})
