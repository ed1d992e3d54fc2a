"""Too many rejected records stop their topic at one record of the log, whatever the batches."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.streams.dead_letters.letters import DeadLetterLimit
from stationkeeper.streams.dead_letters.limit import RejectionLimit, Rejections
from stationkeeper.streams.ports import Partition
from stationkeeper.streams.settings import DeadLetterSettings

HERE, THERE = Partition("fraud.predictions", 2), Partition("fraud.predictions", 3)


def stops(limit: RejectionLimit, flags: Sequence[bool], sizes: Sequence[int]) -> int | None:
    """How many whole batches' records passed and at which record of the log it stopped, None if it did not."""
    at = turn = 0
    while at < len(flags):
        part = flags[at : at + sizes[turn % len(sizes)]]
        try:
            limit.observe(HERE, len(part), [i for i, bad in enumerate(part) if bad])
        except DeadLetterLimit:
            return at + next(
                i + 1 for i in range(len(part)) if plainly(flags[: at + i + 1], limit.settings) is not None
            )
        at += len(part)
        turn += 1
    return None


def plainly(flags: Sequence[bool], settings: DeadLetterSettings) -> int | None:
    """The rule in words, one record at a time: the record at which it stops."""
    run = rejected = 0
    for at, bad in enumerate(flags):
        if at % settings.minimum == 0:
            rejected = 0
        run = run + 1 if bad else 0
        rejected += bad
        if bad and (run >= settings.run or rejected > settings.share * settings.minimum):
            return at + 1
    return None


@given(
    st.lists(st.booleans(), max_size=120),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from([0.2, 0.5, 1.0]),
)
def test_it_stops_at_the_same_record_in_any_batches(
    flags: list[bool], sizes: list[int], minimum: int, run: int, share: float
) -> None:
    settings = DeadLetterSettings(minimum=minimum, run=run, share=share)
    assert stops(RejectionLimit(settings), flags, sizes) == plainly(flags, settings)


def test_the_message_says_where_and_how_many_and_the_error_which_record_was_one_too_many() -> None:
    limit = RejectionLimit(DeadLetterSettings(run=10, minimum=1_000))
    limit.observe(HERE, 9, range(9))
    limit.observe(THERE, 9, range(9))
    with pytest.raises(DeadLetterLimit, match=r"10 records in a row of fraud\.predictions/2 are") as found:
        limit.observe(HERE, 3, [0, 1])
    assert found.value.row == 0
    limit = RejectionLimit(DeadLetterSettings(share=0.5, minimum=100, run=1_000))
    limit.observe(HERE, 100_000, [])
    limit.observe(HERE, 99, range(49, 99))
    with pytest.raises(DeadLetterLimit, match=r"51 of the last 100 records .* share 0\.5 of 100"):
        limit.observe(HERE, 1, [0])


def test_kept_counts_go_on_after_a_restart_and_a_mended_feed_is_not_stopped() -> None:
    settings = DeadLetterSettings(run=10, minimum=20)
    limit = RejectionLimit(settings)
    limit.observe(HERE, 9, range(9))
    kept = limit.counts(HERE)
    again = RejectionLimit(settings)
    again.restore(HERE, Rejections(kept.seen, kept.rejected, kept.run))
    with pytest.raises(DeadLetterLimit):
        again.observe(HERE, 1, [0])
    mended = RejectionLimit(settings)
    mended.restore(HERE, Rejections(kept.seen, kept.rejected, kept.run))
    mended.observe(HERE, 1_000, [])
    assert mended.counts(HERE).run == 0


def test_what_was_given_back_is_not_counted_twice() -> None:
    limit = RejectionLimit(DeadLetterSettings(run=10, minimum=1_000))
    limit.observe(HERE, 9, range(9))
    limit.forget()
    limit.observe(HERE, 9, range(9))
