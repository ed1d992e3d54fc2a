"""Marks of the join: about a thousand a horizon however many records come, and none lets go of what is needed."""

from hypothesis import given
from hypothesis import strategies as st

from monitor.join_marks import STEPS, Marks

HOUR = 3_600_000


def test_a_million_records_leave_about_a_thousand_marks_that_cover_the_horizon() -> None:
    marks = Marks(HOUR)
    base = 0
    for offset in range(1_000_000):
        marks.put(offset, offset * 10)
        if offset % 64 == 0:
            base = marks.passed(offset * 10 - HOUR) or base
    assert len(marks) <= STEPS + 2
    oldest = 999_999 * 10 - HOUR
    # All that is young enough is read again, and little else.
    assert oldest - HOUR // STEPS - 1_000 <= base * 10 <= oldest
    again = Marks(HOUR)
    again.load([(offset, offset * 10) for offset in range(base, 1_000_000)])
    assert len(again) <= STEPS + 2
    assert again.passed(oldest + HOUR // 2) == marks.passed(oldest + HOUR // 2)


@given(st.lists(st.integers(0, 5_000), max_size=60), st.integers(1, 20_000))
def test_no_record_that_is_young_enough_lies_before_the_base(moves: list[int], horizon: int) -> None:
    marks, clock, clocks = Marks(horizon * 10), 0, []
    for offset, move in enumerate(moves):
        clock += move
        clocks.append(clock)
        marks.put(offset, clock)
    before = clock - horizon
    base = marks.passed(before) or 0
    assert all(one < before for one in clocks[:base])
