"""Sends metrics and the loop's trace to a collector of OpenTelemetry (OTLP over HTTP), from a thread of its own.

Nothing waits for the collector: while it is away spans are kept, up to a bound, and metrics are those of the next turn.
Its library reads headers and certificates from ``OTEL_EXPORTER_OTLP_HEADERS`` and ``OTEL_EXPORTER_OTLP_CERTIFICATE``.
"""

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from stationkeeper.config import ConfigError, OtlpSettings
from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.masking import remember
from stationkeeper.contracts.metrics import BY_NAME, Sample
from stationkeeper.contracts.topics import Topics
from stationkeeper.page.fleet_status import installed_version
from stationkeeper.process.spans import Span, Spans, span_id, trace_id
from stationkeeper.streams.ports import Outgoing, Partition, Sink

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

log = structlog.get_logger()

# A loop is about ten spans. Chosen: a collector that was away for a week of a large fleet loses none; twice is memory.
_KEPT_SPANS = 2_000
# Chosen: a role that ends waits no longer for a collector than for Kafka's client to close.
_LAST_S = 3.0
_NS = 1_000_000


class TracedSink:
    """A sink that tells, after a commit, the spans that its records end; of an aborted one none."""

    def __init__(self, sink: Sink, spans: Spans, tell: Callable[[list[Span]], None]) -> None:
        self._sink, self._spans, self._tell = sink, spans, tell
        self._open: list[Outgoing] = []

    def recover(self) -> None:
        """Recover the sink."""
        self._sink.recover()

    def begin(self) -> None:
        """Begin a transaction."""
        self._open = []
        self._sink.begin()

    def send(self, records: Sequence[Outgoing]) -> None:
        """Send records, and remember those that may end a span."""
        self._open += [record for record in records if self._spans.tells_of(record.topic)]
        self._sink.send(records)

    def commit(self, offsets: Mapping[Partition, int], group: Any, note: str = "") -> None:
        """Commit, then tell."""
        self._sink.commit(offsets, group, note)
        told, self._open = self._open, []
        self._tell([span for record in told for span in self._spans.of(record)])

    def abort(self) -> None:
        """Abort, and tell nothing."""
        self._open = []
        self._sink.abort()

    @property
    def alive(self) -> bool:
        """Whether the sink's producer lives."""
        return self._sink.alive

    def latest(self) -> bool:
        """Whether no producer of the sink's name has begun since."""
        return self._sink.latest()

    def ask(self, partition: Partition, group: Any) -> None:
        """Return where the sink's producer may write still."""
        self._sink.ask(partition, group)

    def abandon(self, partition: Partition, group: Any) -> None:
        """Abort a transaction over a group's offset of a partition."""
        self._sink.abandon(partition, group)

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()


class _Complaints(logging.Handler):
    """What the exporters' library says, as a line of our log: masked, and one of the closed list."""

    def emit(self, record: logging.LogRecord) -> None:
        log.warning(LogEvent.OTLP_UNREACHABLE, reason=record.getMessage())


