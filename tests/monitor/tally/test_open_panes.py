"""Open panes: whatever is added, in whichever form and order, the deltas sum to it."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.wire import MOST_STEPS, PaneDelta
from stationkeeper.monitor.tally.open_panes import MERGE_FROM, OpenPanes, PaneOwner

OWNER = PaneOwner("fraud", "3", "abc", "prediction")
MINUTE = 60_000


def total(deltas: list[PaneDelta]) -> dict[tuple[int, str], tuple[int, list[int]]]:
    """Return rows and counts by start and segment."""
    found: dict[tuple[int, str], tuple[int, Any]] = {}
    for delta in deltas:
        rows, counts = found.setdefault((delta.start, delta.segment), (delta.rows, np.zeros(delta.width, np.int64)))
        assert rows == delta.rows
        part = delta.vector()
        counts[delta.first : delta.first + len(part)] += part
    return {key: (rows, counts.tolist()) for key, (rows, counts) in found.items()}


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([5, 50, MERGE_FROM]))
def test_vectors_and_positions_add_up(seed: int, panes: int, merge_from: int) -> None:
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 30))
    names = [(int(rng.integers(0, 3)) * MINUTE, f"country={i}") for i in range(panes)]
    held = OpenPanes(OWNER, width, merge_from)
    expected = {name: (0, [0] * width) for name in names}
    for _ in range(6):
        some = [names[i] for i in rng.permutation(panes)[: rng.integers(1, panes + 1)]]
        slots, rows = held.slots(some), rng.integers(1, 5, len(some))
        held.add_rows(slots, rows)
        counts = rng.integers(0, 3, (len(some), width))
        if rng.random() < 0.3:
            for slot, mine in zip(slots.tolist(), counts, strict=True):
                held.vector(slot)[:] += mine
        else:
            flat = (slots[:, None] * width + np.arange(width)).reshape(-1)
            held.add(rng.permutation(np.repeat(flat, counts.reshape(-1))))
        for at, name in enumerate(some):
            old = expected[name]
            expected[name] = (old[0] + int(rows[at]), (np.array(old[1]) + counts[at]).tolist())
    found = total(list(held.deltas(MINUTE)))
    assert found == {name: one for name, one in expected.items() if one[0]}


def test_a_wide_pane_goes_in_blocks_whose_rows_repeat() -> None:
    width = 2 * MOST_STEPS + 3
    held = OpenPanes(OWNER, width)
    slots = held.slots([(0, ""), (MINUTE, "")])
    held.add_rows(slots, np.array([7, 8]))
    held.vector(0)[[0, MOST_STEPS, width - 1]] += [1, 300, 2]
    held.add(width + np.array([MOST_STEPS + 1, 4]))
    deltas = list(held.deltas(MINUTE))
    assert [(d.start, d.first, d.size, d.rows) for d in deltas] == [
        (start, first, size, rows)
        for start, rows in ((0, 7), (MINUTE, 8))
        for first, size in ((0, MOST_STEPS), (MOST_STEPS, MOST_STEPS), (2 * MOST_STEPS, 3))
    ]
    counts = total(deltas)
    assert [(at, n) for at, n in enumerate(counts[0, ""][1]) if n] == [(0, 1), (MOST_STEPS, 300), (width - 1, 2)]
    assert [at for at, n in enumerate(counts[MINUTE, ""][1]) if n] == [4, MOST_STEPS + 1]


def test_panes_without_a_reference_count_rows_alone() -> None:
    held = OpenPanes(PaneOwner("fraud", "3", "", "prediction"), 0)
    held.add_rows(held.slots([(0, "")]), np.array([4]))
    [delta] = held.deltas(MINUTE)
    assert (delta.rows, delta.width, delta.vector().tolist()) == (4, 0, [])
