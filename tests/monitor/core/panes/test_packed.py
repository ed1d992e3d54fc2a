"""Packed counts, and what is kept in them: windows and remembered panes."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.monitor.core.panes.packed import merge, pack, unpack, unpack_sparse
from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.panes.recent import COARSEST, Recent
from stationkeeper.monitor.core.panes.window import ChartWindow
from stationkeeper.monitor.core.watch import WatchState
from stationkeeper.monitor.judge.state import WatchRecords
from stationkeeper.monitor.state_codec import freeze, thaw
from tests.monitor.core.streams import state_with

MINUTE = 60_000
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


def test_bytes_by_hand() -> None:
    assert len(pack(np.arange(256) % 14 + 1)) == 1 + 128
    assert len(pack(np.arange(256) // 156 * 15)) == 1 + 32 + 50
    few = np.zeros(256, np.int64)
    few[[3, 77, 200]] = 5
    assert len(pack(few)) == 1 + 4 + 3 + 2
    assert len(pack(np.full(256, 200))) == 1 + 256
    assert len(pack(np.full(256, 40_000))) == 1 + 512


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(0, 70_000), min_size=3, max_size=3)), max_size=40))
def test_a_window_is_the_exact_sum_of_its_slots(steps: list[tuple[int, list[int]]]) -> None:
    window, again = ChartWindow(3, 60, slots=6), ChartWindow(3, 60, slots=6)
    seen: list[Pane] = []
    end = 0
    for gap, counts in steps:
        pane = Pane(end + gap, 1, sum(counts), np.array(counts))
        end = pane.end
        seen.append(pane)
        window.add(pane)
        again.add(pane)
        again.restore(again.state())
        kept = [one for one in seen if (one.start // 10 + 1) * 10 > end - 60]
        total = sum((one.counts for one in kept), np.zeros(3, np.int64))
        for one in (window, again):
            np.testing.assert_array_equal(one.counts, total)
            np.testing.assert_array_equal(one.part(slice(1, 3)), total[1:])
            assert one.rows == total.sum()
        np.testing.assert_array_equal(np.asarray(window.state().counts).sum(axis=0), total)
    window.advance(end + 1_000)
    assert not window.counts.any()
    assert window.rows == 0


def _panes(number: int, width: int = 50, rows: int = 400) -> list[Pane]:
    rng = np.random.default_rng(4)
    shares = np.full(width, 1 / width)
    return [
        Pane(t * MINUTE, MINUTE, rows, rng.multinomial(rows, shares), rows * t + rows - 1, rows * t)
        for t in range(number)
    ]


def test_few_panes_are_kept_one_by_one() -> None:
    panes, recent = _panes(300), Recent(50)
    for pane in panes:
        recent.add(pane)
    kept = list(recent.since(0))
    assert [pane.start for pane in kept] == [pane.start for pane in panes[60:]]
    np.testing.assert_array_equal(np.stack([pane.counts for pane in kept]), np.stack([p.counts for p in panes[60:]]))
    assert (kept[0].first_row, kept[0].last_row) == (panes[60].first_row, panes[60].last_row)


def test_what_does_not_fit_is_merged_and_its_sums_stay_exact() -> None:
    panes, recent = _panes(240), Recent(50, limit=4_000)
    for pane in panes:
        recent.add(pane)
        assert recent.size <= 4_000
    kept = list(recent.since(0))
    assert len(kept) < 60
    # Two hours are remembered in a thirtieth of the bytes that the panes would take.
    assert kept[0].start <= 150 * MINUTE
    for one in kept:
        inside = [pane for pane in panes if one.start <= pane.start < one.end]
        np.testing.assert_array_equal(one.counts, sum(pane.counts for pane in inside))
        assert one.rows == sum(pane.rows for pane in inside)
        assert (one.first_row, one.last_row) == (inside[0].first_row, inside[-1].last_row)
        assert one.start // 3_600_000 == (one.end - 1) // 3_600_000
        assert len(inside) == 1 or one.end - one.start <= COARSEST * (panes[-1].end - one.start)
    assert all(before.end == after.start for before, after in pairwise(kept))
    rows, counts = recent.total(kept[1].start)
    assert rows == sum(pane.rows for pane in kept[1:])
    np.testing.assert_array_equal(counts, sum(pane.counts for pane in kept[1:]))


def test_a_restored_memory_goes_on_as_the_one_before() -> None:
    recent, again = Recent(50, limit=4_000), Recent(50, limit=4_000)
    for at, pane in enumerate(_panes(120)):
        recent.add(pane)
        again.add(pane)
        if at % 17 == 0:
            again.restore(again.state())
        assert recent.size == again.size
    np.testing.assert_array_equal(recent.state().heads, again.state().heads)
    np.testing.assert_array_equal(np.asarray(recent.state().counts), np.asarray(again.state().counts))


def test_a_place_of_a_stretch_is_never_given_away() -> None:
    """Merged stretches outlive the round of places: what is stored under a name must be the one that is meant."""
    recent, records = Recent(50, limit=4_000), WatchRecords()
    stored: dict[str, Any] = {}
    for at, pane in enumerate(_panes(600)):
        recent.add(pane)
        for name, value in records.changed(_state(recent)):
            if value is None:
                del stored[name]
            else:
                stored[name] = value
        if at % 97 == 96:
            head = stored.pop("")
            records = WatchRecords()
            again = Recent(50, limit=4_000)
            kept = records.joined(thaw(freeze(head)), stored).desk.recent
            assert kept is not None
            again.restore(kept)
            assert [one.start for one in again.since(0)] == [one.start for one in recent.since(0)]
            np.testing.assert_array_equal(np.asarray(again.state().counts), np.asarray(recent.state().counts))
            recent = again
            # Nothing that was read back is written again.
            assert {name for name, _ in records.changed(_state(recent))} == {""}


def _state(recent: Recent) -> WatchState:
    return state_with(recent.state(), window=ChartWindow(50, 60).state())


def test_squeezing_saves_memory_and_changes_nothing_of_what_is_kept() -> None:
    rng = np.random.default_rng(0)
    recent, width = Recent(5_000), 5_000
    seen = [Pane(minute * MINUTE, MINUTE, 500, rng.poisson(2.0, width)) for minute in range(60)]
    for pane in seen:
        recent.add(pane)
    held = sum(len(one.counts) for one in recent._panes)
    assert held < 0.75 * recent.size
    assert recent.size == sum(len(pack(one.counts)) + 120 for one in recent.since(0))
    np.testing.assert_array_equal(recent.total(0)[1], sum(pane.counts for pane in seen))