class Otlp:
    """The thread that exports; ``samples`` are asked for at each turn."""

    def __init__(self, settings: OtlpSettings, role: str, instance: str) -> None:
        """Raise ``ConfigError`` where the extra is not installed."""
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
        except ImportError as error:
            wanted = "pip install 'stationkeeper[otlp]', or take the block out"
            raise ConfigError(f"otlp: needs the extra otlp ({error}): {wanted}") from None

        for pair in os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(","):
            # Most often an API key, which the library could quote in an error.
            if value := pair.partition("=")[2].strip():
                remember(value)
        told = logging.getLogger("opentelemetry")
        told.handlers, told.propagate = [_Complaints(logging.WARNING)], False
        url, timeout = settings.url.rstrip("/"), settings.timeout / 1_000
        self._resource = Resource.create(
            {
                "service.name": f"stationkeeper-{role}",
                "service.version": installed_version(),
                "service.instance.id": instance,
            }
        )
        self._metrics = OTLPMetricExporter(endpoint=f"{url}/v1/metrics", timeout=timeout)
        self._traces = OTLPSpanExporter(endpoint=f"{url}/v1/traces", timeout=timeout)
        self._interval_s = settings.interval / 1_000
        self._began_ns = time.time_ns()
        self._spans: deque[Span] = deque(maxlen=_KEPT_SPANS)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def traced(self, topics: Topics) -> Callable[[Sink], Sink]:
        """Return what has a sink tell the spans that its commits end."""
        return lambda sink: TracedSink(sink, Spans(topics), self.tell)

    def tell(self, spans: list[Span]) -> None:
        """Have these spans sent at the next turn; returns at once."""
        self._spans.extend(spans)

    def start(self, samples: Callable[[], Sequence[Sample]]) -> None:
        """Begin to export in a thread of its own."""
        self._thread = threading.Thread(target=self._run, args=(samples,), name="otlp", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send what is left and end; a collector that does not answer is left after a few seconds."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_LAST_S)

    def _run(self, samples: Callable[[], Sequence[Sample]]) -> None:
        while not self._stop.wait(self._interval_s):
            self._turn(samples)
        self._turn(samples)

    def _turn(self, samples: Callable[[], Sequence[Sample]]) -> None:
        try:
            self._send(samples())
        except Exception as error:  # noqa: BLE001 - the thread has nobody to raise to
            # Whatever it was, the next turn may do better; a thread that ended would leave the collector with nothing.
            log.warning(LogEvent.OTLP_UNREACHABLE, reason=f"{type(error).__name__}: {error}")

    def _send(self, samples: Sequence[Sample]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        self._metrics.export(metrics_data(samples, self._resource, self._began_ns, time.time_ns()))
        waiting = list(self._spans)
        sent = [readable(span, self._resource) for span in waiting]
        if sent and self._traces.export(sent) is SpanExportResult.SUCCESS:
            # Only this thread takes any out; a bound that was reached meanwhile has dropped the oldest of these.
            for span in waiting:
                if self._spans and self._spans[0] is span:
                    self._spans.popleft()


def readable(span: Span, resource: "Resource") -> "ReadableSpan":
    """Return a span as the exporter takes it, under the ids that follow from its request."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

    def context(name: str, turn: int) -> SpanContext:
        flags, number = TraceFlags(TraceFlags.SAMPLED), span_id(span.request, name, turn)
        return SpanContext(trace_id(span.request), number, is_remote=True, trace_flags=flags)

    return ReadableSpan(
        span.name,
        context=context(span.name, span.turn),
        parent=context(span.parent, span.parent_turn) if span.parent else None,
        resource=resource,
        attributes={"request": span.request, **{key: value for key, value in span.facts.items() if value}},
        status=Status(StatusCode.ERROR, span.failed) if span.failed else Status(StatusCode.OK),
        start_time=span.start_ms * _NS,
        end_time=max(span.end_ms, span.start_ms) * _NS,
    )


def metrics_data(samples: Sequence[Sample], resource: "Resource", began_ns: int, now_ns: int) -> "MetricsData":
    """Return samples under the names of ``/metrics``; counters and histograms are totals since the start."""
    from opentelemetry.sdk.metrics import export
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    total = export.AggregationTemporality.CUMULATIVE
    by_metric: dict[str, list[Sample]] = {}
    for sample in samples:
        by_metric.setdefault(sample.metric, []).append(sample)
    found = []
    for name, given in by_metric.items():
        metric = BY_NAME[name]
        labels = [dict(zip(metric.labels, map(str, sample.labels), strict=True)) for sample in given]
        data: export.Gauge | export.Sum | export.Histogram
        if metric.kind == "histogram":
            points = [_histogram(sample, own, began_ns, now_ns) for sample, own in zip(given, labels, strict=True)]
            data = export.Histogram(points, total)
        else:
            numbers = [
                export.NumberDataPoint(own, began_ns, now_ns, sample.value)
                for sample, own in zip(given, labels, strict=True)
            ]
            data = export.Sum(numbers, total, is_monotonic=True) if metric.kind == "counter" else export.Gauge(numbers)
        found.append(export.Metric(name, metric.help, metric.unit, data))
    scope = export.ScopeMetrics(InstrumentationScope("stationkeeper", installed_version()), found, "")
    return export.MetricsData([export.ResourceMetrics(resource, [scope], "")])


def _histogram(sample: Sample, labels: Mapping[str, str], began_ns: int, now_ns: int) -> Any:
    """Return buckets as OTLP counts them: each by itself, the last one without an upper bound."""
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    finite = [(bound, count) for bound, count in sample.buckets if bound != float("inf")]
    count = max([int(sample.value), *(count for _, count in sample.buckets)])
    steps = [0, *(count for _, count in finite), count]
    each = [high - low for low, high in itertools.pairwise(steps)]
    bounds = [bound for bound, _ in finite]
    # The least and the greatest are not kept; the mean lies between them, and the format wants numbers.
    mean = sample.sum / count if count else 0.0
    return HistogramDataPoint(labels, began_ns, now_ns, count, sample.sum, each, bounds, mean, mean)
