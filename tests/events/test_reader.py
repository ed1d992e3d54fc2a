"""Features that nobody named beforehand: found in the records that are events, with the type that holds them all."""

import json
from dataclasses import replace
from typing import Any

import pytest

from stationkeeper.events import EventReader, Form, forms, own_form
from stationkeeper.events.columns import CategoryColumn, NumberColumn
from stationkeeper.monitor.settings import ModelSettings


def record(features: Any, **more: Any) -> bytes:
    event = {"kind": "prediction", "event_id": "e", "time": 1_777_636_800_000, "model": "m", "version": "1"}
    return json.dumps(event | {"features": features} | more).encode()


def values(reader: EventReader, *records: bytes) -> dict[str, list[Any]]:
    (events,) = reader.discover(list(records)).events
    return {name: column.plain() for name, column in events.features.items()}


def test_new_names_are_learned_and_stay() -> None:
    reader = EventReader(own_form())
    assert values(reader, record({"a": 1}), record({"b": "x"})) == {"a": [1.0, None], "b": [None, "x"]}
    assert values(reader, record({"c": True})) == {"a": [None], "b": [None], "c": [True]}
    assert dict(reader.features) == {"a": True, "b": False, "c": False}


def test_a_number_that_was_once_text_keeps_every_values_own_type() -> None:
    reader = EventReader(own_form())
    (first,) = reader.discover([record({"a": 1.5}), record({"a": None})]).events
    assert isinstance(first.features["a"], NumberColumn)
    (second,) = reader.discover([record({"a": 2}), record({"a": "two"}), record({"a": True})]).events
    assert isinstance(second.features["a"], CategoryColumn)
    assert second.features["a"].plain() == [2.0, "two", True]
    assert values(reader, record({"a": 3})) == {"a": [3.0]}


def test_a_record_that_is_no_event_brings_no_name() -> None:
    reader = EventReader(own_form())
    assert values(reader, record({"a": 1}), record({"bad": 1}, time="never")) == {"a": [1.0]}


def test_no_more_names_are_learned_than_one_record_may_have_fields() -> None:
    reader = EventReader(replace(own_form(), max_fields=12))
    found = values(reader, *(record({f"f{i}": i}) for i in range(40)))
    assert list(found) == [f"f{i}" for i in range(12)]


def mapped(features: str | dict[str, str]) -> Form:
    inputs = {"topic": "t", "map": {"event_id": "id", "features": features}, "constants": {"version": "1"}}
    return forms([ModelSettings.model_validate({"name": "m", "predictions": inputs})])["t"]


@pytest.mark.parametrize("features", ["in.x", {"a": "in.x.a", "b": "in.b", "gone": "in.gone"}])
def test_features_of_a_mapped_topic_are_found_at_their_paths(features: str | dict[str, str]) -> None:
    reader = EventReader(mapped(features))
    events = [{"id": 1, "time": 5, "in": {"x": {"a": 1, "b": "no"}, "b": "yes"}}, {"id": 2, "time": 6, "in": {"x": {}}}]
    found = values(reader, *(json.dumps(one).encode() for one in events))
    assert found == {"a": [1.0, None], "b": ["no" if features == "in.x" else "yes", None]}


def test_fields_beside_the_columns_are_given_as_they_are_and_decide_nothing() -> None:
    reader = EventReader(replace(own_form(), extras=("event_id", "action")))
    (events,) = reader.read([record({}, action="positive"), record({}, action=[1]), record({})]).events
    assert events.extras["event_id"] == ["e", "e", "e"]
    assert events.extras["action"][:2] == ["positive", [1]]
    assert list(events.keep(events.rows[1:2]).extras["action"]) == [[1]]
