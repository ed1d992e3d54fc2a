"""A program that writes as many events a second as it is told, each a function of its number: ``flood.py`` beside a
soak, in a process of its own, so that neither waits for the other's Python.

``python -m tests.reliability.flood BOOTSTRAP TOPIC FIRST COUNT PER_SECOND SINCE_MS paced|at-once`` sends the events
``FIRST`` up to ``FIRST + COUNT`` (for ever where 0) and prints, once all are on the broker, the number after the last
as JSON. ``at-once`` is as fast as it can; their times are the same. SIGTERM ends it in order.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.reliability.events import JITTER_MS, PARTITIONS, START, draw

SPEED = 4
"""Minutes of the stream that pass in one of the clock: more panes close, and each is small enough to be counted."""
CHUNK_S = 0.02
TIME = slice(9, 22)
"""Where an event's time stands in its text; also in one that is cut off."""
# How many different rows there are: enough for cells to differ, few enough to be written before the first is sent.
_ROWS = 30_000
_POISON, _DUPLICATE, _BACK = 1_000, 20, 5 * PARTITIONS
# Knuth's multiplicative hash: spreads the numbers' low bits over 32.
_SPREAD = 2_654_435_761


@dataclass(frozen=True, slots=True)
class Flood:
    """Events from ``first`` on, ``per_second`` of them in a second of the clock, from ``since`` (ms) on."""

    first: int
    per_second: int
    since: int = START

    def time(self, number: int) -> int:
        """Return when an event happened: up to half a minute out of order."""
        passed = (number - self.first) * 1_000 * SPEED // self.per_second
        return self.since + passed + JITTER_MS - number * _SPREAD % (1 << 32) % JITTER_MS

    def event(self, number: int, tails: list[bytes]) -> bytes:
        """Return one event as it is sent."""
        return b'{"time": %d, "event_id": "e%d", %b' % (self.time(number), number, tails[number % _ROWS])

    def records(self, first: int, last: int, tails: list[bytes]) -> Iterator[tuple[int, bytes]]:
        """Yield (partition, value): one in a thousand is cut off, after one in twenty an earlier one comes again."""
        for number in range(first, last):
            event = self.event(number, tails)
            yield number % PARTITIONS, event[:-7] if number % _POISON == _POISON // 2 + 1 else event
            if number % _DUPLICATE == 7 and number >= self.first + _BACK:
                yield number % PARTITIONS, self.event(number - _BACK, tails)


def poisoned(first: int, last: int) -> int:
    """Return how many of the events are cut off. Never one that comes again: 501 + 15 does not end in 7 of twenty."""
    return _up_to(last, _POISON // 2 + 1, _POISON) - _up_to(first, _POISON // 2 + 1, _POISON)


def repeated(first: int, last: int) -> int:
    """Return how many come again, of events from ``first`` on."""
    begin = min(first + _BACK, last)
    return _up_to(last, 7, _DUPLICATE) - _up_to(begin, 7, _DUPLICATE)


def _up_to(end: int, rest: int, of: int) -> int:
    """Return how many numbers below ``end`` leave that rest."""
    return (end - rest + of - 1) // of if end > rest else 0


def rows() -> list[bytes]:
    """Return what follows an event's id, for each of the rows there are."""
    found = []
    for number in range(_ROWS):
        u, v = draw(number, "u") / 2**32, draw(number, "v") / 2**32
        row = {
            "kind": "prediction",
            "model": "fraud",
            "version": "1",
            "features": {
                "amount": round(2 * u - 1, 6),
                "age": round(3 * v, 6),
                "country": ("de", "fr", "us")[draw(number, "c") % 3],
            },
            "prediction": round(u * v, 6),
        }
        found.append(json.dumps(row).encode()[1:])
    return found


def main(bootstrap: str, topic: str, first: str, count: str, per_second: str, since: str, pace: str) -> None:
    """Send until all are sent or the process is told to end."""
    from confluent_kafka import Producer

    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ending.append(number))
    flood = Flood(int(first), int(per_second), int(since))
    tails = rows()
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 50,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
            # Beyond every pause of a soak: what expires here is never sent.
            "delivery.timeout.ms": 3_600_000,
        }
    )
    number, end = flood.first, flood.first + int(count) if int(count) else sys.maxsize
    chunk, due = max(int(flood.per_second * CHUNK_S), 1), time.monotonic()
    while number < end and not ending:
        last = min(number + chunk, end)
        for partition, value in flood.records(number, last, tails):
            while True:
                try:
                    producer.produce(topic, value, partition=partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        number = last
        producer.poll(0)
        if pace == "paced":
            due = max(due + CHUNK_S, time.monotonic() - 1.0)
            time.sleep(max(due - time.monotonic(), 0.0))
    left = producer.flush(600)
    sys.stdout.write(json.dumps({"next": number, "left": left}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
