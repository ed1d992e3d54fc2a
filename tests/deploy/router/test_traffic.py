"""Who is answered by which version: weights, leases, promotions, outages."""

import pytest
from structlog.testing import capture_logs

from stationkeeper.contracts.messages import RolloutPhase
from stationkeeper.deploy.core.split import rollout_salt, to_canary
from stationkeeper.streams.errors import DiskUnwritable
from tests.deploy.serving import LEASE, NOW, instances, record


def test_a_canary_answers_its_entities_and_only_those(serve, eventually):
    served = serve()
    served.rollouts.write(record(canary="2", weight_bp=3000))
    eventually(lambda: served.applied() == ("1", "2", 3000))
    status, answer = served.ask("/predict/fraud", instances(200))
    assert status == 200
    cards = [f"card-{i % 50}" for i in range(200)]
    expected = to_canary(rollout_salt("fraud", 1), cards, 3000)
    assert [one["arm"] == "canary" for one in answer["predictions"]] == expected.tolist()
    assert 0 < expected.sum() < 200
    assert [one["event_id"] for one in answer["predictions"]] == [f"e{i}" for i in range(200)]
    for event, one in zip(served.events(), answer["predictions"], strict=True):
        assert event["version"] == {"champion": "1", "canary": "2"}[event["arm"]] == one["version"]
        assert event["assignment_prob"] == pytest.approx(0.3 if event["arm"] == "canary" else 0.7)
        assert (event["prediction"], event["event_id"]) == (one["prediction"], one["event_id"])
    _, alone = served.ask("/predict/fraud", instances(200)["instances"][3])
    assert alone["prediction"] == pytest.approx(answer["predictions"][3]["prediction"], abs=1e-6)


def test_a_weight_is_not_applied_before_its_model_is_loaded_nor_after_its_lease(serve, eventually):
    served = serve()
    served.registry.gate.clear()
    served.rollouts.write(record(canary="2", weight_bp=5000))
    eventually(lambda: served.router.traffic.status("fraud")["wanted"]["weight_bp"] == 5000)
    assert served.applied() == ("1", None, 0)
    _, answer = served.ask("/predict/fraud", instances(50))
    assert {one["version"] for one in answer["predictions"]} == {"1"}
    served.registry.gate.set()
    eventually(lambda: served.applied() == ("1", "2", 5000))
    served.clock[0] = NOW + LEASE
    assert served.applied() == ("1", "2", 0)
    _, answer = served.ask("/predict/fraud", instances(50))
    assert {one["version"] for one in answer["predictions"]} == {"1"}


def test_promotion_and_rollback_follow_the_record_at_once(serve, eventually):
    served = serve()
    served.rollouts.write(record(canary="2", weight_bp=5000))
    eventually(lambda: served.applied() == ("1", "2", 5000))
    served.registry.gate.clear()  # nothing can be loaded from here on: neither move needs it
    served.rollouts.write(record())
    eventually(lambda: served.applied() == ("1", None, 0))
    served.rollouts.write(record(canary="2", weight_bp=5000, epoch=2))
    eventually(lambda: served.applied() == ("1", "2", 5000))
    served.rollouts.write(record(champion="2", epoch=2))
    eventually(lambda: served.applied() == ("2", None, 0))
    served.registry.gate.set()


def test_on_probation_the_old_champion_keeps_its_share_and_comes_back_without_being_loaded(serve, eventually):
    served = serve()
    served.rollouts.write(record(canary="2", weight_bp=5000))
    eventually(lambda: served.applied() == ("1", "2", 5000))
    lease = record(canary="2", weight_bp=5000).lease_until
    held = {"phase": RolloutPhase.PROBATION, "controller": {"previous": "1", "holdback_bp": 3000}, "lease_until": lease}
    served.rollouts.write(record(champion="2").model_copy(update=held))
    eventually(lambda: served.applied() == ("2", "1", 3000))
    _, answer = served.ask("/predict/fraud", instances(200))
    expected = to_canary(rollout_salt("fraud\0holdback", 1), [f"card-{i % 50}" for i in range(200)], 3000)
    assert [one["version"] == "1" for one in answer["predictions"]] == expected.tolist()
    served.registry.gate.clear()
    served.rollouts.write(record())
    eventually(lambda: served.applied() == ("1", None, 0))
    served.registry.gate.set()


def test_a_rollback_does_not_wait_for_a_loader_that_is_busy(serve, eventually):
    served = serve()
    served.rollouts.write(record(canary="2", weight_bp=5000))
    eventually(lambda: served.applied() == ("1", "2", 5000))
    served.registry.gate.clear()
    served.rollouts.write(record(canary="3", weight_bp=5000, epoch=2))
    eventually(lambda: served.applied() == ("1", None, 0))
    served.registry.gate.set()
    eventually(lambda: served.applied() == ("1", "3", 5000))
    served.registry.gate.clear()
    served.rollouts.write(record(canary="2", weight_bp=100, epoch=3))
    served.rollouts.write(record(champion="4", epoch=3))
    eventually(lambda: served.router.traffic.status("fraud")["wanted"]["champion"] == "4")
    assert served.applied() == ("1", None, 0)
    served.registry.gate.set()


