"""A real collector's port (OTLP over HTTP, opentelemetry-proto's own messages) hears metrics and one trace a loop."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource

from stationkeeper.config import OtlpSettings
from stationkeeper.contracts.messages import (
    CureOutcome,
    Deployment,
    DeploymentAction,
    Onset,
    RetrainRequest,
    Rollout,
    RolloutPhase,
    VerdictKind,
)
from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.topics import Topics
from stationkeeper.process.otlp import Otlp, readable
from stationkeeper.process.spans import Spans, span_id
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.ports import Outgoing, Partition
from tests.listening import listening

TOPICS = Topics()
REQUEST = "req-1"
TRAINED = (RequestStage.PLANNED, RequestStage.TRAINING, RequestStage.CANDIDATE)


class Collector(http.server.ThreadingHTTPServer):
    """Takes what is exported and keeps it, decoded; answers with ``status``."""

    def __init__(self, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.spans: list[Any] = []
        self.roles: list[str] = []
        self.metrics: dict[str, Any] = {}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status == 200 and self.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self.server.spans += scope.spans
                    self.server.roles += [named["service.name"]] * len(scope.spans)
        if self.server.status == 200 and self.path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.server.metrics |= {one.name: one for scope in resource.scope_metrics for one in scope.metrics}
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the library
        """Say nothing."""


@contextmanager
def collecting(status: int = 200) -> Iterator[Collector]:
    with listening(Collector(status)) as server:
        yield server


def exporter(server: Collector, role: str) -> Otlp:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    return Otlp(OtlpSettings(url=url, interval=600_000, timeout=60_000), role, "a")


def at(minute: int) -> datetime:
    return datetime(2026, 1, 5, 6, minute, tzinfo=UTC)


def request() -> RetrainRequest:
    onset = Onset(time=at(0), low=at(0), high=at(1))
    return RetrainRequest(
        id=REQUEST,
        time=at(1),
        model="fraud",
        version="1",
        incident="inc-1",
        verdict="ver-1",
        kind=VerdictKind.DATA_DRIFT,
        cause="new_category",
        onset=onset,
        subjects=("method",),
    )


def state(*stages: RequestStage) -> RetrainState:
    begun = RetrainState(request=request(), stage=RequestStage.PLANNED, reason=RequestReason.ACCEPTED)
    for minute, stage in enumerate(stages, start=2):
        clock = int(at(minute).timestamp() * 1_000)
        begun = begun.enter(stage, RequestReason.ACCEPTED, clock_ms=clock)
    return begun


def done(minute: int, action: DeploymentAction) -> Outgoing:
    record = Deployment(
        id=f"dep-{minute}",
        time=at(minute),
        model="fraud",
        action=action,
        champion="1",
        canary="2",
        candidate="cand-1",
        request=REQUEST,
        reason=action.value,
    )
    return Outgoing(TOPICS.deployments.name, record.encode())


class Log:
    """A sink that takes everything, or fails its commit."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    def recover(self) -> None: ...
    def begin(self) -> None: ...
    def send(self, records: object) -> None: ...
    def abort(self) -> None: ...

    alive = True

    def latest(self) -> bool:
        return True

    def ask(self, partition: Partition, group: object) -> None: ...
    def abandon(self, partition: Partition, group: object) -> None: ...
    def close(self) -> None: ...
    def commit(self, offsets: object, group: object, note: str = "") -> None:
        if self.fails:
            raise Retryable("the broker is away")


def sent(told: Otlp, samples: Callable[[], list[Sample]]) -> None:
    """Send what is there and wait for the end of it, however long a busy machine takes."""
    told.start(samples)
    told.stop()
    assert told._thread is not None
    told._thread.join(120)
    assert not told._thread.is_alive()


def committed(told: Otlp, records: list[Outgoing]) -> None:
    sink = told.traced(TOPICS)(Log())
    sink.begin()
    sink.send(records)
    sink.commit({}, None)


