import pytest

from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets import ChangedByOthers, Observation, Target, check_target, target_for
from stationkeeper.deploy.targets.kubernetes.objects import dns_name
from stationkeeper.streams.errors import Retryable
from tests.cluster.double import Double
from tests.cluster.objects import record, route, service


def target(cluster: Double, rule: str | int = "score") -> Target:
    options: dict[str, str | int | float | bool] = {"namespace": "scoring", "rule": rule}
    return target_for(TargetSettings(kind="gateway-api", url=cluster.url, options=options))


def deployed(cluster: Double, model: str = "fraud") -> str:
    for version in "123":
        cluster.create(service(version, model))
    return cluster.create(route(model))


def weights(cluster: Double, path: str, rule: int = 0) -> dict[str, int]:
    return {ref["name"]: ref["weight"] for ref in cluster.read(path)["spec"]["rules"][rule]["backendRefs"]}


def test_it_keeps_every_promise_of_a_target(cluster: Double):
    deployed(cluster, "conformance")
    check_target(lambda: target(cluster))


def test_basis_points_are_parts_of_ten_thousand_and_nothing_else_of_the_route_changes(cluster: Double):
    path = deployed(cluster)
    before = cluster.read(path)
    target(cluster).apply(record(1, canary="2", weight_bp=37))
    after = cluster.read(path)
    assert weights(cluster, path) == {"fraud-1": 9_963, "fraud-2": 37}
    assert after["spec"]["rules"][1] == before["spec"]["rules"][1]
    assert after["spec"]["rules"][0]["matches"] == before["spec"]["rules"][0]["matches"]
    assert after["metadata"]["annotations"]["owner"] == "risk"
    assert target(cluster).observe("fraud") == Observation("1", "2", 37)


def test_a_whole_life_of_two_rollouts(cluster: Double):
    path, one = deployed(cluster), target(cluster)
    for moved, expected in (
        (record(1), {"fraud-1": 1}),
        (record(2, canary="2", weight_bp=100), {"fraud-1": 9_900, "fraud-2": 100}),
        (record(2, canary="2", weight_bp=5_000), {"fraud-1": 5_000, "fraud-2": 5_000}),
        (record(2, champion="2"), {"fraud-1": 0, "fraud-2": 10_000}),
        # The probation went wrong: the champion of before is still there.
        (record(2, champion="1"), {"fraud-1": 10_000, "fraud-2": 0}),
        (record(3, champion="1", canary="3", weight_bp=100), {"fraud-1": 9_900, "fraud-3": 100}),
        (record(3, champion="3"), {"fraud-1": 0, "fraud-3": 10_000}),
    ):
        one.apply(moved)
        one.apply(moved)
        if expected != {"fraud-1": 1}:
            assert weights(cluster, path) == expected


def test_what_somebody_else_changed_is_told_and_left(cluster: Double):
    path, one = deployed(cluster), target(cluster)
    one.apply(record(1, canary="2", weight_bp=100))
    rules = [dict(rule) for rule in cluster.read(path)["spec"]["rules"]]
    rules[0]["backendRefs"] = [{**ref, "weight": 5_000} for ref in rules[0]["backendRefs"]]
    cluster.patch(path, {"spec": {"rules": rules}})
    for moved in (record(1, canary="2", weight_bp=500), record(1)):
        with pytest.raises(
            ChangedByOthers, match=r'someone else changed the object: .*"fraud-2": 5000.* where we wrote'
        ):
            one.apply(moved)
    assert weights(cluster, path) == {"fraud-1": 5_000, "fraud-2": 5_000}
    assert one.observe("fraud") == Observation("1", "2", 5_000)


def test_of_two_writers_the_slower_one_reads_again(cluster: Double):
    path, one = deployed(cluster), target(cluster)
    cluster.raced = lambda: cluster.patch(path, {"metadata": {"annotations": {"owner": "fraud desk"}}})
    one.apply(record(1, canary="2", weight_bp=100))
    assert weights(cluster, path) == {"fraud-1": 9_900, "fraud-2": 100}
    assert cluster.read(path)["metadata"]["annotations"]["owner"] == "fraud desk"
    # The other writer is a controller that took over: the record of the older one must not come after it.
    cluster.raced = lambda: target(cluster).apply(record(9))
    with pytest.raises(Retryable, match="epoch 9 is in force at the target, 2 is older"):
        one.apply(record(2, canary="2", weight_bp=2_500))
    assert weights(cluster, path) == {"fraud-1": 10_000, "fraud-2": 0}


def test_no_user_is_sent_to_a_service_that_is_not_there(cluster: Double):
    path = deployed(cluster)
    with pytest.raises(Retryable, match="Service fraud-8 does not exist in scoring"):
        target(cluster).apply(record(1, canary="8", weight_bp=100))
    assert "fraud-8" not in weights(cluster, path)


