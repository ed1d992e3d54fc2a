"""Labels count until their cohort is judged, and once."""

import numpy as np

from stationkeeper.contracts.topics import JOINS_PARTITIONS
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, Progress, joined_source, pack
from stationkeeper.monitor.judge.labels import LabelClock, LateLabels
from stationkeeper.monitor.judge.watermark import Progresses
from tests.monitor.rig import MINUTE, fraud

RULE = LateLabels(pane=10, judged=390)
COUNTS = pack(np.zeros(4, np.int64)), pack(np.zeros(64, np.int64))


def labels(start: int, known: int) -> OutcomeDelta:
    return OutcomeDelta("m", "1", "", start, 10, 1, known, *COUNTS, 0, 0)


def test_on_time_is_what_the_next_pane_or_a_later_one_holds() -> None:
    one = labels(0, 1_000)
    assert not RULE.is_late(one, None)
    assert not RULE.is_late(one, 1_000)
    assert RULE.is_late(labels(0, 500), 1_000)


def test_late_labels_count_until_their_cohort_is_judged() -> None:
    found = [RULE.too_late(labels(start, 500)) for start in (410, 400, 391, 390)]
    assert found == [False, False, False, True]
    assert not LateLabels(pane=10).too_late(labels(0, 500))


def test_other_late_deltas_are_not_taken() -> None:
    arm = ArmDelta("m", "1", "", 980, 10, 1, 0, 0, 0, 0, pack(np.zeros(32, np.int64)))
    assert [RULE.is_late(arm, closing) for closing in (1_000, 990, 980)] == [True, True, False]
    assert RULE.too_late(arm)


def test_what_came_before_the_last_close_is_counted() -> None:
    rule = LateLabels(pane=10, closed_by=7)
    late, early = labels(900, 500), labels(900, 1_000)
    assert [rule.counted(late, 1_000, offset) for offset in (6, 7, 8)] == [True, True, False]
    assert not rule.counted(early, 1_000, 6)
    assert not rule.counted(late, None, 6)


def progress(topic: str, kind: str, clock: int) -> list[Progress]:
    sources = [joined_source(kind, at) for at in range(JOINS_PARTITIONS)]
    return [Progress(topic, 0, source, 1, clock, idle=False) for source in sources]


def test_labels_stay_in_up_to_where_they_were_while_a_new_partition_is_silent() -> None:
    partitions = {"scores": 1, "outcomes": 1}
    progresses, clock = Progresses(partitions), LabelClock(fraud(label_horizon="1d"))
    for one in [*progress("scores", "prediction", 50 * MINUTE), *progress("outcomes", "label", 40 * MINUTE)]:
        progresses.put(one)
    clock.see(progresses)
    assert clock.joined == 40 * MINUTE
    partitions["outcomes"] = 2
    clock.see(progresses)
    assert clock.joined == 40 * MINUTE
    assert clock.labelled(45 * MINUTE) == 39 * MINUTE
