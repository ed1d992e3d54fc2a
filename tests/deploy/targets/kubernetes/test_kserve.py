from typing import Any

import pytest

from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets import Observation, Target, abilities_of, check_target, target_for
from stationkeeper.streams.errors import Retryable
from tests.cluster.double import Double
from tests.cluster.kserve import Knative, Standard
from tests.cluster.objects import URI, inference_service, record


def target(cluster: Double) -> Target:
    options: dict[str, str | int | float | bool] = {"namespace": "scoring", "storage_uri": URI}
    return target_for(TargetSettings(kind="kserve", url=cluster.url, options=options))


def deployed(cluster: Double, controller: Knative | Standard, model: str = "fraud") -> str:
    cluster.react = controller
    return cluster.create(inference_service(type(controller).__name__, model))


def uri(version: str) -> str:
    return URI.format(model="fraud", version=version)


def predictor(cluster: Double, path: str) -> Any:
    return cluster.read(path)["spec"]["predictor"]


def canaries(cluster: Double, path: str) -> list[tuple[str, int]]:
    entries = cluster.read(path)["spec"].get("canary", ())
    return [(one["predictor"]["name"], one["trafficPercent"]) for one in entries]


@pytest.mark.parametrize("controller", [Knative(), Standard()], ids=["knative", "standard"])
def test_both_canaries_keep_every_promise_of_a_target(cluster: Double, controller: Knative | Standard):
    deployed(cluster, controller, "conformance")
    check_target(lambda: target(cluster))


@pytest.mark.parametrize("controller", [Knative(), Standard()], ids=["knative", "standard"])
def test_less_than_a_percent_is_refused_and_parts_of_one_are_left_to_the_champion(
    cluster: Double, controller: Knative | Standard
):
    deployed(cluster, controller)
    one = target(cluster)
    one.apply(record(0))
    with pytest.raises(Retryable, match=r"whole percents, and the record says 0.5: begin rollout.steps at 0.01"):
        one.apply(record(1, canary="2", weight_bp=50))
    seen = one.observe("fraud")
    assert seen is not None
    assert (seen.weight_bp, list(seen.unfit)) == (0, ["2"])
    assert all("spec" not in patch for patch in cluster.patches)
    one.apply(record(1, canary="2", weight_bp=250))
    assert one.observe("fraud") == Observation("1", "2", 200)
    refused, rounded = abilities_of(target(cluster)).limits((50, 250)), "0.025 becomes 0.02"
    assert [said for said in refused if said[0] or rounded in said[1]] == [
        (True, "0.005 is refused: the least weight is 0.01"),
        (False, "0.025 becomes 0.02: weights are whole per cent"),
    ]


def test_knative_a_candidate_comes_with_its_share_and_is_promoted_by_lifting_it(cluster: Double):
    knative = Knative()
    path, one = deployed(cluster, knative), target(cluster)
    one.apply(record(1, canary="2", weight_bp=100))
    assert predictor(cluster, path)["model"]["storageUri"] == uri("2")
    assert predictor(cluster, path)["canaryTrafficPercent"] == 1
    assert one.observe("fraud") == Observation("1", "2", 100)
    one.apply(record(1, canary="2", weight_bp=5_000))
    assert one.observe("fraud") == Observation("1", "2", 5_000)
    one.apply(record(1, champion="2"))
    assert "canaryTrafficPercent" not in predictor(cluster, path)
    assert one.observe("fraud") == Observation("2", None, 0)
    assert knative.routed[-1] == {uri("2"): 100}


def test_knative_three_failed_candidates_in_a_row_leak_nothing(cluster: Double):
    # kserve#2130: a restored address at once with a lifted percentage sends all traffic to the failed revision, which
    # is the latest *ready* one until the restored one is.
    knative = Knative(prompt=False)
    path, one = deployed(cluster, knative), target(cluster)
    for epoch, version in enumerate("234", 1):
        start = record(epoch, canary=version, weight_bp=1_000)
        one.apply(start)
        assert one.observe("fraud") == Observation("1", None, 0)
        knative.settle()
        cluster.touch(path)
        assert one.observe("fraud") == Observation("1", version, 1_000)
        with pytest.raises(Retryable, match="waiting until the revision of version 1 is ready"):
            one.apply(record(epoch))
        assert predictor(cluster, path)["canaryTrafficPercent"] == 0
        with pytest.raises(Retryable, match="waiting until the revision of version 1 is ready"):
            one.apply(record(epoch + 1, canary="9", weight_bp=1_000))
        knative.settle()
        cluster.touch(path)
        one.apply(record(epoch))
        assert one.observe("fraud") == Observation("1", None, 0)
    assert predictor(cluster, path)["model"]["storageUri"] == uri("1")
    assert "canaryTrafficPercent" not in predictor(cluster, path)
    assert all(share <= 10 for routed in knative.routed for at, share in routed.items() if at != uri("1"))


def test_knative_a_promotion_is_taken_back_at_once_by_the_revision_of_before(cluster: Double):
    knative = Knative(prompt=False)
    path, one = deployed(cluster, knative), target(cluster)
    one.apply(record(1, canary="2", weight_bp=5_000))
    knative.settle()
    cluster.touch(path)
    one.apply(record(1, champion="2"))
    assert knative.routed[-1] == {uri("2"): 100}
    with pytest.raises(Retryable, match="waiting until the revision of version 1 is ready"):
        one.apply(record(1, champion="1"))
    assert knative.routed[-1] == {uri("1"): 100, uri("2"): 0}
    assert one.observe("fraud") == Observation("1", None, 0)


