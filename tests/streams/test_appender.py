"""Producers without transactions, of both clients: one key has one partition, and each record's end is told once."""

import os
import threading
import time
import zlib
from functools import partial

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.connect import appender_for, reader_for
from stationkeeper.streams.errors import RecordTooLarge, Retryable
from stationkeeper.streams.ports import Appender
from stationkeeper.streams.settings import KafkaSettings

pytestmark = pytest.mark.broker
CLIENTS = ("kafka-python", "librdkafka")
KEYS = [b"", b"k", "é€".encode(), *(f"id-{at}".encode() for at in range(50))]


def ends(appender: Appender, topic: str, records: list[tuple[bytes, bytes]]) -> list[Exception | None]:
    """Return each record's end, in their order, once none was told twice."""
    told: list[list[Exception | None]] = [[] for _ in records]
    all_told = threading.Event()

    def ended(at: int, error: Exception | None) -> None:
        told[at].append(error)
        if all(told):
            all_told.set()

    for at, (key, value) in enumerate(records):
        try:
            appender.append(topic, key, value, partial(ended, at))
        except RecordTooLarge as error:
            ended(at, error)
    assert all_told.wait(30)
    # What is told again comes with the same answer of the broker.
    time.sleep(0.2)
    assert {len(one) for one in told} == {1}
    return [one[0] for one in told]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_broker_that_refuses_a_batch_for_its_size_loses_only_the_record_that_is_too_large(
    kafka: FoundBroker, client: str
):
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix="append").model_copy(update={"client": client})
    topic = f"append.small.{client}"
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "2000"})])
    admin.close()
    appender = appender_for(settings, "append", None, 5_000)
    appender.know(topic)
    values = [os.urandom(500) for _ in range(20)]
    values[7] = os.urandom(3_000)
    told = ends(appender, topic, [(b"k", value) for value in values])
    appender.close()
    assert [at for at, one in enumerate(told) if isinstance(one, RecordTooLarge)] == [7]
    # kafka-python ends with such a record; what was behind it is for the next producer.
    assert {type(one) for at, one in enumerate(told) if at != 7} <= {type(None), Retryable}
    reader = reader_for(settings, "append")
    landed = [value or b"" for batch in reader.read(reader.partitions(topic)) for value in batch.values]
    reader.close()
    assert sorted(landed) == sorted(value for value, one in zip(values, told, strict=True) if one is None)


def test_a_key_has_one_partition_from_either_client_and_a_record_too_large_ends_alone(kafka: FoundBroker):
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix="append")
    topic = "append.to"
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_topics([NewTopic(topic, 7, 1)])
    admin.close()
    for client in CLIENTS:
        appender = appender_for(settings.model_copy(update={"client": client}), "append", "lz4", 5_000)
        with pytest.raises(Retryable):
            appender.know("append.nowhere")
        appender.know(topic)
        large = (b"k", b"x" * (settings.max_message_bytes + 1))
        told = ends(appender, topic, [*((key, client.encode()) for key in KEYS), large])
        assert [type(one) for one in told if one is not None] == [RecordTooLarge]
        appender.close()
    reader = reader_for(settings, "append")
    places: dict[bytes, list[tuple[int, bytes]]] = {}
    for batch in reader.read(reader.partitions(topic)):
        for key, value in zip(batch.keys, batch.values, strict=True):
            assert key is not None
            assert value is not None
            places.setdefault(key, []).append((batch.partition.index, value))
    reader.close()
    assert {key: sorted(found, key=lambda one: one[1]) for key, found in places.items()} == {
        key: [(zlib.crc32(key) % 7, client.encode()) for client in CLIENTS] for key in KEYS
    }
