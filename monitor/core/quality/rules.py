"""Deterministic data-quality rules: certain enough to need no budget, each with the numbers it rests on."""

from typing import Any

import numpy as np

from stationkeeper.contracts.column import Integers
from stationkeeper.contracts.messages import SubjectType, VerdictKind
from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.finding import PAGE, WARN, Finding
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.quality.cardinality import CERTAIN_NATS, Cardinality, CardinalityState
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.core.reference import (
    LOWEST_OCTAVE,
    OCTAVES,
    QUALITY,
    WEIGHT_OCTAVES,
    CategoricalCells,
    Counts,
    Reference,
    ReferenceSubject,
)

MIN_ROWS = 50
"""Rows a rule rests on at least, whatever its nats say: fewer are one producer's batch. At half a hiccup of a few
seconds pages; at double a source of one event a minute is told of a lost field after 100 minutes."""

FIELD_SHARE = 0.5
"""A field is "usually there" when the reference had it in more than half of its rows, and unknown fields warn when
half of the events carry one: a new version of a producer, not one client. At a quarter, optional fields page when they
pause; at one, a field that a tenth of the reference lacked is never missed."""

WEIGHT_ROWS = 1_000
"""Weighted rows that teach the usual sampling weights, and that each judgement rests on: the noise of 32 octaves
against 1 000 others is then .1 (TV) at most. At half it comes near ``WEIGHT_MOVED``; at double a change is told twice
as late."""

WEIGHT_MOVED = 0.2
"""Share of the sampling weights that must have moved by an octave or more: a new sampling plan, not its noise. At half
a campaign warns; at double a plan that doubles a third of the weights does not."""

# A value above this share of the reference is nearly constant already: a run of it proves nothing.
_NEARLY_CONSTANT = 0.9

# A cell that covers more of the reference's range holds many values, not one that is stuck: of 250 cells of equal rows
# only those of the tails are so wide. At half a long tail's sensor is never told stuck, at five times a season is.
_WIDE = 0.1

# A run must be this many times the longest run of one value that the reference saw, where its rows had an order.
# Chosen: a longest run of a sample is soon beaten, so at 1.5 ordinary runs page; at six a stuck feed is told twice as
# late.
_TIMES_LONGEST = 3

# Categories below this share of the reference are not missed: 3 000 rows of silence are their 30 nats, and hundreds of
# rare values would each be watched. At half twice as many are, at double a value of 1.5 % may vanish unnamed.
_WATCHED_SHARE = 0.01

_TOTAL = 0.95
"""Share of a pane's values that lie far outside the range when a source breaks: all, less what a roll-out of seconds or
a second producer still sends. At half a fault of one producer of two is called the whole source's."""

# Ends of the octaves of |x|, by hand: the bucket of 1.0 is [1, 2). The first begins at 0 and the last is open; that of
# .5 holds 0 itself as well (`octave`).
_OCTAVE_ENDS = (np.exp2(np.arange(OCTAVES) + LOWEST_OCTAVE - 1.0), np.exp2(np.arange(OCTAVES) + float(LOWEST_OCTAVE)))
_OCTAVE_ENDS[0][[0, -LOWEST_OCTAVE]], _OCTAVE_ENDS[1][-1] = 0.0, np.inf

RULES = frozenset(
    {
        Check.SCHEMA_MISSING,
        Check.SCHEMA_UNSEEN,
        Check.CONSTANT,
        Check.OUT_OF_RANGE,
        Check.VANISHED,
        Check.WEIGHTS,
        Check.FRESHNESS,
        Check.CARDINALITY,
        Check.LABEL_DELAY,
    }
)
"""Checks that end when their rule no longer holds; the others end by a recovery test."""


class RulesState(State, frozen=True):
    """Runs and silences by subject or category [F], counts of sampling weights, and cardinality.

    Builds before the check of cardinality, and before that of values far outside, did not have their state.
    """

    absent_rows: Counts
    absent_start: Counts
    run_cell: Integers
    run_rows: Counts
    run_start: Counts
    silent: Counts
    known_weights: Counts
    recent_weights: Counts
    cardinality: CardinalityState | None = None
    far_rows: Counts | None = None
    far_start: Counts | None = None


_ARRAYS = tuple(name for name in RulesState.__struct_fields__ if name != "cardinality")


