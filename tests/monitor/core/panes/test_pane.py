import numpy as np
import pytest

from stationkeeper.monitor.core.panes.pane import Pane, stratum_of

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("start", "strata", "stratum"),
    [(0, 168, 72), (0, 24, 0), (0, 1, 0), (4 * 24 * HOUR, 168, 0), (4 * 24 * HOUR - 1, 168, 167), (HOUR, 24, 1)],
)
def test_strata_by_hand(start: int, strata: int, stratum: int):
    assert stratum_of(start, strata) == stratum


def test_partial_panes_add():
    one = Pane(60, 60, 3, np.array([1, 2]), last_row=9, first_row=7)
    other = Pane(0, 60, 2, np.array([0, 5]), last_row=4, first_row=3)
    both = one + other
    assert (both.start, both.end, both.rows, both.first_row, both.last_row) == (0, 120, 5, 3, 9)
    np.testing.assert_array_equal(both.counts, [1, 7])


def test_volume_is_that_of_all_versions_where_it_is_known():
    counts = np.zeros(1, np.int64)
    assert Pane(0, 60, 3, counts).volume == 3
    assert Pane(0, 60, 3, counts, traffic=90).volume == 90