def test_three_processes_share_one_trace_without_a_header() -> None:
    with collecting() as server:
        wrote = {
            "monitor": [Outgoing(TOPICS.requests.name, request().encode()), Outgoing(TOPICS.panes.name, b"not read")],
            "retrain": [Outgoing(TOPICS.retrain_state.name, state(*TRAINED).encode())],
            "deploy": [done(10, DeploymentAction.STARTED), done(20, DeploymentAction.PROMOTED)],
        }
        for role, records in wrote.items():
            told = exporter(server, role)
            committed(told, records)
            sent(told, list)
        found = {span.name: span for span in server.spans}
        assert set(found) == {"verdict", "request", "planned", "training", "canary"}
        assert len({span.trace_id for span in server.spans}) == 1
        assert set(server.roles) == {"stationkeeper-monitor", "stationkeeper-retrain", "stationkeeper-deploy"}
        assert found["verdict"].parent_span_id == b""
        assert found["request"].parent_span_id == found["verdict"].span_id
        assert found["training"].parent_span_id == found["canary"].parent_span_id == found["request"].span_id
        canary = found["canary"]
        assert (canary.end_time_unix_nano - canary.start_time_unix_nano) // 60_000_000_000 == 10
        facts = {one.key: one.value.string_value for one in found["verdict"].attributes}
        assert (facts["incident"], facts["cause"]) == ("inc-1", "new_category")


def test_metrics_come_by_the_names_of_the_list() -> None:
    samples = [
        Sample("stationkeeper_role_ready", ("judge",), 1.0),
        Sample("stationkeeper_records_received_total", ("t", "0"), 7.0),
        Sample("stationkeeper_flush_seconds", ("tally",), 3.0, buckets=((0.1, 1), (1.0, 2)), sum=2.5),
    ]
    with collecting() as server:
        told = exporter(server, "monitor")
        sent(told, lambda: samples)
        got = server.metrics
    assert set(got) == {sample.metric for sample in samples}
    assert got["stationkeeper_role_ready"].gauge.data_points[0].as_double == 1.0
    received = got["stationkeeper_records_received_total"].sum
    assert (received.is_monotonic, received.data_points[0].as_double) == (True, 7.0)
    (point,) = got["stationkeeper_flush_seconds"].histogram.data_points
    assert (list(point.bucket_counts), list(point.explicit_bounds), point.count) == ([1, 1, 1], [0.1, 1.0], 3)


def test_what_an_aborted_transaction_carried_is_not_told() -> None:
    with collecting() as server:
        told = exporter(server, "monitor")
        sink = told.traced(TOPICS)(Log(fails=True))
        sink.begin()
        sink.send([Outgoing(TOPICS.requests.name, request().encode())])
        with pytest.raises(Retryable):
            sink.commit({}, None)
        sink.abort()
        sent(told, list)
        assert server.spans == []


def test_a_collector_that_refuses_is_told_once_a_turn_and_spans_wait_for_it() -> None:
    with collecting(status=400) as server, structlog.testing.capture_logs() as lines:
        told = exporter(server, "monitor")
        committed(told, [Outgoing(TOPICS.requests.name, request().encode())])
        sent(told, list)
        assert [span.name for span in told._spans] == ["verdict"]
    assert {line["event"] for line in lines} == {"otlp_unreachable"}


def test_a_request_that_is_asked_again_has_a_span_for_each_training() -> None:
    first = (RequestStage.PLANNED, RequestStage.TRAINING, RequestStage.FAILED)
    reader = Spans(TOPICS)
    tries = [reader.of(Outgoing(TOPICS.retrain_state.name, state(*one).encode())) for one in (first, first + TRAINED)]
    assert [[span.name for span in spans] for spans in tries] == [["request", "planned", "training"]] * 2
    # Each once: the second try does not tell the first again.
    assert len({span_id(span.request, span.name, span.turn) for spans in tries for span in spans}) == 6


def test_what_a_try_did_hangs_under_that_try_and_the_canary_under_the_last() -> None:
    """The stages of every try hung under the first one, so that a trace told of one long training and an empty one."""
    first = (RequestStage.PLANNED, RequestStage.TRAINING, RequestStage.FAILED)
    reader, resource = Spans(TOPICS), Resource.create({})
    records = [Outgoing(TOPICS.retrain_state.name, state(*one).encode()) for one in (first, first + TRAINED)]
    tries = [[readable(span, resource) for span in reader.of(record)] for record in records]
    parents = [{one.name: one.parent.span_id for one in spans if one.parent is not None} for spans in tries]
    own = [next(one.context.span_id for one in spans if one.name == "request") for spans in tries]
    assert own[0] != own[1]
    assert [set(found) for found in parents] == [{"request", "planned", "training"}] * 2
    for found, mine in zip(parents, own, strict=True):
        assert found["planned"] == found["training"] == mine
    # Told by another role, which does not know how often was asked.
    reader.of(done(10, DeploymentAction.STARTED))
    (canary,) = (readable(span, resource) for span in reader.of(done(20, DeploymentAction.PROMOTED)))
    assert canary.parent is not None
    assert canary.parent.span_id == own[1]


