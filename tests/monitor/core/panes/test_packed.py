"""Packed counts: every vector comes back, and sums of packed vectors are exact."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.contracts.state import squeeze
from stationkeeper.monitor.core.panes.packed import (
    PackedRows,
    SparseCounts,
    kept_counts,
    kept_packed,
    merge,
    pack,
    unpack,
    unpack_sparse,
)

_EDGES = [0, 1, 14, 15, 16, 17, 254, 255, 256, 269, 270, 271, 272, 65_534, 65_535, 65_536, 65_806, 2**32, 2**63 - 1]
_ANY = st.one_of(st.sampled_from(_EDGES), st.integers(0, 20), st.integers(-(2**63), 2**63 - 1))


@settings(max_examples=150, deadline=None)
@given(st.lists(_ANY, max_size=70), st.integers(0, 300))
def test_every_vector_comes_back(values: list[int], zeros: int) -> None:
    counts = np.array([*values, *([0] * zeros)], np.int64)
    packed = pack(counts)
    np.testing.assert_array_equal(unpack(packed, len(counts)), counts)
    at, found = unpack_sparse(packed, len(counts))
    np.testing.assert_array_equal(at, np.flatnonzero(counts))
    np.testing.assert_array_equal(found, counts[at])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_ANY, _ANY), min_size=1, max_size=70), st.integers(0, 300))
def test_merging_packed_vectors_packs_their_sum(values: list[tuple[int, int]], zeros: int) -> None:
    pairs = np.array([*values, *([(0, 0)] * zeros)], np.int64)
    one, other = pairs[:, 0].copy(), pairs[:, 1].copy()
    assert merge(pack(one), pack(other), len(pairs)) == pack(one + other)


@settings(max_examples=150, deadline=None)
@given(st.lists(_ANY, max_size=70), st.integers(0, 300))
def test_a_sparse_vector_packs_as_the_vector_itself(values: list[int], zeros: int) -> None:
    counts = np.array([*([0] * zeros), *values, *([0] * zeros)], np.int64)
    at = np.flatnonzero(counts)
    sparse = SparseCounts(np.diff(at, prepend=0), counts[at], len(counts), len(pack(counts)))
    assert sparse.packed() == pack(sparse.vector()) == pack(counts)
    for kept in (sparse, squeeze(pack(counts))):
        read = PackedRows((kept,), len(counts)).sparse(0)
        assert (read.positions().tolist(), read.values.tolist()) == (at.tolist(), counts[at].tolist())
        assert (kept_packed(kept), read.size) == (pack(counts), sparse.size)
        np.testing.assert_array_equal(kept_counts(kept, len(counts)), counts)


def test_bytes_by_hand() -> None:
    assert len(pack(np.arange(256) % 14 + 1)) == 1 + 128
    assert len(pack(np.arange(256) // 156 * 15)) == 1 + 32 + 50
    few = np.zeros(256, np.int64)
    few[[3, 77, 200]] = 5
    assert len(pack(few)) == 1 + 4 + 3 + 2
    assert len(pack(np.full(256, 200))) == 1 + 256
    assert len(pack(np.full(256, 40_000))) == 1 + 512
