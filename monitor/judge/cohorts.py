"""Labels by cohort: predictions of one pane are judged at one age, so that early and late labels count alike."""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import astuple
from typing import Any, Literal, Protocol

import numpy as np

from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.wire import SCORE_BINS, ArmDelta
from stationkeeper.monitor.core.finding import Finding
from stationkeeper.monitor.core.performance import (
    LabelDelays,
    LabelDelaysState,
    LateGate,
    Maturity,
    OutcomePane,
    late_labels,
)
from stationkeeper.monitor.core.reference import Counts
from stationkeeper.monitor.judge.pending import Closed
from stationkeeper.monitor.settings import DAY_MS, HOUR_MS

# A day of one-minute panes for charts; judging does not read them. Half would cut charts to twelve hours; twice would
# double memory and state of each version and segment.
KEPT = 1_440

# Panes whose cohorts are stored together, chosen: a closed pane rewrites the slots it touched whole, so twice writes
# twice the bytes a pane; half doubles the number of state records.
SLOT_PANES = 8

# Four cells of the confusion matrix, then negatives and positives by score bin.
_WIDTH = 4 + 2 * SCORE_BINS
# What absence needs beside: predictions by score bin, and how many of them were decided positive.
_ARM = SCORE_BINS + 1
# What waits longer than a day waits by the hour: labels that come after ten days would keep 14 400 cohorts a segment,
# by the hour 1 656. At half a day cohorts of a nightly load lose their minutes; at double twice as many wait.
_FINE = DAY_MS
# How many times the age of maturity a cohort waits for labels that those before it had: then they are lost, not late,
# and it is not judged. At once, a slow hour costs its cohorts; at four, a day without labels stops all judging for as
# many days.
_PATIENCE = 2
_Who = tuple[str, str]


class CohortRules(Protocol):
    """What of a model's settings cohorts need, in ms; a backtest has them from its options."""

    @property
    def pane(self) -> int: ...  # noqa: D102 - the settings say what they are
    @property
    def label_maturity(self) -> int: ...  # noqa: D102
    @property
    def label_horizon(self) -> int: ...  # noqa: D102
    @property
    def absent_is(self) -> Literal["negative"] | None: ...  # noqa: D102


class GrowingCohorts:
    """Predictions and labels of cohorts that are not judged yet: by pane, and by the hour those older than a day.

    ``changed`` are the slots that are not stored as they are.
    """

    def __init__(self, pane: int, *, absent: bool) -> None:
        self._pane, self._width = pane, _WIDTH + _ARM if absent else _WIDTH
        self.counts: dict[int, dict[_Who, Counts]] = {}
        self.rows: dict[int, int] = {}
        self.changed: set[int] = set()
        self._coarse: int | None = None

    def slot(self, start: int) -> int:
        """Return the number of the slot in which the pane at ``start`` is stored."""
        return start // (SLOT_PANES * self._pane)

    def of(self, start: int, who: _Who) -> Counts:
        """Return the counts of a cohort to add to."""
        at = self._bucket(start)
        self.changed.add(self.slot(at))
        return self.counts.setdefault(at, {}).setdefault(who, np.zeros(self._width, np.int64))

    def predicted(self, start: int, rows: int) -> None:
        """Count predictions."""
        at = self._bucket(start)
        self.changed.add(self.slot(at))
        self.rows[at] = self.rows.get(at, 0) + rows

    def _bucket(self, start: int) -> int:
        return start if self._coarse is None or start >= self._coarse else start - start % HOUR_MS

    def coarsen(self, now: int) -> None:
        """Put the cohorts of an hour together that are older than a day."""
        edge = (now - _FINE) // HOUR_MS * HOUR_MS
        if self._pane >= HOUR_MS or (self._coarse is not None and edge <= self._coarse):
            return
        self._coarse = edge
        for start in [start for start in self.starts() if start < edge and start % HOUR_MS]:
            hour, (rows, found) = start - start % HOUR_MS, self.pop(start)
            self.predicted(hour, rows)
            for who, counts in found.items():
                self.of(hour, who)[:] += counts

    def starts(self) -> list[int]:
        """Return the starts of all cohorts, oldest first."""
        return sorted({*self.counts, *self.rows})

    def until(self, limit: int) -> tuple[int, list[int]]:
        """Return the start of the last pane whose cohort is whole and at most ``limit``, and the cohorts until then."""
        if self._coarse is not None and limit < self._coarse:
            limit = (limit + self._pane) // HOUR_MS * HOUR_MS - self._pane
        return limit, [start for start in self.starts() if start <= limit]

    def span(self, start: int) -> int:
        """Return the length (ms) of a cohort."""
        fine = self._coarse is None or start >= self._coarse
        return self._pane if fine else max(HOUR_MS, self._pane)

    def due(self, starts: Collection[int]) -> tuple[int, int]:
        """Return predictions and labels of cohorts, over all versions."""
        arrived = sum(
            int(counts[:4].sum())
            for start in starts
            for (_, segment), counts in self.counts.get(start, {}).items()
            if not segment
        )
        return sum(self.rows.get(start, 0) for start in starts), arrived

    def pop(self, start: int) -> tuple[int, dict[_Who, Counts]]:
        """Take a cohort out: its predictions, and its labels by version and segment."""
        self.changed.add(self.slot(start))
        return self.rows.pop(start, 0), self.counts.pop(start, {})

    def load(self, piece: Mapping[str, Any]) -> None:
        """Take in what a slot holds; older ones lack what absence needs."""
        for start, version, segment, counts in piece["growing"]:
            mine = self.counts.setdefault(start, {})[version, segment] = np.zeros(self._width, np.int64)
            mine[: len(counts)] = np.array(counts, np.int64)[: self._width]
        self.rows |= dict(piece.get("rows", ()))


