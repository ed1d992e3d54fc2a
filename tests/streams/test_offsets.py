import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.offsets import Positions, resume_at, start_offset
from stationkeeper.streams.ports import Partition

HERE = Partition("t", 0)


@given(wanted=st.integers(0, 100), first=st.integers(0, 100), length=st.integers(0, 100))
def test_reading_goes_on_in_the_log_and_counts_what_is_gone(wanted, first, length):
    end = first + length
    if wanted > end:
        with pytest.raises(Fatal, match=f"ends at {end} but this group has read to {wanted}"):
            resume_at(HERE, wanted, (first, end))
        return
    at, lost = resume_at(HERE, wanted, (first, end))
    assert first <= at <= end
    assert at - lost == min(wanted, at)
    assert lost == max(first - wanted, 0)


@pytest.mark.parametrize(
    ("restored", "committed", "known", "first_start", "expected"),
    [
        ({HERE: 7}, {HERE: 5}, {"t"}, "latest", (7, 0)),
        ({}, {HERE: 5}, {"t"}, "latest", (5, 0)),
        ({}, {HERE: 1}, {"t"}, "latest", (3, 2)),
        ({}, {}, {"t"}, "latest", (3, 0)),
        ({}, {}, set(), "latest", (9, 0)),
        ({}, {}, set(), "earliest", (3, 0)),
    ],
    ids=["state first", "then the group", "retention took two", "an added partition", "latest", "earliest"],
)
def test_where_a_partition_starts(restored, committed, known, first_start, expected):
    found = start_offset(
        HERE, (3, 9), restored=restored, committed=committed, known_topics=known, first_start=first_start
    )
    assert found == expected


def test_positions_carry_what_moved_and_all_where_nothing_did() -> None:
    first, second = Partition("scores", 0), Partition("scores", 1)
    positions = Positions()
    positions.begin(first, 5, committed=True)
    # Never committed: its beginning is, or the next start would take it for a partition that was added.
    positions.begin(second, 0, committed=False)
    assert positions.carried == {second: 0}
    positions.settled()
    assert positions.carried == {first: 5, second: 0}
    positions.read(first, 9)
    assert (positions.carried, positions.at) == ({first: 9}, {first: 9, second: 0})
    positions.forget()
    assert positions.carried == {}


def test_what_is_gone_moves_the_group_on_and_never_back() -> None:
    one = Partition("scores", 0)
    positions = Positions()
    positions.begin(one, 3, committed=True)
    positions.passed(one, 4, 10)
    assert (positions.at, positions.uncommitted) == ({one: 4}, {})
    positions.passed(one, 12, 10)
    assert positions.uncommitted == {one: 12}
