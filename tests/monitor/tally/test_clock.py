"""The partition's clock and the model's watermark."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.wire import Progress
from stationkeeper.monitor.judge import Progresses
from stationkeeper.monitor.tally.clock import PartitionClock


def plainly(times: list[int], lateness: int) -> list[bool]:
    """The definition, one event at a time."""
    highest: int | None = None
    out = []
    for time in times:
        out.append(highest is not None and time < highest - lateness)
        highest = time if highest is None else max(highest, time)
    return out


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(0, 20), st.integers(1, 10))
def test_late_is_the_definition_in_any_batches(times: list[int], lateness: int, size: int) -> None:
    clock, found = PartitionClock(), []
    for first in range(0, len(times), size):
        late, at = clock.advance(np.array(times[first : first + size], np.int64), lateness)
        found += late.tolist()
        assert at.tolist() == [max(times[: first + i + 1]) for i in range(len(late))]
    assert found == plainly(times, lateness)


def progress(partition: int, clock: int, *, idle: bool = False, offset: int = 1) -> Progress:
    return Progress("scores", partition, "prediction", offset, clock, idle)


INPUTS = {("scores", "prediction")}


def test_the_watermark_is_the_slowest_partition_that_is_awake() -> None:
    progresses = Progresses()
    assert progresses.watermark(INPUTS, 10) is None
    progresses.put(progress(0, 1_000))
    progresses.put(progress(1, 400))
    assert progresses.watermark(INPUTS, 10) == 390
    progresses.put(progress(1, 400, idle=True, offset=2))
    assert progresses.watermark(INPUTS, 10) == 990
    progresses.put(progress(0, 1_000, idle=True, offset=2))
    assert progresses.watermark(INPUTS, 10) == 990


def test_a_partition_that_has_not_spoken_holds_it_back() -> None:
    progresses = Progresses({"scores": 2})
    progresses.put(progress(0, 1_000))
    assert progresses.watermark(INPUTS, 0) is None
    progresses.put(progress(1, 900))
    assert progresses.watermark(INPUTS, 0) == 900


def test_an_older_record_of_a_partition_changes_nothing() -> None:
    progresses = Progresses()
    progresses.put(progress(0, 1_000, offset=5))
    progresses.put(progress(0, 2_000, offset=4))
    assert progresses.watermark(INPUTS, 0) == 1_000
    again = Progresses()
    again.restore(progresses.state())
    assert again.watermark(INPUTS, 0) == 1_000
