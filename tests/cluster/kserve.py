"""KServe's controllers as they are written in 0.20, played: what they say in the status after each change.

Knative: ``ksvc_reconciler.go`` (which traffic is asked for) and ``PropagateStatus`` (which revision counts as rolled
out); "the latest revision" of Knative is the latest *ready* one. Standard: ``canaryStatuses`` repeats the spec.
"""

from collections import Counter
from typing import Any

Object = dict[str, Any]


class Knative:
    """The revisions of one service. With ``prompt`` a new one is ready at once, else when ``settle`` says so.

    ``routed`` keeps every share that an address ever got, so that a leak shows however short it was.
    """

    def __init__(self, *, prompt: bool = True) -> None:
        self.prompt, self.ready = prompt, 0
        self.revisions: list[tuple[str, str]] = []
        self.routed: list[Counter[str]] = []
        self._status: Object = {}

    def __call__(self, found: Object) -> Object:
        """Return the status once nothing moves any more."""
        predictor = found["spec"]["predictor"]
        uri = predictor["model"]["storageUri"]
        if not self.revisions or self.revisions[-1][1] != uri:
            self.revisions.append((f"{found['metadata']['name']}-predictor-{len(self.revisions) + 1:05d}", uri))
        if self.prompt or len(self.revisions) == 1:
            self.ready = len(self.revisions)
        before: Object | None = None
        while before != self._status:
            before = self._status
            self._status = self._reconcile(predictor.get("canaryTrafficPercent"))
        return {"components": {"predictor": self._status}, "deploymentMode": "Knative"}

    def settle(self) -> None:
        """Let the newest revision be ready; the status shows it at the next change of the object."""
        self.ready = len(self.revisions)

    def _reconcile(self, percent: int | None) -> Object:
        latest, created = self.revisions[self.ready - 1][0], self.revisions[-1][0]
        rolled_out, previous = (self._status.get(f"{one}RolledoutRevision") for one in ("latest", "previous"))
        if percent is not None and rolled_out:
            traffic: list[Object] = [{"latestRevision": True, "revisionName": latest, "percent": percent}]
            if percent < 100:
                rest = {"latestRevision": False, "revisionName": rolled_out, "percent": 100 - percent, "tag": "prev"}
                traffic.append(rest)
        else:
            traffic = [{"latestRevision": True, "revisionName": latest, "percent": 100}]
        shares: Counter[str] = Counter()
        for one in traffic:
            shares[one["revisionName"]] += one["percent"]
        if rolled_out != latest:
            if traffic[0]["percent"] == 100:
                rolled_out, previous = latest, rolled_out
        elif latest == created and traffic[0]["percent"] < 100 and shares[latest] == 100 and previous:
            rolled_out = previous
        uris = dict(self.revisions)
        self.routed.append(Counter({uris[name]: share for name, share in shares.items()}))
        status = {"latestCreatedRevision": created, "latestReadyRevision": latest, "traffic": traffic}
        status |= {"latestRolledoutRevision": rolled_out} if rolled_out else {}
        return status | ({"previousRolledoutRevision": previous} if previous else {})


class Standard:
    """The canaries of one service; ``ready`` names those that are, or all of them are."""

    def __init__(self, *, prompt: bool = True) -> None:
        self.prompt, self.ready = prompt, set[str]()

    def __call__(self, found: Object) -> Object:
        entries = [(one["predictor"]["name"], one["trafficPercent"]) for one in found["spec"].get("canary", ())]
        statuses = [
            {"name": name, "trafficPercent": percent, "ready": self.prompt or name in self.ready, "modelStatus": {}}
            for name, percent in entries
        ]
        return {"canaryStatuses": statuses, "deploymentMode": "Standard"}
