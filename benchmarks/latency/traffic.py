"""A steady stream of events to a topic and the moment at which each closed pane becomes readable."""

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Producer
from kafka import KafkaConsumer, TopicPartition

from benchmarks.measure.broker import settings_of
from benchmarks.throughput.events import events
from stationkeeper.contracts.topics import PANES_PARTITIONS, Topics
from stationkeeper.contracts.wire import PaneDelta, decode
from stationkeeper.streams.kafka.source import reading_options

TICK_S = 0.02
PATTERNS = 5_000


class Traffic:
    """Sends events whose event time is the moment of sending, at a rate, in small steps."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 0, "queue.buffering.max.messages": 10**6}
        )
        self._parts = [_halves(value) for value in events(PATTERNS)]
        self.sent = 0

    def send(self, count: int) -> None:
        """Send so many events of now."""
        now = str(time.time_ns() // 1_000_000).encode()
        for _ in range(count):
            before, middle, after = self._parts[self.sent % PATTERNS]
            self._producer.produce(self._topic, before + b"%016x" % self.sent + middle + now + after)
            self.sent += 1
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until all are written."""
        self._producer.flush(30)


def _halves(value: bytes) -> tuple[bytes, bytes, bytes]:
    """An event cut around its id and its time."""
    before, _, rest = value.partition(b'"event_id":"')
    _, quote, rest = rest.partition(b'","time":')
    _, comma, after = rest.partition(b",")
    return before + b'"event_id":"', quote, comma + after


class Closings:
    """When the history of each pane became readable (wall ms), by the pane's end."""

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        settings = settings_of(bootstrap, "closings")
        self._consumer = KafkaConsumer(**reading_options(settings), **settings.connection("closings"))
        places = [TopicPartition(topics.history.name, index) for index in range(PANES_PARTITIONS)]
        self._consumer.assign(places)
        for place in places:
            self._consumer.seek(place, 0)
        self.seen: dict[int, float] = {}

    def look(self) -> None:
        """Note what has come."""
        found: dict[Any, Any] = self._consumer.poll(timeout_ms=0)
        now = time.time() * 1_000
        for records in found.values():
            for record in records:
                for one in decode(record.value):
                    if isinstance(one, PaneDelta) and one.rows:
                        self.seen.setdefault(one.start + one.length, now)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


def steady(traffic: Traffic, rate: float, seconds: float, between: Callable[[], Any]) -> float:
    """Send at a rate for so long, and call ``between`` in every step; returns the rate that was reached."""
    began, first = time.perf_counter(), traffic.sent
    while (passed := time.perf_counter() - began) < seconds:
        traffic.send(max(int(first + passed * rate) - traffic.sent, 0))
        between()
        time.sleep(max(TICK_S - (time.perf_counter() - began - passed), 0.001))
    return (traffic.sent - first) / seconds
