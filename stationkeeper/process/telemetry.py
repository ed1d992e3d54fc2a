"""Renders the samples of the loops of a process as Prometheus text or OpenMetrics, within a cap on series."""

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stationkeeper.contracts.masking import printable
from stationkeeper.contracts.messages import SubjectState
from stationkeeper.contracts.metrics import BY_NAME, STATE_NUMBER, Sample

SUBJECT_LABELS = ("model", "version", "segment", "subject")
# Series that one process exports at most. A model with very many features or segments must not fill Prometheus. Chosen:
# half cuts fleets of some hundred features short, double doubles every scrape.
MAX_SERIES = 10_000
REFUSED = "stationkeeper_series_refused_total"

_PER_SUBJECT = frozenset(
    name for name, metric in BY_NAME.items() if metric.labels[: len(SUBJECT_LABELS)] == SUBJECT_LABELS
)
_ALARMED = frozenset(
    {STATE_NUMBER[SubjectState.DRIFTING], STATE_NUMBER[SubjectState.BROKEN], STATE_NUMBER[SubjectState.RECOVERING]}
)


class BadSampleError(ValueError):
    """A sample that the closed list of metrics does not allow: a bug of the stage that handed it over."""


SubjectKey = tuple[str, ...]


@dataclass(slots=True)
class _Ranks:
    """How near each subject is to its threshold; a subject in alarm outranks every other."""

    evidence: dict[SubjectKey, float] = field(default_factory=dict)
    threshold: dict[SubjectKey, float] = field(default_factory=dict)
    alarmed: set[SubjectKey] = field(default_factory=set)

    def see(self, sample: Sample) -> None:
        key = sample.labels[: len(SUBJECT_LABELS)]
        if sample.metric == "stationkeeper_drift_evidence":
            self.evidence[key] = sample.value
        elif sample.metric == "stationkeeper_drift_evidence_threshold":
            self.threshold[key] = sample.value
        elif sample.metric == "stationkeeper_subject_state" and sample.value in _ALARMED:
            self.alarmed.add(key)

    def order(self, keys: Iterable[SubjectKey]) -> list[SubjectKey]:
        """Return ``keys``, worst first; ties by name, so that two scrapes of one state show the same series."""

        def badness(key: SubjectKey) -> tuple[bool, float, SubjectKey]:
            ratio = self.evidence.get(key, -math.inf) / (self.threshold.get(key, 0.0) or math.inf)
            return key not in self.alarmed, -ratio if not math.isnan(ratio) else math.inf, key

        return sorted(keys, key=badness)


def capped(samples: Sequence[Sample], max_series: int) -> tuple[list[Sample], int]:
    """Return the samples that fit under the cap, in their order, and how many were refused.

    What is not about one subject is kept first. Subjects follow whole, the nearest to their threshold first, so that
    statistic, threshold and row count stay side by side. O(n) below the cap, O(n log s) with s subjects above it.
    """
    if len(samples) <= max_series:
        return list(samples), 0
    ranks, sizes, others = _Ranks(), dict[SubjectKey, int](), 0
    for sample in samples:
        if sample.metric in _PER_SUBJECT:
            ranks.see(sample)
            key = sample.labels[: len(SUBJECT_LABELS)]
            sizes[key] = sizes.get(key, 0) + 1
        else:
            others += 1
    room = max_series - others
    shown: set[SubjectKey] = set()
    for key in ranks.order(sizes):
        room -= sizes[key]
        if room < 0:
            break
        shown.add(key)
    kept = [s for s in samples if s.metric not in _PER_SUBJECT or s.labels[: len(SUBJECT_LABELS)] in shown][:max_series]
    return kept, len(samples) - len(kept)


