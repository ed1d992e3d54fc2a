"""Seasons by partial pooling: the mix of each hour of the week, leaning on hours and days like it where rows are few.

Three levels, each shrunk towards the one above by what its own rows prove: hours of the day towards all time, days
towards their class (working days, weekend) and that towards all days, hours of the week towards what their hour and
their day say together. Of a group with n rows and a parent mix q the pooled counts are N + kappa q: those of a
Dirichlet prior worth kappa rows (the empirical Bayes of Robbins 1956; STATISTICS.md, section 10.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stationkeeper.contracts.column import Floats, Integers
from stationkeeper.contracts.state import State
from stationkeeper.contracts.times import UTC_ZONE, local_ms
from stationkeeper.monitor.core.adoption.traffic import HOUR_MS
from stationkeeper.monitor.core.panes import stratum_of
from stationkeeper.monitor.core.reference import HOURS_OF_WEEK, Counts

# The rhythms that most traffic has: of the day, and of the week of such days.
HOURS_OF_DAY = 24
# Monday is the first.
DAYS_OF_WEEK = 7
# Monday 00:00 is the first: five working days, then the weekend. Where the weekend lies elsewhere, the days' own
# level finds it, from one week more.
_WEEKEND = (np.arange(DAYS_OF_WEEK) >= 5).astype(np.int64)
# Hours that differ by less than the default effect floor (.02 of the traffic moved cell) need no strata of their own:
# strata cost rows, and at .04 a daily swing of .1 sd (TV .04) would be judged against all hours.
SEASON = 0.02
# Standard errors by which groups must differ more than their days do, before they count as different. All cells of a
# subject move together, so they count as one; of so few degrees the ratio has long tails. At 2 one stream in ten whose
# days move gets strata for nothing, at 8 a weekend must differ by more than four times what days do.
_SURE = 4.0
# Rows that a parent's mix is worth at least: below, a first rare value would stand alone in its stratum.
_LEAST_PRIOR = 20.0
# Stands for 0 in denominators: shares and rows of hours that have none.
_TINY = 1e-300
# Largest share of a usual mix that one day made itself: of its weekday alone it is all of it, and what is divided by
# the rest would be without bound; of two such days it is half.
_MOST_OWN = 0.5
# How far a day may tilt a cell of an hour's mix: a cell of a few rows on one day proves no factor beyond ten.
_TILT = 10.0


@dataclass(frozen=True, slots=True)
class Season:
    """What hours teach of a subject: ``strata`` counts [168, 24 or 1, C] by fine cell, and the usual mix of days.

    ``days`` float64[7, K] is the expected mix of each weekday in coarse cells; ``leverage`` float64[7] the share of it
    that one such day of the past made itself.
    """

    strata: Counts
    days: Floats
    leverage: Floats

    def folded(self, strata: int) -> Counts:
        """Return the counts in as many strata as the model needs: one that has fewer has them over and over."""
        return np.asarray(np.tile(self.strata, (strata // len(self.strata), 1)), np.int64)


@dataclass(frozen=True, slots=True)
class SeasonCounts:
    """Sums from which seasons are learned: all additive.

    ``hours`` int64[24, C] in fine cells, ``week`` int64[168, K] in coarse ones, ``squares`` float64[K] the sum over
    blocks (an hour of one day) of counts^2 / rows, ``blocks`` int64[168] how many had rows. ``days`` int64[D, K] are
    whole days, ``weekday`` int64[D] theirs from Monday, ``grid`` int64[C] the coarse cell of each fine one.
    """

    hours: Counts
    week: Counts
    squares: Floats
    blocks: Counts
    days: Counts
    weekday: Integers
    grid: Integers


class SeasonSumsState(State, frozen=True):
    """The sums of `SeasonSums`, and the hour that is still open: its start and its counts."""

    week: Counts
    squares: Floats
    blocks: Counts
    open: int
    open_counts: Counts


class SeasonSums:
    """Sums over panes, by hour of the day in fine cells and by hour of the week in coarse ones of all subjects.

    An hour of one day is a block, which ends with the first pane of another. Hours are those of ``timezone``.
    """

    def __init__(self, width: int, coarse: int, timezone: str = UTC_ZONE) -> None:
        self.timezone = timezone
        self.hours: Counts = np.zeros((HOURS_OF_DAY, width), np.int64)
        self.week: Counts = np.zeros((HOURS_OF_WEEK, coarse), np.int64)
        self.squares: Floats = np.zeros(coarse)
        self.blocks: Counts = np.zeros(HOURS_OF_WEEK, np.int64)
        self._open, self._open_counts = -1, np.zeros(coarse, np.int64)

    def add(self, start: int, fine: Counts, coarse: Counts, parts: Sequence[slice]) -> None:
        """Add a pane that begins at ``start`` ms; ``parts`` are the subjects' places in ``coarse``."""
        start = local_ms(start, self.timezone)
        hour = start // HOUR_MS
        if hour != self._open:
            self._close(parts)
            self._open = hour
            self._open_counts[:] = 0
        self._open_counts += coarse
        self.hours[stratum_of(start, HOURS_OF_DAY)] += fine
        self.week[stratum_of(start, HOURS_OF_WEEK)] += coarse

    def add_blocks(self, starts: Integers, fine: Counts, coarse: Counts) -> None:
        """Add whole hours of one subject that begin at ``starts``, in ms of the clock on the wall."""
        of = np.array([stratum_of(int(start), HOURS_OF_WEEK) for start in starts])
        np.add.at(self.hours, of % HOURS_OF_DAY, fine)
        np.add.at(self.week, of, coarse)
        np.add.at(self.blocks, of[coarse.any(axis=1)], 1)
        self.squares += block_squares(coarse)

    def counts(self, fine: slice, coarse: slice, days: Counts, weekday: Integers, grid: Integers) -> "SeasonCounts":
        """Return the sums of the subject that stands there, with its days."""
        hours, week = self.hours[:, fine], self.week[:, coarse]
        return SeasonCounts(hours, week, self.squares[coarse], self.blocks, days, weekday, grid)

    def state(self) -> SeasonSumsState:
        """Return what ``restore`` needs beside ``hours``."""
        return SeasonSumsState(
            week=self.week.astype(np.int32),
            squares=self.squares.copy(),
            blocks=self.blocks.copy(),
            open=self._open,
            open_counts=self._open_counts.copy(),
        )

    def restore(self, state: SeasonSumsState) -> None:
        """Take over what ``state`` gave."""
        self.week, self.squares = state.week.astype(np.int64), state.squares.copy()
        self.blocks, self._open, self._open_counts = state.blocks.copy(), state.open, state.open_counts.copy()

    def _close(self, parts: Sequence[slice]) -> None:
        """The hour that was open is over."""
        if self._open < 0 or not self._open_counts.any():
            return
        for part in parts:
            self.squares[part] += block_squares(self._open_counts[None, part])
        self.blocks[stratum_of(self._open * HOUR_MS, HOURS_OF_WEEK)] += 1


