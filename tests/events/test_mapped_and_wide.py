"""Decoding of mapped topics and of wide and long records: both ways agree there as well."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.contracts.column import Status
from stationkeeper.events.columns import NumberColumn
from stationkeeper.events.json_reader import JsonReader
from tests.events.decoding import FEATURES, SALT, decoder, raw, scalars, shape

MAPPED = {
    "topic": "scores",
    "map": {
        "event_id": "meta.id",
        "time": "meta.at",
        "version": "meta.version",
        "prediction": "result.score",
        "features": {
            "amount": "payload.txn.amount",
            "country": "payload.country",
            "age": "age",
            "sum": "payload.txn.sum",
        },
    },
}
holders = st.one_of(st.none(), scalars, st.dictionaries(st.sampled_from(["amount", "sum", "country", "x"]), scalars))


@st.composite
def mapped(draw: st.DrawFn) -> bytes:
    """A record of a mapped topic: objects are missing, null or something else, values are of any type."""
    meta = {"id": draw(st.text(min_size=1, max_size=4)), "at": draw(st.integers(0, 2**41)), "version": draw(scalars)}
    payload = {"txn": draw(holders), "country": draw(scalars)}
    record = {
        "meta": draw(st.one_of(st.just(meta), st.just(meta), scalars)),
        "result": draw(st.one_of(st.just({"score": 0.5}), st.fixed_dictionaries({"score": scalars}), scalars)),
        "payload": draw(st.one_of(st.just(payload), st.just(payload), scalars)),
        "age": draw(scalars),
    }
    kept = draw(st.sets(st.sampled_from(sorted(record)), min_size=3))
    return json.dumps({name: value for name, value in record.items() if name in kept}).encode()


@given(st.lists(mapped(), max_size=10))
def test_both_ways_accept_and_reject_the_same_of_a_mapped_topic(values: list[bytes]) -> None:
    made = decoder(predictions=MAPPED)
    made.learn({"amount": True, "sum": True, "age": True, "country": False})
    together = shape(made.read(values))
    assert len(together) == len(values)
    assert together == shape(made.one_by_one(values))
    assert together == [shape(made.read([value]))[0] for value in values]


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_numbers_absent_and_null_stay_in_their_place_whatever_the_width(seed: int, rows: int) -> None:
    """With 1 100 features a chunk is 32 rows, so that a batch is put together from several."""
    rng = np.random.default_rng(seed)
    names = [f"n{i}" for i in range(1_100)]
    made = JsonReader(replace(decoder().form, max_bytes=1_048_576, max_fields=4_096), salt=SALT)
    made.learn(dict.fromkeys(names, True))
    cells = rng.random((rows, 4))
    odd = rng.choice(1_100, 4, replace=False)
    kinds = rng.integers(0, 3, (rows, 4))
    plain = dict.fromkeys(names, 0.5)
    values = []
    for row in range(rows):
        features: dict[str, Any] = dict(plain)
        for at, place in enumerate(odd.tolist()):
            if kinds[row, at] == 0:
                del features[names[place]]
            else:
                features[names[place]] = None if kinds[row, at] == 1 else float(cells[row, at])
        values.append(raw(features=features))
    (events,) = made.read(values).events
    for at, place in enumerate(odd.tolist()):
        column = events.features[names[place]]
        assert isinstance(column, NumberColumn)
        status = np.zeros(rows, np.int8) if column.status is None else column.status
        assert status.tolist() == [(Status.ABSENT, Status.NULL, 0)[kind] for kind in kinds[:, at].tolist()]
        assert column.values[kinds[:, at] == 2].tolist() == cells[kinds[:, at] == 2, at].tolist()


def test_a_long_record_of_few_fields_goes_to_columns_with_the_others() -> None:
    made = JsonReader(replace(decoder().form, max_bytes=100_000), salt=SALT)
    made.learn(FEATURES)
    long = raw(event_id="long", note="x" * 50_000)
    made.one_by_one = None  # type: ignore[assignment] # the slow way is not to be taken
    (events,) = made.read([raw(), long]).events
    assert events.rows.tolist() == [0, 1]


def test_a_batch_says_whether_it_can_hold_a_feature_that_is_not_known() -> None:
    made = decoder()
    new = raw(features={"amount": 1.5, "novel": 2})
    # A field beside the features is no feature; what is mutilated leaves it open.
    assert [made.read([raw(), raw(note="x")]).known, made.read([raw(), new]).known] == [True, False]
    assert made.read([raw()]).known is False  # after such a batch the next ones are not tried
    again = decoder()
    assert again.read([raw(), b"{"]).known is False
    assert shape(again.read([raw(), new])) == shape(decoder().one_by_one([raw(), new]))
