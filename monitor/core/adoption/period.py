"""The adoption period: what live panes teach a reference whose rows had no order of time, and how live differs."""

from collections import deque
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stationkeeper.contracts.column import Integers
from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.contracts.state import State
from stationkeeper.contracts.times import UTC_ZONE, local_ms
from stationkeeper.monitor.core.adoption.adopt import MIN_PANES, day_movement, floor_of, widened_note
from stationkeeper.monitor.core.adoption.dependence import learned_phi
from stationkeeper.monitor.core.adoption.season import (
    HOURS_OF_DAY,
    Season,
    SeasonSums,
    SeasonSumsState,
    learn_season,
    weekday_of,
)
from stationkeeper.monitor.core.adoption.traffic import DAY_MS, HOUR_MS
from stationkeeper.monitor.core.charts import coarse_cells, measure, name_cause
from stationkeeper.monitor.core.finding import WARN, Finding
from stationkeeper.monitor.core.panes import Pane, stratum_of
from stationkeeper.monitor.core.reference import QUALITY, Counts, Kind, Reference, ReferenceSubject

# Rows a re-based reference needs. Chosen: a shift of .25 sd, TV .10, stands out of 1 000 rows in twenty cells (noise of
# TV about .05); half as many make the effect floor learn noise, twice as many make a quiet model wait longer.
MIN_ROWS = 1_000
# Latest panes kept for dependence: 24 times `MIN_BLOCKS`, so blocks of up to 16 panes are learned (480 / 16 = 30).
KEPT_PANES = 480
# Wide models keep fewer, so that the state, written with every pane, stays small: at most so many coarse counters of
# four bytes (400 kB), but never less than 64 panes, which blocks of up to 2 need to reach 20 with room.
KEPT_ENTRIES = 100_000
KEPT_LEAST = 64
# Counts by hour of the day cost 24 vectors of the layout; above this width (24 x 20 000 x 8 B = 4 MB) they are left out
# and the reference has no seasons. A feature has about 300 counters, so this is 66 features; half as wide loses seasons
# for 33.
SEASONAL_WIDTH = 20_000
# How many times the sampling noise live must differ from the reference before it is called skew. Equal laws stay below
# twice (the noise is about their mean TV, twice it is six standard deviations more); the rest is for rhythms that phi
# does not see. Twenty cells reach the default floor of .02 at 120 000 rows, at half at 30 000, at double at 480 000.
_NOISES = 4.0


class AdoptionState(State, frozen=True):
    """What an adoption period has counted: all of it, by day and by hour of the day, and the latest panes.

    ``recent`` are the starts of panes and their coarse cells int32[panes, cells]; ``days`` have coarse cells, too.
    """

    begin: int | None
    end: int
    rows: int
    panes: int
    counts: Counts
    days: list[tuple[int, Counts]]
    hours: Counts
    recent: tuple[list[int], NDArray[np.integer[Any]]]
    # Builds before hours of the week were told apart kept those of the day alone.
    season: SeasonSumsState | None = None
    # Builds before time zones counted the hours of UTC.
    timezone: str = UTC_ZONE