def weekday_of(days: Integers) -> Integers:
    """Return the weekday from Monday of days since the epoch, a Thursday."""
    return np.asarray((days + 3) % DAYS_OF_WEEK, np.int64)


def block_squares(blocks: Counts) -> Floats:
    """Return sum over blocks [B, K] of counts^2 / rows, [K]; blocks without rows add nothing."""
    rows = np.maximum(blocks.sum(axis=1, keepdims=True), 1)
    return np.asarray((blocks * (blocks / rows)).sum(axis=0), np.float64)


def pooling(groups: Counts, parents: Integers, squares: Floats, blocks: int) -> float:
    """Return kappa, the rows that the parent's mix is worth beside a group's own; inf where groups are alike.

    groups [G, K] counts, parents [G] which parent each has, squares [K] as `block_squares` of ``blocks`` blocks that
    lie within groups: how much blocks of one group differ is what groups may differ by without being different, so
    days that move together and rows that lean on each other are no season. By moments of unweighted squares, so that
    rare cells do not decide. By hand: two groups of 50 + 50 and 50 + 50 differ in nothing: inf.
    """
    rows = groups.sum(axis=1).astype(np.float64)
    groups, parents, rows = groups[rows > 0], parents[rows > 0], rows[rows > 0]
    if len(rows) < 2 or blocks <= len(rows):
        return np.inf
    above = np.zeros((int(parents.max()) + 1, groups.shape[1]))
    np.add.at(above, parents, groups)
    above_rows = above.sum(axis=1)
    p = above.sum(axis=0) / above.sum()
    variance = float((p * (1 - p)).sum())
    if variance <= 0:
        return np.inf
    own, total = (
        block_squares(groups),
        np.where(above_rows[:, None] > 0, above**2 / np.maximum(above_rows, 1)[:, None], 0),
    )
    within, between = float((squares - own).sum()), float((own - total.sum(axis=0)).sum())
    degrees, free = len(rows) - int((above_rows > 0).sum()), blocks - len(rows)
    if degrees < 1:
        return np.inf
    noise = max(within / (free * variance), 1.0)
    if between / (degrees * variance) <= noise * _doubt(degrees, free):
        return np.inf
    spread = float(
        rows.sum()
        - np.bincount(parents, weights=rows**2, minlength=len(above_rows))[above_rows > 0]
        @ (1 / above_rows[above_rows > 0])
    )
    rho = (between / variance - degrees * noise) / max(spread, 1.0)
    # How far a group's mix lies from its parent's, in total variation, were each cell normal.
    if 0.5 * np.sqrt(2 / np.pi) * float(np.sqrt(rho * p * (1 - p)).sum()) <= SEASON:
        return np.inf
    return noise / rho


