"""Cohorts that wait: by pane for a day, then by the hour."""

import numpy as np

from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.judge.labels.growing import WIDTH, GrowingCohorts
from stationkeeper.monitor.judge.labels.slots import CohortSlot, CohortSlots
from stationkeeper.monitor.settings import DAY_MS, HOUR_MS

MINUTE = 60_000


def growing(*, absent: bool = False) -> GrowingCohorts:
    return GrowingCohorts(MINUTE, CohortSlots(MINUTE), absent=absent)


def test_what_waits_for_a_day_is_put_together_by_the_hour() -> None:
    made = growing()
    for minute in range(0, 120, 30):
        made.predicted(minute * MINUTE, 10)
        made.of(minute * MINUTE, ("1", ""))[0] += 1
    made.coarsen(DAY_MS + HOUR_MS)
    assert made.starts() == [0, HOUR_MS, HOUR_MS + 30 * MINUTE]
    assert (made.due([0]), made.span(0), made.span(HOUR_MS)) == ((20, 2), HOUR_MS, MINUTE)
    # An hour is whole with its last pane: one before its end none of it is ripe.
    assert made.until(HOUR_MS - 2 * MINUTE) == (-MINUTE, [])
    assert made.until(HOUR_MS - MINUTE) == (HOUR_MS - MINUTE, [0])
    made.of(20 * MINUTE, ("1", ""))[0] += 1
    assert made.due([0]) == (20, 3)


def test_segments_do_not_count_a_second_time() -> None:
    made = growing()
    for segment in ("", "country=de"):
        made.of(0, ("1", segment))[0] += 4
    assert made.due([0]) == (0, 4)
    rows, found = made.pop(0)
    assert (rows, set(found), made.starts()) == (0, {("1", ""), ("1", "country=de")}, [])


def test_a_slot_without_what_absence_needs_is_read_by_one_that_counts_it() -> None:
    made = growing(absent=True)
    made.load(state_of({"slot": 0, "growing": [[0, "1", "", np.ones(WIDTH, np.int64)]]}, CohortSlot))
    ((_, _, _, counts),) = made.cells()
    assert (len(counts) > WIDTH, int(counts.sum())) == (True, WIDTH)
