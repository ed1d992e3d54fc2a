"""A join that is fed value by value, flushed and restarted where a test says so."""

from collections.abc import Callable

import numpy as np

from stationkeeper.contracts.status import check
from stationkeeper.monitor.join.stage import Join
from stationkeeper.streams.ports import Batch, Outgoing, Partition
from tests.monitor.rig import TOPICS

PARTITION = Partition(TOPICS.joins.name, 0)


def feed(join: Join, values: list[bytes], first: int) -> None:
    """Have the join absorb the values that stand from offset ``first`` on."""
    at = np.arange(first, first + len(values), dtype=np.int64)
    join.absorb(Batch(PARTITION, at, at, (None,) * len(values), tuple(values), first + len(values)))


def through(
    make: Callable[[dict[bytes, bytes]], Join], values: list[bytes], flushes: set[int], restarts: set[int]
) -> list[Outgoing]:
    """Return all that is written when a join is flushed after some values, and lost and made anew after others."""
    join, out, state = make({}), list[Outgoing](), dict[bytes, bytes]()
    for at, value in enumerate(values):
        feed(join, [value], at)
        if at in flushes | restarts:
            out += join.flush(at)
            join.committed()
            state |= {o.key: o.value for o in out if o.topic == TOPICS.join_state.name and o.key and o.value}
        if at in restarts:
            join = make(state)
            first = join.start_offsets(frozenset({PARTITION})).get(PARTITION, 0)
            feed(join, values[first : at + 1], first)
    out += join.flush(99)
    join.committed()
    check(join.status())
    return out
