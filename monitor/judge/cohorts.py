"""Labels by cohort: predictions of one pane are judged at one age, so that early and late labels count alike."""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from stationkeeper.contracts.wire import SCORE_BINS, ArmDelta
from stationkeeper.monitor.core.performance import OutcomePane
from stationkeeper.monitor.core.reference import Counts
from stationkeeper.monitor.judge.pending import Closed
from stationkeeper.monitor.settings import ModelSettings

# A day of one-minute panes for charts; judging does not read them. Half would cut charts to twelve hours; twice would
# double memory and state of each version and segment.
KEPT = 1_440

# Panes whose cohorts are stored together, chosen: a closed pane rewrites the slots it touched whole, so twice writes
# twice the bytes a pane; half doubles the number of state records.
SLOT_PANES = 8

# Four cells of the confusion matrix, then negatives and positives by score bin.
_WIDTH = 4 + 2 * SCORE_BINS
_Who = tuple[str, str]


class Cohorts:
    """One model's predictions on their way to maturity, and the latest ``KEPT`` mature panes for charts.

    A cohort is mature ``label_maturity`` after its pane, by the clock up to which labels are in; what is known by then
    is judged, what comes later changes charts only. ``judged`` is the start of the last that was. ``due`` counts
    predictions that reached that age, ``arrived`` those of them with a label.

    Stored are a small head and slots of ``SLOT_PANES`` panes each; a closed pane changes few slots.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._age, self._pane = settings.label_maturity, settings.pane
        self._horizon = max(settings.label_horizon, settings.label_maturity)
        self._changed: set[int] = set()
        self._stored: set[int] = set()
        self._growing: dict[int, dict[_Who, Counts]] = {}
        self._rows: dict[int, int] = {}
        self.mature: dict[_Who, deque[tuple[int, Counts]]] = {}
        self.scores: dict[_Who, deque[tuple[int, Counts]]] = {}
        self.counted: deque[tuple[int, int]] = deque(maxlen=KEPT)
        self.judged: int | None = None

    def matures(self, labelled: int) -> bool:
        """Return whether a cohort waits that is mature once labels are in up to the end of the pane ``labelled``."""
        return min((*self._growing, *self._rows), default=labelled + 1) <= labelled - self._age

    def close(self, closed: Closed, labelled: int) -> Iterator[tuple[str, str, OutcomePane]]:
        """Take a closed pane; yields (version, segment, labels) of the cohorts that are mature, oldest first.

        ``labelled`` is the start of the last pane in which every label is known.
        """
        for arm in closed.arms:
            self._predicted(arm)
        for one in closed.outcomes:
            if self.judged is not None and one.start <= self.judged:
                continue
            mine = self._growing.setdefault(one.start, {}).setdefault(
                (one.version, one.segment), np.zeros(_WIDTH, np.int64)
            )
            self._changed.add(self._slot(one.start))
            mine[:4] += np.frombuffer(one.confusion, "<i8")
            mine[4:] += np.frombuffer(one.scored, "<i8")
        cohort = labelled - self._age
        self.judged = cohort if self.judged is None else max(self.judged, cohort)
        for start in sorted(start for start in {*self._growing, *self._rows} if start <= cohort):
            found = self._growing.pop(start, {})
            self._changed |= {self._slot(start)} if found else set()
            arrived = sum(int(counts[:4].sum()) for (_, segment), counts in found.items() if not segment)
            self.counted.append((self._rows.pop(start, arrived), arrived))
            for who, counts in sorted(found.items()):
                self.mature.setdefault(who, deque(maxlen=KEPT)).append((start, counts[:4].copy()))
                at = start + self._age
                yield *who, OutcomePane(at, at + self._pane, counts[4:].reshape(-1, 2), counts[:4])

    def _predicted(self, arm: ArmDelta) -> None:
        if not arm.segment:
            self._rows[arm.start] = self._rows.get(arm.start, 0) + arm.rows
        self._changed.add(self._slot(arm.start))
        scores = np.frombuffer(arm.scores, "<i8").astype(np.int64)
        self.scores.setdefault((arm.version, arm.segment), deque(maxlen=KEPT)).append((arm.start, scores))

    def confusion(self, version: str, segment: str, since: int) -> Counts:
        """Return int64[4] of the mature cohorts whose pane starts at ``since`` or later."""
        found = [counts for start, counts in self.mature.get((version, segment), ()) if start >= since]
        return np.sum(found, axis=0) if found else np.zeros(4, np.int64)

    def scored(self, version: str, segment: str, since: int) -> Counts:
        """Return the predictions by shared score bin, int64[32], of panes that start at ``since`` or later."""
        found = [counts for start, counts in self.scores.get((version, segment), ()) if start >= since]
        return np.sum(found, axis=0) if found else np.zeros(SCORE_BINS, np.int64)

    def completeness(self) -> tuple[int, int]:
        """Return how many of the latest predictions were due and how many of them have a label."""
        return sum(due for due, _ in self.counted), sum(arrived for _, arrived in self.counted)

    def forget(self, watched: Collection[str], now: int) -> None:
        """Let go of versions that nobody watches and whose last label has come or is too late at ``now`` (ms)."""
        rings = [(who, ring) for kept in (self.mature, self.scores) for who, ring in kept.items()]
        young = {who[0] for who, ring in rings if ring and ring[-1][0] >= now - self._horizon}
        for who, ring in rings:
            if who[0] not in watched and who[0] not in young:
                self._changed |= {self._slot(start) for start, _ in ring}
                self.mature.pop(who, None)
                self.scores.pop(who, None)

    def _slot(self, start: int) -> int:
        return start // (SLOT_PANES * self._pane)

    def state(self) -> dict[str, Any]:
        """Return the head of what ``restore`` needs, without the slots."""
        return {"rows": list(self._rows.items()), "counted": list(self.counted)}

    def changed(self) -> Iterator[tuple[int, Any]]:
        """Yield (number, value) of the slots that are not stored as they are now; None for one that has emptied."""
        first = min(self._changed, default=0) * SLOT_PANES * self._pane
        found: dict[int, dict[str, list[Any]]] = {}
        for start, whose in self._growing.items():
            if self._slot(start) in self._changed:
                for who, counts in whose.items():
                    mine = found.setdefault(self._slot(start), {"growing": [], "mature": [], "scores": []})
                    mine["growing"].append([start, *who, counts])
        for kind, rings in (("mature", self.mature), ("scores", self.scores)) if self._changed else ():
            for who, ring in rings.items():
                for slot, rows in self._cut(ring, first).items():
                    mine = found.setdefault(slot, {"growing": [], "mature": [], "scores": []})
                    mine[kind].append([*who, *(np.array(column) for column in zip(*rows, strict=True))])
        for slot in sorted(self._changed & found.keys()):
            self._stored.add(slot)
            yield slot, found[slot]
        ends = (ring[0][0] for kept in (self.mature, self.scores) for ring in kept.values() if ring)
        oldest = min((*ends, *self._growing), default=None)
        emptied = self._changed - found.keys()
        for slot in sorted(s for s in self._stored if s in emptied or oldest is None or s < self._slot(oldest)):
            self._stored.discard(slot)
            yield slot, None
        self._changed.clear()

    def _cut(self, ring: deque[tuple[int, Counts]], first: int) -> dict[int, list[tuple[int, Counts]]]:
        """Rows of changed slots by slot, oldest first; none of them starts before ``first``."""
        found: dict[int, list[tuple[int, Counts]]] = {}
        for start, counts in reversed(ring):
            if start < first:
                break
            if (slot := self._slot(start)) in self._changed:
                found.setdefault(slot, []).insert(0, (start, counts))
        return found

    def restore(self, state: Mapping[str, Any], slots: Mapping[int, Mapping[str, Any]]) -> None:
        """Become what both were taken from; an older ``state`` holds everything, which then is stored in slots."""
        self._growing, self._changed, self._stored = {}, set(), set(slots)
        self.mature.clear()
        self.scores.clear()
        self._rows = dict(state["rows"])
        for piece in [state] if "growing" in state else [slots[number] for number in sorted(slots)]:
            for start, version, segment, counts in piece["growing"]:
                self._growing.setdefault(start, {})[version, segment] = np.array(counts, np.int64)
            for name, target in (("mature", self.mature), ("scores", self.scores)):
                for version, segment, starts, counts in piece[name]:
                    pairs = zip(starts.tolist(), counts, strict=True)
                    # A ring that is full lets the oldest go, as it did before it was stored.
                    ring = target.setdefault((version, segment), deque(maxlen=KEPT))
                    ring.extend((start, row.astype(np.int64)) for start, row in pairs)
        if "growing" in state:
            starts = {start for kept in (self.mature, self.scores) for ring in kept.values() for start, _ in ring}
            self._changed = {self._slot(start) for start in starts | self._growing.keys()}
        self.counted = deque(((due, arrived) for due, arrived in state["counted"]), maxlen=KEPT)
