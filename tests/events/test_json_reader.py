"""Decoding: both ways accept the same records, every other record has its code, and nothing depends on neighbours."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.codes import DeadLetterCode as Code
from stationkeeper.contracts.column import Status
from stationkeeper.contracts.messages import LabelEvent
from stationkeeper.events.columns import CategoryColumn, NumberColumn
from stationkeeper.events.ids import hash_ids
from stationkeeper.events.json_reader import JsonReader, Reading
from stationkeeper.events.mapping import forms
from stationkeeper.events.settings import InputMapping
from stationkeeper.monitor.core.reference import profile
from stationkeeper.monitor.settings import ModelSettings
from tests.events.decoding import FEATURES, SALT, decoder, event, raw, scalars, shape
from tests.monitor.rig import table

_COLUMNS = table(200)
REFERENCE = profile({"amount": _COLUMNS["amount"], "country": _COLUMNS["country"]}, salt="s")

# What a Python reads is its own: 1 000 calls up to 3.11, and since then more than a record of this decoder can have.
_NESTED = b"[" * 2_000 + b"]" * 2_000 + b"}"
_TOO_DEEP: list[tuple[bytes | None, Code, str]] = [
    (opened + _NESTED, Code.TOO_DEEP, "") for opened in (b'{"x":', b'{"x": 1e999, "y":') if sys.version_info < (3, 12)
]
BAD: list[tuple[bytes | None, Code, str]] = [
    (None, Code.EMPTY_VALUE, ""),
    (b"", Code.EMPTY_VALUE, ""),
    (b"{", Code.NOT_JSON, ""),
    (raw() + b"x", Code.NOT_JSON, ""),
    (raw() + raw(), Code.NOT_JSON, ""),
    (b"\xef\xbb\xbf" + raw(), Code.NOT_JSON, ""),
    (b'{"a": "\xff"}', Code.NOT_UTF8, ""),
    (b"[1]", Code.NOT_AN_OBJECT, "list"),
    (b'"text"', Code.NOT_AN_OBJECT, "str"),
    (raw(prediction=float("inf")), Code.NOT_FINITE, "prediction"),
    (raw(weight=float("-inf")), Code.NOT_FINITE, "weight"),
    (raw(event_id=float("nan")), Code.WRONG_TYPE, "event_id"),
    (raw(features={"amount": float("nan")})[:-1], Code.NOT_JSON, ""),
    (raw(features={"amount": float("inf")}).replace(b": Inf", b": 1Inf"), Code.NOT_JSON, ""),
    (raw(features={"amount": float("nan")}).replace(b": NaN", b": -NaN"), Code.NOT_JSON, ""),
    (raw().replace(b"0.25", b"1e999"), Code.NOT_FINITE, "prediction"),
    *_TOO_DEEP,
    (b'{"x": 1e999, "y": }', Code.NOT_JSON, ""),
    (b'{"x": 1e999, "y": NaN}', Code.MISSING_FIELD, "event_id"),
    (b'{"x": "\\ud8zz"}', Code.NOT_JSON, ""),
    (raw(event_id=...), Code.MISSING_FIELD, "event_id"),
    (raw(event_id=7.5), Code.WRONG_TYPE, "event_id"),
    (raw(event_id=True), Code.WRONG_TYPE, "event_id"),
    (raw(event_id=""), Code.WRONG_TYPE, "event_id"),
    (raw(event_id="x" * 513), Code.WRONG_TYPE, "event_id"),
    (raw(time=...), Code.MISSING_FIELD, "time"),
    (raw(time=True), Code.WRONG_TYPE, "time"),
    (raw(time="yesterday"), Code.BAD_TIME, "time"),
    (raw(time="2026-01-01T00:00:00"), Code.BAD_TIME, "time"),
    (raw(time=-1), Code.BAD_TIME, "time"),
    (raw(model="other"), Code.UNKNOWN_MODEL, "model"),
    (raw(model=...), Code.MISSING_FIELD, "model"),
    (raw(version=...), Code.MISSING_FIELD, "version"),
    (raw(version=3.5), Code.WRONG_TYPE, "version"),
    (raw(version=False), Code.WRONG_TYPE, "version"),
    (raw(model=7), Code.UNKNOWN_MODEL, "model"),
    (raw(kind="label"), Code.UNKNOWN_KIND, "kind"),
    (raw(kind=1), Code.WRONG_TYPE, "kind"),
    (raw(features=None), Code.WRONG_TYPE, "features"),
    (raw(features=[1]), Code.WRONG_TYPE, "features"),
    (raw(prediction=[0.1]), Code.WRONG_TYPE, "prediction"),
    (raw(prediction={"1": 1.5}), Code.WRONG_TYPE, "prediction"),
    (raw(weight=0), Code.WRONG_TYPE, "weight"),
    (raw(latency_ms=-1), Code.WRONG_TYPE, "latency_ms"),
    (raw(latency_ms="fast"), Code.WRONG_TYPE, "latency_ms"),
    (raw(segment="de"), Code.WRONG_TYPE, "segment"),
    (raw(note="x" * 5_000), Code.TOO_LARGE, "5184 bytes, limit 4096"),
    (raw(**{f"extra{i}": 0 for i in range(100)}), Code.TOO_MANY_FIELDS, "109 fields, limit 64"),
]


@pytest.mark.parametrize(("value", "code", "detail"), BAD, ids=[f"{i}-{code}" for i, (_, code, _) in enumerate(BAD)])
def test_each_bad_record_has_its_code_and_its_neighbours_are_kept(value: bytes | None, code: Code, detail: str) -> None:
    found = decoder().read([raw(event_id="a"), value, raw(event_id="b")])
    assert [(r.row, r.code, r.detail) for r in found.rejected] == [(1, code, detail)]
    (events,) = found.events
    assert events.rows.tolist() == [0, 2]
    assert events.ids.tolist() == hash_ids(["a", "b"], SALT).tolist()


def test_a_good_batch_becomes_columns() -> None:
    values = [raw(), raw(features={"amount": None}), raw(features={"amount": 2, "country": None}, prediction=None)]
    (events,) = decoder().read(values).events
    assert events.time.tolist() == [1_767_225_600_000] * 3
    amount, country = events.features["amount"], events.features["country"]
    assert isinstance(amount, NumberColumn)
    assert amount.status is not None
    assert amount.values[[0, 2]].tolist() == [1.5, 2.0]
    assert amount.status.tolist() == [0, Status.NULL, 0]
    assert isinstance(country, CategoryColumn)
    assert [country.keys[c] if c >= 0 else c for c in country.codes.tolist()] == ["de", Status.ABSENT, Status.NULL]
    assert isinstance(events.prediction, NumberColumn)
    assert np.isnan(events.prediction.values).tolist() == [False, False, True]


def test_odd_features_are_counted_and_not_rejected() -> None:
    odd: list[Any] = [True, "text", [1], {"a": 1}, 10**400]
    found = decoder().read([raw(features={"amount": value, "country": value}) for value in odd])
    assert found.rejected == ()
    (events,) = found.events
    amount, country = events.features["amount"], events.features["country"]
    assert isinstance(amount, NumberColumn)
    assert amount.status is not None
    wrong = [Status.WRONG_TYPE] * 3
    assert amount.status.tolist() == [0, *wrong, Status.NOT_FINITE]
    assert amount.values[0] == 1.0
    assert isinstance(country, CategoryColumn)
    assert country.types == "mixed"


def test_numbers_beyond_float_are_not_finite_features() -> None:
    found = decoder().read([raw(features={"amount": 1}).replace(b'"amount": 1', b'"amount": 1e999')])
    amount = found.events[0].features["amount"]
    assert isinstance(amount, NumberColumn)
    assert amount.status is not None
    assert amount.status.tolist() == [Status.NOT_FINITE]


def test_nan_is_null_and_an_infinity_counts_as_one_by_columns() -> None:
    made = decoder()
    made.one_by_one = None  # type: ignore[assignment] # the slow way is not to be taken
    nan, inf = float("nan"), float("inf")
    held = [(nan, "de"), (inf, nan), (-inf, 'NaN, "NaN": Infinity'), (None, inf), (2.5, "NaN")]
    values = [raw(features={"amount": amount, "country": country}, other=nan) for amount, country in held]
    for _ in range(2):  # as the first batch that holds one, and as one that comes when the topic is known for it
        (events,) = made.read(values).events
        amount, country = events.features["amount"], events.features["country"]
        assert isinstance(amount, NumberColumn)
        assert amount.status is not None
        assert amount.status.tolist() == [Status.NULL, Status.NOT_FINITE, Status.NOT_FINITE, Status.NULL, 0]
        assert country.plain() == ["de", None, 'NaN, "NaN": Infinity', None, "NaN"]
        assert isinstance(country, CategoryColumn)
        assert country.codes[1] == Status.NULL
        assert country.codes[3] == Status.NOT_FINITE
    assert shape(made.read(values)) == shape(decoder().one_by_one(values))


@pytest.mark.parametrize("digits", [4_300, 4_301, 20_000])
def test_an_integer_of_any_length_is_a_feature_that_is_not_finite(digits: int) -> None:
    made = JsonReader(replace(decoder().form, max_bytes=1_048_576), salt=SALT)
    made.learn(FEATURES)
    good = raw(features={"amount": 7, "country": "de"}, extra=8)
    read = [good.replace(b'"amount": 7', b'"amount": -' + b"1" * digits), good.replace(b": 8", b": " + b"1" * digits)]
    spoilt = good.replace(b"0.25", b"1" * digits)
    found = made.read([*read, spoilt])
    assert [(r.row, r.code, r.detail) for r in found.rejected] == [(2, Code.NOT_FINITE, "prediction")]
    amount = found.events[0].features["amount"]
    assert isinstance(amount, NumberColumn)
    assert amount.status is not None
    assert amount.status.tolist() == [Status.NOT_FINITE, 0]


def test_half_a_surrogate_pair_is_the_replacement_character_wherever_it_stands() -> None:
    values = [
        raw(event_id="\ud83d", x="\udc00"),
        raw(features={"country": "a\ud83d"}),
        raw(segment={"s": "\udc00\ud83d"}),
    ]
    (events,) = decoder().read(values).events
    assert events.ids.tolist() == hash_ids(["\ufffd", "e1", "e1"], SALT).tolist()
    country = events.features["country"]
    assert isinstance(country, CategoryColumn)
    assert country.keys[country.codes[1]] == "a\ufffd"
    assert events.segments["s"].keys == ("\ufffd\ufffd",)
    whole = decoder().read([raw(event_id="\U0001f600 \\ud83d", features={"amount": "odd"})])
    assert whole.events[0].ids.tolist() == hash_ids(["\U0001f600 \\ud83d"], SALT).tolist()


def test_a_class_share_is_the_positive_class_or_the_likeliest() -> None:
    values = [raw(prediction={"1": 0.7, "0": 0.3}), raw(prediction={"0": 1, "1": 0})]
    (events,) = decoder().read(values).events
    assert isinstance(events.prediction, NumberColumn)
    assert events.prediction.values.tolist() == [0.7, 0.0]
    (named,) = decoder().read([raw(prediction={"b": 0.4, "a": 0.4, "c": 0.2})]).events
    assert isinstance(named.prediction, CategoryColumn)
    assert list(named.prediction.keys) == ["a"]


def test_a_mapped_topic_is_read_where_its_fields_are() -> None:
    mapping = {
        "topic": "scores",
        "map": {
            "event_id": "meta.id",
            "time": "meta.at",
            "version": 'meta."model.version"',
            "prediction": "result.score",
            "features": {"amount": "payload.txn.amount", "country": "payload.country"},
        },
        "time_unit": "s",
    }
    made = decoder(predictions=mapping)
    good = {
        "meta": {"id": 12, "at": 1_767_225_600.5, "model.version": 4},
        "result": {"score": 0.5, "more": [1, 2]},
        "payload": {"txn": {"amount": 9}, "country": "fr"},
    }
    (events,) = made.read([json.dumps(good).encode()] * 2).events
    assert events.time.tolist() == [1_767_225_600_500] * 2
    assert list(events.owners) == [("fraud", "4")]
    assert events.ids.tolist() == hash_ids(["12", "12"], SALT).tolist()
    amount = events.features["amount"]
    assert isinstance(amount, NumberColumn)
    assert amount.values.tolist() == [9.0, 9.0]
    found = made.read([json.dumps(good | {"payload": None}).encode(), json.dumps(good | {"meta": 1}).encode()])
    assert [(r.row, r.code, r.detail) for r in found.rejected] == [(1, Code.WRONG_TYPE, "meta")]


times = st.one_of(
    st.datetimes().map(lambda t: t.isoformat() + "Z"), st.integers(0, 2**45), st.floats(), st.text(max_size=20)
)


hard = st.sampled_from([b"1e999", b"1" * 310, b"1" * 5_000, b'"\\ud83d"', b'"\\ud83d\\ude00"', b"NaN", b"[[]", b"01"])


@st.composite
def anything(draw: st.DrawFn) -> bytes | None:
    """Mostly events with one or two odd fields; sometimes mutilated, sometimes junk."""
    changes: dict[str, Any] = {"event_id": draw(st.one_of(st.text(max_size=5), scalars)), "time": draw(times)}
    for name in draw(
        st.lists(st.sampled_from(["kind", "model", "version", "prediction", "weight", "latency_ms", "segment", "x"]))
    ):
        changes[name] = draw(scalars)
    if draw(st.booleans()):
        changes["features"] = draw(st.dictionaries(st.sampled_from(["amount", "country", "z"]), scalars, max_size=3))
    value = json.dumps(event(**changes), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    way = draw(st.integers(0, 19))
    if way == 0:
        cut = draw(st.integers(0, len(value)))
        value = value[:cut] + draw(st.binary(max_size=3)) + value[cut:]
    if way == 2:
        value = value.replace(b"1.5", draw(hard)).replace(b"0.25", draw(hard))
    if way == 1:
        return draw(st.one_of(st.none(), st.binary(max_size=12)))
    return value


@given(st.lists(anything(), max_size=12))
def test_both_ways_accept_and_reject_the_same(values: list[bytes | None]) -> None:
    made = decoder()
    together = shape(made.read(values))
    assert len(together) == len(values)
    assert together == shape(made.one_by_one(values))
    assert together == [shape(made.read([value]))[0] for value in values]


featured = st.dictionaries(st.sampled_from(["amount", "country"]), scalars, min_size=1).map(lambda f: raw(features=f))


@given(st.lists(st.one_of(featured, anything()), max_size=8))
def test_features_count_the_same_in_any_company(values: list[bytes | None]) -> None:
    made = decoder()
    reference = REFERENCE

    def count(found: Reading) -> Any:
        total = reference.layout.zeros()
        for events in found.events:
            named = {
                s.name: events.features[s.name].core(s.json_type, numeric=s.name == "amount")
                for s in reference.subjects
            }
            n = len(events)
            total += reference.layout.tally(named, np.zeros(n, np.int64), np.array([n]))[0]
        return total.tolist()

    apart: Any = sum((np.array(count(made.read([value]))) for value in values), reference.layout.zeros())
    assert count(made.read(values)) == apart.tolist()
    assert count(made.one_by_one(values)) == apart.tolist()


def test_labels_are_read_as_classes() -> None:
    model = ModelSettings(name="fraud", predictions=InputMapping(topic="scores"), labels=InputMapping(topic="outcomes"))
    made = JsonReader(forms([model])["outcomes"], salt=SALT)
    values: Sequence[Any] = [1, 1.0, True, "yes", 0.5]
    records = [
        json.dumps({"kind": "label", "event_id": "e", "time": 5, "model": "fraud", "label": label}).encode()
        for label in values
    ]
    assert [LabelEvent.model_validate_json(record).label for record in records] == list(values)
    (events,) = made.read(records).events
    assert events.label is not None
    assert [events.label.keys[code] for code in events.label.codes] == ["1", "1", "true", "yes", "0.5"]
    missing = json.dumps({"event_id": "e", "time": 5, "model": "fraud"}).encode()
    assert made.read([missing]).rejected[0].code is Code.MISSING_FIELD
