"""The router behind a real uvicorn: answers, splits, refusals, leases and the log of every answer."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from contracts.messages import PredictionEvent, Rollout, RolloutPhase
from contracts.times import to_datetime
from contracts.wire import score_bin
from deploy.core.split import rollout_salt, to_canary
from deploy.router import Router
from deploy.server import Server, uvicorn_server
from deploy.settings import ServeSettings
from deploy.traffic import TrafficTable
from streams.errors import Retryable
from streams.ports import Batch, Partition

NOW = 1_000_000
LEASE = 30_000


class RolloutsLog:
    """A rollouts topic in memory, as a ``Reader``."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes | None]] = []
        self.exists = True
        self.up = True

    def write(self, rollout: Rollout) -> None:
        self.records.append((rollout.model.encode(), rollout.encode()))

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        return (Partition(topic, 0),) if self.exists else ()

    def bounds(self, partitions: Any) -> dict[Partition, tuple[int, int]]:
        return {one: (0, len(self.records)) for one in partitions}

    def follow(self, partitions: Any, positions: dict[Partition, int], timeout_s: float) -> list[Batch]:
        if not self.up:
            raise Retryable("the broker is switched off")
        (partition,) = partitions
        at, end = positions[partition], len(self.records)
        if at == end:
            threading.Event().wait(0.01)
            return []
        positions[partition] = end
        keys, values = zip(*self.records[at:end], strict=True)
        import numpy as np

        return [Batch(partition, np.arange(at, end), np.zeros(end - at, np.int64), keys, values, end)]

    def read(self, partitions: Any, start: Any = None) -> Iterator[Batch]:
        return iter(())

    def close(self) -> None:
        pass


@dataclass
class Served:
    """A running server and everything it touches."""

    port: int
    router: Router
    rollouts: RolloutsLog
    log: Any
    registry: Any
    clock: list[int]

    def ask(self, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data)
        answer = connection.getresponse()
        content = json.loads(answer.read())
        connection.close()
        return answer.status, content

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(value) for _, _, value in self.log.records]

    def applied(self) -> tuple[str | None, str | None, int]:
        shown = self.router.traffic.status("fraud")
        return shown["champion"], shown["canary"], shown["weight_bp"]


def record(champion: str = "1", canary: str | None = None, weight_bp: int = 0, epoch: int = 1) -> Rollout:
    return Rollout(
        model="fraud",
        epoch=epoch,
        time=to_datetime(NOW),
        phase=RolloutPhase.CANARY if canary else RolloutPhase.STEADY,
        champion=champion,
        canary=canary,
        weight_bp=weight_bp,
        salt=rollout_salt("fraud", epoch),
        lease_until=to_datetime(NOW + LEASE) if canary else None,
    )


@pytest.fixture
def serve(registry, eventually, list_log) -> Iterator[Callable[..., Served]]:
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(*, wait: bool = True, **settings: Any) -> Served:
        log, rollouts, clock = list_log, RolloutsLog(), [NOW]
        rollouts.write(record())
        router = Router(
            ServeSettings(**settings),
            {"fraud": "fraud.predictions"},
            "rollouts",
            rollouts,
            log,
            TrafficTable(registry, lambda: clock[0]),
        )
        server = uvicorn_server(Server(router), "127.0.0.1", 0)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        served = Served(port, router, rollouts, log, registry, clock)
        if wait:
            eventually(lambda: not router.readiness())
        return served

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(20)


def instances(count: int, **more: Any) -> dict[str, Any]:
    return {
        "instances": [
            {
                "event_id": f"e{i}",
                "entity_id": f"card-{i % 50}",
                "time": NOW + i,
                "features": {"amount": i / count - 0.5, "method": "wallet" if i % 3 else "card"},
                **more,
            }
            for i in range(count)
        ]
    }


