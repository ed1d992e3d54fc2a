"""One pass over a topic: the client alone, the client and the decoder in series, and the whole with exactly-once."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.measure.broker import prepare, settings_of
from benchmarks.throughput.events import reference
from benchmarks.throughput.ours import fraud
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.process.wiring import loop_for
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.settings import KafkaSettings

RECORDS = 20_000
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Pass:
    """Wall and processor seconds of one pass over the topic."""

    wall: float
    processor: float


def timed(work: Callable[[], Any]) -> Pass:
    """Run a pass and time it."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Pass(time.perf_counter() - wall, time.process_time() - processor)


def polled(settings: KafkaSettings, topic: str, *, own: bool = False) -> Iterator[list[Any]]:
    """Yield what the client of the settings polls from the start of a topic, with our fetch sizes.

    kafka-python's records are read by columns, as the monitor does, or with ``own`` by the library itself.
    """
    if settings.client == "librdkafka":
        from confluent_kafka import Consumer

        from stationkeeper.streams.librdkafka.clients import connection, reading
        from stationkeeper.streams.librdkafka.clients import theirs as their_offset
        from stationkeeper.streams.ports import Partition

        client = Consumer({"group.id": "alone", **reading(settings), **connection(settings, "alone")})
        client.assign([their_offset(Partition(topic, 0), 0)])
        try:
            while True:
                messages: Any = client.consume(num_messages=RECORDS, timeout=0.2)
                yield [message.value() for message in messages if message.error() is None]
        finally:
            client.close()
    from kafka import KafkaConsumer, TopicPartition

    from stationkeeper.streams.kafka.fetch import columnar, joined
    from stationkeeper.streams.kafka.source import reading_options

    consumer = KafkaConsumer(**reading_options(settings), **settings.connection("alone"))
    if not own:
        columnar(consumer)
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    try:
        while True:
            records = consumer.poll(timeout_ms=200, max_records=RECORDS).get(place, ())
            yield [record.value for record in records] if own else list(joined(records).values)
    finally:
        consumer.close()


def alone(
    settings: KafkaSettings, topic: str, events: int, use: Callable[[list[Any]], Any], *, own: bool = False
) -> Pass:
    """Time the client over the topic; ``use`` gets what each poll returned, ``own`` is that of ``polled``."""

    def work() -> None:
        seen, deadline = 0, time.monotonic() + WAIT_S
        for values in polled(settings, topic, own=own):
            use(values)
            seen += len(values)
            if seen >= events:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{settings.client} read {seen} of {events} records in {WAIT_S:g} s")

    return timed(work)


def _all_committed(loop: Loop, stage: Tally, events: int) -> bool:
    """Whether the last record is committed; its transaction does not wait for the interval, as no other would."""
    absorbed = sum(state.received for state in stage._partitions.values())  # noqa: SLF001 - before the commit
    committed = sum(int(entry["received"]) for entry in stage.status()["conservation"])
    if committed < events <= absorbed:
        loop._flush()  # noqa: SLF001
        return True
    return committed >= events


def own_records(consumer: Any) -> Any:
    """Let a consumer read as the library always did, its records turned into the columns that our source takes."""
    from stationkeeper.streams.kafka.fetch import Columns

    poll = consumer.poll

    def polled(**options: Any) -> dict[Any, list[Columns]]:
        return {
            place: [
                Columns(
                    np.array([record.offset for record in records], np.int64),
                    np.array([record.timestamp for record in records], np.int64),
                    [record.key for record in records],
                    [record.value for record in records],
                    [tuple(record.headers) for record in records],
                )
            ]
            for place, records in poll(**options).items()
        }

    consumer.poll = polled
    return consumer


def exactly_once(bootstrap: str, client: str, topic: str, events: int, prefix: str, *, own: bool = False) -> Pass:
    """Time the tally's loop from its assignment to the commit of the last record; checks that all were counted.

    With ``own`` kafka-python reads as it always did, without a hand in its private classes.
    """
    if own:
        from stationkeeper.streams.kafka import source

        with patch.object(source, "columnar", own_records):
            return exactly_once(bootstrap, client, topic, events, prefix)
    settings = settings_of(bootstrap, prefix, client)
    model = fraud(predictions=topic)
    stage = Tally({model.name: model}, prepare(settings, [reference()]), clock="stream")
    loop = loop_for(stage, settings)

    def total(name: str) -> int:
        return sum(entry[name] for entry in stage.status()["conservation"])

    def until(done: Callable[[], Any]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not done():
            loop.turn()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{client}: {total('received')} of {events} records were committed")

    try:
        until(lambda: stage.status()["conservation"])
        found = timed(lambda: until(lambda: _all_committed(loop, stage, events)))
    finally:
        loop.close()
    if total("tallied") != events:
        raise AssertionError(f"{total('tallied')} of {events} events were tallied")
    return found
