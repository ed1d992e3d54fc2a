"""What a deployment needs, computed from measured costs: cores for events and features, watches, a large cluster."""

import math
from dataclasses import dataclass
from typing import Any

USE = 0.7
"""Share of a core that is planned for, so that a restart catches up."""

FEATURES = (15, 100, 300)
EVENTS = (1_000, 10_000, 50_000, 250_000)
CLIENTS = ("kafka-python", "librdkafka")
BIG = 1_000_000


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured costs: microseconds an event by client, microseconds a further column, and the judge's of a watch.

    A watch costs its judging, its state and its charts; its memory is what a subject keeps after four hours of panes.
    """

    event_us: dict[str, float]
    column_us: float
    bytes: float
    watch_ms: float
    subject_kb: float
    base_mib: float

    def microseconds(self, client: str, features: int) -> float:
        """Return the cost of an event with so many features; 15 are those of the benchmark."""
        return self.event_us[client] + self.column_us * (features - FEATURES[0])

    def cores(self, client: str, events: float, features: int) -> float:
        """Return the cores that so many events a second keep busy to 70 %."""
        return events * self.microseconds(client, features) / 1e6 / USE


def costs_of(figures: dict[str, Any]) -> Costs:
    """Return the costs that a run measured."""
    rates = figures["endtoend"]["rates"]
    events = {client: 1e6 / rates[f"{client}: exactly once, tallied"] for client in CLIENTS}
    pairs = next(one for name, one in figures["footprint"]["judging"].items() if "pairs" in name)
    return Costs(
        events,
        figures["growth"]["bars"]["columns, µs each"],
        figures["throughput"]["bytes"],
        pairs["pane_ms"] + pairs["told_ms"],
        pairs["feature_kb"],
        min(one["rss_mib"] for one in figures["footprint"]["starts"]),
    )


def sizing_rows(costs: Costs) -> list[list[object]]:
    """Return the rows of the sizing table: events a second, features, cores with each client."""
    return [
        [events, features, *(_cores(costs.cores(client, events, features)) for client in CLIENTS)]
        for events in EVENTS
        for features in FEATURES
    ]


def _cores(found: float) -> str:
    return f"{found:.2f}" if found < 0.95 else f"{math.ceil(found)}"


def cluster_lines(costs: Costs) -> list[str]:
    """Return what a million events a second of 15 features would need, with the arithmetic."""
    watches = USE * 60_000 / costs.watch_ms
    bandwidth = BIG * costs.bytes / 1e6
    many = costs.base_mib + 16_000 * costs.subject_kb / 1024
    tallies = [_tallies(costs, client) for client in CLIENTS]
    into = f"- {bandwidth:,.0f} MB/s into the brokers and as much out of them, before compression and replication"
    judge = (
        f"- one judge: 60 000 ms × {USE:g} / {costs.watch_ms:.2f} ms a watch and minute = {watches:,.0f} "
        "(model, version, segment) watches of 16 subjects on one core, whatever the traffic; models divide over up "
        "to six judges"
    )
    memory = (
        f"- memory of a judge: {costs.base_mib:.0f} MiB, and {costs.subject_kb:.0f} kB for each (model, version, "
        f"segment, feature), whatever the traffic: {many:,.0f} MiB for 1 000 watches of 16 subjects"
    )
    return [*tallies, into, judge, memory]


def _tallies(costs: Costs, client: str) -> str:
    need = math.ceil(costs.cores(client, BIG, FEATURES[0]))
    return (
        f"- with {client}: {BIG:,} × {costs.event_us[client]:.1f} µs / {USE:g} = {need} tally processes of one core "
        "each, and at least as many partitions (twice as many leave room to grow)"
    )
