import sys

import pytest

from stationkeeper.streams.connect import beside_requests, reader_for, sink_for, source_for
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.kafka.reader import KafkaReader
from stationkeeper.streams.kafka.sink import KafkaSink
from stationkeeper.streams.kafka.source import KafkaSource
from stationkeeper.streams.settings import KafkaSettings, SecuritySettings

MAKE = (source_for, sink_for, reader_for)


def test_the_default_is_kafka_python_and_connects_to_nothing_yet():
    settings = KafkaSettings(bootstrap="127.0.0.1:1")
    made = [make(settings, "tally") for make in MAKE]
    assert [type(one) for one in made] == [KafkaSource, KafkaSink, KafkaReader]


def test_librdkafka_gives_its_own_ports():
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: stationkeeper[librdkafka]")
    settings = KafkaSettings(bootstrap="127.0.0.1:1", client="librdkafka")
    assert [type(make(settings, "tally")).__name__ for make in MAKE] == [
        "ConfluentSource",
        "ConfluentSink",
        "ConfluentReader",
    ]


@pytest.mark.parametrize("make", MAKE)
def test_a_missing_package_is_named_with_its_extra(make, monkeypatch):
    for module in (
        "confluent_kafka",
        "stationkeeper.streams.librdkafka.source",
        "stationkeeper.streams.librdkafka.sink",
        "stationkeeper.streams.librdkafka.clients",
    ):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(Fatal, match=r"stationkeeper\[librdkafka\]"):
        make(KafkaSettings(client="librdkafka"), "tally")


def test_a_producer_beside_requests_is_the_one_in_c_where_that_is_possible(monkeypatch):
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: stationkeeper[librdkafka]")
    plain = KafkaSettings()
    aws = KafkaSettings.model_construct(security=SecuritySettings.model_construct(mechanism="AWS_MSK_IAM"))
    assert beside_requests(plain, "auto").client == "librdkafka"
    assert beside_requests(plain, "kafka-python").client == "kafka-python"
    assert beside_requests(aws, "auto").client == "kafka-python"
    with pytest.raises(Fatal, match=r"serve\.client librdkafka has no AWS_MSK_IAM; write serve\.client: kafka-python"):
        beside_requests(aws, "librdkafka")
    monkeypatch.setattr("stationkeeper.streams.connect.find_spec", lambda _: None)
    assert beside_requests(plain, "auto").client == "kafka-python"
    with pytest.raises(Fatal, match=r"serve\.client is librdkafka, and confluent-kafka is not installed"):
        beside_requests(plain, "librdkafka")