def test_what_became_of_a_request_tells_its_spans_no_second_time() -> None:
    reader, topic = Spans(TOPICS), TOPICS.retrain_state.name
    done_with = state(*TRAINED)
    assert len(reader.of(Outgoing(topic, done_with.encode()))) == 3
    for later in ({"cure": CureOutcome.CURED, "cure_reason": "steady"}, {"rolled_back": True}):
        assert reader.of(Outgoing(topic, done_with.model_copy(update=later).encode())) == []
    cured = request().model_copy(update={"cure": CureOutcome.CURED, "cure_reason": "steady"})
    assert reader.of(Outgoing(TOPICS.requests.name, cured.encode())) == []


@pytest.mark.parametrize(("action", "failed"), [("confirmed", ""), ("rolled_back", "rolled_back")])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_probation_is_told_as_one_and_leaves_nothing_behind(action: str, failed: str, restarted: bool) -> None:
    spans = Spans(TOPICS)
    spans.of(rolling(RolloutPhase.CANARY))
    assert [one.name for one in spans.of(done(12, DeploymentAction.PROMOTED))] == ["canary"]
    if restarted:
        spans = Spans(TOPICS)
    spans.of(rolling(RolloutPhase.PROBATION))
    (probation,) = spans.of(done(20, DeploymentAction(action)))
    assert (probation.name, probation.start_ms, probation.failed) == ("probation", ms(12), failed)
    spans.of(rolling(RolloutPhase.STEADY))
    assert spans._started == spans._promoted == {}


def test_no_secret_leaves_in_a_span() -> None:
    secret = "postgresql://svc:hunter2secret@db/fraud refused"
    failing = state(RequestStage.TRAINING).enter(RequestStage.FAILED, RequestReason.TRAINING_FAILED, secret)
    assert "hunter2" not in failing.encode().decode()
    # As an older build wrote it, in every text.
    entry = failing.history[0].model_copy(update={"note": secret})
    old = failing.model_copy(update={"detail": secret, "history": (entry, failing.history[-1])})
    found = Spans(TOPICS).of(Outgoing(TOPICS.retrain_state.name, old.encode()))
    assert "***@db" in str(found)
    back = Deployment.decode(done(20, DeploymentAction.ROLLED_BACK).value or b"").model_copy(update={"reason": secret})
    found += Spans(TOPICS).of(Outgoing(TOPICS.deployments.name, back.encode()))
    assert "hunter2" not in str(found)


def test_a_turn_that_fails_is_told_and_the_next_one_exports() -> None:
    failed = threading.Event()

    def samples() -> list[Sample]:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("dictionary changed size during iteration")
        return [Sample("stationkeeper_role_ready", ("judge",), 1.0)]

    with collecting() as server, structlog.testing.capture_logs() as lines:
        told = exporter(server, "monitor")
        told._interval_s = 0.001
        told.start(samples)
        assert failed.wait(120)
        told.stop()
        assert told._thread is not None
        told._thread.join(120)
        assert "stationkeeper_role_ready" in server.metrics
    assert {line["event"] for line in lines} == {"otlp_unreachable"}
    assert "dictionary changed size" in lines[0]["reason"]


def ms(minute: int) -> int:
    return int(at(minute).timestamp() * 1_000)


def rolling(phase: RolloutPhase) -> Outgoing:
    controller = {"started": ms(10), "promoted": ms(12)} if phase is not RolloutPhase.CANARY else {"started": ms(10)}
    record = Rollout(
        model="fraud",
        epoch=3,
        time=at(15),
        phase=phase,
        champion="1",
        canary="2",
        candidate="cand-1",
        request=REQUEST,
        controller=controller,
    )
    return Outgoing(TOPICS.rollouts.name, record.encode())


def test_a_canary_that_outlived_its_process_is_told_from_its_start() -> None:
    spans = Spans(TOPICS)
    assert spans.of(rolling(RolloutPhase.CANARY)) == []
    (canary,) = spans.of(done(20, DeploymentAction.ROLLED_BACK))
    assert (canary.start_ms, canary.failed) == (ms(10), "rolled_back")