def test_one_object_gets_one_answer_and_every_answer_is_a_prediction_event(serve):
    served = serve()
    body = {
        "event_id": "e1",
        "entity_id": "c1",
        "features": {"amount": 2.0, "method": "card"},
        "time": "2026-01-01T00:00:00Z",
    }
    status, answer = served.ask("/predict/fraud", body)
    assert status == 200
    assert answer["action"] == "positive"
    assert answer["prediction"] > 0.5
    (topic, key, value) = served.log.records[0]
    event = PredictionEvent.decode(value)
    assert (topic, key) == ("fraud.predictions", b"e1")
    assert event.prediction == answer["prediction"]
    assert (event.version, event.arm, event.action, event.entity_id) == ("1", "champion", "positive", "c1")
    assert event.features == {"amount": 2.0, "method": "card"}
    assert event.time == 1_767_225_600_000
    assert event.assignment_prob is None
    assert event.latency_ms is not None
    assert event.encode() == PredictionEvent.model_validate_json(value).encode()


def test_a_caller_without_ids_gets_one_and_now_is_the_time(serve):
    served = serve()
    status, answer = served.ask("/predict/fraud", {"features": {"amount": 0, "method": None}})
    assert status == 200
    assert len(answer["event_id"]) == 32
    assert served.events()[0]["time"] > NOW


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


def test_without_a_champion_the_server_is_live_but_not_ready(serve, registry, eventually):
    registry.reachable = False
    served = serve(wait=False)
    eventually(lambda: bool(served.router.traffic.errors("fraud")))
    assert served.ask("/v2/health/live", method="GET") == (200, {"live": True})
    status, shown = served.ask("/v2/health/ready", method="GET")
    assert status == 503
    assert "switched off" in shown["reasons"][0]
    status, refused = served.ask("/predict/fraud", instances(1))
    assert (status, refused["code"]) == (503, "not_ready")


def test_a_feature_that_only_the_canary_knows_is_null_to_it(serve, eventually):
    served = serve()
    served.rollouts.write(record(canary="3", weight_bp=9999))
    eventually(lambda: served.applied()[1] == "3")
    status, answer = served.ask("/predict/fraud", instances(20))
    assert status == 200
    assert {one["version"] for one in answer["predictions"]} == {"3"}


PREDICT, INFER = "/predict/fraud", "/v2/models/fraud/infer"
SHORT = {"inputs": [{"name": "amount", "shape": [2], "datatype": "FP32", "data": [1]}]}
BINARY = {"inputs": [{"name": "amount", "shape": [1], "datatype": "FP32"}]}
AMOUNT, FIRST = "features.amount", "instances[0]"


def row(amount: Any = 1.0, **more: Any) -> dict[str, Any]:
    return {"features": {"amount": amount, "method": "card"}, **more}


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "field", "says"),
    [
        ("/predict/nope", instances(1), 404, "unknown_model", "model", "known: fraud"),
        (PREDICT, b"{", 400, "bad_json", None, "not JSON"),
        (PREDICT, b'{"features": {"amount": NaN}}', 400, "bad_json", None, "send null"),
        (PREDICT, b"\xff\xfe", 400, "bad_json", None, "not JSON"),
        (PREDICT, row([1]), 400, "wrong_type", f"{FIRST}.{AMOUNT}", "array"),
        (PREDICT, row(evnt_id="x"), 400, "wrong_type", "evnt_id", "evnt_id"),
        (PREDICT, {"instances": []}, 400, "no_rows", "instances", "at least one"),
        (PREDICT, {"features": {"amount": 1.0}}, 400, "missing_feature", f"{FIRST}.features.method", "'method'"),
        (PREDICT, row("much"), 400, "wrong_type", AMOUNT, "'much'"),
        (PREDICT, row(1e300), 400, "wrong_type", AMOUNT, "float32"),
        (PREDICT, row(time="soon"), 400, "bad_time", f"{FIRST}.time", "soon"),
        (PREDICT, instances(101), 413, "too_many_rows", "instances", "at most 100"),
        (PREDICT, b" " * 70_000, 413, "too_large", None, "65536 bytes"),
        (INFER, SHORT, 400, "wrong_type", "amount", "1 values"),
        (INFER, BINARY, 400, "wrong_type", "amount", "binary"),
        ("/nowhere", {}, 404, "no_such_route", None, "/predict/MODEL"),
    ],
)
def test_bad_input_is_refused_with_its_field_and_its_mend(serve, path, body, status, code, field, says):
    served = serve(max_rows=100, max_body_bytes=65_536)
    got, answer = served.ask(path, body)
    assert (got, answer["code"], answer.get("field")) == (status, code, field)
    assert says in answer["error"]
    assert served.log.records == []
    reasons = {sample.labels[1]: sample.value for sample in served.router.samples() if "errors" in sample.metric}
    assert reasons == {code: 1}


