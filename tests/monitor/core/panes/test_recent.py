"""Remembered panes: exact sums since an onset, however many had to be merged or forgotten."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.monitor.core.panes.packed import SparseCounts, pack
from stationkeeper.monitor.core.panes.pane import HOUR_MS, Pane
from stationkeeper.monitor.core.panes.recent import COARSEST, COUNTER_BYTES, LEAST_BYTES, Recent, RecentState
from stationkeeper.monitor.core.panes.window import ChartWindow
from stationkeeper.monitor.core.watch import WatchState
from stationkeeper.monitor.judge.state import WatchRecords
from stationkeeper.monitor.state_codec import freeze, thaw
from tests.monitor.core.streams import state_with

MINUTE = 60_000


def _panes(number: int, width: int = 50, rows: int = 400) -> list[Pane]:
    rng = np.random.default_rng(4)
    shares = np.full(width, 1 / width)
    return [
        Pane(t * MINUTE, MINUTE, rows, rng.multinomial(rows, shares), rows * t + rows - 1, rows * t)
        for t in range(number)
    ]


def test_panes_of_two_local_hours_are_not_merged() -> None:
    panes, recent = _panes(235), Recent(50, limit=4_000, timezone="Asia/Kolkata")
    for pane in panes:
        recent.add(pane)
    kept = list(recent.since(0))
    assert any(one.length > MINUTE for one in kept)
    # Its hours begin at half past those of UTC.
    assert all((one.start + 30 * MINUTE) // HOUR_MS == (one.end - 1 + 30 * MINUTE) // HOUR_MS for one in kept)
    assert any(one.start // HOUR_MS != (one.end - 1) // HOUR_MS for one in kept)


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
        # Asked in between, so that what was unpacked for one answer is not taken for what a merge made of it.
        recent.total(0)
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
            assert again.size == recent.size
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
    held = sum(len(one.counts) for one in recent._panes if isinstance(one.counts, bytes))
    assert held
    assert held < 0.75 * recent.size
    assert recent.size == sum(len(pack(one.counts)) + 120 for one in recent.since(0))
    np.testing.assert_array_equal(recent.total(0)[1], sum(pane.counts for pane in seen))


def test_totals_and_rows_since_an_onset_by_hand() -> None:
    recent = Recent(2)
    for start, rows, counts, first in ((0, 3, (1, 2), 0), (60, 2, (2, 0), None), (120, 5, (0, 5), 5)):
        recent.add(Pane(start, 60, rows, np.array(counts), None if first is None else first + rows - 1, first))
    assert recent.oldest() == 0
    total, summed = recent.total(60)
    assert (total, summed.tolist()) == (7, [2, 5])
    assert [recent.first_row(start) for start in (0, 60, 61, 121)] == [0, None, 5, None]
    assert [(pane.start, pane.first_row, pane.last_row) for pane in recent.since(1)] == [(60, None, None), (120, 5, 9)]
    assert recent.total(121)[0] == 0


def test_the_limit_grows_with_the_layout_and_never_falls_below_the_least() -> None:
    assert Recent(10)._limit == LEAST_BYTES
    assert Recent(10_000)._limit == 10_000 * COUNTER_BYTES


def test_panes_of_two_hours_are_never_merged() -> None:
    recent = Recent(50, limit=600)
    for minute, pane in zip((58, 59, 60, 61, 62, 63), _panes(6), strict=True):
        recent.add(Pane(minute * MINUTE, MINUTE, pane.rows, pane.counts))
    assert all(one.start // 3_600_000 == (one.end - 1) // 3_600_000 for one in recent.since(0))


def test_sparse_state_is_read() -> None:
    heads = np.array([[0, 60, 3, -1, -1, 2], [60, 60, 4, 3, 6, 1]])
    recent = Recent(5)
    recent.restore(RecentState(heads=heads, at=np.array([0, 4, 2]), values=np.array([1, 2, 4])))
    assert [pane.counts.tolist() for pane in recent.since(0)] == [[1, 0, 0, 0, 2], [0, 0, 4, 0, 0]]
    assert recent.first_row(60) == 3


def test_rows_as_narrow_as_they_were_stored_are_summed_whole() -> None:
    stored = [([0, 4], [1, 200]), ([2, 2], [255, 100]), ([], [])]
    rows = [SparseCounts(np.array(step, np.uint8), np.array(values, np.uint8), 5) for step, values in stored]
    heads = np.array([[0, 60, 201, -1, -1, 2], [60, 60, 355, 3, 6, 2], [120, 60, 0, -1, -1, 0]])
    recent = Recent(5)
    recent.restore(RecentState(heads=heads, counts=rows))
    total, counts = recent.total(0)
    assert (total, counts.tolist()) == (556, [1, 0, 255, 0, 300])


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 300), min_size=4, max_size=4)), max_size=60))
def test_what_is_remembered_of_any_stream_is_the_exact_sum_of_its_panes(steps: list[tuple[int, list[int]]]) -> None:
    recent, seen, start = Recent(4, panes=20, limit=1_500), [], 0
    for gap, counts in steps:
        start += gap * MINUTE
        seen.append(Pane(start, MINUTE, sum(counts), np.array(counts, np.int64)))
        recent.add(seen[-1])
        start += MINUTE
    for one in recent.since(0):
        inside = [pane for pane in seen if one.start <= pane.start < one.end]
        assert one.rows == sum(pane.rows for pane in inside)
        np.testing.assert_array_equal(one.counts, sum(pane.counts for pane in inside))
    assert len(recent) <= 20
    rows, total = recent.total(recent.oldest() or 0)
    kept = [pane for pane in seen if pane.start >= (recent.oldest() or 0)]
    assert rows == sum(pane.rows for pane in kept)
    assert total.tolist() == sum((pane.counts for pane in kept), np.zeros(4, np.int64)).tolist()
