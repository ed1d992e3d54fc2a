"""A record of `references` or `rollouts` that cannot be used is told, and changes nothing."""

import pytest
from structlog.testing import capture_logs

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.monitor.core.reference import dump
from stationkeeper.monitor.references import References
from tests.monitor.rig import TOPICS, Rig, fraud, predictions, reference

REFERENCES, ROLLOUTS = TOPICS.references.name, TOPICS.rollouts.name


@pytest.mark.parametrize(
    ("topic", "key", "value"),
    [
        (REFERENCES, b"fraud/1", b"{}"),
        (REFERENCES, b"\xff", b"{}"),
        (REFERENCES, b"fraud/1", dump(reference()).replace('"rig"', '"\\ud800"').encode()),
        (REFERENCES, b"fraud/1", dump(reference()).replace('"threshold":0.5', '"threshold":1' + "0" * 400).encode()),
        (ROLLOUTS, b"fraud", b"{}"),
        (ROLLOUTS, b"\xff", None),
    ],
)
@pytest.mark.parametrize("followed", [True, False])
def test_a_bad_record_of_a_table_is_named_and_the_value_before_it_stays(topic, key, value, followed):
    rig = Rig({"fraud": fraud()}, partitions=1)
    good = reference()
    assert value != dump(good).encode()
    rig.put_reference(good)
    if followed:
        rig.turn()
    rig.log.produce(topic, [value], keys=[key])
    with capture_logs() as logs:
        rig.send("scores", predictions(3, 100))
        rig.turn(3)
    told = [line for line in logs if line["event"] == LogEvent.TABLE_RECORD_REFUSED]
    assert {(line["role"], line["topic"], line["partition"]) for line in told} == {
        ("tally", topic, 0),
        ("judge", topic, 0),
    }
    assert {line["offset"] for line in told} == {1 if topic == REFERENCES else 0}
    assert {line["key"] for line in told} == {key.decode(errors="backslashreplace")}
    for role in ("tally", "judge"):
        kept = rig.stage(role).references.of("fraud", "1")
        assert kept is not None
        assert kept.digest == good.digest
        (count,) = [s.value for s in rig.loops[role].samples() if s.labels[-1] == "table"]
        assert count == 1


def test_where_the_latest_reference_is_taken_away_the_one_written_before_it_counts():
    """A champion nobody named was the version that was gone, and the model had no reference at all."""
    found = References({"fraud": fraud()})
    for version in ("2", "1", "2", "3"):
        found.put_reference(f"fraud/{version}".encode(), dump(reference(version)).encode())
    found.put_reference(b"fraud/3", None)
    assert found.champion("fraud") == "2"
    found.put_reference(b"fraud/1", None)
    assert found.champion("fraud") == "2"
