"""Slow seasons: once a week the reference follows how far calm days lie from it, at most so fast and so far.

A day says for each subject c_d: its shares in coarse cells less what its hours bring by the reference, for a category
value by value, for a number in four smooth waves over its ordered cells (a shift is mostly the first, a change of scale
the second) and the share that is missing. Of the days of the last weeks (a week before counts half, w), the error is
e = mean c_d - o, where o is followed already, and its noise V = var c_d sum w^2 / (sum w)^2, times (1 + r) / (1 - r)
where a day says r of the next. Where e^2 > 4 V the reference moves by e (1 - V / e^2), the part that is no noise (James
and Stein 1961; the shrinkage of `season`).
"""

from collections.abc import Container, Iterable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.state import State
from stationkeeper.contracts.times import local_ms
from stationkeeper.monitor.core.adoption.season import DAYS_OF_WEEK, whole_counts
from stationkeeper.monitor.core.adoption.traffic import DAY_MS
from stationkeeper.monitor.core.charts import coarse_cells
from stationkeeper.monitor.core.panes import Pane, stratum_of
from stationkeeper.monitor.core.reference import Counts, Kind, Reference, ReferenceSubject

SPEED = 0.5
"""Most that a week may move the reference, in effect floors (`delta`): at .02 a point of the rows. Chosen on the years
of `benchmarks seasons`: at .25 a mean that swings by .2 sd pages twice, as without; at 1 it only warns, and a ramp of
two points a week pages three days later, after 4.8 points were followed instead of two."""

REACH = 5.0
"""Most that it may move in all, in effect floors: at .02 ten points, a mean that lies .25 sd off. Whatever goes on in
one direction is told then. Chosen on the same years: at half, swings by .2 sd page twice and one by .3 sd from its end
pages; at double, a ramp of a point a week pages two weeks later (113 days), and the latter pages on its way back."""

# Squared standard errors by which days must lie off to move the reference: two errors. At 1 noise alone moves it in one
# week of three, at 9 a season lags by half as much again.
_SURE = 4.0
# Calm days that are needed: of fewer nobody knows how days differ, and a weekend may be all of them.
LEAST_DAYS = 5
# What a day may say of the next at most, where some days show it badly: the noise is then seven times as large.
_MOST_LASTING = 0.75
# What a week counts when another is over: the mean is some ten days old, and rests on a fortnight. Without memory noise
# is half as large again, of three quarters a season at full speed lags by more than a floor.
_FADE = 0.5
# Waves over the cells of a number: shift, scale and what is left of both beyond the normal law. Of all twenty cells the
# noise is five times as large, and a point a week is lost in it.
_WAVES = 4
# How far a cell's share may be followed up or down: of a cell of a few rows no week proves a factor beyond ten.
_TILT = 10.0
# How many former states are kept to go back to: what began two weeks ago, and one more.
_KEPT = 3

Followed = dict[str, NDArray[Any]]
"""By how much each subject that was moved is followed, float32[C] in its waves or values."""


class SlowSeasonState(State, frozen=True):
    """The running week: its first and its open day (-1: none), the day's counts, and sums over the days before.

    ``counts`` int64[K] are in coarse cells of all subjects, ``rows`` int64[strata]; ``sums``, ``squares``, ``lags`` and
    ``last`` float32[C] in their waves and values; ``stained``, ``weight``, ``weight2`` and ``pairs`` (of days in a row)
    by subject; builds before 1 December 2026 lack ``pairs``. ``steps`` are times (ms) and by what the subjects that
    moved then were followed from there on.
    """

    begin: int
    day: int
    counts: Counts
    rows: Counts
    stained: NDArray[np.bool_]
    sums: NDArray[Any]
    squares: NDArray[Any]
    lags: NDArray[Any]
    last: NDArray[Any]
    weight: Floats
    weight2: Floats
    steps: list[tuple[int, Followed]]
    pairs: Floats | None = None


def move_of(mean: Floats, square: Floats, lagged: Floats, days: float, followed: Floats) -> Floats:
    """Return by how much to move, float64[C]: means of c_d, c_d^2 and c_d c_(d-1), and (sum w)^2 / sum w^2 ``days``.

    By hand: five days off by .01, .03, .01, .03 and .02 have mean .02, variance .00008 and V = .00008 / 4 = .00002;
    e^2 = .0004 is 20 V, so the move is .02 (1 - 1 / 20) = .019. A day says nothing of the next: r is below 0.
    """
    spread = np.maximum(square - mean**2, 0.0)
    lasting = np.clip((lagged - mean**2) / np.maximum(spread, 1e-300), 0.0, _MOST_LASTING)
    noise = spread / max(days - 1, 1.0) * (1 + lasting) / (1 - lasting)
    error = mean - followed
    sure = error**2 > _SURE * noise
    return np.asarray(np.where(sure, error * (1 - noise / np.maximum(error**2, 1e-300)), 0.0), np.float64)


