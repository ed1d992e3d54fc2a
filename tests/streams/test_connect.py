import sys

import pytest

from stationkeeper.streams.connect import reader_for, sink_for, source_for
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.kafka.reader import KafkaReader
from stationkeeper.streams.kafka.sink import KafkaSink
from stationkeeper.streams.kafka.source import KafkaSource
from stationkeeper.streams.settings import KafkaSettings

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