class AdoptionPeriod:
    """Counts panes until ``length`` clock units have passed since the first with rows, then says what they teach.

    It takes longer where there are fewer than ``MIN_PANES`` panes with rows or ``MIN_ROWS`` rows. Counts by hour of the
    day are kept for layouts up to ``SEASONAL_WIDTH``. Each day, for its movement, and the latest panes, for dependence,
    are kept in coarse cells: both are measured in them, and the state, written with every pane, stays small.
    """

    def __init__(self, reference: Reference, length: int, timezone: str = UTC_ZONE) -> None:
        """``timezone`` is the zone whose clock tells hours and days; a restored period keeps its own."""
        self.reference, self.length, self.timezone = reference, length, timezone
        width = reference.layout.width
        self.begin: int | None = None
        self.end = 0
        self.rows = self.panes = 0
        self.counts = reference.layout.zeros()
        self.days: dict[int, Counts] = {}
        self.sums = SeasonSums(width, self._parts()[-1].stop, timezone) if width <= SEASONAL_WIDTH else None
        most = min(KEPT_PANES, max(KEPT_LEAST, KEPT_ENTRIES // self._parts()[-1].stop))
        self.recent: deque[tuple[int, Counts]] = deque(maxlen=most)

    @property
    def over(self) -> bool:
        """Whether the period has passed and taught enough."""
        if self.begin is None:
            return False
        return self.end - self.begin >= self.length and self.panes >= MIN_PANES and self.rows >= MIN_ROWS

    @property
    def passed(self) -> int:
        """Clock units since the first pane with rows, at most the length."""
        return 0 if self.begin is None else min(self.end - self.begin, self.length)

    def progress(self) -> str:
        """Return how far the period is, in words: ``adopting: 3.2 of 14 days``, and what is lacking beyond time."""
        unit, word = (DAY_MS, "days") if self.length >= DAY_MS else (HOUR_MS, "hours")
        passed, length = (f"{span / unit:.1f}".removesuffix(".0") for span in (self.passed, self.length))
        text = f"adopting: {passed} of {length} {word}"
        if self.begin is None:
            return f"{text}, no rows yet"
        if self.passed < self.length:
            return text
        return f"{text}, {self.panes} of {MIN_PANES} panes with {self.rows} of {MIN_ROWS} rows"

    def add(self, pane: Pane) -> None:
        """Take a closed pane with rows."""
        self.begin = pane.start if self.begin is None else self.begin
        self.end = pane.end
        self.rows += pane.rows
        self.panes += 1
        self.counts += pane.counts
        day, coarse = local_ms(pane.start, self.timezone) // DAY_MS, self._coarse(pane.counts)
        self.days[day] = self.days[day] + coarse if day in self.days else coarse.copy()
        if self.sums is not None:
            self.sums.add(pane.start, pane.counts, coarse, self._parts())
        self.recent.append((pane.start, coarse))

    def learned(self) -> Reference:
        """Return the reference re-based on the period: live counts, dependence, daily movement, hours of the day.

        Quality counters stay the reference's own shares: what is missing in live data is not made normal.
        """
        days, weekday = np.stack([self.days[day] for day in sorted(self.days)]), weekday_of(np.array(sorted(self.days)))
        parts = self._parts()
        seasons = [
            self._season(subject, days[:, part], weekday, part)
            for subject, part in zip(self.reference.watched, parts, strict=True)
        ]
        strata = max((len(season.strata) for season in seasons if season is not None), default=1)
        watched = [
            self._learn(subject, days[:, part], weekday, part, season, strata)
            for subject, part, season in zip(self.reference.watched, parts, seasons, strict=True)
        ]
        rows = max(int(subject.counts.sum()) for subject in watched)
        notes = (
            *self.reference.notes,
            f"adopted from {self.panes} panes with {self.rows} live rows",
            *widened_note(len(days)),
        )
        # Hours that the reference knew by another clock are no hours of this one.
        traffic = self.reference.traffic if self.reference.timezone == self.timezone else None
        made = replace(self.reference.with_watched(watched), rows=rows, source="adoption", notes=notes)
        return replace(made, traffic=traffic, timezone=self.timezone)

    def skew(self, delta: float) -> Finding | None:
        """Return how live differs from the reference beyond ``delta`` of the rows and four times the noise, or None.

        One finding for the model, named after the subject that differs most, with the effect of each that does. The
        noise is that of sampling, times the root of the dependence that the period taught.
        """
        counts, learned = self.counts, self.learned().by_name
        effects: dict[str, float] = {}
        for subject in self.reference.subjects:
            found = measure(subject, counts[self.reference.layout[subject.name].histogram])
            if not found:
                continue
            effect, noise = found["tv"].value, found["tv"].noise
            phi = learned[subject.name].inflation
            if effect > max(delta, _NOISES * noise * float(np.sqrt(phi))):
                effects[subject.name] = round(effect, 6)  # Digits that tell one row in a million.
        if not effects or self.begin is None:
            return None
        first = self.reference.by_name[max(effects, key=lambda name: (effects[name], name))]
        place = self.reference.layout[first.name]
        quality = counts[place.quality : place.quality + len(QUALITY)]
        named = name_cause(first, counts[place.histogram], quality)
        return Finding(
            subject=first.name,
            type=first.type,
            kind=VerdictKind.TRAIN_SERVE_SKEW,
            level=WARN,
            score=effects[first.name],
            threshold=delta,
            onset=self.begin,
            rows=self.rows,
            cause=named.cause,
            reason=f"serving differs from the reference: {named.reason}",
            effect=effects[first.name],
            budgeted=False,
            evidence={**named.evidence, "subjects": list(effects), "effects": effects, "panes": self.panes},
        )

    def state(self) -> AdoptionState:
        """Return what ``restore`` needs."""
        return AdoptionState(
            begin=self.begin,
            end=self.end,
            rows=self.rows,
            panes=self.panes,
            counts=self.counts.copy(),
            days=[(day, counts.copy()) for day, counts in self.days.items()],
            hours=np.zeros((0, len(self.counts)), np.int64) if self.sums is None else self.sums.hours.copy(),
            recent=([start for start, _ in self.recent], np.array([kept for _, kept in self.recent], np.int32)),
            season=None if self.sums is None else self.sums.state(),
            timezone=self.timezone,
        )

    def restore(self, state: AdoptionState) -> None:
        """Become the period whose ``state`` this was."""
        self.begin, self.end, self.rows, self.panes = state.begin, state.end, state.rows, state.panes
        self.counts = np.array(state.counts, np.int64)
        self.days = {day: np.array(counts, np.int64) for day, counts in state.days}
        # Hours of two clocks do not add: a changed zone counts from the next period on.
        self.timezone = state.timezone
        if self.sums is not None:
            self.sums.timezone = state.timezone
            self.sums.hours = np.array(state.hours, np.int64).reshape(HOURS_OF_DAY, -1)
            # Of an older build the hours of the week begin now, and those of the day are whole.
            if state.season is not None:
                self.sums.restore(state.season)
        self.recent.clear()
        self.recent.extend((start, row.astype(np.int64)) for start, row in zip(*state.recent, strict=True))

    def _coarse(self, counts: Counts) -> Counts:
        """A pane's cells of all subjects on their coarse cells, one after the other."""
        layout = self.reference.layout
        return np.concatenate([coarse_cells(s, counts[layout[s.name].histogram]) for s in self.reference.watched])

    def _parts(self) -> list[slice]:
        """Where each subject stands in a coarse vector."""
        ends = np.cumsum([0, *(int(subject.grid.max()) + 1 for subject in self.reference.watched)])
        return [slice(int(first), int(last)) for first, last in pairwise(ends)]

    def _season(self, subject: ReferenceSubject, days: Counts, weekday: Integers, coarse: slice) -> Season | None:
        """What the hours of the week teach of a subject; None where they are not kept, or a day says nothing."""
        part = self.reference.layout[subject.name].histogram
        if self.sums is None or len(days) < 2 or not self.counts[part].any():
            return None
        return learn_season(self.sums.counts(part, coarse, days, weekday, subject.grid))

    def _learn(
        self,
        subject: ReferenceSubject,
        days: Counts,
        weekday: Integers,
        coarse: slice,
        season: Season | None,
        strata: int,
    ) -> ReferenceSubject:
        mine = self.counts[self.reference.layout[subject.name].histogram]
        if not mine.any():
            kept = np.tile(subject.counts, (strata, 1)) if strata > 1 else subject.strata
            return replace(subject, strata=kept)
        made = replace(
            subject, counts=mine.copy(), quality=_scaled(subject.quality, int(mine.sum()), max(subject.rows, 1))
        )
        panes = np.stack([kept[coarse] for _, kept in self.recent])
        by_pane, usual, kept = None, None, np.empty((0, 0), np.int64)
        if strata > 1 and season is not None:
            kept = season.folded(strata)
            by_pane = np.array([stratum_of(start, strata, self.timezone) for start, _ in self.recent])
            usual = coarse_cells(subject, kept)
        moves = day_movement(days, weekday, season)
        kind: Literal["numeric", "categorical"] = "numeric" if subject.kind is Kind.NUMERIC else "categorical"
        phi, within = learned_phi(panes, kind, by_pane, usual), np.empty(0)
        if moves.independent:
            of_day = np.array([local_ms(start, self.timezone) // DAY_MS for start, _ in self.recent])
            within = learned_phi(panes, kind, by_pane, usual, of_day)
        floor = floor_of(moves, days, season)
        return replace(made, phi=phi, phi_within_days=within, day_floor=floor, strata=kept)


def _scaled(quality: Counts, rows: int, before: int) -> Counts:
    """Quality counters of ``before`` rows as they would be of ``rows``."""
    return np.asarray(np.round(quality * (rows / before)), np.int64)