def within(subject: ReferenceSubject, before: Floats, move: Floats, delta: float) -> Floats:
    """Return what is followed after a ``move``, at most ``SPEED`` floors further and ``REACH`` in all (TV).

    By hand: a move of 3 points at a floor of 2 is cut to one.
    """
    there = before + move * min(1.0, SPEED * delta / max(movement_of(subject, move), 1e-12))
    return np.asarray(there * min(1.0, REACH * delta / max(movement_of(subject, there), 1e-12)), np.float64)


def movement_of(subject: ReferenceSubject, followed: Floats | NDArray[Any]) -> float:
    """Return the total variation that ``followed`` stands for."""
    return 0.5 * float(np.abs(followed @ waves_of(subject)).sum())


def waves_of(subject: ReferenceSubject) -> Floats:
    """Return what c_d is measured in, orthonormal float64[C, K] over the coarse cells, missing last."""
    size = subject.coarse
    return _waves(size, _WAVES if subject.kind is Kind.NUMERIC and size > _WAVES + 1 else 0)


@cache
def _waves(size: int, number: int) -> Floats:
    if not number:
        return np.eye(size)
    ordered = size - 1
    at = (np.arange(ordered) + 0.5) / ordered
    waves = [np.sqrt(2 / ordered) * np.cos(np.pi * k * at) for k in range(1, number + 1)]
    return np.stack([*(np.append(wave, 0.0) for wave in waves), np.eye(size)[-1]])


def tilted(subject: ReferenceSubject, followed: Floats | NDArray[Any]) -> ReferenceSubject:
    """Return the subject whose every hour has moved as all rows do by ``followed``.

    Each cell of each hour by the same factor, and the rows of an hour stay. What the reference never saw is never made
    usual. By hand: 50 + 50 followed by .1 towards the second become 40 + 60.
    """
    shares = followed @ waves_of(subject)
    coarse = coarse_cells(subject, subject.counts).astype(np.float64)
    usual = coarse / max(coarse.sum(), 1.0)
    seen = usual > 0
    factor = np.ones_like(usual)
    factor[seen] = np.clip(1 + shares[seen] / usual[seen], 1 / _TILT, _TILT)

    def moved(counts: Counts) -> Counts:
        there = counts * factor[subject.grid]
        return whole_counts(
            there * (counts.sum(axis=1, keepdims=True) / np.maximum(there.sum(1, keepdims=True), 1e-12))
        )

    strata = moved(subject.strata) if len(subject.strata) else subject.strata
    return subject.with_counts(moved(subject.counts[None, :])[0], strata)


