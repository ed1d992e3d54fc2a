"""A producer that cannot begin a transaction is replaced, in both clients."""

import pytest
from kafka import errors

from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.kafka.sink import KafkaSink
from stationkeeper.streams.settings import KafkaSettings


class Broken:
    """A producer in its error state, which no abort ends."""

    def __init__(self, error):
        self.error = error

    def begin_transaction(self):
        raise self.error

    def abort_transaction(self, *_):
        pass

    def close(self, timeout=None):
        pass


def replaced(sink, error):
    broken = sink._client = Broken(error)
    with pytest.raises(Retryable):
        sink.begin()
    sink.abort()
    return sink._client is not broken


def test_kafka_pythons():
    assert replaced(KafkaSink(KafkaSettings(), "tally"), errors.KafkaError("in error state"))


def test_librdkafkas():
    confluent_kafka = pytest.importorskip("confluent_kafka", reason="needs stationkeeper[librdkafka]")
    from stationkeeper.streams.librdkafka.sink import ConfluentSink

    error = confluent_kafka.KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._STATE))
    assert replaced(ConfluentSink(KafkaSettings(), "tally"), error)
