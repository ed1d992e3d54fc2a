"""Pairs: the strongest relations are chosen, counted alike however rows are cut, and survive their JSON."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.column import Categories, Column, Numbers, Status
from stationkeeper.contracts.messages import SubjectType
from stationkeeper.monitor.core.reference import InvalidReference, Reference, dump, load, profile

RNG = np.random.default_rng(11)
ROWS = 2_000
X = RNG.normal(size=ROWS)
REFERENCE = profile(
    {
        "x": X,
        "y": 0.8 * X + 0.6 * RNG.normal(size=ROWS),
        "z": RNG.normal(size=ROWS),
        "land": np.where(X > 1, "hot", RNG.choice(["cold", "mild"], ROWS)),
        "score": RNG.random(ROWS),
    },
    prediction="score",
    salt="s",
)


def test_the_pairs_that_go_together_most_come_first_and_join_all_features() -> None:
    assert [one.name for one in REFERENCE.pairs][:2] == ["x & y", "x & land"]
    assert len(REFERENCE.pairs) == 3
    assert {name for one in REFERENCE.pairs if one.pair for name in one.pair.features} == {"x", "y", "z", "land"}
    assert all(one.type is SubjectType.JOINT and one.rows == ROWS for one in REFERENCE.pairs)


def test_the_reference_of_a_pair_counts_what_a_table_of_quarters_does() -> None:
    joint = REFERENCE.by_name["x & y"]
    assert joint.pair is not None
    assert joint.pair.first.edges is not None
    x = np.searchsorted(joint.pair.first.edges, X)
    assert np.bincount(x, minlength=4).tolist() == joint.counts[:-1].reshape(4, 4).sum(axis=1).tolist()
    # Quarters of a normal law at correlation .8: the corners lowest-highest are nearly empty, the diagonal full.
    assert joint.counts[3] < 0.01 * ROWS < 0.15 * ROWS < joint.counts[0]
    assert joint.cell_name(3) == "'x in its lowest quarter, y in its highest quarter'"


def test_pairs_may_be_left_out() -> None:
    alone = profile({"x": X, "y": X + 1}, pairs=0)
    assert not alone.pairs
    assert json.loads(dump(alone))["schema_version"] == 1
    assert not profile({"x": X}).pairs
    assert not profile({"x": X, "same": np.ones(ROWS)}).pairs


@given(st.integers(0, 2**32 - 1), st.integers(0, 80), st.integers(1, 5), st.sets(st.sampled_from("abcd")))
def test_any_batching_gives_the_same_joint_counts(seed: int, n: int, groups: int, odd: set[str]) -> None:
    rng, layout = np.random.default_rng(seed), REFERENCE.layout
    status = rng.choice([0, 0, *(int(one) for one in Status)], n).astype(np.int8)
    columns: dict[str, Column] = {
        "x": Numbers(rng.normal(size=n), status if "a" in odd else None),
        "y": Numbers(np.where(rng.random(n) < 0.3, np.inf, rng.normal(size=n))),
        "land": Categories(rng.integers(-1, 3, n), ("hot", "cold", "new")),
    }
    if "b" in odd:
        columns["z"] = Numbers(rng.normal(size=n))
    skip = frozenset({"land"}) if "c" in odd else frozenset()
    group = rng.integers(0, groups, n)
    whole = layout.tally(columns, group, np.bincount(group, minlength=groups), skip=skip)
    parts = np.zeros_like(whole)
    for at in range(n):
        row = {name: _row(column, at) for name, column in columns.items()}
        parts[group[at]] += layout.tally(row, np.zeros(1, np.int64), np.ones(1, np.int64), skip=skip)[0]
    np.testing.assert_array_equal(whole, parts)
    for place in layout.pairs:
        counted = 0 if "land" in place.name and "c" in odd else n
        assert whole[:, place.histogram].sum() == counted
        assert not whole[:, place.quality : place.last].any()


def _row(column: Column, at: int) -> Column:
    if isinstance(column, Categories):
        return Categories(column.codes[at : at + 1], column.keys)
    return Numbers(column.values[at : at + 1], None if column.status is None else column.status[at : at + 1])


def test_a_row_without_one_of_both_is_missing_in_the_pair() -> None:
    columns: dict[str, Column] = {"x": Numbers(np.array([0.0, np.nan])), "z": Numbers(np.zeros(2))}
    counts = REFERENCE.layout.tally(columns, np.zeros(2, np.int64), np.array([2]))[0]
    place = REFERENCE.layout["x & y"]
    assert counts[place.missing] == 2  # y is in no event


def test_json_keeps_pairs_and_their_digest() -> None:
    again = load(dump(REFERENCE))
    assert dump(again) == dump(REFERENCE)
    assert again.digest == REFERENCE.digest != _without_pairs(REFERENCE).digest
    assert again.layout.width == REFERENCE.layout.width


def _without_pairs(reference: Reference) -> Reference:
    text = json.loads(dump(reference))
    return load(json.dumps({**{k: v for k, v in text.items() if k not in {"digest", "pairs"}}, "schema_version": 1}))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("features", ["x", "nobody"], r"pairs\[0\].features"),
        ("features", ["x", "x"], r"pairs\[0\].features"),
        ("features", [["x"], {}], r"pairs\[0\].features"),
        ("groups", ["0", "1"], r"pairs\[0\].groups"),
        ("groups", [7, None], r"pairs\[0\].groups"),
        ("counts", [0] * 17, r"pairs\[0\].counts: all zero"),
        ("counts", [1], r"pairs\[0\].counts"),
    ],
)
def test_a_broken_pair_is_refused_by_name(field: str, value: Any, named: str) -> None:
    text = json.loads(dump(REFERENCE))
    del text["digest"]
    text["pairs"][0][field] = value
    with pytest.raises(InvalidReference, match=named):
        load(json.dumps(text))
