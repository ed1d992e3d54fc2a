"""Producers without transactions, of both clients: one key has one partition, and each record's end is told once."""

import threading
import zlib

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from stationkeeper.streams.broker import FoundBroker
from stationkeeper.streams.connect import appender_for, reader_for
from stationkeeper.streams.errors import RecordTooLarge, Retryable
from stationkeeper.streams.settings import KafkaSettings

pytestmark = pytest.mark.broker
CLIENTS = ("kafka-python", "librdkafka")
KEYS = [b"", b"k", "é€".encode(), *(f"id-{at}".encode() for at in range(50))]


def ends(appender, topic: str, records: list[tuple[bytes, bytes]]) -> list[Exception | None]:
    told: list[Exception | None] = []
    all_told = threading.Event()

    def ended(error: Exception | None) -> None:
        told.append(error)
        if len(told) == len(records):
            all_told.set()

    for key, value in records:
        try:
            appender.append(topic, key, value, ended)
        except RecordTooLarge as error:
            ended(error)
    assert all_told.wait(30)
    return told


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
