"""How cohorts are stored: in slots of a few panes each, so that a closed pane rewrites little of many days."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.reference import Counts, OutcomeSums

# Panes whose cohorts are stored together, chosen: a closed pane rewrites the slots it touched whole, so twice writes
# twice the bytes a pane; half doubles the number of state records.
SLOT_PANES: Final = 8

Who = tuple[str, str]
"""Version and segment."""

Rings = Mapping[Who, Sequence[tuple[int, Counts]]]
"""By version and segment: starts of panes, oldest first, each with its counts."""


class CohortSlot(State, frozen=True):
    """What is kept of ``SLOT_PANES`` panes: cohorts that grow, their predictions, and the rings for charts.

    A ring's row is version, segment, starts int64[n] and counts int64[n, width]. ``rows`` came with the learned delays
    of labels, ``sums`` (start, version, segment, packed) with the measures that are read from them, ``actions`` (start,
    version, segment, action, packed) with selective labels; older slots lack these.
    """

    slot: int
    growing: list[tuple[int, str, str, Any]] = []
    rows: list[tuple[int, int]] = []
    mature: list[tuple[str, str, Any, Any]] = []
    scores: list[tuple[str, str, Any, Any]] = []
    sums: list[tuple[int, str, str, bytes]] = []
    actions: list[tuple[int, str, str, str, bytes]] = []


class CohortSlots:
    """Which slots are stored, and which differ from what is; ``pane`` is its length in ms."""

    def __init__(self, pane: int, stored: Iterable[int] = ()) -> None:
        self._length = SLOT_PANES * pane
        self._stored = set(stored)
        self._touched: set[int] = set()

    def touch(self, start: int) -> None:
        """Note that what is kept of the pane at ``start`` changed."""
        self._touched.add(start // self._length)

    def changed(
        self,
        growing: Iterable[tuple[int, str, str, Counts]],
        rows: Iterable[tuple[int, int]],
        rings: tuple[Rings, Rings],
        sums: Iterable[tuple[int, tuple[str, ...], OutcomeSums]],
        oldest: int | None,
        actions: Iterable[tuple[int, tuple[str, ...], OutcomeSums]] = (),
    ) -> Iterator[tuple[int, CohortSlot | None]]:
        """Yield (number, slot) of those that changed since the last call; None for one that has emptied.

        ``rings`` are the mature ones and those of scores; ``oldest`` is the start of the first pane that is kept.
        """
        found: dict[int, CohortSlot] = {}
        for cohort in growing:
            if (slot := self._of(found, cohort[0])) is not None:
                slot.growing.append(cohort)
        for predicted in rows:
            if (slot := self._of(found, predicted[0])) is not None:
                slot.rows.append(predicted)
        self._keep(found, "sums", sums)
        self._keep(found, "actions", actions)
        for kind, kept in zip(("mature", "scores"), rings, strict=True) if self._touched else ():
            for who, ring in kept.items():
                for number, cut in self._cut(ring).items():
                    starts, counts = (np.array(column) for column in zip(*cut, strict=True))
                    getattr(found.setdefault(number, CohortSlot(slot=number)), kind).append((*who, starts, counts))
        for number in sorted(found):
            self._stored.add(number)
            yield number, found[number]
        # A full ring lets its oldest row go without touching the slot: that goes when all it held is older than
        # anything kept. What a slot still holds too much meanwhile, a full ring drops again when it is read.
        gone = {number for number in self._stored if oldest is None or number < oldest // self._length}
        for number in sorted(gone | (self._stored & self._touched - found.keys())):
            self._stored.discard(number)
            yield number, None
        self._touched.clear()

    def _keep(
        self, found: dict[int, CohortSlot], name: str, summed: Iterable[tuple[int, tuple[str, ...], OutcomeSums]]
    ) -> None:
        for start, whose, one in summed:
            if (slot := self._of(found, start)) is not None:
                getattr(slot, name).append((start, *whose, one.pack()))

    def _of(self, found: dict[int, CohortSlot], start: int) -> CohortSlot | None:
        """The slot of the pane at ``start``, None where it did not change."""
        number = start // self._length
        return found.setdefault(number, CohortSlot(slot=number)) if number in self._touched else None

    def _cut(self, ring: Sequence[tuple[int, Counts]]) -> dict[int, list[tuple[int, Counts]]]:
        """Rows of slots that changed by slot, oldest first."""
        found: dict[int, list[tuple[int, Counts]]] = {}
        first = min(self._touched) * self._length
        # From the newest back, because a pane touches the last slots of rings that hold a day.
        for start, counts in reversed(ring):
            if start < first:
                break
            if (number := start // self._length) in self._touched:
                found.setdefault(number, []).insert(0, (start, counts))
        return found
