"""Any name that JSON can hold is a feature's name: it is read, counted and trained on like another."""

import json
from typing import Any

import numpy as np
import pytest

import stationkeeper as sk
from stationkeeper.contracts.messages import SubjectType
from stationkeeper.events import EventReader, own_form
from stationkeeper.monitor.core.reference import dump
from stationkeeper.monitor.tally import Tally
from stationkeeper.streams.ports import Batch, Partition, Restored
from tests.monitor.rig import START, TOPICS, fraud

NAMES = ['size 15"', "income\n(EUR)", "back\\slash", "tab\there", "nul\x00", "a.b", "$.x", "[0]", "{x}", "it's", "ü"]
ROWS = 50


def values(name: str, **more: Any) -> list[bytes]:
    event = {"kind": "prediction", "model": "fraud", "version": "1", "prediction": 0.5}
    return [
        json.dumps(
            {**event, "event_id": str(n), "time": START + n * 1_000, "features": {name: n / 2, "other": 2.0}, **more}
        ).encode()
        for n in range(ROWS)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_of_any_name_is_counted(name: str):
    rng = np.random.default_rng(1)
    columns = {name: rng.normal(size=2_000), "other": rng.normal(size=2_000)}
    reference = sk.profile(columns, model="fraud", version="1", ordered=True).frozen
    assert [s.name for s in reference.subjects if s.type is SubjectType.FEATURE] == [name, "other"]
    tally = Tally({"fraud": fraud()}, TOPICS, clock="stream")
    tally.table(TOPICS.references.name, b"fraud/1", dump(reference).encode())
    place = Partition("scores", 0)
    tally.assigned(frozenset([place]), Restored())
    tally.absorb(Batch(place, np.arange(ROWS), np.full(ROWS, START), [None] * ROWS, values(name), ROWS))
    tally.flush(0)
    tally.committed()
    [row] = [row for row in tally.status()["conservation"] if row["topic"] == "scores"]
    assert (row["tallied"], row["rejected"]) == (ROWS, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_of_any_name_is_discovered_with_its_values(name: str):
    reading = EventReader(own_form()).discover(values(name))
    assert not reading.rejected
    [events] = reading.events
    assert events.features[name].plain() == [n / 2 for n in range(ROWS)]


def test_a_wrong_value_under_such_a_name_hurts_itself_alone():
    rows = values('size 15"')
    rows[3] = rows[3].replace(b'"other": 2.0', b'"other": {"deep": 1}')
    reading = EventReader(own_form()).discover(rows)
    [events] = reading.events
    assert len(events.ids) == ROWS
