"""A minute holds what the log says of it, whatever comes between and wherever the book is put down."""

import numpy as np
import pytest

from stationkeeper.contracts.wire import SCORE_BINS, ArmDelta, OutcomeDelta, pack
from stationkeeper.deploy.core.minutes import ArmCounts, MinuteBook, arm

MINUTE = 60_000
SCORES = pack(np.arange(SCORE_BINS, dtype=np.int64))


def counts(start: int, rows: int, *, version: str = "1", segment: str = "", length: int = MINUTE) -> ArmDelta:
    return ArmDelta("fraud", version, segment, start, length, rows, 1, 2, 3, 4, SCORES)


def labels(known_at: int, *, length: int = MINUTE) -> OutcomeDelta:
    empty = pack(np.zeros(2 * SCORE_BINS, np.int64))
    return OutcomeDelta("fraud", "1", "", 0, length, 10, known_at, pack(np.array([4, 3, 2, 1])), empty, 2_500_000, 0)


def test_a_minute_closes_when_a_later_one_shows_and_holds_its_sums():
    book = MinuteBook()
    assert book.snapshot() is None
    assert [book.add(one) for one in (counts(0, 10), counts(0, 5), labels(0))] == [None, None, None]
    closed = book.add(counts(MINUTE, 7))
    assert closed is not None
    assert (closed.start, closed.end) == (0, MINUTE)
    held = arm(closed, "1")
    assert (held.rows, held.errors, held.positives, held.timed, held.latency_us) == (15, 2, 4, 6, 8)
    assert held.histogram().tolist() == (2 * np.arange(SCORE_BINS)).tolist()
    (outcome,) = closed.outcomes
    assert (outcome.true_positives, outcome.false_positives) == (4, 3)
    assert (outcome.false_negatives, outcome.true_negatives) == (2, 1)
    assert outcome.loss == pytest.approx(2.5)


def test_late_rows_segments_and_hours_change_no_minute():
    book = MinuteBook()
    book.add(counts(MINUTE, 10))
    for other in (counts(0, 3), counts(MINUTE, 5, segment="country=DE"), counts(0, 9, length=60 * MINUTE)):
        assert book.add(other) is None
    book.add(labels(MINUTE, length=60 * MINUTE))
    held = book.snapshot()
    assert held is not None
    assert arm(held, "1").rows == 10
    assert held.outcomes == ()


def test_a_book_resumed_from_its_snapshot_closes_the_same_minute():
    book = MinuteBook()
    book.add(counts(0, 10))
    book.add(labels(0))
    again = MinuteBook.resume(book.snapshot())
    for one in (book, again):
        one.add(counts(0, 1, version="2"))
    assert again.add(counts(MINUTE, 1)) == book.add(counts(MINUTE, 1))


def test_a_version_that_did_nothing_has_zeros():
    book = MinuteBook()
    book.add(counts(0, 10))
    held = book.snapshot()
    assert held is not None
    assert arm(held, "2") == ArmCounts()
