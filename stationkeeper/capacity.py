"""What a load needs: partitions, replicas, memory and disk, computed from costs that a benchmark measured.

Pure but for ``kept_costs``, which reads the file that ``python -m benchmarks capacity`` writes.
"""

import math
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import pairwise
from typing import Final

import msgspec

from stationkeeper.contracts.topics import DAY_MS, PANES_PARTITIONS, Topics

USE: Final = 0.7
"""Share of a core that is planned for: the rest catches up after a restart. At .9 a burst takes seconds to work off
(docs/performance.md, load of 90 %), at half the machines idle."""

FLUSH_S: Final = 1.0
"""Seconds between two flushes, the default of ``kafka.flush_interval``: each writes one delta a model."""

SPARE: Final = 2
"""Partitions for each tally that is needed: they can be added later, but a topic that is keyed is reordered then."""

BASE_MB: Final = 105.0
"""Memory of a monitor that watches one model, 100 MiB (docs/performance.md, at rest)."""

READ_US: Final = 0.95
"""Microseconds to read an event from a broker with kafka-python, beside decoding and counting (docs/performance.md)."""

PANES_A_DAY: Final = 1_440
"""Minutes, the default of ``pane``."""

FETCH: Final = 4 * 2**20
"""Bytes of one fetch of one partition, the default of ``kafka.partition_fetch_bytes``; a busy partition fills it."""

BATCH: Final = 10_000
"""Events of the batches that were measured, at most; a fetch of small events holds about as many."""

LEAST_REPLICAS: Final = 2
"""One that stops must leave one that goes on: docs/operations.md."""

