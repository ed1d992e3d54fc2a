"""The backlog of answers, without a broker: order, bounds, and that each record leaves the count once."""

import pytest

from stationkeeper.deploy.router.backlog import IN_FLIGHT, Backlog, LogBatch, Unlogged
from stationkeeper.streams.errors import Retryable


def batch(topic: str, rows: int = 2, since: float = 0.0) -> LogBatch:
    return LogBatch(topic, [b"k"] * rows, [b"v"] * rows, since)


def test_a_batch_is_acknowledged_when_each_of_its_records_is() -> None:
    backlog, one = Backlog(limit=3), batch("a")
    backlog.add(one)
    assert (backlog.rows, backlog.fits(1), backlog.fits(2)) == (2, True, False)
    attempt = backlog.hand_over()
    assert (backlog.handed, backlog.next()) == (2, None)
    assert not backlog.ended(one, attempt)
    assert not one.future.done()
    assert backlog.ended(one, attempt)
    assert (one.future.done(), backlog.rows, backlog.handed, backlog.oldest()) == (True, 0, 0, None)


def test_what_a_replaced_producer_had_goes_first_again_and_its_late_word_counts_for_nothing() -> None:
    backlog, first, second, third = Backlog(limit=100), batch("a"), batch("b"), batch("c")
    for one in (first, second, third):
        backlog.add(one)
    attempt = backlog.hand_over()
    backlog.hand_over()
    backlog.begin_again()
    assert not backlog.ended(first, attempt)
    order = []
    while (turn := backlog.next()) is not None:
        order.append(turn.topic)
        backlog.hand_over()
    assert order == ["a", "b", "c"]
    assert (backlog.rows, backlog.handed) == (6, 6)


def test_a_topic_that_is_not_there_holds_up_nobody_and_is_still_the_one_that_waits_longest() -> None:
    backlog, missing, other = Backlog(limit=100), batch("nowhere", since=1.0), batch("b", since=2.0)
    backlog.add(missing)
    backlog.add(other)
    backlog.put_off()
    assert backlog.next() is other


def test_a_producer_gets_no_more_than_may_be_written_twice() -> None:
    backlog = Backlog(limit=10 * IN_FLIGHT)
    backlog.add(batch("a", IN_FLIGHT))
    backlog.add(batch("a", 1))
    backlog.hand_over()
    assert backlog.next() is None


def test_what_is_left_at_the_end_is_counted_once_and_an_acknowledgement_behind_it_is_ignored() -> None:
    backlog, flying, waiting = Backlog(limit=100), batch("a", 1), batch("b", 3)
    backlog.add(flying)
    attempt = backlog.hand_over()
    backlog.add(waiting)
    backlog.give_up(7.0)
    # The producer is closed only afterwards: its thread may still hear from the broker.
    assert not backlog.ended(flying, attempt)
    assert (backlog.rows, backlog.lost_at) == (0, 7.0)
    assert backlog.unlogged == {("a", Unlogged.CLOSED): 1, ("b", Unlogged.CLOSED): 3}
    assert backlog.losses() == "a: 1 closed; b: 3 closed"
    for one in (flying, waiting):
        with pytest.raises(Retryable, match="the server stopped"):
            one.future.result(0)
