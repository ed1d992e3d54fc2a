"""The router behind a real uvicorn: answers, refusals, back-pressure, the log of every answer."""

import asyncio
import gc
import json
import shlex
import shutil
import socket
import urllib.request
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from stationkeeper.contracts.messages import PredictionEvent
from stationkeeper.contracts.wire import score_bin
from stationkeeper.deploy.router import follower
from stationkeeper.deploy.router.predict_route import PredictRoute
from stationkeeper.streams.errors import Retryable
from tests.deploy.serving import NOW, instances, record


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


def test_a_server_that_loads_says_so_and_tells_nobody_to_adopt_what_is_adopted(serve, registry, eventually):
    registry.gate.clear()
    served = serve(wait=False)
    eventually(lambda: served.router.traffic.known() == ("fraud",))
    eventually(lambda: "being fetched" in served.router.readiness()[0])
    status, shown = served.ask("/readyz", method="GET")
    assert (status, shown["reasons"]) == (503, ["model fraud: loading: champion 1 is being fetched"])
    _, refused = served.ask("/predict/fraud", instances(1))
    assert refused["error"] == "model fraud: loading: champion 1 is being fetched"
    registry.gate.set()
    eventually(lambda: not served.router.readiness())


def test_before_the_log_is_read_nobody_knows_whether_there_is_a_champion(serve, eventually, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(follower, "_log", SimpleNamespace(warning=lambda event, **_: said.append(event)))
    monkeypatch.setattr(follower, "_RETRY_S", 0.01)
    served = serve(wait=False, exists=False)
    eventually(lambda: "does not exist yet" in served.router.readiness()[0])
    eventually(lambda: served.rollouts.asked > 2)
    assert "adopt" not in served.router.readiness()[0]
    served.rollouts.records.clear()
    served.rollouts.exists = True
    eventually(lambda: "no champion yet; stationkeeper deployments adopt fraud" in served.router.readiness()[0])
    # The broker answers, so that it is not called away; and once, not with each look.
    assert said == ["topic_missing"]


def model_served(served) -> dict[str, float]:
    return {one.labels[0]: one.value for one in served.router.samples() if one.metric == "stationkeeper_model_served"}


def test_a_model_that_no_server_can_answer_is_unready_alone(serve, eventually):
    """One model without a champion, or with one that is no model, took all others out of the load balancer."""
    served = serve(names=("fraud", "churn"), refused=("late",))
    assert served.ask("/readyz", method="GET") == (200, {"ready": True, "reasons": []})
    assert served.ask("/v2/models/fraud/ready", method="GET") == (200, {"name": "fraud", "ready": True})
    for model, why in (("churn", "no champion yet"), ("late", "its entry in the configuration is refused")):
        status, said = served.ask(f"/v2/models/{model}/ready", method="GET")
        assert (status, said["name"], said["ready"], said["code"]) == (503, model, False, "not_ready")
        assert why in said["error"]
    assert not [one for one in served.router.samples() if "errors_total" in one.metric], "a probe is no request"
    assert model_served(served) == {"fraud": 1.0, "late": 0.0}
    served.rollouts.write(record("9").model_copy(update={"model": "churn"}))
    eventually(lambda: "not registered" in served.router.status()["missing"]["churn"])
    assert served.ask("/readyz", method="GET")[0] == 200
    assert model_served(served) == {"churn": 0.0, "fraud": 1.0, "late": 0.0}
    assert served.ask("/predict/churn", instances(1))[0] == 503
    assert served.ask("/predict/fraud", instances(1))[0] == 200


def test_a_champion_that_this_server_alone_may_not_load_keeps_it_unready(serve, models, eventually, request):
    """A copy that is damaged here, a graph that this onnxruntime does not know: another server may answer."""
    served = serve(names=("fraud", "churn"))
    here = models / "churn" / "8"
    # The directory of the models is the session's.
    request.addfinalizer(lambda: shutil.rmtree(here.parent))
    shutil.copytree(models / "fraud" / "1", here)
    card = json.loads((here / "card.json").read_bytes())
    (here / "card.json").write_text(json.dumps(card | {"model": "churn"}))
    (here / "model.onnx").write_bytes(b"other bytes")
    served.rollouts.write(record("8").model_copy(update={"model": "churn"}))
    eventually(lambda: "is damaged" in served.router.status()["missing"].get("churn", ""))
    assert ["is damaged" in reason for reason in served.router.readiness()] == [True]
    assert served.ask("/readyz", method="GET")[0] == 503
    # A version that is no model anywhere is told by its own readiness alone.
    (here / "card.json").unlink()
    eventually(lambda: not served.router.readiness())


def test_a_champion_that_is_still_fetched_or_that_alone_is_served_keeps_the_server_unready(serve, registry, eventually):
    served = serve(names=("fraud", "churn"))
    registry.gate.clear()
    served.rollouts.write(record("9").model_copy(update={"model": "churn"}))
    eventually(lambda: "being fetched" in served.router.status()["missing"].get("churn", ""))
    status, said = served.ask("/readyz", method="GET")
    assert (status, said["reasons"]) == (503, ["model churn: loading: champion 9 is being fetched"])
    registry.gate.set()
    eventually(lambda: not served.router.readiness())
    # Nothing at all to answer: no load balancer should send anything here.
    served.rollouts.records.append((b"fraud", None))
    eventually(lambda: len(served.router.readiness()) == 2)
    assert served.ask("/readyz", method="GET")[0] == 503


def test_the_address_alone_says_what_is_served_and_how_to_ask(serve):
    served = serve()
    with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/") as answer:
        text, kind = answer.read().decode(), answer.headers["content-type"]
    assert kind.startswith("text/plain")
    assert "stationkeeper serve: ready\n" in text
    assert "model fraud: champion 1\n" in text
    command = shlex.split(next(line for line in text.splitlines() if "curl" in line))
    status, answer = served.ask(urlsplit(command[-1]).path, command[2].encode())
    assert (status, answer["version"]) == (200, "1")


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
        (PREDICT, row([1], instances=5), 400, "wrong_type", f"{FIRST}.{AMOUNT}", "array"),
        (PREDICT, row(evnt_id="x"), 400, "wrong_type", "evnt_id", "evnt_id"),
        (PREDICT, {"instances": []}, 400, "no_rows", "instances", "at least one"),
        (PREDICT, {"features": {"amount": 1.0}}, 400, "missing_feature", f"{FIRST}.features.method", "'method'"),
        (PREDICT, row("much"), 400, "wrong_type", AMOUNT, "'much'"),
        (PREDICT, row(1e300), 400, "wrong_type", AMOUNT, "float32"),
        (PREDICT, row(time="soon"), 400, "bad_time", f"{FIRST}.time", "soon"),
        (PREDICT, row(time=10**30), 400, "bad_time", f"{FIRST}.time", "milliseconds"),
        (PREDICT, row(time="1969-12-31T23:59:59Z"), 400, "bad_time", f"{FIRST}.time", "between 1970 and 9999"),
        (PREDICT, row(event_id="x" * 600), 400, "wrong_type", f"{FIRST}.event_id", "at most 512"),
        (PREDICT, b'{"features": {"amount": 1e999, "method": "card"}}', 400, "wrong_type", None, "out of range"),
        (PREDICT, b'{"event_id": "\\ud800", "features": {}}', 400, "bad_json", None, "surrogate"),
        (PREDICT, b"null", 400, "wrong_type", None, "object"),
        (PREDICT, {"instances": [row(), row(evnt_id="x")]}, 400, "wrong_type", "instances[1].evnt_id", "evnt_id"),
        (PREDICT, {"instances": [{"time": 0}]}, 400, "wrong_type", "instances[0].features", "features"),
        (PREDICT, row(time=1.5), 400, "wrong_type", "time", "float"),
        (PREDICT, b"", 400, "bad_json", None, "not JSON"),
        (INFER, {"inputs": []}, 400, "no_rows", "instances", "at least one"),
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


def test_an_answer_that_fails_after_its_caller_was_told_is_no_error_of_the_server(serve):
    """The broker's late refusal was told as "Future exception was never retrieved"."""
    served, told, sent = serve(produce_timeout="1ms"), [], []
    served.log.durable = False

    async def receive():
        return {"type": "http.request", "body": b'{"features": {"amount": 1.0, "method": "card"}}'}

    async def send(message):
        sent.append(message)

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["message"]))
        route = PredictRoute(served.router)
        await route.answer("fraud", {"type": "http", "headers": []}, receive, send, plain=True)
        served.log.waiting.pop().set_exception(Retryable("the broker is away"))
        # The failure comes to the loop by a callback, and what holds it goes with the next turn.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        route.close()

    asyncio.run(story())
    assert (sent[0]["status"], told) == (503, [])


