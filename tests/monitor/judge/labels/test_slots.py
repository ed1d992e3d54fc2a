"""Slots of cohorts: what changed is written, what is empty or old goes, and nothing is written twice."""

import numpy as np

from stationkeeper.monitor.judge.labels.slots import SLOT_PANES, CohortSlots

ONE = np.array([1])
SLOT = 10 * SLOT_PANES


def test_only_slots_that_were_touched_are_written() -> None:
    slots = CohortSlots(10)
    growing = [(0, "1", "", ONE), (SLOT, "1", "", ONE)]
    ring = {("1", ""): [(0, ONE), (SLOT - 10, ONE), (SLOT, ONE)]}
    slots.touch(SLOT + 10)
    ((number, slot),) = slots.changed(growing, [(0, 5), (SLOT, 6)], (ring, {}), [], 0)
    assert slot is not None
    assert (number, slot.slot, slot.rows, len(slot.growing)) == (1, 1, [(SLOT, 6)], 1)
    ((version, segment, starts, counts),) = slot.mature
    assert (version, segment, starts.tolist(), counts.tolist()) == ("1", "", [SLOT], [[1]])
    assert list(slots.changed(growing, [], (ring, {}), [], 0)) == []


def test_a_stored_slot_goes_when_it_has_emptied_or_is_older_than_all_that_is_kept() -> None:
    slots = CohortSlots(10, stored=(0, 1, 2))
    slots.touch(SLOT)
    assert list(slots.changed([], [], ({}, {}), [], 2 * SLOT)) == [(0, None), (1, None)]
    assert list(slots.changed([], [], ({}, {}), [], None)) == [(2, None)]


def test_an_empty_slot_that_was_never_stored_is_not_taken_back() -> None:
    slots = CohortSlots(10)
    slots.touch(0)
    assert list(slots.changed([], [], ({}, {}), [], None)) == []
