"""The latest panes of labels and scores for charts: what people look at, and no decision reads."""

from collections import deque
from collections.abc import Collection, Mapping
from typing import Final

import numpy as np

from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor.core.panes import RecentSums
from stationkeeper.monitor.core.performance import LabelSelection, actions_without_labels, label_selection
from stationkeeper.monitor.core.reference import (
    AssignedRows,
    Counts,
    OutcomeSums,
    counts_alone,
    labelled_by_action,
    predicted_by_action,
)
from stationkeeper.monitor.judge.labels.slots import CohortSlot, Rings, Who
from stationkeeper.monitor.settings import DAY_MS, HOUR_MS

# A day of one-minute panes for charts; judging does not read them. Half would cut charts to twelve hours; twice would
# double memory and state of each version and segment.
KEPT: Final = 1_440

ACTIONS_OVER: Final = DAY_MS
"""How long (ms) the rows of an action are looked at for whether any gets a label: a day, as a few blocked payments an
hour tell nothing. Half would miss an action of twenty rows a day; double says a day later that labels come again."""


class LabelCharts:
    """The latest ``KEPT`` panes of each version and segment, oldest first.

    ``mature`` holds the cells of the confusion matrix, int64[4], of cohorts whose labels are complete; ``scores`` the
    predictions by shared score bin, int64[32], of every pane. ``sums`` are those from which the other measures are
    read, of cohorts that are shown or still grow: they are larger, and kept no longer than the chart window.
    ``actions`` are by version, segment and what was done upon the answer, for a day at least: by the hour where cohorts
    are, and of segments, behind the chart window, as numbers of rows and labels alone.
    """

    def __init__(self) -> None:
        self.mature: dict[Who, deque[tuple[int, Counts]]] = {}
        self.scores: dict[Who, deque[tuple[int, Counts]]] = {}
        self.sums, self.actions = RecentSums(), RecentSums()
        self._said: dict[str, set[str]] = {}
        self._condensed: int | None = None

    def add_mature(self, who: Who, start: int, confusion: Counts) -> None:
        """Add the labels of a cohort that is complete."""
        self.mature.setdefault(who, deque(maxlen=KEPT)).append((start, confusion))

    def add_scores(self, who: Who, start: int, scores: Counts) -> None:
        """Add the predictions of a pane that closed."""
        self.scores.setdefault(who, deque(maxlen=KEPT)).append((start, scores))

    def confusion(self, version: str, segment: str, since: int, until: int | None = None) -> Counts:
        """Return int64[4] of the mature cohorts whose pane starts at ``since`` or later, up to ``until`` as below."""
        ring = self.mature.get((version, segment), ())
        found = [counts for start, counts in ring if start >= since and (until is None or start <= until)]
        return np.sum(found, axis=0) if found else np.zeros(4, np.int64)

    def scored(self, version: str, segment: str, since: int, until: int | None = None) -> Counts:
        """Return the predictions by shared score bin, int64[32], of panes that start at ``since`` or later.

        ``until`` is the start of the last of them, None for all.
        """
        ring = self.scores.get((version, segment), ())
        found = [counts for start, counts in ring if start >= since and (until is None or start <= until)]
        return np.sum(found, axis=0) if found else np.zeros(SCORE_BINS, np.int64)

    def add_predicted(self, who: Who, start: int, rows: int, actions: Mapping[str, bytes]) -> None:
        """Add predictions by what was done upon the answer; nothing of a version that never says it."""
        if actions or who[0] in self._said:
            self._add_actions(who, start, predicted_by_action(actions, rows))

    def add_labelled(self, who: Who, start: int, confusion: Counts, actions: Mapping[str, bytes]) -> None:
        """Add labels, a confusion int64[4], by what was done upon the answer."""
        if actions or who[0] in self._said:
            self._add_actions(who, start, labelled_by_action(actions, confusion))

    def _add_actions(self, who: Who, start: int, actions: Mapping[str, OutcomeSums]) -> None:
        self._said.setdefault(who[0], set()).update(actions)
        for action, sums in actions.items():
            self.actions.add((*who, action), start, sums)

    def shut(self, until: int, who: Who | None = None, usual: Collection[str] = ()) -> frozenset[str]:
        """Return the actions whose rows got no label in the day up to the pane that starts at ``until``.

        Of all traffic, which is ``usual`` where a version and segment has too few rows for chance to spare it.
        """
        day = self._assigned(who, until - ACTIONS_OVER, until)
        return frozenset(one.action for one in actions_without_labels(day, usual))

    def selection(self, who: Who | None, since: int, until: int, shut: Collection[str]) -> LabelSelection | None:
        """Return whose labels never come, of panes that start from ``since`` to ``until``; None of all versions.

        They are the actions ``shut`` and those that these panes alone show to be.
        """
        found = self._assigned(who, since, until)
        return label_selection(found, {*shut, *(one.action for one in actions_without_labels(found))})

    def drop(self, judged: int, window: int, pane: int) -> set[int]:
        """Let go of sums that are shown no more, where cohorts are judged up to the pane that starts at ``judged``.

        Returns the starts of panes of which less is kept.
        """
        self.sums.drop(judged - window - pane)
        self.actions.drop(judged - max(window, ACTIONS_OVER) - HOUR_MS)
        edge = (judged - window) // HOUR_MS * HOUR_MS - HOUR_MS
        if edge == self._condensed:
            return set()
        self._condensed = edge
        # Whole, a day of 200 segments would take half a gigabyte; whether an action gets labels two numbers tell.
        return self.actions.condense(edge, HOUR_MS, lambda who: bool(who[1]), counts_alone, 2)

    def _assigned(self, who: Who | None, since: int, until: int) -> dict[str, AssignedRows]:
        found: dict[str, OutcomeSums] = {}
        for version, segment in [(version, "") for version in sorted(self._said)] if who is None else [who]:
            for action in sorted(self._said.get(version, ())):
                mine = self.actions.total((version, segment, action), since, until)
                found[action] = found[action] + mine if action in found else mine
        return {action: AssignedRows.of(sums) for action, sums in found.items() if len(sums.at)}

    @property
    def rings(self) -> tuple[Rings, Rings]:
        """The mature ones and those of scores, to be stored."""
        return self.mature, self.scores

    def oldest(self) -> int | None:
        """Return the start of the first pane that a chart or a measure shows."""
        rings = (ring[0][0] for kept in self.rings for ring in kept.values() if ring)
        sums = (one for one in (self.sums.oldest(), self.actions.oldest()) if one is not None)
        return min((*rings, *sums), default=None)

    def forget(self, watched: Collection[str], since: int) -> list[int]:
        """Let go of versions outside ``watched`` without a pane from ``since`` (ms) on; returns the panes' starts."""
        rings = [(who, ring) for kept in self.rings for who, ring in kept.items()]
        young = {who[0] for who, ring in rings if ring and ring[-1][0] >= since}
        gone = [(who, ring) for who, ring in rings if who[0] not in watched and who[0] not in young]
        left = {who for who, _ in gone}
        starts = [start for _, ring in gone for start, _ in ring]
        for kept in (self.sums, self.actions) if left else ():
            # Slots that nothing else touches have them, too: read back they would bring the version again.
            starts += [start for start, whose, _ in kept.items() if whose[:2] in left]
            kept.forget([whose for whose in kept.whose() if whose[:2] in left])
        for version in {version for version, _ in left}:
            self._said.pop(version, None)
        for who in left:
            self.mature.pop(who, None)
            self.scores.pop(who, None)
        return starts

    def load(self, piece: CohortSlot) -> None:
        """Take in what a slot holds; slots come in order, so that a full ring drops what it had dropped before."""
        for kept, add in ((piece.mature, self.add_mature), (piece.scores, self.add_scores)):
            for version, segment, starts, counts in kept:
                for start, row in zip(starts.tolist(), counts, strict=True):
                    add((version, segment), start, row.astype(np.int64))
        for start, version, segment, data in piece.sums:
            self.sums.add((version, segment), start, OutcomeSums.unpack(data))
        for start, version, segment, action, data in piece.actions:
            self._add_actions((version, segment), start, {action: OutcomeSums.unpack(data)})
