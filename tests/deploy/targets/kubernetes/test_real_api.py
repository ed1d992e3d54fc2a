"""The same targets on a real kube-apiserver with the real definitions, by the rights that docs/targets.md asks for."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from stationkeeper.contracts.messages import Rollout
from stationkeeper.contracts.settings import Credential
from stationkeeper.deploy.controller.effects import Effects
from stationkeeper.deploy.controller.stage import Deploy
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets import ChangedByOthers, Observation, Target, abilities_of, check_target, target_for
from stationkeeper.deploy.targets.kubernetes.cluster import Cluster, ClusterOptions
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.ports import Restored
from tests.cluster.apiserver import VARIABLE, ApiServer, programs, running
from tests.cluster.kserve import Knative, Standard
from tests.cluster.objects import URI, inference_service, record, route, service
from tests.deploy.world import ASSIGNED, SETTINGS, TOPICS, World, candidate
from tests.waiting import until

# No package archive holds a kube-apiserver, and building one takes longer than CI may: whoever changes these targets
# runs `make kube` once. The same promises are held everywhere against the definitions' own schemas, in
# test_gateway_api.py and test_kserve.py.
pytestmark = pytest.mark.skipif(
    programs() is None, reason=f"{VARIABLE} names no folder with a kube-apiserver; make kube builds one in 15 minutes"
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    folder = programs()
    assert folder is not None
    with running(folder, tmp_path_factory.mktemp("kube")) as server:
        for name in ("httproutes.gateway.networking.k8s.io", "inferenceservices.serving.kserve.io"):
            server.install(name)
        # The tests have a model for each of them; a team names its own.
        server.allow_deploy(["conformance", "no-such-model", "knative", "standard", "raced", "looped"])
        yield server


def settings(api: ApiServer, kind: str, **options: str | float | bool) -> TargetSettings:
    token = Credential.model_validate({"secret": api.deploy_token})
    options = {"namespace": "scoring", **options}
    return TargetSettings(kind=kind, url=api.url, ca_file=api.ca_file, token=token, timeout=20_000, options=options)


def gateway(api: ApiServer) -> Target:
    return target_for(settings(api, "gateway-api", rule="score"))


def kserve(api: ApiServer, model: str = "{model}") -> Target:
    return target_for(settings(api, "kserve", storage_uri=URI, service=model))


def deployed(api: ApiServer, model: str) -> str:
    for version in "12":
        api.create(service(version, model))
    return api.create(route(model))


def played(api: ApiServer, path: str, controller: Knative | Standard) -> Callable[[object], None]:
    def settle(_: object = None) -> None:
        api.status(path, controller(api.read(path)))

    settle()
    return settle


def test_the_route_keeps_every_promise_and_all_that_is_not_ours(api: ApiServer):
    path = deployed(api, "conformance")
    before = api.read(path)["spec"]
    check_target(lambda: gateway(api))
    after = api.read(path)["spec"]
    assert after["rules"][1] == before["rules"][1]
    assert after["rules"][0]["matches"] == before["rules"][0]["matches"]
    weights = {ref["name"]: ref["weight"] for ref in after["rules"][0]["backendRefs"]}
    assert weights == {"conformance-1": 10_000, "conformance-2": 0}
    assert "stationkeeper" in api.managers(path)


@pytest.mark.parametrize("controller", [Knative(), Standard()], ids=["knative", "standard"])
def test_both_canaries_keep_every_promise(api: ApiServer, controller: Knative | Standard):
    mode = type(controller).__name__
    path = api.create(inference_service(mode, "conformance", mode.lower()))
    settle = played(api, path, controller)
    check_target(lambda: kserve(api, mode.lower()), settle)
    # A whole life: promotion, and back from the probation.
    one, model = kserve(api, mode.lower()), "conformance"
    for moved in (record(21, canary="2", weight_bp=2_500, model=model), record(21, champion="2", model=model)):
        _until_done(one, moved, settle)
        assert one.observe(model) == Observation(moved.champion, moved.canary, moved.weight_bp)
    assert api.read(path)["spec"]["predictor"]["model"]["storageUri"] == URI.format(model=model, version="2")
    _until_done(one, record(22, champion="1", model=model), settle)
    assert one.observe(model) == Observation("1", None, 0)
    if isinstance(controller, Knative):
        assert all(share in {0, 1, 25, 75, 99, 100} for routed in controller.routed for share in routed.values())


class Routed:
    """The target with KServe at work behind it; it has answered the golden rows, which KServe itself does not tell."""

    def __init__(self, target: Target, settle: Callable[[object], None]) -> None:
        self.name, self.abilities = target.name, abilities_of(target)
        self._target, self._settle = target, settle

    def apply(self, rollout: Rollout) -> None:
        self._settle(None)
        self._target.apply(rollout)

    def observe(self, model: str) -> Observation | None:
        self._settle(None)
        seen = self._target.observe(model)
        return seen and replace(seen, proven=frozenset({"2"}))


class ClusterWorld(World):
    """A log with its controller, whose one target is an InferenceService; rows follow what KServe routes."""

    def __init__(self, target: Routed) -> None:
        self.target = target
        super().__init__()

    def start(self) -> None:
        self.effects = Effects(None, (self.target,))
        self.stage = Deploy(TOPICS, {"fraud": SETTINGS}, self.effects, "stream")
        self.stage.assigned(ASSIGNED, Restored(dict(self.rollouts)))

    def routed(self) -> tuple[str | None, int] | None:
        seen = self.target.observe("fraud")
        return None if seen is None else (seen.champion, seen.weight_bp)

    def traffic(self, *, bad: float = 0.0, rows: int = 1_000) -> dict[str, tuple[int, int]]:
        wanted = (self.last.champion, self.last.weight_bp)
        until(lambda: self.routed() == wanted, f"KServe routes {wanted}")
        return super().traffic(bad=bad, rows=rows)


def test_a_candidate_is_promoted_step_by_step_on_an_inference_service(api: ApiServer):
    path = api.create(inference_service("Standard", "fraud", "looped"))
    world = ClusterWorld(Routed(kserve(api, "looped"), played(api, path, Standard())))
    world.minutes(1)
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    world.minutes(60)
    world.effects.close()
    assert world.actions() == ["adopted", "held", "started", "step", "step", "step", "promoted", "confirmed"]
    assert api.read(path)["spec"]["predictor"]["model"]["storageUri"] == URI.format(model="fraud", version="2")


def _until_done(target: Target, moved: Any, settle: Callable[[object], None]) -> None:
    for _ in range(8):
        try:
            target.apply(moved)
        except Retryable:
            settle(None)
        else:
            settle(None)
            return
    target.apply(moved)


def test_of_two_writers_one_is_refused_by_the_server_and_a_change_by_hand_is_left(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
):
    path, one = deployed(api, "raced"), gateway(api)
    read, races = Cluster.read, [{"metadata": {"labels": {"team": "risk"}}}]

    def raced(self: Cluster, at: str) -> dict[str, Any] | None:
        found = read(self, at)
        if races and at.endswith("httproutes/raced"):
            api.patch(path, races.pop())
        return found

    monkeypatch.setattr(Cluster, "read", raced)
    one.apply(record(1, canary="2", weight_bp=100, model="raced"))
    assert races == []
    assert api.read(path)["metadata"]["labels"] == {"team": "risk"}
    assert one.observe("raced") == Observation("1", "2", 100)
    rules = api.read(path)["spec"]["rules"]
    rules[0]["backendRefs"][1]["weight"] = 9_999
    api.patch(path, {"spec": {"rules": rules}})
    with pytest.raises(ChangedByOthers, match="someone else changed the object"):
        one.apply(record(2, model="raced"))
    assert api.read(path)["spec"]["rules"][0]["backendRefs"][1]["weight"] == 9_999


def test_what_the_server_refuses_is_told_in_its_own_words(api: ApiServer):
    cluster = Cluster(settings(api, "kserve"), ClusterOptions(namespace="scoring"))
    path = api.create(inference_service("Knative", "fraud"))
    version = api.read(path)["metadata"]["resourceVersion"]
    typo = {"metadata": {"resourceVersion": version}, "spec": {"predictor": {"canaryTraficPercent": 3}}}
    with pytest.raises(Retryable, match=r'\(422\): .*unknown field "spec.predictor.canaryTraficPercent"$') as caught:
        cluster.patch(path, typo)
    # The server repeats the whole object before its reason; that stays out of our messages.
    assert "s3://" not in str(caught.value)
    assert (
        cluster.patch(path, {"metadata": {"resourceVersion": "1"}, "spec": {"predictor": {"minReplicas": 9}}}) is False
    )
    with pytest.raises(Retryable, match=r"with 403: .* cannot get resource"):
        cluster.read(path.replace("/fraud", "/of-others"))
    with pytest.raises(Retryable, match=r"with 403|not installed"):
        cluster.read(path.replace("inferenceservices", "inferenceservicez"))