def test_knative_nothing_begins_before_the_champion_was_rolled_out(cluster: Double):
    # A service that was never rolled out ignores the percentage: the candidate would get everything.
    path, one = deployed(cluster, Knative()), target(cluster)
    for status in ({}, {"latestCreatedRevision": "b", "latestReadyRevision": "a", "latestRolledoutRevision": "a"}):
        cluster.read(path)["status"] = {"components": {"predictor": status}}
        with pytest.raises(Retryable, match="waiting until KServe has rolled out the champion's revision"):
            one.apply(record(1, canary="2", weight_bp=100))
    assert cluster.patches == []


def test_knative_a_candidate_that_cannot_load_is_told(cluster: Double):
    path, one = deployed(cluster, Knative(prompt=False)), target(cluster)
    one.apply(record(1, canary="2", weight_bp=100))
    failed = {"reason": "ModelLoadFailed", "message": "opset 99 is not known"}
    status = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failed}
    cluster.read(path)["status"]["modelStatus"] = status
    seen = one.observe("fraud")
    assert seen is not None
    assert seen.unfit == {"2": "ModelLoadFailed: opset 99 is not known"}


def test_standard_a_canary_gets_traffic_when_it_is_ready_and_becomes_the_stable_one_by_name(cluster: Double):
    standard = Standard(prompt=False)
    path, one = deployed(cluster, standard), target(cluster)
    with pytest.raises(Retryable, match="waiting until canary v2 is ready"):
        one.apply(record(1, canary="2", weight_bp=1_000))
    assert canaries(cluster, path) == [("v2", 0)]
    entry = cluster.read(path)["spec"]["canary"][0]["predictor"]
    assert entry["model"] == {"modelFormat": {"name": "onnx"}, "name": "kserve-container", "storageUri": uri("2")}
    assert (entry["minReplicas"], "maxReplicas" in entry) == (2, False)
    standard.ready = {"v2"}
    cluster.touch(path)
    one.apply(record(1, canary="2", weight_bp=1_000))
    assert canaries(cluster, path) == [("v2", 10)]
    assert one.observe("fraud") == Observation("1", "2", 1_000)
    one.apply(record(1, champion="2"))
    stable = predictor(cluster, path)
    assert (stable["name"], stable["model"]["storageUri"], stable["maxReplicas"]) == ("v2", uri("2"), 6)
    assert canaries(cluster, path) == []
    # The probation went wrong: version 1 comes back beside it, and takes over when it is ready.
    with pytest.raises(Retryable, match="waiting until v1 is ready to be the stable predictor"):
        one.apply(record(1, champion="1"))
    assert predictor(cluster, path)["name"] == "v2"
    standard.ready = {"v1"}
    cluster.touch(path)
    one.apply(record(1, champion="1"))
    assert predictor(cluster, path)["model"]["storageUri"] == uri("1")
    assert one.observe("fraud") == Observation("1", None, 0)


def test_standard_the_canaries_of_others_stay_and_their_share_is_respected(cluster: Double):
    path, one = deployed(cluster, Standard()), target(cluster)
    foreign = {"predictor": {"name": "shadow", "model": {"name": "x", "modelFormat": {"name": "onnx"}}}}
    one.apply(record(1))
    cluster.patch(path, {"spec": {"canary": [{**foreign, "trafficPercent": 60}]}})
    one.apply(record(1, canary="2", weight_bp=2_500))
    one.apply(record(1, canary="2", weight_bp=2_500))
    assert canaries(cluster, path) == [("shadow", 60), ("v2", 25)]
    with pytest.raises(Retryable, match="would give 110 % away"):
        one.apply(record(1, canary="2", weight_bp=5_000))
    one.apply(record(1))
    assert canaries(cluster, path) == [("shadow", 60)]


@pytest.mark.parametrize("mode", ["Knative", "Standard"])
def test_what_somebody_else_changed_is_told_and_left(cluster: Double, mode: str):
    path, one = deployed(cluster, Knative() if mode == "Knative" else Standard()), target(cluster)
    one.apply(record(1))
    cluster.patch(path, {"spec": {"predictor": {"model": {"storageUri": "s3://elsewhere"}}}})
    with pytest.raises(Retryable, match=r"someone else changed the object: .*s3://elsewhere"):
        one.apply(record(2, canary="2", weight_bp=100))
    assert predictor(cluster, path)["model"]["storageUri"] == "s3://elsewhere"


def test_a_service_that_is_not_as_it_must_be_is_not_taken_over(cluster: Double):
    path, one = deployed(cluster, Knative()), target(cluster)
    with pytest.raises(Retryable, match=r"it serves s3://models/fraud/1, champion 7 would be s3://models/fraud/7"):
        one.apply(record(1, champion="7"))
    cluster.patch(path, {"spec": {"predictor": {"canaryTrafficPercent": 5}}})
    with pytest.raises(Retryable, match="canaryTrafficPercent is 5: end that canary first"):
        one.apply(record(1))
    cluster.patch(path, {"metadata": {"annotations": {"serving.kserve.io/deploymentMode": "RawDeployment"}}})
    with pytest.raises(Retryable, match=r"Standard from .* it has 'RawDeployment'"):
        one.apply(record(1))
    assert cluster.patches == []


def test_a_definition_without_canaries_says_so_instead_of_dropping_them(cluster: Double):
    # What an older KServe answers in Standard mode: without strict fields it would be 200, and no canary.
    path, one = deployed(cluster, Standard()), target(cluster)
    one.apply(record(1))
    cluster.refused = "unknown field spec.canary"
    with pytest.raises(Retryable, match=r"refuses to change .* \(422\): unknown field spec.canary"):
        one.apply(record(1, canary="2", weight_bp=100))
    assert canaries(cluster, path) == []