class Cohorts:
    """One model's predictions on their way to maturity, and the latest ``KEPT`` mature panes for charts.

    A cohort is mature when its labels are complete (`LabelDelays.maturity`), at least ``label_maturity`` after its pane
    by the clock up to which labels are in; what is known by then is judged, what comes later changes charts only.
    ``judged`` is the start of the last that was, ``labelled`` the pane up to which labels were in then. A cohort that
    lacks labels which those before it had waits, and is given up at twice the age.

    Stored are a small head and slots of ``SLOT_PANES`` panes each; a closed pane changes few slots.
    """

    def __init__(self, settings: CohortRules) -> None:
        self._least, self._pane = settings.label_maturity, settings.pane
        self._horizon = max(settings.label_horizon, settings.label_maturity)
        self._absent = settings.absent_is == "negative"
        self._stored: set[int] = set()
        self._growing = GrowingCohorts(settings.pane, absent=self._absent)
        self._delays = LabelDelays(settings.pane, self._horizon)
        self._gate = LateGate()
        self.mature: dict[_Who, deque[tuple[int, Counts]]] = {}
        self.scores: dict[_Who, deque[tuple[int, Counts]]] = {}
        self.counted: deque[tuple[int, int]] = deque(maxlen=KEPT)
        self.judged: int | None = None
        self.labelled: int | None = None
        self.maturity = Maturity(None, 0.0, 0.0, 0)
        self.late: Finding | None = None
        self._late_since: int | None = None

    def matures(self, labelled: int) -> bool:
        """Return whether labels are in further than they were judged, and a cohort waits that may be mature by now."""
        waits = any(start <= labelled - self._least for start in self._growing.starts()[:1])
        return waits and (self.labelled is None or labelled > self.labelled)

    def close(self, closed: Closed, labelled: int, positives: float | None) -> Iterator[tuple[str, str, OutcomePane]]:
        """Take a closed pane; yields (version, segment, labels) of the cohorts that are mature, oldest first.

        ``labelled`` is the start of the last pane in which every label is known, ``positives`` the share of them in the
        champion's reference.
        """
        for arm in closed.arms:
            self._predicted(arm)
        for one in closed.outcomes:
            scored = np.frombuffer(one.scored, "<i8")
            if not one.segment and one.rows:
                self._delays.known(one.start, max(one.age_ms // one.rows, 0), one.rows, scored.reshape(-1, 2))
            if self.judged is not None and one.start <= self.judged:
                continue
            mine = self._growing.of(one.start, (one.version, one.segment))
            mine[:4] += np.frombuffer(one.confusion, "<i8")
            mine[4:_WIDTH] += scored
        self.labelled = labelled
        now = labelled + self._pane
        self._growing.coarsen(now)
        self._delays.advance(now)
        self.maturity = self._delays.maturity(now, self._least, positives, only_positives=self._absent)
        yield from self._judge(labelled)

    def _judge(self, labelled: int) -> Iterator[tuple[str, str, OutcomePane]]:
        age = self.maturity.age
        # Nothing waits longer than the horizon for what is not known to come.
        forgotten = labelled - self._horizon - self._least
        limit, ripe = self._growing.until(forgotten if age is None else max(labelled - age, forgotten))
        self.late = None
        for at, start in enumerate(ripe):
            due, arrived = self._growing.due([start])
            given_up = age is None
            if age is not None and not self._absent:
                after = self._gate.after(due, arrived, self.maturity.usual)
                if self._gate.shuts(after):
                    given_up = start <= labelled - _PATIENCE * age
                    self._late_since = start if self._late_since is None else self._late_since
                    if not given_up:
                        self.late = late_labels(self._late_since, *self._growing.due(ripe[at:]), self.maturity.usual)
                        limit = start - self._pane
                        break
                else:
                    self._late_since = None
                    self._gate.sum = after
            span = self._growing.span(start)
            _, found = self._growing.pop(start)
            self.counted.append((due, arrived))
            for who, counts in sorted(found.items()):
                labels = self._absence(counts) if self._absent else counts
                if not labels[:4].any():
                    continue
                self.mature.setdefault(who, deque(maxlen=KEPT)).append((start, labels[:4].copy()))
                if not given_up and age is not None:
                    known, scored = start + age, labels[4:_WIDTH].reshape(-1, 2)
                    selective = self.maturity.selective
                    yield *who, OutcomePane(known, known + span, scored, labels[:4], selective=selective)
        self.judged = limit if self.judged is None else max(self.judged, limit)

    def _absence(self, counts: Counts) -> Counts:
        """Return the counts of a cohort whose predictions without label are negatives."""
        out = counts[:_WIDTH].copy()
        scored = out[4:].reshape(-1, 2)
        absent = np.maximum(counts[_WIDTH : _WIDTH + SCORE_BINS] - scored.sum(1), 0)
        scored[:, 0] += absent
        decided = int(np.clip(counts[-1] - out[0] - out[1], 0, absent.sum()))
        out[1] += decided
        out[3] += int(absent.sum()) - decided
        return out

    def _predicted(self, arm: ArmDelta) -> None:
        scores = np.frombuffer(arm.scores, "<i8").astype(np.int64)
        if not arm.segment:
            self._growing.predicted(arm.start, arm.rows)
            self._delays.predicted(arm.start, arm.rows, scores)
        if self._absent:
            self._growing.of(arm.start, (arm.version, arm.segment))[_WIDTH:] += np.append(scores, arm.positives)
        self._growing.changed.add(self._growing.slot(arm.start))
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
        """Return how many of the latest predictions are of the least age at which labels count, and have theirs."""
        due, arrived = sum(due for due, _ in self.counted), sum(arrived for _, arrived in self.counted)
        if self.labelled is not None:
            old = self._growing.until(self.labelled - self._least)[1]
            due, arrived = due + self._growing.due(old)[0], arrived + self._growing.due(old)[1]
        return due, arrived

    def forget(self, watched: Collection[str], now: int) -> None:
        """Let go of versions that nobody watches and whose last label has come or is too late at ``now`` (ms)."""
        rings = [(who, ring) for kept in (self.mature, self.scores) for who, ring in kept.items()]
        young = {who[0] for who, ring in rings if ring and ring[-1][0] >= now - self._horizon}
        for who, ring in rings:
            if who[0] not in watched and who[0] not in young:
                self._growing.changed |= {self._growing.slot(start) for start, _ in ring}
                self.mature.pop(who, None)
                self.scores.pop(who, None)

    def state(self) -> dict[str, Any]:
        """Return the head of what ``restore`` needs, without the slots."""
        gate = [self._gate.sum, self._late_since, self.labelled]
        kept = {"counted": list(self.counted), "delays": self._delays.state(), "gate": gate}
        return kept | {"maturity": list(astuple(self.maturity))}

    def changed(self) -> Iterator[tuple[int, Any]]:
        """Yield (number, value) of the slots that are not stored as they are now; None for one that has emptied."""
        first = min(self._growing.changed, default=0) * SLOT_PANES * self._pane
        found: dict[int, dict[str, list[Any]]] = {}
        for start, whose in self._growing.counts.items():
            if self._growing.slot(start) in self._growing.changed:
                for who, counts in whose.items():
                    self._piece(found, self._growing.slot(start))["growing"].append([start, *who, counts])
        for start, rows in self._growing.rows.items():
            if self._growing.slot(start) in self._growing.changed:
                self._piece(found, self._growing.slot(start))["rows"].append([start, rows])
        for kind, rings in (("mature", self.mature), ("scores", self.scores)) if self._growing.changed else ():
            for who, ring in rings.items():
                for slot, cut in self._cut(ring, first).items():
                    columns = (np.array(column) for column in zip(*cut, strict=True))
                    self._piece(found, slot)[kind].append([*who, *columns])
        for slot in sorted(self._growing.changed & found.keys()):
            self._stored.add(slot)
            yield slot, found[slot]
        ends = (ring[0][0] for kept in (self.mature, self.scores) for ring in kept.values() if ring)
        oldest = min((*ends, *self._growing.starts()[:1]), default=None)
        emptied = self._growing.changed - found.keys()
        for slot in sorted(s for s in self._stored if s in emptied or oldest is None or s < self._growing.slot(oldest)):
            self._stored.discard(slot)
            yield slot, None
        self._growing.changed.clear()

    @staticmethod
    def _piece(found: dict[int, dict[str, list[Any]]], slot: int) -> dict[str, list[Any]]:
        return found.setdefault(slot, {"growing": [], "rows": [], "mature": [], "scores": []})

    def _cut(self, ring: deque[tuple[int, Counts]], first: int) -> dict[int, list[tuple[int, Counts]]]:
        """Rows of changed slots by slot, oldest first; none of them starts before ``first``."""
        found: dict[int, list[tuple[int, Counts]]] = {}
        for start, counts in reversed(ring):
            if start < first:
                break
            if (slot := self._growing.slot(start)) in self._growing.changed:
                found.setdefault(slot, []).insert(0, (start, counts))
        return found

    def restore(self, state: Mapping[str, Any], slots: Mapping[int, Mapping[str, Any]]) -> None:
        """Become what both were taken from; an older ``state`` holds everything, which then is stored in slots."""
        self._growing, self._stored = GrowingCohorts(self._pane, absent=self._absent), set(slots)
        self.mature.clear()
        self.scores.clear()
        # Older states hold the rows of all cohorts, and those before them everything.
        self._growing.rows = dict(state.get("rows", ()))
        for piece in [state] if "growing" in state else [slots[number] for number in sorted(slots)]:
            self._growing.load(piece)
            for name, target in (("mature", self.mature), ("scores", self.scores)):
                for version, segment, starts, counts in piece[name]:
                    pairs = zip(starts.tolist(), counts, strict=True)
                    # A ring that is full lets the oldest go, as it did before it was stored.
                    ring = target.setdefault((version, segment), deque(maxlen=KEPT))
                    ring.extend((start, row.astype(np.int64)) for start, row in pairs)
        if "growing" in state:
            starts = {start for kept in (self.mature, self.scores) for ring in kept.values() for start, _ in ring}
            self._growing.changed = {self._growing.slot(start) for start in starts | self._growing.counts.keys()}
        self.counted = deque(((due, arrived) for due, arrived in state["counted"]), maxlen=KEPT)
        if "delays" in state:
            self._delays.restore(state_of(state["delays"], LabelDelaysState))
            self._gate.sum, self._late_since, self.labelled = state["gate"]
            self.maturity = Maturity(*state["maturity"])
        else:
            self._growing.changed |= {self._growing.slot(start) for start in self._growing.rows}
