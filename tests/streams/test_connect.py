import sys

import pytest

from streams.connect import reader_for, sink_for, source_for
from streams.errors import Fatal
from streams.reader import KafkaReader
from streams.settings import KafkaSettings
from streams.sink import KafkaSink
from streams.source import KafkaSource

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
    for module in ("confluent_kafka", "streams.confluent", "streams.confluent_sink", "streams.confluent_clients"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(Fatal, match=r"stationkeeper\[librdkafka\]"):
        make(KafkaSettings(client="librdkafka"), "tally")