def answers(served) -> float:
    return sum(float(sample.value) for sample in served.router.samples() if "predictions_served" in sample.metric)


def test_only_what_was_answered_counts_as_served(serve):
    served = serve(produce_timeout="200ms")
    served.log.durable = False
    assert served.ask("/predict/fraud", instances(3))[0] == 503
    assert answers(served) == 0
    served.log.durable = True
    assert served.ask("/predict/fraud", instances(3))[0] == 200
    assert answers(served) == 3


def test_a_log_in_trouble_makes_the_server_unready_and_is_told_at_once(serve):
    served = serve()
    served.log.trouble = "predictions cannot be logged"
    assert served.ask("/readyz", method="GET") == (
        503, {"ready": False, "reasons": ["predictions cannot be logged"]},
    )  # fmt: skip
    status, answer = served.ask("/predict/fraud", instances(1))
    assert (status, answer["code"]) == (503, "not_logged")
    assert served.log.records == []


def test_answers_that_are_not_waited_for_are_given_and_counted_as_unlogged(serve):
    served = serve(ack="queued")
    served.log.up = False
    served.log.lost = {("fraud.predictions", "full"): 8}
    assert served.ask("/predict/fraud", instances(8))[0] == 200
    unlogged = [sample for sample in served.router.samples() if "unlogged" in sample.metric]
    assert [(one.labels, one.value) for one in unlogged] == [(("fraud", "full"), 8)]


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


def test_a_fault_of_the_server_is_an_answer_that_says_so(serve, monkeypatch):
    served = serve()
    monkeypatch.setattr(served.router, "predict", lambda _model, _rows: 1 / 0)
    status, answer = served.ask("/predict/fraud", instances(1))
    assert (status, answer["code"]) == (500, "failed")
    assert "ZeroDivisionError" in answer["error"]
