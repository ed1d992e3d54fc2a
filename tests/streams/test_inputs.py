"""Which partitions are read to their end: told with an empty batch, at most once a second, and only by an answer."""

from typing import Any, cast
from unittest.mock import Mock

import pytest

from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.inputs import Inputs, LogEnds
from stationkeeper.streams.offsets import Positions
from stationkeeper.streams.ports import Partition, Source
from stationkeeper.streams.vitals import Vitals

FIRST, SECOND = Partition("scores", 0), Partition("scores", 1)


def ends(bounds: dict[Partition, tuple[int, int]] | Retryable) -> tuple[LogEnds, Any]:
    source = Mock(spec=Source)
    source.bounds.side_effect = bounds if isinstance(bounds, Retryable) else None
    source.bounds.return_value = bounds
    inputs = Mock(spec=Inputs, waiting=[])
    inputs.measured.return_value = {}
    return LogEnds(cast("Source", source), inputs, Vitals("tally")), inputs


def read(**at: int) -> Positions:
    positions = Positions()
    for partition, offset in zip((FIRST, SECOND), at.values(), strict=False):
        positions.begin(partition, offset, committed=True)
    return positions


def test_a_partition_at_its_end_is_told_and_one_behind_is_not() -> None:
    made, inputs = ends({FIRST: (0, 5), SECOND: (0, 9)})
    (batch,) = made.reached(read(first=5, second=8))
    assert (batch.partition, len(batch), batch.next_offset) == (FIRST, 0, 5)
    inputs.measured.assert_called_once_with({FIRST: 5, SECOND: 9})
    # Asked again within the second it does not ask the broker.
    assert made.reached(read(first=5, second=9)) == []
    inputs.measured.assert_called_once()


def test_without_an_answer_what_was_read_is_kept_and_an_idle_loop_begins_anew() -> None:
    positions = read(first=5)
    positions.read(FIRST, 6)
    assert ends(Retryable("away"))[0].reached(positions) == []
    positions.settled()
    with pytest.raises(Retryable):
        ends(Retryable("away"))[0].reached(positions)


def test_before_anything_is_read_nobody_is_asked() -> None:
    made, inputs = ends({})
    assert made.reached(Positions()) == []
    inputs.measured.assert_not_called()