def test_a_route_that_serves_something_else_is_not_taken_over(cluster: Double):
    path = deployed(cluster)
    with pytest.raises(ChangedByOthers, match=r"nothing was changed: the rule's weights are .* give all to fraud-2"):
        target(cluster).apply(record(1, champion="2"))
    with pytest.raises(Retryable, match=r"give all to fraud-1"):
        target(cluster, "docs").apply(record(1))
    with pytest.raises(Retryable, match=r"no rule 'scores' .* it has \['score', 'docs'\]"):
        target(cluster, "scores").apply(record(1))
    with pytest.raises(Retryable, match="no rule 7"):
        target(cluster, 7).apply(record(1))
    assert cluster.patches == []
    assert weights(cluster, path) == {"fraud-1": 1}


def test_traffic_of_a_rule_that_goes_to_a_third_backend_stops_the_rollout(cluster: Double):
    path, one = deployed(cluster), target(cluster)
    one.apply(record(1))
    rules = [dict(rule) for rule in cluster.read(path)["spec"]["rules"]]
    rules[0]["backendRefs"] = [*rules[0]["backendRefs"], {"name": "legacy", "port": 80, "weight": 1}]
    cluster.patch(path, {"spec": {"rules": rules}})
    with pytest.raises(Retryable, match=r"also sends traffic to \['legacy'\]"):
        one.apply(record(2, canary="2", weight_bp=100))


@pytest.mark.parametrize("kind", ["Accepted", "ResolvedRefs"])
def test_a_gateway_that_does_not_take_the_route_is_told(cluster: Double, kind: str):
    path, one = deployed(cluster), target(cluster)
    one.apply(record(1))
    condition = {"type": kind, "status": "False", "reason": "BackendNotFound", "message": "no fraud-2"}
    cluster.read(path)["status"] = {"parents": [{"parentRef": {"name": "public"}, "conditions": [condition]}]}
    with pytest.raises(Retryable, match="gateway public does not take the route: BackendNotFound: no fraud-2"):
        one.observe("fraud")


def test_a_version_whose_name_is_no_dns_name_gets_one(cluster: Double):
    path = deployed(cluster)
    assert dns_name("fraud-1.2.0") != dns_name("fraud-1-2-0")
    cluster.create({**service("x"), "metadata": {"name": dns_name("fraud-1.2.0"), "namespace": "scoring"}})
    target(cluster).apply(record(1, canary="1.2.0", weight_bp=100))
    assert weights(cluster, path)[dns_name("fraud-1.2.0")] == 100


def test_what_is_wrong_with_the_cluster_is_said_in_its_own_words(cluster: Double):
    one = target(cluster)
    assert one.observe("fraud") is None
    with pytest.raises(Retryable, match="httproutes/fraud does not exist: create it with champion 1"):
        one.apply(record(1))
    path = deployed(cluster)
    cluster.read(path)["metadata"]["annotations"]["stationkeeper/rollouts"] = "[]"
    with pytest.raises(Retryable, match="annotation stationkeeper/rollouts cannot be read"):
        one.apply(record(1))
    cluster.installed.clear()
    with pytest.raises(Retryable, match=r"its definition \(CRD\) is not installed"):
        one.apply(record(1))
    away = target_for(TargetSettings(kind="gateway-api", url="http://127.0.0.1:1", options={"namespace": "a"}))
    with pytest.raises(Retryable, match="API does not answer"):
        away.observe("fraud")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"rout": "x"}, "rout: Extra inputs"), ({"backend": "fraud"}, "backend: String should match pattern")],
)
def test_an_option_that_is_none_is_named(options: dict[str, str | int | float | bool], said: str):
    with pytest.raises(ValueError, match=rf"targets: gateway-api: options: {said}"):
        target_for(TargetSettings(kind="gateway-api", url="http://127.0.0.1:1", options=options))


def _two(model: str) -> Rollout:
    return record(1, canary="2", weight_bp=100, model=model)


def test_two_models_may_share_a_route(cluster: Double):
    for version in "12":
        cluster.create(service(version, "loans"))
    path = deployed(cluster)
    rules = cluster.read(path)["spec"]["rules"]
    cluster.patch(path, {"spec": {"rules": [*rules, {"name": "l", "backendRefs": [{"name": "loans-1", "weight": 1}]}]}})
    target(cluster).apply(_two("fraud"))
    options: dict[str, str | int | float | bool] = {"namespace": "scoring", "rule": "l", "route": "fraud"}
    other = target_for(TargetSettings(kind="gateway-api", url=cluster.url, options=options))
    other.apply(_two("loans"))
    assert weights(cluster, path, 2) == {"loans-1": 9_900, "loans-2": 100}
    assert target(cluster).observe("fraud") == other.observe("loans") == Observation("1", "2", 100)
