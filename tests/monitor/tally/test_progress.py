"""How far the tally is: told to the judge once a second, to the join where its labels' inputs moved."""

import pytest

from stationkeeper.contracts.wire import PROGRESS_MS, Progress, decode
from stationkeeper.events import forms
from stationkeeper.monitor.tally.partition import PartitionState
from stationkeeper.monitor.tally.progress import MARK_MS, JoinMarks, PanesProgress
from stationkeeper.streams.ports import Partition
from tests.monitor.rig import fraud

MODELS = {"fraud": fraud()}
FORMS = forms(list(MODELS.values()))


def states() -> list[PartitionState]:
    made = [PartitionState(Partition(topic, 0), 0) for topic in ("scores", "outcomes")]
    for state in made:
        state.next_offset, state.clock.now = 7, 1_000
    return made


def told(value: bytes | None) -> list[tuple[str, str, int, bool]]:
    records = [] if value is None else decode(value)
    return [(one.topic, one.source, one.next_offset, one.idle) for one in records if isinstance(one, Progress)]


def test_the_judge_is_told_once_a_second_and_anew_after_a_restart() -> None:
    progress, mine = PanesProgress(FORMS, 30_000), states()
    assert told(progress.record(mine, 0)) == [("outcomes", "label", 7, False), ("scores", "prediction", 7, False)]
    assert progress.record(mine, PROGRESS_MS - 1) is None
    assert progress.record(mine, PROGRESS_MS) is not None
    progress.forget()
    assert progress.record(mine, PROGRESS_MS) is not None
    assert progress.record([], 5 * PROGRESS_MS) is None
    # The host's clock was set back: it goes on at once, and not when the clock is where it was.
    assert progress.record(mine, -3_600_000) is not None
    assert progress.record(mine, -3_600_000 + PROGRESS_MS - 1) is None


def test_an_end_that_was_seen_between_two_records_is_dated_then() -> None:
    progress, mine = PanesProgress(FORMS, 3_400), states()
    for now in (0, 500, 1_500, 2_500):
        # At the first flush nothing has been read to its end yet.
        for state in mine if now else ():
            state.end.reached()
        progress.record(mine, now)
    # At its end since 500; dated at the record of 1 500 it would not be idle yet.
    assert {idle for *_, idle in told(progress.record(mine, 4_000))} == {True}


@pytest.mark.parametrize("jump", [3_600_000, -3_600_000])
def test_a_host_whose_clock_is_set_makes_no_partition_idle_and_keeps_none_awake(jump: int) -> None:
    progress, mine = PanesProgress(FORMS, 30_000), states()

    def second(now: int) -> set[bool]:
        for state in mine:
            state.end.reached()
        return {idle for *_, idle in told(progress.record(mine, now))}

    for now in range(0, 5_000, 1_000):
        assert second(now) == {False}
    # Set forward, a step counts for ten seconds at most; set back, for none.
    passed = 4_000 + (10_000 if jump > 0 else 0)
    for now in range(0, 30_000 - passed, 1_000):
        assert second(jump + now) == {False}
    assert second(jump + 30_000 - passed) == {True}


def test_the_join_is_told_only_news_and_seldom() -> None:
    marks, mine = JoinMarks(MODELS, FORMS, 30_000), states()
    assert marks.record(mine, 0) is not None
    assert marks.record(mine, MARK_MS) is None
    mine[0].next_offset = 8
    assert marks.record(mine, MARK_MS - 1) is None
    assert marks.record(mine, MARK_MS) is not None
