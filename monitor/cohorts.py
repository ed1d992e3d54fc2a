"""Labels by cohort: predictions of one pane are judged at one age, so that early and late labels count alike."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from contracts.wire import SCORE_BINS, ArmDelta
from monitor.core.cells import Counts
from monitor.core.performance import OutcomePane
from monitor.pending import Closed
from monitor.settings import ModelSettings

KEPT = 1_440
_WIDTH = 4 + 2 * SCORE_BINS
_Who = tuple[str, str]


class Cohorts:
    """One model's predictions on their way to maturity, and the latest ``KEPT`` mature panes for charts.

    A cohort is mature ``label_maturity`` after its pane; what is known by then is judged, what comes later changes
    charts only. ``due`` counts predictions that reached that age, ``arrived`` those of them with a label.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._age, self._pane = settings.label_maturity, settings.pane
        self._growing: dict[int, dict[_Who, Counts]] = {}
        self._rows: dict[int, int] = {}
        self.mature: dict[_Who, deque[tuple[int, Counts]]] = {}
        self.scores: dict[_Who, deque[tuple[int, Counts]]] = {}
        self.counted: deque[tuple[int, int]] = deque(maxlen=KEPT)

    def close(self, closed: Closed) -> Iterator[tuple[str, str, OutcomePane]]:
        """Take a closed pane; yields (version, segment, labels) of the cohort that it makes mature."""
        for arm in closed.arms:
            self._predicted(arm)
        cohort = closed.start - self._age
        for one in closed.outcomes:
            if one.start <= cohort - self._pane:
                continue
            mine = self._growing.setdefault(one.start, {}).setdefault(
                (one.version, one.segment), np.zeros(_WIDTH, np.int64)
            )
            mine[:4] += np.frombuffer(one.confusion, "<i8")
            mine[4:] += np.frombuffer(one.scored, "<i8")
        for start in sorted(start for start in {*self._growing, *self._rows} if start <= cohort):
            found = self._growing.pop(start, {})
            arrived = sum(int(counts[:4].sum()) for (_, segment), counts in found.items() if not segment)
            self.counted.append((self._rows.pop(start, arrived), arrived))
            for who, counts in sorted(found.items()):
                self.mature.setdefault(who, deque(maxlen=KEPT)).append((start, counts[:4].copy()))
                end = closed.start + self._pane
                yield *who, OutcomePane(closed.start, end, counts[4:].reshape(-1, 2), counts[:4])

    def _predicted(self, arm: ArmDelta) -> None:
        if not arm.segment:
            self._rows[arm.start] = self._rows.get(arm.start, 0) + arm.rows
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

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs."""

        def rings(found: Mapping[_Who, deque[tuple[int, Counts]]]) -> list[Any]:
            return [
                [*who, np.array([start for start, _ in ring]), np.array([counts for _, counts in ring])]
                for who, ring in found.items()
            ]

        growing = [[start, *who, counts] for start, found in self._growing.items() for who, counts in found.items()]
        return {
            "growing": growing,
            "rows": list(self._rows.items()),
            "mature": rings(self.mature),
            "scores": rings(self.scores),
            "counted": list(self.counted),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what ``state`` was taken from."""
        self._growing = {}
        for start, version, segment, counts in state["growing"]:
            self._growing.setdefault(start, {})[version, segment] = np.array(counts, np.int64)
        self._rows = dict(state["rows"])
        for name, target in (("mature", self.mature), ("scores", self.scores)):
            target.clear()
            for version, segment, starts, counts in state[name]:
                pairs = zip(starts.tolist(), counts, strict=True)
                target[version, segment] = deque(((start, row.copy()) for start, row in pairs), maxlen=KEPT)
        self.counted = deque(((due, arrived) for due, arrived in state["counted"]), maxlen=KEPT)