def _doubt(degrees: int, free: int) -> float:
    """The ratio of variances, of so many degrees of freedom each, from which groups count as different."""
    return 1 + _SURE * float(np.sqrt(2 / degrees + 2 / free))


def learn_season(counts: SeasonCounts) -> Season:
    """Return the strata of a subject by partial pooling; O(168 C)."""
    hours, everything = counts.hours, counts.hours.sum(axis=0)
    pooled = everything / max(int(everything.sum()), 1)
    coarse = _folded(everything, counts.grid)
    total = float(everything.sum())
    within = counts.squares, int(counts.blocks.sum())
    by_hour = counts.week.reshape(DAYS_OF_WEEK, HOURS_OF_DAY, -1)
    hour_kappa = pooling(by_hour.sum(axis=0), np.zeros(HOURS_OF_DAY, np.int64), *within)
    by_day = by_hour.sum(axis=1)
    between_days = block_squares(counts.days), int((counts.days.sum(axis=1) > 0).sum())
    classes = np.stack([by_day[k == _WEEKEND].sum(axis=0) for k in (0, 1)])
    class_kappa = pooling(classes, np.zeros(2, np.int64), *between_days)
    day_kappa = pooling(by_day, _WEEKEND, *between_days)
    daily, weekly = bool(np.isfinite(hour_kappa)), bool(np.isfinite(min(class_kappa, day_kappa)))
    hour_mix, hour_rows = _shrunk(hours, pooled[None], hour_kappa, total)
    share = coarse / max(total, 1.0)
    class_mix, class_rows = _shrunk(classes, share[None], class_kappa, total)
    day_mix, day_rows = _shrunk(by_day, class_mix[_WEEKEND], day_kappa, class_rows[_WEEKEND])
    # One row in all on both sides, so that a cell without rows has no tilt.
    tilt = np.clip((day_mix + 1 / max(total, 1.0)) / (share + 1 / max(total, 1.0)), 1 / _TILT, _TILT)
    main = (hour_mix[None] * tilt[:, None, counts.grid]).reshape(HOURS_OF_WEEK, -1)
    main /= np.maximum(main.sum(axis=1, keepdims=True), _TINY)
    known = np.minimum(hour_rows[None, :], day_rows[:, None]).ravel()
    main_coarse = _folded(main, counts.grid)
    week_kappa = _interaction(counts, main_coarse, within)
    weekly = weekly or bool(np.isfinite(week_kappa))
    prior = np.minimum(max(week_kappa, _LEAST_PRIOR), known)
    # A coarse cell's own rows lie within it as those of its hour do.
    inner = np.divide(main, main_coarse[:, counts.grid], out=np.zeros_like(main), where=main_coarse[:, counts.grid] > 0)
    if np.isfinite(week_kappa):
        strata = prior[:, None] * main + counts.week[:, counts.grid] * inner
    else:
        strata = known[:, None] * main
    expected, leverage = _usual_days(counts, _folded(strata, counts.grid), day_rows, by_day)
    if not weekly:
        strata = hour_mix * hour_rows[:, None] if daily else everything[None].astype(np.float64)
    return Season(whole_counts(strata), expected, leverage)


