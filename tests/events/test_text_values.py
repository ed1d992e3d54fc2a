import json
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.config import Config
from stationkeeper.contracts.column import Status
from stationkeeper.events import EventReader, MappingError, ValueRules, forms, number_of, numbers_of
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.reference import QUALITY, NumericCells
from stationkeeper.monitor.verify.cells import tally_value
from stationkeeper.monitor.verify.recount import Recount

RULES = {"na": ["", "NA"], "text": ["zip"], "decimal": ","}
CELLS = st.one_of(
    st.sampled_from(["", "NA", "?", "1,5", "1.234,50 €", "14,9%", "(3)", "1.5", "09111", "error", "−2,5", "None"]),
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(-1e6, 1e6),
    st.text(max_size=4),
)


def form(values: dict[str, Any]) -> Any:
    return forms(list(Config.parse({"models": {"m": {"predictions": "t", "values": values}}}).models.values()))["t"]


def record(features: dict[str, Any], prediction: Any = 0.5) -> bytes:
    event = {"kind": "prediction", "event_id": "e", "time": 1_777_593_600_000, "model": "m", "version": "1"}
    return json.dumps({**event, "features": features, "prediction": prediction}).encode()


@pytest.mark.parametrize(
    ("text", "mark", "number"),
    [
        ("1.234,50 €", ",", 1234.5),
        ("$1,234.50", ".", 1234.5),
        ("14,9%", ",", 0.149),
        ("(3)", ".", -3.0),
        ("- 2,5", ",", -2.5),
        ("1 234 567", ".", 1234567.0),
        ("1.5", ",", None),
        ("1e3", ".", 1000.0),
        ("abc", ".", None),
        ("%", ".", None),
    ],
)
def test_a_number_is_read_as_people_write_it(text: str, mark: Any, number: float | None) -> None:
    assert number_of(text, mark) == (pytest.approx(number) if number is not None else None)


@given(st.lists(st.one_of(st.text("0123456789.,-+ €$%()'eE−", max_size=9), st.text(max_size=5)), min_size=1))
def test_a_column_of_texts_is_read_as_each_of_them(texts: list[str]) -> None:
    for mark in (".", ","):
        made = numbers_of(pl.Series(texts, dtype=pl.String), mark).to_list()
        assert made == [number_of(text, mark) for text in texts]


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=20), st.sampled_from([{}, RULES]))
def test_the_tally_and_the_second_reading_take_a_text_for_the_same(
    rows: list[tuple[Any, Any, Any]], values: dict[str, Any]
) -> None:
    """By record, whatever its neighbours are: what the columns count is what ``verify`` counts of one value."""
    made = form(values)
    reference = profile(
        {"n": np.arange(50.0), "zip": np.array(["09111", "NA", "x"] * 16 + ["1", "2"], object), "c": ["a", "b"] * 25},
        features=("n", "zip", "c"),
    )
    reader = EventReader(made)
    reader.learn({s.name: isinstance(s.cells, NumericCells) for s in reference.features})
    (events,) = reader.read([record({"n": n, "zip": z, "c": c}) for n, z, c in rows]).events
    recount = Recount.__new__(Recount)
    recount._form = made
    counted: Counter[int] = Counter()
    for row in rows:
        for name, value in zip(("n", "zip", "c"), row, strict=True):
            subject = reference.by_name[name]
            tally_value(counted, reference, subject, recount._as_told(value, subject))
    layout = reference.layout
    columns = {
        s.name: events.features[s.name].core(s.json_type, numeric=isinstance(s.cells, NumericCells))
        for s in reference.features
    }
    vector = layout.tally(columns, np.zeros(len(rows), np.int64), np.array([len(rows)]))[0]
    for subject in reference.features:
        place = layout[subject.name]
        mine = {at: counted[at] for at in range(place.first, place.quality + len(QUALITY))}
        assert mine == {at: int(vector[at]) for at in mine}, subject.name


def test_a_word_of_the_configuration_is_null_and_a_word_for_nothing_no_broken_number() -> None:
    reader = EventReader(form({"na": ["", "NA"]}))
    reader.learn({"n": True, "c": False})
    (events,) = reader.read([record({"n": "NaN", "c": "NA"}), record({"n": "error", "c": ""})]).events
    assert events.features["n"].numbers().status.tolist() == [Status.NULL, Status.WRONG_TYPE]  # type: ignore[union-attr]
    assert events.features["c"].plain() == [None, None]


def test_without_a_word_about_it_an_empty_text_is_null_and_na_a_value() -> None:
    reader = EventReader(form({}))
    reader.learn({"c": False})
    (events,) = reader.read([record({"c": "NA"}), record({"c": ""})]).events
    assert events.features["c"].plain() == ["NA", None]


def test_predictions_obey_and_classes_stay_classes() -> None:
    made = form(RULES)
    (events,) = EventReader(made).read([record({}, answer) for answer in ("0,93", "fraud", "NA", 0.5)]).events
    assert events.prediction is not None
    assert events.prediction.plain() == [0.93, "fraud", None, 0.5]


def test_two_models_of_a_topic_read_its_texts_alike() -> None:
    models = {"a": {"predictions": "t", "values": {"decimal": ","}}, "b": {"predictions": "t"}}
    with pytest.raises(MappingError, match="give both the same values:"):
        forms(list(Config.parse({"models": models}).models.values()))


def test_rules_that_cannot_be_are_refused_by_their_field() -> None:
    with pytest.raises(ValueError, match="decimal"):
        ValueRules.model_validate({"decimal": ";"})
