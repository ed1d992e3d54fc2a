"""Settings and mappings: what is wrong is named with its key, its value and what is allowed."""

from typing import Any

import pytest
from pydantic import ValidationError

from stationkeeper.events.mapping import MappingError, forms, parse_path
from stationkeeper.events.settings import InputMapping
from stationkeeper.monitor.settings import ModelSettings
from tests.monitor.rig import fraud


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"panes": "1m"}, ["panes", "Extra inputs"]),
        ({"pane": "1 minute"}, ["pane", "'1 minute' is not a duration", "5m"]),
        ({"pane": "7m"}, ["pane 7m does not divide a day", "1m, 5m"]),
        ({"pane": "2h", "window": "1h"}, ["pane 2h is longer than window 1h"]),
        ({"false_pages": "rarely"}, ["false_pages", "rarely", "1 per 30 days"]),
        ({"false_pages": 3}, ["false_pages", "3", "1 per 30 days"]),
        ({"false_warnings": "1 per 60 days"}, ["false_warnings 1 per 60 days is rarer than false_pages 1 per 30 days"]),
        ({"false_warnings": "1 per 9000 rows"}, ["false_warnings 1 per 9000 rows counts rows", "both in rows"]),
        ({"inputs": "feature"}, ["inputs: feature needs features: TOPIC"]),
        ({"threshold": 2}, ["threshold", "less than or equal to 1"]),
        ({"predictions": "no spaces"}, ["predictions", "pattern"]),
        ({"predictions": {"topic": "t", "map": {"id": "x"}}}, ["predictions", "event_id"]),
        ({"predictions": {"topic": "t", "map": {"time": {"a": "b"}}}}, ["map.time", "only features"]),
        ({"predictions": {"topic": "t", "time_unit": "minutes"}}, ["time_unit", "rfc3339"]),
        ({"predictions": {"topic": "t", "constants": {"model": {"a": "b"}}}}, ["constants.model", "write text"]),
        (
            {"predictions": {"topic": "t", "constants": {"model": "a"}, "map": {"model": "b"}}},
            ["model is both mapped and constant"],
        ),
        ({"detectors": ["pci"]}, ["no detector plug-in 'pci'", "psi"]),
        ({"limits": {"versions": 0}}, ["limits.versions", "greater than or equal to 1"]),
    ],
)
def test_a_bad_setting_is_named_with_its_value_and_what_is_allowed(more: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValidationError) as error:
        fraud(**more)
    for word in words:
        assert word in str(error.value)


def test_warnings_have_a_budget_of_their_own() -> None:
    assert fraud().warnings_a_page == pytest.approx(30 / 7)
    assert fraud(false_pages="1 per day").warnings_a_page == pytest.approx(30 / 7)
    assert fraud(false_pages="1 per 30 days", false_warnings="1 per day").warnings_a_page == pytest.approx(30)


def test_a_topic_name_is_an_input_in_our_own_form() -> None:
    model = fraud(features={"topic": "inputs"})
    assert {kind: mapping.topic for kind, mapping in model.topics().items()} == {
        "prediction": "scores",
        "feature": "inputs",
        "label": "outcomes",
    }
    assert model.source == "feature"
    assert model.predictions.own_form
    assert fraud().source == "prediction"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        ('a."b.c".d', ("a", "b.c", "d")),
        ('"x\\"y"', ('x"y',)),
        ("ä b.c", ("ä b", "c")),
    ],
)
def test_paths(text: str, keys: tuple[str, ...]) -> None:
    assert parse_path(text) == keys


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a[0]", '"a', '"a"b', "a b[1].c"])
def test_a_path_that_cannot_be_read_says_where(text: str) -> None:
    with pytest.raises(MappingError, match=r"path .*character \d+"):
        parse_path(text)


def test_one_topic_can_carry_several_models_and_kinds_in_one_form() -> None:
    other = ModelSettings(name="credit", predictions=InputMapping(topic="scores"), labels=InputMapping(topic="scores"))
    found = forms([fraud(), other])
    assert found["scores"].models == ("fraud", "credit")
    assert found["scores"].kinds == ("prediction", "label")


def test_a_topic_read_in_two_ways_is_refused() -> None:
    mapped = InputMapping(topic="scores", map={"event_id": "id"})
    other = ModelSettings(name="credit", predictions=mapped)
    with pytest.raises(MappingError, match="topic 'scores' is read in two ways"):
        forms([fraud(), other])


def test_constants_take_the_place_of_fields() -> None:
    mapping = InputMapping(topic="t", constants={"version": "7", "segment": {"shop": "a"}}, map={"event_id": "id"})
    (form,) = forms([ModelSettings(name="fraud", predictions=mapping)]).values()
    assert (form.model, form.version, dict(form.segment)) == ("fraud", "7", {"shop": "a"})
    assert not {"model", "version", "segment"} & set(form.paths)


def test_absence_as_a_negative_needs_labels() -> None:
    assert ModelSettings.model_validate(
        {"name": "m", "predictions": "p", "labels": "l", "absent_is": "negative"}
    ).absent_is
    with pytest.raises(ValidationError, match="absent_is: negative needs labels: TOPIC"):
        ModelSettings.model_validate({"name": "m", "predictions": "p", "absent_is": "negative"})
    with pytest.raises(ValidationError, match="absent_is"):
        ModelSettings.model_validate({"name": "m", "predictions": "p", "labels": "l", "absent_is": "positive"})