def test_a_canary_that_cannot_be_loaded_gets_no_traffic_and_is_shown(serve, eventually):
    served = serve()
    served.rollouts.write(record(canary="9", weight_bp=5000))
    eventually(lambda: "9" in served.router.traffic.errors("fraud"))
    status, answer = served.ask("/predict/fraud", instances(20))
    assert status == 200
    assert {one["version"] for one in answer["predictions"]} == {"1"}
    _, shown = served.ask("/api/v1/status", method="GET")
    assert "not registered" in shown["models"][0]["errors"]["9"]


def test_a_registry_outage_is_waited_out(serve, eventually):
    served = serve()
    served.registry.reachable = False
    served.rollouts.write(record(canary="2", weight_bp=100))
    eventually(lambda: "2" in served.router.traffic.errors("fraud"))
    assert served.ask("/predict/fraud", instances(5))[0] == 200
    served.registry.reachable = True
    eventually(lambda: served.applied() == ("1", "2", 100))


def test_a_feature_that_only_the_canary_knows_is_null_to_it(serve, eventually):
    served = serve()
    served.rollouts.write(record(canary="3", weight_bp=9999))
    eventually(lambda: served.applied()[1] == "3")
    status, answer = served.ask("/predict/fraud", instances(20))
    assert status == 200
    assert {one["version"] for one in answer["predictions"]} == {"3"}


def test_counts_are_served_by_arm_and_the_status_shows_the_split(serve, eventually):
    served = serve()
    served.rollouts.write(record(canary="2", weight_bp=5000))
    eventually(lambda: served.applied() == ("1", "2", 5000))
    served.ask("/predict/fraud", instances(100))
    samples = {(one.metric, one.labels): one.value for one in served.router.samples()}
    counts = [value for (name, _), value in samples.items() if name == "stationkeeper_predictions_served_total"]
    assert sum(counts) == 100
    assert samples["stationkeeper_canary_weight_ratio", ("fraud", "2")] == 0.5
    _, shown = served.ask("/api/v1/status", method="GET")
    assert shown["models"][0]["weight_bp"] == 5000
    assert shown["ready"]


def test_an_unreadable_rollout_record_leaves_the_split_as_it_is(serve, eventually):
    served = serve()
    served.rollouts.records.append((b"fraud", b"not json"))
    served.rollouts.write(record(canary="2", weight_bp=100))
    eventually(lambda: served.applied() == ("1", "2", 100))


def test_a_broker_outage_leaves_the_split_until_the_lease_lapses(serve, eventually):
    served = serve()
    served.rollouts.write(record(canary="2", weight_bp=100))
    eventually(lambda: served.applied() == ("1", "2", 100))
    served.rollouts.up = False
    assert served.ask("/predict/fraud", instances(3))[0] == 200
    served.clock[0] += LEASE
    assert served.applied() == ("1", "2", 0)


def test_a_version_that_the_disk_has_no_room_for_waits_and_is_said_so(serve, eventually, monkeypatch):
    served = serve()
    fetch = served.registry.fetch
    monkeypatch.setattr("stationkeeper.deploy.router.traffic._RETRY_S", (0.01,))

    def full(model: str, version: str):
        raise DiskUnwritable("could not fetch version 2 of fraud: [Errno 28] No space left on device")

    served.registry.fetch = full
    with capture_logs() as logs:
        served.rollouts.write(record(canary="2", weight_bp=3000))
        eventually(lambda: "No space left" in served.router.traffic.errors("fraud").get("2", ""))
        eventually(lambda: logs)
    assert {one["event"] for one in logs} == {"disk_unwritable"}
    assert served.applied() == ("1", None, 0)
    assert served.ask("/predict/fraud", instances(3))[0] == 200
    served.registry.fetch = fetch
    eventually(lambda: served.applied() == ("1", "2", 3000))


def test_an_error_that_nobody_foresaw_does_not_end_the_loader(serve, eventually, monkeypatch):
    served = serve()
    fetch = served.registry.fetch
    monkeypatch.setattr("stationkeeper.deploy.router.traffic._RETRY_S", (0.01,))

    def broken(model: str, version: str):
        raise RuntimeError(f"{model} {version}: the client has a fault of its own")

    served.registry.fetch = broken
    served.rollouts.write(record(canary="2", weight_bp=3000))
    eventually(lambda: "RuntimeError: fraud 2" in served.router.traffic.errors("fraud").get("2", ""))
    served.registry.fetch = fetch
    eventually(lambda: served.applied() == ("1", "2", 3000))
