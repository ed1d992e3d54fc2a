import json
import uuid

import pytest
from typer.testing import CliRunner

from stationkeeper.cli import app
from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.streams.dead_letters.letters import dead_letter
from stationkeeper.streams.kafka.reader import KafkaReader
from stationkeeper.streams.kafka.sink import KafkaSink
from stationkeeper.streams.kafka.topics import ensure_inputs
from stationkeeper.streams.ports import Outgoing
from stationkeeper.streams.settings import KafkaSettings

pytestmark = pytest.mark.broker


@pytest.fixture
def configured(kafka, tmp_path):
    """A configuration over an input topic that holds one record, rejected for its JSON."""
    prefix = f"d{uuid.uuid4().hex[:8]}"
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix=prefix)
    topic = f"{prefix}.in"
    ensure_inputs(settings, [topic], create_inputs=True, partitions=1)
    sink = KafkaSink(settings, "tally")
    reader = KafkaReader(settings)
    try:
        for make in (lambda: [_plain(topic)], lambda: [_rejected(reader, topic)]):
            sink.begin()
            sink.send(make())
            sink.commit({}, None)
    finally:
        sink.close()
        reader.close()
    path = tmp_path / "stationkeeper.yaml"
    path.write_text(
        f"kafka: {{bootstrap: '{kafka.bootstrap}', prefix: {prefix}}}\nmodels: {{m: {{predictions: {topic}}}}}\n"
    )
    return str(path), topic


def _plain(topic):
    return Outgoing(topic, b"{oops", b"k")


def _rejected(reader, topic):
    (batch,) = [batch for batch in reader.read(reader.partitions(topic)) if len(batch)]
    return dead_letter(batch, 0, DeadLetterCode.NOT_JSON, "tally", detail="byte 1")


def run(*arguments):
    return CliRunner().invoke(app, ["dead-letters", *arguments], catch_exceptions=False)


def test_rejected_records_are_listed_shown_and_replayed_once(configured):
    config, topic = configured
    listed = json.loads(run("list", "--config", config, "--json").stdout)
    address = f"{topic}/0/0"
    assert [(row["code"], row["count"], row["address"]) for row in listed] == [("not_json", 1, address)]
    shown = json.loads(run("show", address, "--config", config).stdout)
    assert (shown["address"], shown["value"], shown["detail"]) == (address, "{oops", "byte 1")
    assert shown["help"].startswith("The value is not one JSON text")
    assert "is not in" in run("show", f"{topic}/0/7", "-c", config).stderr
    assert json.loads(run("replay", topic, "--code", "bad_time", "-c", config, "--json").stdout)["sent"] == []
    assert "1 records went back" in run("replay", topic, "--config", config).stdout
    again = json.loads(run("replay", topic, "--config", config, "--json").stdout)
    assert again["sent"] == []
    assert again["skipped"] == [f"{address}: was sent again before"]
