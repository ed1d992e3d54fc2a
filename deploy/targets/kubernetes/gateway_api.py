"""Weights in an ``HTTPRoute`` of the Gateway API: any service behind Istio, Envoy Gateway, NGINX, Kong and others.

Each version has a Service of its own, which the team deploys; the rule's two backend references share 10 000 parts.
"""

from collections.abc import Iterator

from pydantic import Field

from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.core.split import BUCKETS
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets.kubernetes.cluster import Cluster, ClusterOptions
from stationkeeper.deploy.targets.kubernetes.objects import Found, Mark, ObjectTarget, Patch, dns_name
from stationkeeper.deploy.targets.target import Abilities, Observation, filled, options_of
from stationkeeper.streams.errors import Retryable


class RouteOptions(ClusterOptions):
    """Which route, which of its rules by name or place, and what the Service of a version is called."""

    route: str = "{model}"
    rule: str | int = 0
    backend: str = Field(default="{model}-{version}", pattern=r"\{version\}")


class RoutePlacement:
    """Two backend references of one rule; all other rules, backends and fields stay as they are."""

    name = "gateway-api"

    def __init__(self, cluster: Cluster, options: RouteOptions) -> None:
        self._cluster, self._options = cluster, options

    def path(self, model: str) -> str:
        """Return the route's path."""
        name = dns_name(filled(self._options.route, model))
        return f"/apis/gateway.networking.k8s.io/v1/namespaces/{self._cluster.namespace}/httproutes/{name}"

    def fields(self, found: Found, mark: Mark, model: str) -> dict[str, int]:
        """Return the weights of our backends by name."""
        ours = {*(mark.wrote or ()), *(self._backend(model, one) for one in (mark.champion, mark.canary) if one)}
        return {ref["name"]: ref.get("weight", 1) for ref in self._refs(found) if ref["name"] in ours}

    def mismatch(self, found: Found, rollout: Rollout) -> str:
        """Return which backends take traffic beside the champion's."""
        champion = self._backend(rollout.model, rollout.champion)
        weights = {ref["name"]: ref.get("weight", 1) for ref in self._refs(found)}
        if {name for name, weight in weights.items() if weight} == {champion}:
            return ""
        return f"the rule's weights are {weights}; give all to {champion}, the Service of champion {rollout.champion}"

    def step(self, found: Found, mark: Mark, rollout: Rollout) -> Patch | None:
        """Return the rule's backends with the record's weights; None when they have them."""
        model, refs = rollout.model, self._refs(found)
        champion = self._backend(model, rollout.champion)
        canary = rollout.canary and self._backend(model, rollout.canary)
        weights = {champion: BUCKETS - rollout.weight_bp} | ({canary: rollout.weight_bp} if canary else {})
        old = set(self.fields(found, mark, model)) - set(weights)
        others = {ref["name"] for ref in refs if ref.get("weight", 1)} - old - set(weights)
        if others:
            raise Retryable(f"{model}: the rule also sends traffic to {sorted(others)}: give them a rule of their own")
        wanted: list[Found] = []
        for ref in refs:
            if ref["name"] in weights:
                wanted.append({**ref, "weight": weights[ref["name"]]})
            elif ref["name"] not in old:
                wanted.append(ref)
            elif not canary:
                # The champion of before stays at zero for a way back, until the next canary comes.
                wanted.append({**ref, "weight": 0})
        like = next(ref for ref in refs if ref["name"] in {*weights, *old})
        missing = [name for name in weights if name not in {ref["name"] for ref in refs}]
        for name in missing:
            self._exists(like, name)
            wanted.append({**like, "name": name, "weight": weights[name]})
        if wanted == refs:
            return None
        rules = list(found["spec"]["rules"])
        index = self._index(found)
        rules[index] = {**rules[index], "backendRefs": wanted}
        return Patch({"rules": rules})

    def seen(self, found: Found, mark: Mark, model: str) -> Observation:
        """Return the weights, provided that the gateway took them."""
        for parent, condition in _conditions(found):
            raise Retryable(f"{model}: gateway {parent} does not take the route: {condition}")
        weights = {ref["name"]: ref.get("weight", 1) for ref in self._refs(found)}
        total, champion = sum(weights.values()), self._backend(model, mark.champion)
        elsewhere = total - weights.get(champion, 0)
        # Rounded up, so that a canary never looks smaller than it is.
        share = -(-elsewhere * BUCKETS // total) if total else 0
        return Observation(mark.champion if weights.get(champion) else None, mark.canary, share)

    def _backend(self, model: str, version: str) -> str:
        return dns_name(filled(self._options.backend, model, version))

    def _index(self, found: Found) -> int:
        rules, wanted = found["spec"].get("rules", ()), self._options.rule
        if isinstance(wanted, int):
            if wanted < len(rules):
                return wanted
        else:
            for index, rule in enumerate(rules):
                if rule.get("name") == wanted:
                    return index
        names = [rule.get("name", index) for index, rule in enumerate(rules)]
        raise Retryable(f"the route has no rule {wanted!r} (options.rule); it has {names}")

    def _refs(self, found: Found) -> list[Found]:
        return list(found["spec"]["rules"][self._index(found)].get("backendRefs", ()))

    def _exists(self, like: Found, name: str) -> None:
        """Refuse to send users to a Service that is not there: the gateway would answer them with 500."""
        namespace = like.get("namespace", self._cluster.namespace)
        if like.get("kind", "Service") != "Service" or like.get("group"):
            return
        if self._cluster.read(f"/api/v1/namespaces/{namespace}/services/{name}") is None:
            raise Retryable(
                f"Service {name} does not exist in {namespace}: deploy the version first; nothing was changed"
            )


def _conditions(found: Found) -> Iterator[tuple[str, str]]:
    """Yield what gateways say against the route as it is now; what they say of an older one is not known yet."""
    for parent in found.get("status", {}).get("parents", ()):
        for one in parent.get("conditions", ()):
            current = one.get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
            if current and one.get("type") in {"Accepted", "ResolvedRefs"} and one.get("status") == "False":
                yield str(parent.get("parentRef", {}).get("name")), f"{one.get('reason')}: {one.get('message', '')}"


class GatewayApiTarget(ObjectTarget):
    """An ``HTTPRoute`` of the cluster as a target."""

    # A gateway draws for each request, and nothing takes a weight away when nobody is there.
    abilities = Abilities(sticky=False, lapses=False, holds_back=True)

    def __init__(self, settings: TargetSettings) -> None:
        options = options_of(settings, RouteOptions)
        cluster = Cluster(settings, options)
        super().__init__(cluster, RoutePlacement(cluster, options))