Line = tuple[float, float]
"""A cost by features: of none, and of each."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured costs, each a line over the features of a model, and by which command, when and where they were taken.

    ``event_us`` decodes and counts an event of ``event_bytes``, ``batch_us`` is what each model in a batch costs beside
    by feature; ``flush_ms`` writes one model's delta; ``absorb_ms`` takes one in, ``pane_ms`` judges a minute of a
    watch and writes it. ``history_bytes`` and ``changed_bytes`` are written a minute and watch, ``state_bytes`` is what
    a watch keeps on its topic, ``judge_kb`` in memory. ``tally_kb`` is what a tally keeps of a feature.
    ``panes_bytes`` are bytes a feature of a delta, by the rows that are in it. ``join_bytes`` is one prediction in the
    joins topic.
    """

    command: str
    taken: str
    machine: str
    event_us: Line
    event_bytes: Line
    batch_us: float
    flush_ms: Line
    absorb_ms: Line
    pane_ms: Line
    history_bytes: Line
    changed_bytes: Line
    state_bytes: Line
    judge_kb: Line
    tally_kb: float
    panes_bytes: tuple[tuple[int, float], ...]
    join_bytes: float

    def delta_bytes(self, rows: float, features: int) -> float:
        """Return the bytes of one model's delta of so many rows: cells touched grow with their logarithm."""
        points = self.panes_bytes
        at = min(max(rows, points[0][0]), points[-1][0])
        low, high = next(pair for pair in pairwise(points) if at <= pair[1][0])
        part = math.log(at / low[0]) / math.log(high[0] / low[0])
        return (low[1] + part * (high[1] - low[1])) * features


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of an installation: events a second, models, features of each, and how Kafka keeps it.

    ``labels`` is the share of predictions that ever gets a label, 0 where there is no topic of labels. ``one_topic``
    says that all models share an input topic, so that every replica counts every model.
    """

    events: float
    models: int
    features: int
    segments: int = 0
    labels: float = 0.0
    # The models' own default (label_horizon); the disk of joins grows with it.
    label_horizon_days: float = 30.0
    # As long as panes are kept, so that what is counted anew can be compared; half leaves a long weekend uncovered.
    input_days: float = 3.0
    # What Kafka's own guides ask for: one broker may fail while another is away.
    copies: int = 3
    one_topic: bool = False


@dataclass(frozen=True, slots=True)
class TopicNeed:
    """One topic's part of the disk, in MB of one copy."""

    name: str
    mb_a_day: float
    days: float
    mb: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the load needs; cores are busy ones, replicas are monitors of one core that keep to ``USE`` of it."""

    tally_cores: float
    judge_cores: float
    replicas: int
    partitions: int
    input_mb_s: float
    judge_mb: float
    replica_mb: float
    topics: tuple[TopicNeed, ...]
    disk_mb: float
    warnings: tuple[str, ...]

    def topic(self, name: str) -> TopicNeed:
        """Return the need of one topic."""
        return next(one for one in self.topics if one.name == name)


def kept_costs() -> Costs:
    """Return the costs that come with this version."""
    return msgspec.json.decode(files("stationkeeper").joinpath("costs.json").read_bytes(), type=Costs)


def at(line: Line, features: int) -> float:
    """Return a cost at so many features; never below that of none, which a fitted line may cross."""
    return max(line[0] + line[1] * features, line[0], 0.0)


def plan(load: Load, costs: Costs) -> Capacity:
    """Return what a load needs.

    A tally's cores are ``events * event_us`` and, for each of ``counted`` (model, replica) pairs, a delta a flush. With
    a topic a model ``counted`` is the models, or the tallies that one busy model takes; with one topic for all it is
    models times replicas, so that ``replicas = events * event / (USE - models * flush)``.
    """
    width, watches = load.features, load.models * (1 + load.segments)
    event_bytes = at(costs.event_bytes, width)
    batch = max(min(FETCH / event_bytes, BATCH), 1.0) / (load.models if load.one_topic else 1)
    # A batch that holds less than one event of a model is not asked about it.
    event_s = (at(costs.event_us, width) + READ_US + costs.batch_us * width / max(batch, 1.0)) / 1e6
    # Segments are rows of their own in a delta, each as wide as the model.
    rows_wide = width * (1 + load.segments)
    flush_s, absorb_s = at(costs.flush_ms, rows_wide) / 1e3, at(costs.absorb_ms, rows_wide) / 1e3
    pane_cores = watches * at(costs.pane_ms, width) / 60_000
    warnings = []
    if load.one_topic:
        # What is left of a core to read events. Below a tenth nothing works, and only the size of the trouble is told.
        left = max(USE - load.models * flush_s / FLUSH_S, 0.1)
        # Less a hair, so that a whole number that rounding left above itself stays what it is.
        counters = max(math.ceil(load.events * event_s / left - 1e-9), 1)
        counted = load.models * counters
    else:
        a_model = load.events / load.models * event_s + flush_s / FLUSH_S
        counted = load.models * math.ceil(a_model / USE)
    rows = load.events * FLUSH_S / counted
    # Where fewer than one event comes between two flushes, most flushes write nothing of a model.
    deltas_s = counted * min(rows, 1.0) / FLUSH_S
    tally = load.events * event_s + deltas_s * flush_s
    judge = pane_cores + deltas_s * absorb_s
    replicas = max(math.ceil((tally + judge) / USE), LEAST_REPLICAS)
    # Twice is worth a second topic to keep; below it the one is simpler.
    if load.one_topic and replicas > 2 * (apart := plan(replace(load, one_topic=False), costs).replicas):
        warnings.append(
            f"one topic for {load.models} models takes {replicas} monitors, a topic for each {apart}: of a shared one "
            "every monitor counts every model, and a batch holds few events of each"
        )
    if judge > USE * PANES_PARTITIONS:
        warnings.append(
            f"judging takes {judge:.1f} cores and divides over at most {PANES_PARTITIONS} monitors: watch fewer "
            "segments or features, or run two installations with a prefix each"
        )
    judge_mb = watches * at(costs.judge_kb, width) / 1e3
    tally_mb = counted / replicas * costs.tally_kb * width * (1 + load.segments) / 1e3
    topics = _topics(load, costs, deltas_s * costs.delta_bytes(rows / (1 + load.segments), rows_wide), watches)
    return Capacity(
        tally_cores=tally,
        judge_cores=judge,
        replicas=replicas,
        partitions=max(SPARE * math.ceil(tally / USE), 1 if load.one_topic else counted),
        input_mb_s=load.events * event_bytes / 1e6,
        judge_mb=judge_mb,
        # All models' judging may meet on one of two where the other is down.
        replica_mb=BASE_MB + tally_mb + judge_mb / max(min(replicas, PANES_PARTITIONS) - 1, 1),
        topics=topics,
        disk_mb=load.copies * sum(one.mb for one in topics),
        warnings=tuple(warnings),
    )


def _topics(load: Load, costs: Costs, panes_s: float, watches: int) -> tuple[TopicNeed, ...]:
    own = Topics(label_horizon_ms=round(load.label_horizon_days * DAY_MS))
    a_day = {
        "input": (load.events * at(costs.event_bytes, load.features) * 86_400, load.input_days),
        "panes": (panes_s * 86_400, own.panes.retention_ms / DAY_MS),
        "history": (watches * at(costs.history_bytes, load.features) * PANES_A_DAY, own.history.retention_ms / DAY_MS),
    }
    if load.labels:
        size = load.events * (1 + load.labels) * costs.join_bytes * 86_400
        a_day["joins"] = (size, own.joins.retention_ms / DAY_MS)
    kept = [TopicNeed(name, size / 1e6, days, size * days / 1e6) for name, (size, days) in a_day.items()]
    state = watches * at(costs.state_bytes, load.features) / 1e6
    changed = watches * at(costs.changed_bytes, load.features) * PANES_A_DAY / 1e6
    return (*kept, TopicNeed("judge-state", changed, 0.0, state))
