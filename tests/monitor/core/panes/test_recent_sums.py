"""Sums of labelled predictions by pane: labels come in any parts and order, and the sums are the same."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.monitor.core.panes.recent_sums import RecentSums
from stationkeeper.monitor.core.reference import OutcomeSums

CHAMPION, SEGMENT = ("1", ""), ("1", "country=CH")


def sums(**at: int) -> OutcomeSums:
    """Sums by position: ``sums(p3=5)`` is 5 at position 3."""
    found = {int(name[1:]): value for name, value in at.items()}
    return OutcomeSums.of(np.array(list(found), np.int64), np.array(list(found.values()), np.int64))


def test_labels_of_a_pane_add_up_and_panes_are_summed_between_both_ends() -> None:
    kept = RecentSums()
    kept.add(CHAMPION, 60, sums(p0=2))
    kept.add(CHAMPION, 0, sums(p0=1, p3=7))
    kept.add(CHAMPION, 60, sums(p0=3))
    kept.add(SEGMENT, 60, sums(p0=100))
    assert kept.total(CHAMPION, 0, 60).part(slice(0, 4)).tolist() == [6, 0, 0, 7]
    # Both ends belong to the stretch: 60 alone, and everything before it.
    assert kept.total(CHAMPION, 60, 60).one(0) == 5
    assert kept.total(CHAMPION, 0, 59).one(0) == 1
    assert kept.total(("2", ""), 0, 60).at.tolist() == []


def test_sums_of_nothing_are_not_kept() -> None:
    kept = RecentSums()
    kept.add(CHAMPION, 0, OutcomeSums.none())
    assert list(kept.items()) == []


def test_old_panes_are_dropped_whatever_the_order_in_which_they_came() -> None:
    kept = RecentSums()
    for start in (120, 0, 60):
        kept.add(CHAMPION, start, sums(p0=1))
    kept.add(SEGMENT, 0, sums(p0=1))
    kept.drop(60)
    assert sorted((who, start) for start, who, _ in kept.items()) == [(CHAMPION, 60), (CHAMPION, 120)]


def test_a_version_that_is_gone_is_forgotten_and_one_that_never_was_does_no_harm() -> None:
    kept = RecentSums()
    kept.add(CHAMPION, 0, sums(p0=1))
    kept.add(SEGMENT, 0, sums(p0=2))
    kept.forget([CHAMPION, ("9", "")])
    assert [(start, who) for start, who, _ in kept.items()] == [(0, SEGMENT)]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(1, 9)), max_size=30), st.data())
def test_any_order_and_any_parts_give_the_same_sums(parts: list[tuple[int, int, int]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(parts))
    one, other = RecentSums(), RecentSums()
    for kept, order in ((one, parts), (other, shuffled)):
        for start, at, value in order:
            kept.add(CHAMPION, start, OutcomeSums.of(np.array([at]), np.array([value])))
    expected = np.zeros(7, np.int64)
    for start, at, value in parts:
        expected[at] += value * (1 <= start <= 3)
    for kept in (one, other):
        np.testing.assert_array_equal(kept.total(CHAMPION, 1, 3).part(slice(0, 7)), expected)
