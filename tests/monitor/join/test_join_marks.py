"""Marks of the join: a few a horizon however many records come, and none lets go of what is needed."""

from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.monitor.join.rebuild import STEPS, Marks
from stationkeeper.monitor.tally.clock import UNSET

HOUR = 3_600_000


def test_a_million_records_leave_a_few_marks_that_cover_the_horizon() -> None:
    marks = Marks(HOUR)
    base = 0
    for offset in range(1_000_000):
        marks.put(offset, (offset - 1) * 10 if offset else UNSET, offset * 10)
        if offset % 64 == 0 and (mark := marks.passed(offset * 10 - HOUR)) is not None:
            base, clock = mark
            assert clock == (base - 1) * 10
    assert len(marks) <= STEPS + 2
    oldest = 999_999 * 10 - HOUR
    # All that is young enough is read again, and little else.
    assert oldest - HOUR // STEPS - 1_000 <= base * 10 <= oldest
    again = Marks(HOUR)
    again.load(marks.state(), base)
    assert again.start == marks.start
    assert again.passed(oldest + HOUR // 2) == marks.passed(oldest + HOUR // 2)


@given(st.lists(st.integers(0, 5_000), max_size=60), st.integers(1, 20_000))
def test_no_record_that_is_young_enough_lies_before_a_mark(moves: list[int], horizon: int) -> None:
    marks, clock, clocks = Marks(horizon * 10), UNSET, list[int]()
    for offset, move in enumerate(moves):
        after = max(clock, 0) + move
        marks.put(offset, clock, after)
        clock = after
        clocks.append(clock)
    base, _ = marks.passed(clock - horizon) or (0, 0)
    assert all(one < clock - horizon for one in clocks[:base])