class SlowSeason:
    """Sums calm days against the reference, and says once a week how far to follow them.

    A subject's day counts where nothing of it was open; ``steps`` keep the last states of each subject that moved, to
    which an incident that began before goes back, and ``changed`` names what moved last. O(cells) a pane; a week costs
    one plan of the detectors where a subject moves.
    """

    def __init__(self, base: Reference, delta: float, *, still: bool = False) -> None:
        """``base`` is the reference that was made or adopted, ``delta`` the effect floor.

        A ``still`` one follows nothing, and knows of a state that did since when bags hold panes.
        """
        self.base, self.delta, self.still = base, delta, still
        watched = base.watched
        self._cells = _slices(subject.coarse for subject in watched)
        self._waves = _slices(len(waves_of(subject)) for subject in watched)
        self._strata = max((len(subject.strata) for subject in watched), default=0) or 1
        # Quality counters lie between the cells; they go to a place of their own.
        self._index = np.full(base.layout.width, self._cells[-1].stop)
        for subject, cells in zip(watched, self._cells, strict=True):
            np.add(subject.grid, cells.start, out=self._index[base.layout[subject.name].histogram])
        self._at = {subject.name: i for i, subject in enumerate(watched)}
        self.begin = self.day = -1
        # By subject, the oldest first; that is what was before any week, which is nothing.
        self.steps: dict[str, list[tuple[int, NDArray[Any]]]] = {}
        self.followed: Followed = {}
        self.changed: frozenset[str] = frozenset()
        size = self._waves[-1].stop
        self._sums, self._squares, self._lags, self._last = (np.zeros(size, np.float32) for _ in range(4))
        self._weight, self._weight2, self._pairs = (np.zeros(len(watched)) for _ in range(3))
        self._counts: Counts
        self._rows: Counts
        self._stained: NDArray[np.bool_]
        self._open_day()

    def moved(self, name: str) -> float:
        """Return how far the reference of a subject has moved (TV)."""
        return movement_of(self.base.by_name[name], self.followed[name]) if name in self.followed else 0.0

    def reference(self) -> Reference:
        """Return the reference as it is followed."""
        now = self.followed
        if not now:
            return self.base
        return self.base.with_watched([tilted(s, now[s.name]) if s.name in now else s for s in self.base.watched])

    def renewed(self) -> dict[str, int]:
        """Return when each subject was last moved: what came before is in no bag."""
        return {name: mine[-1][0] for name, mine in self.steps.items()}

    def add(self, pane: Pane, held: Iterable[str]) -> None:
        """Count a closed pane with rows; ``held`` are the subjects of which something is open."""
        day = local_ms(pane.start, self.base.timezone) // DAY_MS
        if day != self.day:
            self._close()
            self.day = day
            self.begin = day if self.begin < 0 else self.begin
        cells = np.bincount(self._index, weights=pane.counts, minlength=len(self._counts) + 1)
        self._counts += cells[:-1].astype(np.int64)
        self._rows[stratum_of(pane.start, self._strata, self.base.timezone)] += pane.rows
        for name in held:
            if name in self._at:
                self._stained[self._at[name]] = True

    def over(self, start: int) -> bool:
        """Return whether the week is over when a pane begins at ``start``."""
        return not self.still and 0 <= self.begin <= local_ms(start, self.base.timezone) // DAY_MS - DAYS_OF_WEEK

    def step(self, start: int, calm: Container[str]) -> bool:
        """Follow the week that is over before a pane that begins at ``start``; whether any subject's reference moves.

        ``calm`` are the subjects of which nothing is open.
        """
        self._close()
        there = dict(self.followed)
        for name, i in self._at.items():
            weight, place, subject = float(self._weight[i]), self._waves[i], self.base.by_name[name]
            if name not in calm or weight < LEAST_DAYS:
                continue
            before = np.asarray(there.get(name, np.zeros(place.stop - place.start)), np.float64)
            mean, square = (sums[place].astype(np.float64) / weight for sums in (self._sums, self._squares))
            # Fewer than days: a week begins, and goes on behind a day that was left out, without one before.
            lagged = self._lags[place].astype(np.float64) / max(float(self._pairs[i]), 1e-12)
            move = move_of(mean, square, lagged, weight**2 / float(self._weight2[i]), before)
            if move.any():
                there[name] = within(subject, before, move, self.delta).astype(np.float32)
        self.begin = self.day = local_ms(start, self.base.timezone) // DAY_MS
        self._sums, self._squares, self._lags = (
            self._sums * np.float32(_FADE),
            self._squares * np.float32(_FADE),
            self._lags * np.float32(_FADE),
        )
        self._weight, self._weight2 = self._weight * _FADE, self._weight2 * _FADE**2
        self._pairs = self._pairs * _FADE
        return self._go(start, there)

    def withdraw(self, onsets: Mapping[str, int], now: int) -> bool:
        """Go back to what was followed when each of these subjects began to drift; whether any reference moves."""
        there = dict(self.followed)
        for name in onsets.keys() & self._at.keys():
            i = self._at[name]
            self._stained[i] = True
            for sums in (self._sums, self._squares, self._lags, self._last):
                sums[self._waves[i]] = 0
            self._weight[i] = self._weight2[i] = self._pairs[i] = 0
            mine = self.steps.get(name, [])
            before = [one for one in mine if one[0] <= onsets[name]] or mine[:1]
            if before and not np.array_equal(before[-1][1], mine[-1][1]):
                # What came since is undone, and is none of the states to go back to.
                self.steps[name], there[name] = before, before[-1][1]
        return self._go(now, there)

    def state(self) -> SlowSeasonState:
        """Return all that changes."""
        return SlowSeasonState(
            begin=self.begin,
            day=self.day,
            counts=self._counts.copy(),
            rows=self._rows.copy(),
            stained=self._stained.copy(),
            sums=self._sums.copy(),
            squares=self._squares.copy(),
            lags=self._lags.copy(),
            last=self._last.copy(),
            weight=self._weight.copy(),
            weight2=self._weight2.copy(),
            pairs=self._pairs.copy(),
            steps=_by_time(self.steps),
        )

    def restore(self, state: SlowSeasonState) -> None:
        """Become what ``state`` was taken from; raises ``ValueError`` where it belongs to another reference."""
        if state.sums.shape != self._sums.shape or state.rows.shape != self._rows.shape:
            raise ValueError(f"a slow season of {state.sums.shape} waves does not fit {self._sums.shape}")
        for at, moved in state.steps:
            for name, followed in moved.items():
                self.steps.setdefault(name, []).append((at, followed))
        self.followed = {name: mine[-1][1] for name, mine in self.steps.items() if mine[-1][1].any()}
        if self.still:
            # Of the week that was under way nothing is left either: followed again, it begins then.
            for name in self.followed:
                self.steps[name].append((self.steps[name][-1][0], np.zeros_like(self.followed[name])))
            self.changed, self.followed = frozenset(self.followed), {}
            return
        self.begin, self.day = state.begin, state.day
        self._counts, self._rows, self._stained = state.counts.copy(), state.rows.copy(), state.stained.copy()
        self._sums, self._squares = state.sums.copy(), state.squares.copy()
        self._lags, self._last = state.lags.copy(), state.last.copy()
        self._weight, self._weight2 = state.weight.copy(), state.weight2.copy()
        self._pairs = (state.weight if state.pairs is None else state.pairs).copy()

    def _go(self, now: int, there: Followed) -> bool:
        """Follow ``there`` from now on, where it differs from what is followed."""
        there = {name: followed for name, followed in there.items() if followed.any()}
        self.changed = frozenset(_differing(self.followed, there))
        for name in self.changed:
            followed = there[name] if name in there else np.zeros_like(self.followed[name])
            self.steps[name] = [*self.steps.get(name, [(0, np.zeros_like(followed))])[-_KEPT:], (now, followed)]
        self.followed = there
        return bool(self.changed)

    def _expected(self, subject: ReferenceSubject) -> Floats:
        """Return what the hours of the open day bring by the reference, float64[K].

        Worked out once a day and not kept: of 50 models of 200 features by hour of the week that were 270 MB, and half
        of the time in which a judge restores.
        """
        hours = subject.strata if len(subject.strata) else subject.counts[None, :]
        rows = self._rows.reshape(-1, len(hours)).sum(axis=0)
        # A day has a seventh of the hours of the week.
        came = np.flatnonzero(rows)
        strata = coarse_cells(subject, hours[came])
        mixes = strata / np.maximum(strata.sum(axis=1, keepdims=True), 1)
        return np.asarray((rows[came] / max(int(rows.sum()), 1)) @ mixes, np.float64)

    def _close(self) -> None:
        """The open day is over: its subjects that were calm join the week."""
        for i, (subject, cells, place) in enumerate(zip(self.base.watched, self._cells, self._waves, strict=True)):
            rows = int(self._counts[cells].sum())
            if not rows or self._stained[i]:
                self._last[place] = 0
                continue
            # What the reference never saw is not followed, so it is no error either.
            seen = coarse_cells(subject, subject.counts) > 0
            off = np.where(seen, self._counts[cells] / rows - self._expected(subject), 0.0)
            one = (waves_of(subject) @ off).astype(np.float32)
            self._sums[place] += one
            self._squares[place] += one * one
            self._lags[place] += one * self._last[place]
            self._pairs[i] += self._last[place].any()
            self._last[place] = one
            self._weight[i] += 1
            self._weight2[i] += 1
        self._open_day()

    def _open_day(self) -> None:
        self._counts = np.zeros(self._cells[-1].stop, np.int64)
        self._rows = np.zeros(self._strata, np.int64)
        self._stained = np.zeros(len(self._cells), bool)


def _by_time(steps: Mapping[str, Iterable[tuple[int, NDArray[Any]]]]) -> list[tuple[int, Followed]]:
    found: dict[int, Followed] = {}
    for name in sorted(steps):
        for at, followed in steps[name]:
            found.setdefault(at, {})[name] = followed
    return [(at, found[at]) for at in sorted(found)]


def _slices(sizes: Iterable[int]) -> list[slice]:
    ends = np.cumsum([0, *sizes]).tolist()
    return [slice(first, last) for first, last in pairwise(ends)]


def _differing(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> set[str]:
    # By value: read back from a state, equal arrays are not the same ones.
    both = one.keys() & other.keys()
    return (one.keys() ^ other.keys()) | {name for name in both if not np.array_equal(one[name], other[name])}
