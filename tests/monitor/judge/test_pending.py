"""Labels count until their cohort is mature, and once."""

import numpy as np

from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, pack
from stationkeeper.monitor.judge.pending import LateLabels

RULE = LateLabels(age=600, pane=10)
COUNTS = pack(np.zeros(4, np.int64)), pack(np.zeros(64, np.int64))


def labels(start: int, known: int) -> OutcomeDelta:
    return OutcomeDelta("m", "1", "", start, 10, 1, known, *COUNTS, 0, 0)


def test_on_time_is_taken_as_it_is() -> None:
    one = labels(0, 1_000)
    assert RULE.taken(one, None) is one
    assert RULE.taken(one, 1_000) is one


def test_late_is_known_in_the_next_pane_until_maturity() -> None:
    # At the close of pane 1_000 the cohorts that start at 400 or before are mature, and that of 400 with it.
    for start, expected in ((410, 1_000), (400, 1_000), (391, 1_000), (390, None)):
        taken = RULE.taken(labels(start, 500), 1_000)
        assert (taken.known_at if isinstance(taken, OutcomeDelta) else None) == expected


def test_other_late_deltas_are_not_taken() -> None:
    arm = ArmDelta("m", "1", "", 980, 10, 1, 0, 0, 0, 0, pack(np.zeros(32, np.int64)))
    assert RULE.taken(arm, 1_000) is None
    assert RULE.taken(arm, 990) is None
    assert RULE.taken(arm, 980) is arm


def test_what_came_before_the_last_close_is_counted() -> None:
    rule = LateLabels(age=600, pane=10, closed_by=7)
    late, early = labels(900, 500), labels(900, 1_000)
    assert [rule.counted(late, 1_000, offset) for offset in (6, 7, 8)] == [True, True, False]
    assert not rule.counted(early, 1_000, 6)
    assert not rule.counted(late, None, 6)


def test_older_state_takes_nothing_late_for_new() -> None:
    rule = LateLabels(age=600, pane=10)
    rule.restore({}, 20)
    assert rule.counted(labels(900, 500), 1_000, 19)
    rule.restore({"closed_by": 3}, 20)
    assert not rule.counted(labels(900, 500), 1_000, 19)
