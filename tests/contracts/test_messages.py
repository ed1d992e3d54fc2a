import json
import math

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scripts.docs.examples import EXAMPLES
from stationkeeper.contracts.messages import (
    MESSAGES,
    Approval,
    Candidate,
    InputDecision,
    LabelEvent,
    Message,
    PredictionEvent,
    Rollout,
    Verdict,
)
from stationkeeper.registry import ModelCard

TEXT = st.text(min_size=1, max_size=40)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_has_an_example_that_survives_the_wire(message):
    once = message.model_validate(EXAMPLES[message])
    again = message.decode(once.encode())
    assert again == once
    assert json.loads(once.encode()) == json.loads(again.encode())


@pytest.mark.parametrize("message", MESSAGES)
def test_the_published_schema_accepts_what_is_written_and_refuses_a_field_of_the_wrong_type(message):
    schema = message.model_json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    written = json.loads(message.model_validate(EXAMPLES[message]).encode())
    validator.validate(written)
    assert not validator.is_valid({**written, "time": []})


@given(
    st.dictionaries(TEXT, st.one_of(NUMBER, st.booleans(), TEXT, st.none()), max_size=5),
    st.one_of(NUMBER, st.booleans(), TEXT, st.none()),
)
def test_a_prediction_keeps_its_values_and_their_types(features, prediction):
    event = PredictionEvent(
        event_id="e", time=1_777_636_800_000, model="m", version="1", features=features, prediction=prediction
    )
    again = PredictionEvent.decode(event.encode())
    assert again.prediction == event.prediction
    # A null is left out on the way; an absent key and a null one are told apart only inside features.
    assert again.features == event.features
    assert {k: type(v) for k, v in again.features.items()} == {k: type(v) for k, v in event.features.items()}


def of_the_future(plain):
    """Return a message's JSON with a field that nobody knows yet in each object whose fields are the contract's."""
    free = {"evidence", "controller", "features", "ends", "segment"}
    inner = {
        key: of_the_future(value) if isinstance(value, dict) and key not in free else value
        for key, value in plain.items()
    }
    return {**inner, "of_the_future": {"deep": [1]}}


@pytest.mark.parametrize("message", [one for one in MESSAGES if one.reads_newer])
def test_a_reader_leaves_out_fields_of_a_newer_writer(message):
    once = message.model_validate(EXAMPLES[message])
    assert message.decode(json.dumps(of_the_future(json.loads(once.encode()))).encode()) == once


@pytest.mark.parametrize("message", [one for one in MESSAGES if one.reads_newer])
def test_the_published_schema_accepts_fields_of_a_newer_writer(message):
    newer = of_the_future(json.loads(message.model_validate(EXAMPLES[message]).encode()))
    jsonschema.Draft202012Validator(message.model_json_schema()).validate(newer)


@pytest.mark.parametrize("message", [one for one in MESSAGES if "schema_version" in one.model_fields])
@pytest.mark.parametrize("version", [2, 0])
def test_another_schema_version_is_refused_with_what_to_do(message, version):
    newer = {**json.loads(message.model_validate(EXAMPLES[message]).encode()), "schema_version": version}
    with pytest.raises(ValidationError) as refused:
        message.decode(json.dumps(newer).encode())
    (only,) = refused.value.errors()
    assert (only["type"], only["loc"]) == ("other_schema", ("schema_version",))
    assert f"schema_version is {version}, this version of Stationkeeper reads 1: upgrade this role" in only["msg"]


@pytest.mark.parametrize("text", ['"2"', "1.5", "null"])
def test_a_schema_version_that_is_no_number_is_a_wrong_type_and_not_a_newer_version(text):
    value = _candidate().replace(b'"schema_version":1', b'"schema_version":' + text.encode())
    with pytest.raises(ValidationError) as refused:
        Candidate.decode(value)
    assert refused.value.errors()[0]["type"] == "literal_error"


@pytest.mark.parametrize("message", [Approval, InputDecision])
def test_a_word_that_people_write_by_hand_takes_no_misspelt_field(message):
    written = {**json.loads(message.model_validate(EXAMPLES[message]).encode()), "pricipal": "typo"}
    with pytest.raises(ValidationError, match="pricipal"):
        message.decode(json.dumps(written).encode())
    assert not jsonschema.Draft202012Validator(message.model_json_schema()).is_valid(written)


def test_a_card_is_written_by_people_and_takes_no_unknown_field():
    with pytest.raises(ValidationError, match="thresold"):
        ModelCard.decode(b'{"model": "m", "task": "regression", "thresold": 0.9}')


def test_unknown_fields_of_an_event_are_ignored_and_of_our_own_messages_refused_where_they_are_made():
    assert LabelEvent.decode(b'{"event_id":"e","time":1,"model":"m","label":true,"shop":4}').label is True
    with pytest.raises(ValidationError, match="wieght_bp"):
        Rollout.model_validate({**EXAMPLES[Rollout], "wieght_bp": 1})


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b'{"time":1,"model":"m","label":1}', "event_id"),
        (b'{"event_id":"e","time":"yesterday","model":"m","label":1}', "time"),
        (b'{"event_id":"e","time":"2026-05-01T12:00:00","model":"m","label":1}', "time"),
        (b'{"event_id":"","time":1,"model":"m","label":1}', "event_id"),
        (b'{"event_id":"e","time":1,"model":"m","label":[1]}', "label"),
        (b'{"event_id":"e","time":1,"model":"m","label":NaN}', "NaN|JSON|finite"),
    ],
)
def test_what_is_wrong_with_an_event_is_named(value, field):
    with pytest.raises(ValidationError, match=field):
        LabelEvent.decode(value)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_message_carries_what_json_cannot(bad):
    with pytest.raises(ValidationError, match="finite"):
        Verdict.model_validate({**EXAMPLES[Verdict], "statistic": bad})


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_cannot_be_changed(message: type[Message]):
    one = message.model_validate(EXAMPLES[message])
    with pytest.raises(ValidationError, match="frozen"):
        one.model = "other"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["/etc", "../x", "..", ".", "a/b", "a\\b", "a\x00", "a\n", " a", "a ", "", "v" * 250, "a..b"]
)
@pytest.mark.parametrize("field", ["id", "request", "model", "version", "champion", "snapshot"])
def test_a_candidate_names_nothing_that_could_be_a_path(field, name):
    with pytest.raises(ValidationError):
        Candidate.decode(json.dumps({**json.loads(_candidate()), field: name}).encode())


@pytest.mark.parametrize("name", ["1", "fraud model", "1.2.0+build.5", "team.fraud_v2", "2026-01-01T00:00", "a@b:c=d"])
def test_a_candidate_takes_the_names_that_registries_use(name):
    assert Candidate.decode(json.dumps({**json.loads(_candidate()), "version": name}).encode()).version == name


def _candidate() -> bytes:
    return Candidate.model_validate(EXAMPLES[Candidate]).encode()