class Rules:
    """Absent and unknown fields, constant features, vanished categories, cardinality and changed weights, by pane.

    Everything is one array pass over the pane's vector; state is a few numbers a subject.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference, self.layout = reference, reference.layout
        places = self.layout.places
        self._first = np.array([place.first for place in places])
        self._missing = np.array([place.missing for place in places])
        self._bounds = np.stack([self._first, self._missing], axis=1).ravel()
        self._below = np.array([place.counter("below") for place in self.layout.places], np.int64)
        self._above = np.array([place.counter("above") for place in self.layout.places], np.int64)
        self._absent = np.array([place.counter("absent") for place in places])
        subjects = reference.subjects
        self._certain = [_far_nats(subject) for subject in reference.subjects]
        usual = [s.quality[QUALITY.index("absent")] / max(s.rows, 1) for s in reference.subjects]
        self._usually_there = np.array(usual) < FIELD_SHARE
        # Of the values that are there, for a run is one of them: a missing one neither ends it nor makes it longer.
        top = [
            float(s.counts[:-1].max() / max(s.rows - s.counts[-1], 1)) if len(s.counts) > 1 else 1.0 for s in subjects
        ]
        # A value rarer than one row in a million, or none at all, says of each row of its run as much as one of those.
        nats = np.where(np.array(top) < _NEARLY_CONSTANT, -np.log(np.maximum(top, 1e-6)), 0.0)
        # Rows that repeat each other, as the flights of an hour share its weather, say less each.
        self._nats = nats / np.array([s.inflation for s in reference.subjects])
        self._longest_run = np.array([_TIMES_LONGEST * s.repeats for s in reference.subjects])
        self.absent_rows = np.zeros(len(places), np.int64)
        self.run_cell: Integers = np.full(len(places), -1)
        self.run_rows = np.zeros(len(places), np.int64)
        self.run_start = np.zeros(len(places), np.int64)
        self.absent_start = np.zeros(len(places), np.int64)
        self.far_rows = np.zeros(len(places), np.int64)
        self.far_start = np.zeros(len(places), np.int64)
        self.known_weights: Counts = np.zeros(WEIGHT_OCTAVES, np.int64)
        self.recent_weights: Counts = np.zeros(WEIGHT_OCTAVES, np.int64)
        self.cardinality = Cardinality(reference)
        self._watched = self._categories()
        self.silent = np.zeros(len(self._watched[0]), np.int64)

    def step(self, pane: Pane) -> list[Finding]:
        """Take a closed pane with rows; a rule gives a finding at every pane while it holds."""
        counts = pane.counts
        return [
            *self._fields(pane, counts),
            *self._constant(pane, counts),
            *self._far_outside(pane, counts),
            *self._vanished(pane, counts),
            *self._cardinality(pane),
            *self._weights(pane, counts),
        ]

    def state(self) -> RulesState:
        """Return what ``restore`` needs."""
        arrays = {name: getattr(self, name).copy() for name in _ARRAYS}
        return RulesState(**arrays, cardinality=self.cardinality.state())

    def restore(self, state: RulesState) -> None:
        """Take over what ``state`` gave."""
        for name in _ARRAYS:
            kept = getattr(state, name)
            if kept is not None:
                setattr(self, name, kept.copy())
        if state.cardinality is not None:
            self.cardinality.restore(state.cardinality)

    def _fields(self, pane: Pane, counts: Counts) -> list[Finding]:
        gone = counts[self._absent] >= pane.rows
        self.absent_start = np.where(gone & (self.absent_rows == 0), pane.start, self.absent_start)
        self.absent_rows = np.where(gone, self.absent_rows + pane.rows, 0)
        found = []
        for i in np.flatnonzero((self.absent_rows >= MIN_ROWS) & self._usually_there):
            subject, rows = self.reference.subjects[i], int(self.absent_rows[i])
            text = f"{subject.name}: in none of the last {rows} events"
            found.append(
                _rule(subject, Check.SCHEMA_MISSING, PAGE, int(self.absent_start[i]), rows, MIN_ROWS, text, 1.0)
            )
        unseen = int(counts[self.layout.pane_counter("unseen_fields")])
        if unseen >= FIELD_SHARE * pane.rows and pane.rows >= MIN_ROWS:
            share = unseen / pane.rows
            text = f"{share:.2f} fields an event that the reference does not know"
            found.append(_pane_rule(Check.SCHEMA_UNSEEN, WARN, pane, FIELD_SHARE, text, share))
        return found

    def _constant(self, pane: Pane, counts: Counts) -> list[Finding]:
        # Pairs of bounds: the even slices are the subjects' cells, the odd ones the counters behind them.
        top = np.maximum.reduceat(counts[: self.layout.pane], self._bounds)[::2]
        usable = pane.rows - counts[self._missing]
        # Values outside the reference's range share the outer cells, however much they vary there.
        outside = counts[self._below] + counts[self._above]
        same = (top == usable) & (usable > 0) & (outside == 0)
        found = []
        for i in np.flatnonzero(~same & (self.run_rows > 0) & (usable > 0)):
            self.run_rows[i], self.run_cell[i] = 0, -1
        for i in np.flatnonzero(same):
            place, subject = self.layout.places[i], self.reference.subjects[i]
            cell = int(np.argmax(counts[place.first : place.missing]))
            if cell != self.run_cell[i]:
                self.run_cell[i], self.run_rows[i], self.run_start[i] = cell, 0, pane.start
            self.run_rows[i] += usable[i]
            rows = int(self.run_rows[i])
            limit = max(MIN_ROWS, self._longest_run[i], CERTAIN_NATS / self._nats[i] if self._nats[i] > 0 else np.inf)
            if rows >= limit and not _wide(subject, cell):
                text = f"{subject.name}: {subject.cell_name(cell)} in all of the last {rows} rows"
                found.append(_rule(subject, Check.CONSTANT, PAGE, int(self.run_start[i]), rows, limit, text, 1.0))
        return found

    def _far_outside(self, pane: Pane, counts: Counts) -> list[Finding]:
        """All values at once far outside the reference's range: a sentinel, another unit or sensor, no season."""
        usable = pane.rows - counts[self._missing]
        outside = counts[self._below] + counts[self._above]
        total = (outside >= _TOTAL * usable) & (usable > 0)
        self.far_rows[~total & (usable > 0)] = 0
        found = []
        for i in np.flatnonzero(total):
            place, subject = self.layout.places[i], self.reference.subjects[i]
            side = far_outside(subject, counts[place.histogram], counts[place.quality : place.last])
            if not side:
                self.far_rows[i] = 0
                continue
            if not self.far_rows[i]:
                self.far_start[i] = pane.start
            self.far_rows[i] += usable[i]
            rows, limit = int(self.far_rows[i]), max(MIN_ROWS, CERTAIN_NATS / self._certain[i])
            if rows >= limit:
                text = f"{subject.name}: all of the last {rows} values lie far {side} the reference's range"
                found.append(_rule(subject, Check.OUT_OF_RANGE, PAGE, int(self.far_start[i]), rows, limit, text, 1.0))
        return found

    def _categories(self) -> tuple[Integers, Integers, np.ndarray[Any, np.dtype[np.float64]]]:
        """Positions of top categories in the vector, their subjects, and nats a row of silence is worth."""
        at, owner, nats = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
        for i, (place, subject) in enumerate(zip(self.layout.places, self.reference.subjects, strict=True)):
            if not isinstance(subject.cells, CategoricalCells):
                continue
            share = subject.counts[: len(subject.cells.values)] / max(subject.rows, 1)
            watched = np.flatnonzero(share >= _WATCHED_SHARE)
            at.append(place.first + watched)
            owner.append(np.full(len(watched), i))
            # A cell that holds all rows would weigh infinitely much; .999 is the most it counts as.
            nats.append(-np.log1p(-np.minimum(share[watched], 0.999)))
        return np.concatenate(at), np.concatenate(owner), np.concatenate(nats)

    def _vanished(self, pane: Pane, counts: Counts) -> list[Finding]:
        at, owner, nats = self._watched
        if not len(at):
            return []
        usable = pane.rows - counts[self._missing][owner]
        self.silent = np.where(counts[at] > 0, 0, self.silent + usable)
        found = []
        for k in np.flatnonzero(self.silent * nats >= CERTAIN_NATS):
            subject, place = self.reference.subjects[owner[k]], self.layout.places[owner[k]]
            name, rows = subject.cell_name(int(at[k]) - place.first), int(self.silent[k])
            limit = max(_TIMES_LONGEST * subject.repeats, CERTAIN_NATS / nats[k])
            if rows < limit:
                continue
            text = f"{subject.name}: {name} in none of the last {rows} rows"
            found.append(_rule(subject, Check.VANISHED, WARN, pane.start, rows, limit, text, None))
        return found

    def _cardinality(self, pane: Pane) -> list[Finding]:
        found = []
        for spread in self.cardinality.step(pane):
            subject = self.reference.subjects[spread.subject]
            bound = "at most" if spread.cells > spread.expected else "at least"
            text = f"{subject.name}: {spread.cells} distinct values or hash buckets in {spread.rows} rows"
            text = f"{text}, {bound} {spread.expected:.0f} were expected"
            effect = spread.cells / spread.expected - 1
            found.append(_rule(subject, Check.CARDINALITY, WARN, spread.start, spread.rows, MIN_ROWS, text, effect))
        return found

    def _weights(self, pane: Pane, counts: Counts) -> list[Finding]:
        weights = counts[self.layout.weights]
        if not weights.any():
            return []
        if self.known_weights.sum() < WEIGHT_ROWS:
            self.known_weights += weights
            return []
        self.recent_weights += weights
        rows = int(self.recent_weights.sum())
        if rows < WEIGHT_ROWS:
            return []
        usual = self.known_weights / self.known_weights.sum()
        moved = 0.5 * float(np.abs(self.recent_weights / rows - usual).sum())
        self.recent_weights //= 2
        if moved < WEIGHT_MOVED:
            return []
        return [
            _pane_rule(Check.WEIGHTS, WARN, pane, WEIGHT_MOVED, f"{moved:.0%} of the sampling weights moved", moved)
        ]


