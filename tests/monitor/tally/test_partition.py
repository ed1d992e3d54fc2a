"""A partition's state: the ids of the last offsets come back from its records, whatever horizon wrote them."""

import re
from itertools import pairwise

import numpy as np
import pytest

from stationkeeper.events.ids import mix
from stationkeeper.monitor.tally.dedupe import CHUNK, Integers
from stationkeeper.monitor.tally.partition import PartitionState
from stationkeeper.streams.ports import Partition

SCORES = Partition("scores", 0)
STEP = 5_000
Store = dict[bytes, bytes | None]


def ids(offsets: Integers) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return mix(offsets.astype(np.uint64))


def run(store: Store, horizon: int, first: int, end: int) -> PartitionState:
    """Start from a store, see each offset's own id up to ``end``, and leave what the state topic then holds."""
    state = PartitionState(SCORES, horizon)
    state.restore(store)
    for at in range(first, end, STEP):
        offsets = np.arange(at, min(at + STEP, end), dtype=np.int64)
        assert not state.seen.mark(ids(offsets), offsets).any()
        state.ids.remember(ids(offsets), offsets, np.zeros(len(offsets), np.uint16))
        state.next_offset = int(offsets[-1]) + 1
        store |= dict(state.records())
    return state


def forgotten(store: Store, horizon: int, end: int) -> int:
    """How many of the ids of the last ``horizon`` offsets a restart does not know."""
    state = PartitionState(SCORES, horizon)
    state.restore({key: value for key, value in store.items() if value is not None})
    repeated = np.arange(end - horizon, end, dtype=np.int64)
    return int(np.count_nonzero(~state.seen.mark(ids(repeated), np.full(horizon, end, np.int64))))


def without_ring(store: Store) -> Store:
    """The same state as the build before wrote it: one ring of keys, whatever its size."""
    return {re.sub(rb"/ids/\d+/", b"/ids/", key): value for key, value in store.items() if value is not None}


@pytest.mark.parametrize(
    "horizons", [(100_000, 90_000), (60_000, 100_000), (100_000, 60_000, 100_000), (90_000, 90_000)]
)
@pytest.mark.parametrize("old", [False, True], ids=["", "state of the build before"])
def test_a_changed_horizon_loses_no_id_that_both_remember(horizons: tuple[int, ...], *, old: bool) -> None:
    store: Store = {}
    run(store, horizons[0], 0, 200_000)
    store = without_ring(store) if old else store
    end = 200_000
    for before, after in pairwise(horizons):
        for turns in (3_000, 5_000, 20_000):  # a chunk begun under one horizon and filled under the next, by restarts
            run(store, after, end, end + turns)
            end += turns
            assert forgotten(store, min(before, after), end) == 0
    run(store, horizons[-1], end, end + 300_000)
    assert forgotten(store, horizons[-1], end + 300_000) == 0
    ring = horizons[-1] // CHUNK + 2
    left = [key for key, value in store.items() if value is not None and b"/ids/" in key]
    assert all(key.startswith(f"scores/0/ids/{ring}/".encode()) for key in left)
    assert len(left) == ring