def _shrunk(groups: Counts, parents: Floats, kappa: float, most: Floats | float) -> tuple[Floats, Floats]:
    """Mixes [G, C] of groups shrunk to their parents' mixes, and the rows that each is worth, [G]."""
    prior = np.broadcast_to(np.minimum(kappa, most), len(groups)).astype(np.float64)
    if not np.isfinite(kappa):
        return np.broadcast_to(parents, groups.shape).copy(), prior
    rows = groups.sum(axis=1) + prior
    return (groups + prior[:, None] * parents) / np.maximum(rows, _TINY)[:, None], rows


def _interaction(counts: SeasonCounts, main: Floats, within: tuple[Floats, int]) -> float:
    """kappa of hours of the week about what their hour and day say together, as `pooling` has it."""
    week, (squares, blocks) = counts.week, within
    rows = week.sum(axis=1).astype(np.float64)
    seen = rows > 0
    free = blocks - int(seen.sum())
    # As if hours and days had been given and not fitted: a little of the difference is lost, and nothing is invented.
    degrees = int(seen.sum()) - 1
    p = week.sum(axis=0) / max(rows.sum(), 1.0)
    variance = float((p * (1 - p)).sum())
    # An hour of the week that was seen once shows no noise of its own: half of them must have been seen twice, so some
    # ten days; with fewer a holiday in the one week would be the rhythm of its hours.
    if free < HOURS_OF_WEEK // 2 or degrees < 1 or variance <= 0:
        return np.inf
    noise = max(float((squares - block_squares(week)).sum()) / (free * variance), 1.0)
    residual = week - rows[:, None] * main
    between = float((residual[seen] ** 2 / rows[seen, None]).sum())
    if between / (degrees * variance) <= noise * _doubt(degrees, free):
        return np.inf
    spread = float(rows.sum()) * degrees / max(int(seen.sum()), 1)
    rho = (between / variance - degrees * noise) / max(spread, 1.0)
    return noise / max(rho, _TINY)


def _usual_days(counts: SeasonCounts, strata: Floats, day_rows: Floats, by_day: Counts) -> tuple[Floats, Floats]:
    """The expected mix of each weekday [7, K], and the share of it that one of its days made itself, [7]."""
    rows = counts.week.sum(axis=1).astype(np.float64)
    mixed = strata / np.maximum(strata.sum(axis=1, keepdims=True), _TINY)
    weighted = (rows[:, None] * mixed).reshape(DAYS_OF_WEEK, HOURS_OF_DAY, -1).sum(axis=1)
    expected = weighted / np.maximum(weighted.sum(axis=1, keepdims=True), _TINY)
    number = np.bincount(counts.weekday, minlength=DAYS_OF_WEEK)
    one = by_day.sum(axis=1) / np.maximum(number, 1)
    return expected, np.minimum(one / np.maximum(day_rows, 1.0), _MOST_OWN)


def _folded(cells: Floats | Counts, grid: Integers) -> Floats:
    """Counts or shares [..., C] added up in coarse cells, [..., K]."""
    out = np.zeros((*cells.shape[:-1], int(grid.max()) + 1))
    np.add.at(out.reshape(-1, out.shape[-1]).T, grid, cells.reshape(-1, cells.shape[-1]).T)
    return out


def whole_counts(strata: Floats) -> Counts:
    """Whole counts whose sums stay: what is rounded off one cell goes to the next."""
    return np.diff(np.round(np.cumsum(strata, axis=1)), axis=1, prepend=0.0).astype(np.int64)
