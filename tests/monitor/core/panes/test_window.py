"""Chart windows: exactly the panes of the last stretch, in slots, through restarts and in any width of counter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.panes.window import MAX_SLOTS, ChartWindow, Tight, WindowState
from stationkeeper.monitor.judge.state import RING

HOUR = 3_600_000


def one(start: int, length: int, *counts: int) -> Pane:
    return Pane(start, length, sum(counts), np.array(counts, np.int64))


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


def test_a_window_of_four_slots_by_hand() -> None:
    window = ChartWindow(2, 40, slots=4)
    for start, counts in ((0, (1, 0)), (5, (2, 0)), (10, (0, 4)), (35, (8, 8))):
        window.add(one(start, 5, *counts))
    # Slots are ten wide: the clock stands at 40, so nothing is older than the window yet.
    assert (window.counts.tolist(), window.rows, window.end) == ([11, 12], 23, 40)
    # A slot leaves as a whole, once its end is as old as the window is long: 10 at a clock of 50.
    window.advance(49)
    assert window.rows == 23
    window.advance(50)
    assert (window.counts.tolist(), window.rows) == ([8, 12], 20)
    # The clock never goes back.
    window.advance(1)
    assert window.end == 50


def test_an_empty_pane_moves_the_clock_and_takes_no_slot() -> None:
    window = ChartWindow(2, 40, slots=4)
    window.add(one(0, 10, 0, 0))
    assert (window.end, len(window.state().slots)) == (10, 0)


def test_rows_are_told_by_the_hour_of_the_day_of_their_slot() -> None:
    window = ChartWindow(1, 24 * HOUR, slots=24)
    for hour, rows in ((0, 5), (1, 7), (23, 2)):
        window.add(one(hour * HOUR, HOUR, rows))
    expected = np.zeros(24, np.int64)
    expected[[0, 1, 23]] = 5, 7, 2
    np.testing.assert_array_equal(window.hours(24), expected)
    assert window.hours(1).tolist() == [14]


def test_state_kept_as_plain_arrays_is_read() -> None:
    window = ChartWindow(2, 40, slots=4)
    window.restore(WindowState(end=30, slots=np.array([[0, 3], [2, 5]]), counts=np.array([[1, 2], [4, 1]])))
    assert (window.counts.tolist(), window.rows) == ([5, 3], 8)
    # The last slot still grows: a pane of the same stretch falls into it.
    window.add(one(25, 5, 1, 1))
    assert np.asarray(window.state().counts).tolist() == [[1, 2], [5, 2]]


def test_rows_as_narrow_as_they_were_stored_are_summed_whole() -> None:
    window = ChartWindow(2, 40, slots=4)
    rows = [np.array([200, 2], np.uint8), np.array([100, 255], np.uint8)]
    window.restore(WindowState(end=30, slots=np.array([[0, 202], [2, 355]]), counts=rows))
    assert (window.counts.tolist(), window.rows) == ([300, 257], 557)
    window.add(one(25, 5, 200, 1))
    assert np.asarray(window.state().counts).tolist() == [[200, 2], [300, 256]]


def test_a_window_needs_a_length_and_as_many_slots_as_the_judge_has_places_for() -> None:
    for length, slots in ((0, 12), (60, 0), (60, MAX_SLOTS + 1)):
        with pytest.raises(ValueError, match=f"{length} and {slots}"):
            ChartWindow(2, length, slots=slots)
    # The judge stores a slot under its number modulo RING: two that live at once must not share a place.
    assert MAX_SLOTS < RING


@given(
    st.lists(
        st.lists(st.integers(0, 70_000) | st.integers(0, 2**33) | st.integers(-5, 0), min_size=2, max_size=2),
        max_size=12,
    )
)
def test_a_tight_sum_is_exact_whatever_it_must_hold(vectors: list[list[int]]) -> None:
    tight, total = Tight(2), np.zeros(2, np.int64)
    for vector in vectors:
        counts = np.array(vector, np.int64)
        tight.add(counts, int(counts.min()), int(counts.max()))
        total += counts
        np.testing.assert_array_equal(tight.read(slice(None)), total)
    for vector in vectors:
        tight.subtract(np.array(vector, np.int64))
    assert not tight.read(slice(None)).any()


def test_a_tight_sum_takes_two_bytes_until_they_could_overflow() -> None:
    tight = Tight(2)
    tight.add(np.array([65_535, 1]), 1, 65_535)
    assert tight._sum.dtype == np.uint16
    tight.add(np.array([1, 1]), 1, 1)
    assert tight._sum.dtype == np.uint32
    assert tight.read(slice(None)).tolist() == [65_536, 2]


@pytest.mark.parametrize(("days", "rows"), [(1, 6), (7, 7)])
def test_rows_of_a_slot_longer_than_an_hour_are_of_all_its_hours(days: int, rows: int) -> None:
    window = ChartWindow(1, days * 24 * HOUR)
    for hour in range(2 * days * 24):
        window.add(one(hour * HOUR, HOUR, rows))
    hours = window.hours(24)
    assert hours.sum() == window.rows
    # Each hour brought as much as any other; the edges of the window lie within slots.
    assert hours.max() - hours.min() <= rows