def far_outside(subject: ReferenceSubject, cells: Counts, counters: Counts) -> str:
    """Return "below" or "above" where nearly all values lie far outside the reference's range, else "".

    Far is further than the range is wide: seasons and growth pass through what lies between, faults do not. ``cells``
    int64[cells], ``counters`` int64[quality + octaves] of the same panes. By hand: of a temperature between 10 and 60,
    -999 is far below, and 95 is above but not far.
    """
    usable = int(cells[:-1].sum())
    if isinstance(subject.cells, CategoricalCells) or not usable:
        return ""
    low, high = subject.cells.low, subject.cells.high
    below, octaves = int(counters[QUALITY.index("below")]), counters[len(QUALITY) :]
    side = "below" if below > int(counters[QUALITY.index("above")]) else "above"
    bound, width = (-low, high - low) if side == "below" else (high, high - low)
    # Octaves know no sign, so the nearest value that one may hold beyond the bound decides.
    small, large = _OCTAVE_ENDS
    plus = np.where(large > bound, np.maximum(small, bound), np.inf)
    minus = np.where(-small > bound, np.maximum(-large, bound), np.inf)
    far = np.minimum(plus, minus) - bound > width
    return side if int(octaves[far].sum()) >= _TOTAL * usable else ""


def _wide(subject: ReferenceSubject, cell: int) -> bool:
    """Whether a cell of numbers is too wide for its values to be one: a winter all below the reference's spring is."""
    if isinstance(subject.cells, CategoricalCells):
        return False
    bounds = np.concatenate([[subject.cells.low], subject.cells.edges, [subject.cells.high]])
    return bool(bounds[cell + 1] - bounds[cell] > _WIDE * (subject.cells.high - subject.cells.low))


