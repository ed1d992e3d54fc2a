"""Deduplication: exactly the ids of the last N offsets, however the log is cut into batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.events.ids import hash_ids, salt_of
from stationkeeper.monitor.hashtable import HashTable
from stationkeeper.monitor.tally.dedupe import Seen


def plainly(ids: list[int], offsets: list[int], horizon: int) -> list[bool]:
    """The definition, one record at a time."""
    last: dict[int, int] = {}
    out = []
    for one, offset in zip(ids, offsets, strict=True):
        out.append(one in last and offset - last[one] <= horizon)
        last[one] = offset
    return out


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 4)), max_size=200),
    st.integers(1, 40),
    st.lists(st.integers(1, 30), min_size=1),
)
def test_duplicates_are_those_of_the_definition_in_any_batches(
    log: list[tuple[int, int]], horizon: int, cuts: list[int]
) -> None:
    ids = [one for one, _ in log]
    offsets = np.cumsum([gap for _, gap in log]).tolist() if log else []
    seen, found, at, turn = Seen(horizon), [], 0, 0
    while at < len(ids):
        size = cuts[turn % len(cuts)]
        turn += 1
        part = slice(at, at + size)
        found += seen.mark(np.array(ids[part], np.uint64), np.array(offsets[part], np.int64)).tolist()
        at += size
    assert found == plainly(ids, offsets, horizon)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4), st.integers(0, 3)), max_size=120),
    st.integers(1, 40),
    st.integers(1, 30),
)
def test_what_says_something_else_than_the_last_of_its_id_is_no_duplicate(
    log: list[tuple[int, int, int]], horizon: int, size: int
) -> None:
    ids, said = [one for one, _, _ in log], [value for _, _, value in log]
    offsets = np.cumsum([gap for _, gap, _ in log]).tolist() if log else []
    last: dict[int, tuple[int, int]] = {}
    plain = []
    for one, offset, value in zip(ids, offsets, said, strict=True):
        at, before = last.get(one, (None, 0))
        near = at is not None and offset - at <= horizon
        plain.append(near and (value == before or 0 in {value, before}))
        last[one] = offset, value
    seen, again, found = Seen(horizon), Seen(horizon), list[bool]()
    for first in range(0, len(ids), size):
        part = slice(first, first + size)
        columns = np.array(ids[part], np.uint64), np.array(offsets[part], np.int64), np.array(said[part], np.uint16)
        found += seen.mark(*columns).tolist()
        again.restore(*columns)
    assert found == plain
    if log:
        probe = np.array([ids[-1]], np.uint64), np.array([offsets[-1] + 1]), np.array([said[-1]], np.uint16)
        assert seen.mark(*probe).tolist() == again.mark(*probe).tolist() == [True]


@pytest.mark.parametrize("together", [True, False])
def test_the_horizon_is_counted_in_offsets_its_end_included(together: bool) -> None:
    for gap, repeated in ((3, True), (4, False)):
        seen = Seen(3)
        ids, offsets = np.array([7, 7], np.uint64), np.array([10, 10 + gap], np.int64)
        parts = [slice(0, 2)] if together else [slice(0, 1), slice(1, 2)]
        flags = [flag for part in parts for flag in seen.mark(ids[part], offsets[part]).tolist()]
        assert flags == [False, repeated]


def test_a_rebuilt_table_still_knows_the_horizon_and_stays_small() -> None:
    rng = np.random.default_rng(1)
    seen = Seen(10_000)
    hashes = rng.integers(0, 2**63, 200_000).astype(np.uint64)
    for first in range(0, 200_000, 1_000):
        part = slice(first, first + 1_000)
        assert not seen.mark(hashes[part], np.arange(first, first + 1_000)).any()
    again = np.arange(200_000, 200_100)
    assert seen.mark(hashes[195_000:195_100], again).all()
    assert not seen.mark(hashes[100:200], again + 100).any()
    assert seen._table.nbytes <= 2 * 16 * 32_768


def test_a_horizon_of_zero_knows_nothing() -> None:
    assert not Seen(0).mark(np.zeros(3, np.uint64), np.arange(3)).any()


@given(st.lists(st.integers(0, 50), unique=True, max_size=40), st.lists(st.integers(0, 60), max_size=20))
def test_the_table_finds_what_was_stored(keys: list[int], wanted: list[int]) -> None:
    table = HashTable()
    assert (table.swap(np.array(keys, np.uint64), np.arange(len(keys))) == -1).all()
    expected = [keys.index(one) if one in keys else -1 for one in wanted]
    assert table.find(np.array(wanted, np.uint64)).tolist() == expected


def test_a_rebuilt_table_finds_its_hashes_even_where_they_crowd_at_its_end() -> None:
    table = HashTable()
    many = np.random.default_rng(2).integers(0, 2**63, 3_000_000).astype(np.uint64)
    # Those that want one of the last four slots of the table that is to come, and some for anywhere.
    hashes = np.concatenate([many[table._slots(many) >= 4_092][:1_500], many[:1_000]])
    hashes = np.unique(hashes)
    table.make_room(len(hashes), lambda stored: stored >= 0)
    table._fill(hashes, np.arange(len(hashes)))
    assert table.find(hashes).tolist() == list(range(len(hashes)))
    table.make_room(100_000, lambda stored: stored % 2 == 0)
    kept = np.arange(len(hashes)) % 2 == 0
    assert table.find(hashes).tolist() == np.where(kept, np.arange(len(hashes)), -1).tolist()
    assert len(table) == np.count_nonzero(kept)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=30))
def test_a_hash_depends_on_the_id_alone(ids: list[str]) -> None:
    salt = salt_of("x")
    together = hash_ids(ids, salt).tolist()
    assert together == [int(hash_ids([one], salt)[0]) for one in ids]
    assert len(set(together)) == len(set(ids))
    assert together != hash_ids(ids, salt_of("y")).tolist()


def test_padding_makes_no_two_ids_equal() -> None:
    ids = ["", "\0", "\0\0", "a", "a\0", "a" * 8, "a" * 8 + "\0", "é", "a" * 7 + "é"]
    assert len(set(hash_ids(ids, salt_of("x")).tolist())) == len(ids)


def test_hashes_are_the_same_for_ever() -> None:
    # They are in the state topic: another value would count every id of the horizon anew.
    assert hash_ids(["e1", "order-4711"], salt_of("stationkeeper")).tolist() == KNOWN


KNOWN = [11103624690305675853, 6003663527609748827]