def test_missing_features_are_null_where_that_is_configured(serve):
    served = serve(missing="null")
    assert served.ask("/predict/fraud", {"features": {"amount": 1.0}})[0] == 200
    assert served.events()[0]["features"] == {"amount": 1.0}


def test_what_is_not_in_the_log_is_not_answered(serve):
    served = serve(produce_timeout="200ms")
    served.log.up = False
    status, answer = served.ask("/predict/fraud", instances(1))
    assert (status, answer["code"]) == (503, "not_logged")
    served.log.up, served.log.durable = True, False
    status, answer = served.ask("/predict/fraud", instances(1))
    assert (status, answer["code"]) == (503, "not_logged")
    assert "same event_id" in answer["error"]


def test_a_full_queue_pushes_back(serve):
    served = serve(ack="queued", max_pending_rows=10)
    served.log.durable = False
    assert served.ask("/predict/fraud", instances(8))[0] == 200
    status, answer = served.ask("/predict/fraud", instances(8))
    assert (status, answer["code"]) == (503, "overloaded")


def test_kserve_v2_answers_columns(serve):
    served = serve()
    body = {
        "id": "r1",
        "inputs": [
            {"name": "amount", "shape": [3, 1], "datatype": "FP32", "data": [[-2.0], [0.1], [None]]},
            {"name": "method", "shape": [3], "datatype": "BYTES", "data": ["card", "wallet", "card"]},
            {"name": "event_id", "shape": [3], "datatype": "BYTES", "data": ["a", "b", "c"]},
        ],
    }
    status, answer = served.ask("/v2/models/fraud/infer", body)
    assert status == 200
    outputs = {one["name"]: one for one in answer["outputs"]}
    assert outputs["event_id"]["data"] == ["a", "b", "c"]
    assert outputs["action"]["data"] == ["negative", "positive", None]
    assert outputs["prediction"]["data"][2] is None
    assert (answer["id"], answer["model_version"]) == ("r1", "1")
    _, plain = served.ask("/predict/fraud", {"features": {"amount": -2.0, "method": "card"}})
    assert outputs["prediction"]["data"][0] == pytest.approx(plain["prediction"])
    _, meta = served.ask("/v2/models/fraud", method="GET")
    assert [one["name"] for one in meta["inputs"]] == ["amount", "method"]
    assert served.ask("/v2/models/fraud/ready", method="GET") == (200, {"name": "fraud", "ready": True})
    assert served.ask("/v2", method="GET")[1]["name"] == "stationkeeper"


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


def test_a_dropped_connection_hurts_nobody(serve):
    served = serve()
    with socket.create_connection(("127.0.0.1", served.port)) as half:
        half.sendall(b"POST /predict/fraud HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
    assert served.ask("/predict/fraud", instances(1))[0] == 200


def test_scores_are_in_the_range_of_the_shared_bins(serve):
    served = serve()
    served.ask("/predict/fraud", instances(30))
    import numpy as np

    bins = score_bin(np.array([one["prediction"] for one in served.events()]))
    assert bins.min() >= 0
    assert bins.max() < 32