class Telemetry(Collector):
    """The series of one process: every scrape asks the sources, so what nobody hands over any more is gone.

    ``sources`` return the latest samples of a loop and are called in the scraping thread. ``strict`` (tests) raises
    ``BadSampleError`` for an unknown metric, a wrong number of labels or a series handed over twice; otherwise such a
    sample is left out and counted in ``stationkeeper_limits_refused_total{limit="bad_sample"}``.
    """

    def __init__(
        self,
        sources: Sequence[Callable[[], Sequence[Sample]]],
        *,
        max_series: int = MAX_SERIES,
        strict: bool = False,
    ) -> None:
        self._sources = tuple(sources)
        self._max_series = max_series
        self._strict = strict
        self._refused = 0
        self._refused_by_stages = 0
        self._bad = 0
        self._lock = threading.Lock()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        # What every dashboard of processes reads: processor, memory, open files and start; from /proc at each scrape.
        ProcessCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition and its content type for an ``Accept`` header."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names are known without asking the sources."""
        return ()

    def samples(self) -> list[Sample]:
        """Return what a scrape shows now: of the closed list, each series once, within the cap."""
        with self._lock:
            good = self._good(sample for source in self._sources for sample in source())
            kept, refused = capped(good, self._max_series)
            self._refused += refused + self._refused_by_stages
            kept.append(Sample(REFUSED, (), self._refused))
            if self._bad:
                kept.append(Sample("stationkeeper_limits_refused_total", ("bad_sample",), self._bad))
        return kept

    def collect(self) -> Iterator[Metric]:
        """Yield one family per metric that has samples, in the order of the closed list."""
        by_metric: dict[str, list[Sample]] = defaultdict(list)
        for sample in self.samples():
            by_metric[sample.metric].append(sample)
        for name in BY_NAME:
            if name in by_metric:
                yield _family(name, by_metric[name])

    def _good(self, samples: Iterable[Sample]) -> list[Sample]:
        series: dict[tuple[str, tuple[str, ...]], Sample] = {}
        self._refused_by_stages = 0
        for given in samples:
            sample = _printable(given)
            metric = BY_NAME.get(sample.metric)
            series_key = (sample.metric, sample.labels)
            if sample.metric == REFUSED:
                # Several stages leave series out, each by its own cap; one counter adds them up over the scrapes.
                self._refused_by_stages += int(sample.value)
            elif metric is None:
                self._complain(f"{sample.metric} is not in contracts.metrics.METRICS; add it there or correct the name")
            elif len(sample.labels) != len(metric.labels):
                self._complain(f"{sample.metric} has the labels {metric.labels} and was given {sample.labels}")
            elif series_key in series:
                self._complain(f"{sample.metric}{sample.labels} was handed over twice; one series has one owner")
            elif not math.isnan(sample.value):
                # A gauge that is not known is withdrawn, never shown as NaN.
                series[series_key] = sample
        return list(series.values())

    def _complain(self, message: str) -> None:
        if self._strict:
            raise BadSampleError(message)
        self._bad += 1


def _printable(sample: Sample) -> Sample:
    """Return a sample whose label values hold no control characters, which no escape of the text format covers.

    Names come from records. Almost all are printable, and then the sample is handed back as it is.
    """
    if "".join(map(str, sample.labels)).isprintable():
        return sample
    return sample._replace(labels=tuple(printable(str(label)) for label in sample.labels))


def _family(name: str, samples: Sequence[Sample]) -> Metric:
    metric = BY_NAME[name]
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(name, metric.help, labels=metric.labels)
        for sample in samples:
            finite = [(str(bound), float(count)) for bound, count in sample.buckets if math.isfinite(bound)]
            total = max([sample.value, *(float(count) for _, count in sample.buckets)])
            buckets = [*finite, ("+Inf", total)]
            histogram.add_metric([str(label) for label in sample.labels], buckets, sample.sum)
        return histogram
    if metric.kind == "counter":
        counter = CounterMetricFamily(name, metric.help, labels=metric.labels)
        for sample in samples:
            exemplar = Exemplar({"verdict_id": sample.exemplar}, 1.0) if sample.exemplar else None
            counter.add_metric([str(label) for label in sample.labels], sample.value, exemplar=exemplar)
        return counter
    gauge = GaugeMetricFamily(name, metric.help, labels=metric.labels)
    for sample in samples:
        gauge.add_metric([str(label) for label in sample.labels], sample.value)
    return gauge


def metrics_route(telemetry: Telemetry) -> Route:
    """Return the route ``/metrics``."""

    def metrics(request: Request) -> Response:
        body, content_type = telemetry.render(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    return Route("/metrics", metrics)