def _far_nats(subject: ReferenceSubject) -> float:
    """Nats that a value far outside is worth: none of n rows was there, so at most 3 in n are (95 %), n less phi."""
    phi = subject.inflation
    # At least a nat: a reference of a handful of rows knows nothing rarer than that.
    return max(float(np.log(max(subject.rows / phi, 1.0) / 3)), 1.0) / phi


def _rule(
    subject: ReferenceSubject,
    check: Check,
    level: int,
    onset: int,
    rows: int,
    limit: float,
    text: str,
    effect: float | None,
) -> Finding:
    return Finding(
        subject=subject.name,
        type=subject.type,
        kind=VerdictKind.DATA_QUALITY,
        level=level,
        score=float(rows),
        threshold=float(limit),
        onset=onset,
        rows=rows,
        cause=Cause.QUALITY,
        reason=text,
        check=check,
        effect=effect,
        budgeted=False,
    )


def _pane_rule(check: Check, level: int, pane: Pane, limit: float, text: str, effect: float) -> Finding:
    return Finding(
        subject="events",
        type=SubjectType.QUALITY,
        kind=VerdictKind.DATA_QUALITY,
        level=level,
        score=effect,
        threshold=limit,
        onset=pane.start,
        rows=pane.rows,
        cause=Cause.QUALITY,
        reason=text,
        check=check,
        effect=effect,
        budgeted=False,
    )
