"""A table cut into panes, by hand."""

import numpy as np

from stationkeeper.backtesting.labels import Judged
from stationkeeper.backtesting.replay import TablePanes
from stationkeeper.backtesting.table import Table
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.judge import MAX_GAP_PANES

MINUTE = 60_000
AMOUNT = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
REFERENCE = profile({"amount": AMOUNT}, model="m", version="1")


def judged(first_row: int) -> Judged:
    return Judged(REFERENCE, first_row, None, None)


def test_rows_without_times_are_cut_by_number_and_an_unfinished_pane_is_never_over() -> None:
    panes = TablePanes(Table({"amount": AMOUNT}, np.arange(7)), 2)
    found = list(panes.closed(judged(2)))
    assert [(one.start, one.rows, one.first_row, one.last_row) for one in found] == [(2, 2, 2, 3), (4, 2, 4, 5)]


def test_the_first_pane_has_the_traffic_of_its_reference_rows_and_the_last_waits_for_a_later_row() -> None:
    times = np.array([0, 1, 2, 3, MINUTE, MINUTE + 1, 3 * MINUTE])
    panes = TablePanes(Table({"amount": AMOUNT}, np.arange(7), times), MINUTE)
    first, second = panes.closed(judged(3))
    assert (first.start, first.rows, first.traffic) == (0, 1, 4)
    assert (second.start, second.rows) == (MINUTE, 2)
    # Between the second and a row at three minutes lies one empty pane.
    later = Pane(3 * MINUTE, MINUTE, 1, second.counts)
    assert [(one.start, one.rows) for one in panes.silence(second.end, later)] == [(2 * MINUTE, 0)]
    assert list(panes.silence(None, later)) == []


def test_of_a_long_silence_only_the_last_pane_is_given() -> None:
    panes = TablePanes(Table({"amount": AMOUNT}, np.arange(7)), MINUTE)
    late = Pane((MAX_GAP_PANES + 10) * MINUTE, MINUTE, 1, np.zeros(1, np.int64))
    assert [one.start for one in panes.silence(0, late)] == [late.start - MINUTE]
