"""KServe in Knative mode: ``canaryTrafficPercent`` beside a new ``storageUri``, and the way back in three steps.

Knative makes a revision of each change and sends what is for "the latest revision" to the latest *ready* one. So a
percentage may be lifted only when the newest revision is ready and the right one; the status says so late, and
its ``observedGeneration`` is that of another object. Hence the mark keeps the newest revision from before a change.
"""

from collections import Counter
from typing import Any

from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.targets.kubernetes.models import PERCENT_BP, Models
from stationkeeper.deploy.targets.kubernetes.objects import Found, Mark, Patch
from stationkeeper.deploy.targets.target import Observation
from stationkeeper.streams.errors import Retryable


class KnativeMode:
    """Plain values in, values out; ``models`` says where a version's files lie."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def fields(self, found: Found, mark: Mark, model: str) -> Any:
        """Return the model's address and the canary's percentage."""
        return {"storageUri": self._models.address(found), "percent": _percent(found)}

    def mismatch(self, found: Found, rollout: Rollout) -> str:
        """Return why the service does not serve the champion alone."""
        if _percent(found) is not None:
            return f"canaryTrafficPercent is {_percent(found)}: end that canary first"
        return self._models.other(found, rollout)

    def step(self, found: Found, mark: Mark, rollout: Rollout) -> Patch | None:
        """Return the next change on the way to the record; None when the service is there."""
        named = (rollout.champion, rollout.canary, mark.served)
        served = self._models.version(found, rollout.model, named)
        if rollout.canary and served == rollout.canary:
            percent = rollout.weight_bp // PERCENT_BP
            return None if _percent(found) == percent else _weight(percent)
        if rollout.canary and not rollout.weight_bp:
            return None
        if rollout.canary and served == rollout.champion and _percent(found) is None:
            return self._start(found, mark, rollout)
        if served == rollout.champion:
            return self._finish(found, mark, rollout)
        return self._back(found, mark, rollout, served)

    def seen(self, found: Found, mark: Mark, model: str) -> Observation:
        """Return the shares that Knative routes by revision, as versions."""
        shares: Counter[str] = Counter()
        newest = self._models.version(found, model, (mark.champion, mark.canary, mark.served))
        for entry in _status(found).get("traffic", ()):
            shares[mark.revisions.get(entry.get("revisionName", ""), newest)] += entry.get("percent") or 0
        others = +(shares - Counter({mark.champion: shares[mark.champion]}))
        canary = others.most_common(1)[0][0] if others else None
        champion = mark.champion if shares[mark.champion] or not canary else None
        unfit = self._models.unfit(found.get("status", {}).get("modelStatus", {}), mark.canary)
        return Observation(champion, canary, sum(others.values()) * PERCENT_BP, unfit)

    def _start(self, found: Found, mark: Mark, rollout: Rollout) -> Patch:
        """Bring the candidate in: its address and its share in one patch, on a service where nothing moves."""
        status, model = _status(found), rollout.model
        newest, rolled_out = status.get("latestCreatedRevision"), status.get("latestRolledoutRevision")
        if not rolled_out or newest != rolled_out or newest != status.get("latestReadyRevision"):
            # Without a revision that was rolled out KServe ignores the percentage: the candidate would get all.
            raise Retryable(f"{model}: waiting until KServe has rolled out the champion's revision ({newest})")
        spec = _exchange(self._models.uri(model, rollout.canary or ""), rollout.weight_bp // PERCENT_BP)
        return Patch(spec, {**_noted(mark, newest, rollout.champion), "served": rollout.canary})

    def _back(self, found: Found, mark: Mark, rollout: Rollout, served: str) -> Patch:
        """Take traffic away first, then exchange the model while it has none (kserve#2130: else revisions leak)."""
        status = _status(found)
        if _percent(found) != 0:
            return _weight(0)
        newest, previous = status.get("latestCreatedRevision", ""), status.get("previousRolledoutRevision")
        rolled_out, ready = status.get("latestRolledoutRevision"), status.get("latestReadyRevision")
        if previous and previous != rolled_out and rolled_out == ready == newest:
            raise Retryable(f"{rollout.model}: waiting until KServe routes back to revision {previous}")
        away = [one for one in status.get("traffic", ()) if one.get("revisionName") != rolled_out]
        latest = sum(one.get("percent") or 0 for one in away)
        if latest:
            raise Retryable(f"{rollout.model}: waiting until revision {newest} gets nothing; it still gets {latest} %")
        spec = _exchange(self._models.uri(rollout.model, rollout.champion), 0)
        return Patch(spec, {**_noted(mark, newest, served), "served": rollout.champion})

    def _finish(self, found: Found, mark: Mark, rollout: Rollout) -> Patch | None:
        """Give all traffic to the newest revision, once it is ready and the one that was asked for."""
        if _percent(found) is None:
            return None
        status = _status(found)
        newest = status.get("latestCreatedRevision")
        if newest == mark.before or newest != status.get("latestReadyRevision"):
            raise Retryable(f"{rollout.model}: waiting until the revision of version {rollout.champion} is ready")
        return Patch({"predictor": {"canaryTrafficPercent": None}})


def _status(found: Found) -> dict[str, Any]:
    return dict(found.get("status", {}).get("components", {}).get("predictor", {}))


def _percent(found: Found) -> int | None:
    return found["spec"]["predictor"].get("canaryTrafficPercent")  # type: ignore[no-any-return] # JSON


def _weight(percent: int) -> Patch:
    return Patch({"predictor": {"canaryTrafficPercent": percent}})


def _exchange(uri: str, percent: int) -> Found:
    return {"predictor": {"model": {"storageUri": uri}, "canaryTrafficPercent": percent}}


# A rollout makes two revisions; older ones get no traffic any more.
_REVISIONS_KEPT = 6


def _noted(mark: Mark, newest: str, version: str) -> dict[str, Any]:
    """Return what the mark keeps before an exchange: which version the newest revision runs."""
    known = {**mark.revisions, newest: version}
    return {"before": newest, "revisions": dict(list(known.items())[-_REVISIONS_KEPT:])}
