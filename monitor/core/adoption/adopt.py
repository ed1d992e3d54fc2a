"""What the order of the reference's rows teaches: dependence, day-to-day movement, seasons, traffic, repeats."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from stationkeeper.contracts.column import Categories, Column, Floats, Integers
from stationkeeper.monitor.core.adoption.dependence import (
    BLOCKS,
    FLOOR_QUANTILE,
    HOURS_OF_DAY,
    MIN_BLOCKS,
    SURE,
    choose_strata,
    fold_strata,
    learned_phi,
    natural_floor,
)
from stationkeeper.monitor.core.adoption.traffic import DAY_MS, HOUR_MS, traffic_of
from stationkeeper.monitor.core.charts import coarse_cells
from stationkeeper.monitor.core.panes import stratum_of
from stationkeeper.monitor.core.reference import HOURS_OF_WEEK, Counts, Kind, Reference, ReferenceSubject

# Dependence is learned from the latest so many panes. Chosen: at 1-minute panes three and a half days; twice as many
# cost twice the time of a profile, half as many leave 156 blocks of 16 panes, still enough for `MIN_BLOCKS`.
MAX_PANES = 5_000
# Fewer panes say nothing of dependence (`dependence.MIN_BLOCKS`): phi stays unknown, and with it every page of drift.
MIN_PANES = 20
# Without times, blocks of rows in order stand for days. Chosen: a 90 % quantile of fewer is their maximum, and more
# blocks are shorter, so that their own noise hides what moves between them.
FLOOR_BLOCKS = 12
# Hours that differ by less than the default effect floor (.02 of the traffic moved cell) need no strata of their own:
# strata cost rows, and at .04 a daily swing of .1 sd (TV .04) would be judged against all hours.
SEASON = 0.02
# Draws of the noise of a floor, and how sure it must be: the 95 % quantile of 200 is the eleventh largest. Half as many
# make it jump by itself; 99 % would call less movement natural, so that a lively subject pages more.
_REPLICATES = 200
_CERTAIN = 0.95
# A seed of its own, so that adopting twice gives one answer; which number it is does not matter.
_SEED = 20_170_911


@dataclass(frozen=True, slots=True)
class Timeline:
    """To which pane each reference row belongs, in order of time: ``group`` int64[n] in 0..panes-1.

    ``starts`` int64[panes] are pane starts in epoch milliseconds, or None where row number is time.
    """

    group: Integers
    panes: int
    length: int
    starts: Integers | None = None

    @classmethod
    def of_rows(cls, rows: int, length: int) -> "Timeline":
        """Panes of ``length`` rows each; a shorter remainder joins the last one."""
        panes = max(rows // length, 1)
        return cls(np.minimum(np.arange(rows) // length, panes - 1), panes, length)

    @classmethod
    def of_times(cls, times: Integers, length: int) -> "Timeline":
        """Panes of ``length`` ms over the span of ``times`` int64[n]; panes without rows are left out."""
        starts, group = np.unique(times // length, return_inverse=True)
        return cls(group.reshape(-1), len(starts), length, starts * length)


def adopt(reference: Reference, columns: Mapping[str, Column], timeline: Timeline) -> Reference:
    """Return the reference with what the order of its rows teaches; the digest does not change.

    ``columns`` hold the reference's rows by subject. With fewer than ``MIN_PANES`` panes dependence stays unknown and a
    note says so. Seasons are used (one bag an hour) only where the hours differ by more than ``SEASON`` of the traffic.
    O(rows features + panes cells features).
    """
    if timeline.panes < MIN_PANES:
        note = f"dependence unknown: {timeline.panes} panes in the reference, at least {MIN_PANES} are needed"
        return replace(reference, notes=(*reference.notes, note))
    rows = np.bincount(timeline.group, minlength=timeline.panes)
    hours = _hours(timeline)
    strata = _strata(reference, columns, timeline, rows, hours)
    subjects = []
    for subject in reference.subjects:
        column = columns.get(subject.name)
        if column is None:
            subjects.append(subject)
            continue
        panes = subject.cells.tally(column, timeline.group, timeline.panes)[:, : subject.cells.count]
        subjects.append(_learn(subject, column, panes, timeline, hours, strata))
    starts = timeline.starts
    traffic = None if starts is None else traffic_of(starts, timeline.length, rows)
    return replace(reference, subjects=tuple(subjects), traffic=traffic)


def inherit(reference: Reference, before: Reference) -> Reference:
    """Return a reference that takes from ``before`` how the stream itself behaves: dependence, daily movement, repeats.

    Both are laws of the stream more than of a training set, so a version whose own rows had no order of time need not
    learn them anew. Of each subject of one kind the larger phi and floor count; strata and counts stay the reference's
    own. O(features).
    """
    subjects = []
    for subject in reference.subjects:
        old = before.by_name.get(subject.name)
        if old is None or old.kind is not subject.kind:
            subjects.append(subject)
            continue
        phi = subject.phi
        if len(old.phi):
            phi = np.maximum(phi, old.phi) if len(phi) else old.phi
        floor = max(subject.day_floor or 0.0, old.day_floor or 0.0)
        subjects.append(replace(subject, phi=phi, day_floor=floor, repeats=max(subject.repeats, old.repeats)))
    return replace(reference, subjects=tuple(subjects))


def may_take_over(before: Reference) -> bool:
    """Whether ``inherit`` is enough to judge at once: dependence is known, and no season that cells must hold."""
    return before.adopted and not any(len(subject.strata) for subject in before.subjects)


def excess_floor(blocks: Counts) -> float:
    """Return the natural movement between blocks [D, K] in TV, 0 where sampling alone explains it.

    ``natural_floor`` of equal laws is above 0 by its own noise; it counts only beyond the 95 % quantile of what 200
    seeded replicates of multinomial blocks give, and then without their median (squares subtract). By hand: equal
    blocks give 0.
    """
    kept = blocks[blocks.sum(1) > 0]
    if len(kept) < 2:
        return 0.0
    found = natural_floor(kept)
    generator = np.random.Generator(np.random.Philox(key=_SEED))
    p = kept.sum(0) / kept.sum()
    noise = _floors(generator.multinomial(kept.sum(1), p, size=(_REPLICATES, len(kept))))
    if found <= float(np.quantile(noise, _CERTAIN)):
        return 0.0
    return float(np.sqrt(max(found**2 - float(np.median(noise)) ** 2, 0.0)))


def _floors(blocks: Counts) -> Floats:
    """The floor of many sets of blocks [R, D, K] in one pass, float64[R].

    As ``natural_floor``, but for the noise quantile that it takes off, so that replicates lie a little higher than what
    they are compared with: a floor is then found later, never for nothing.
    """
    sizes = blocks.sum(2, keepdims=True)
    p = blocks.sum(1, keepdims=True) / sizes.sum(1, keepdims=True)
    distance = 0.5 * np.abs(blocks / sizes - p).sum(2)
    noise = 0.5 * np.sqrt(2 / np.pi) * np.sqrt(p * (1 - p) / sizes).sum(2)
    beyond = np.sqrt(np.maximum(distance**2 - noise**2, 0.0))
    return np.asarray(np.quantile(beyond, FLOOR_QUANTILE, axis=1), np.float64)


def error_phi(wrong: Floats, group: Integers, panes: int) -> float:
    """Return the variance inflation of errors, float64[n] of 0 and 1, over blocks of 1 to 16 panes; at least 1.

    The ratio of the variance of block sums to the binomial one counts from 2.5 standard errors above 1.
    """
    rows = np.bincount(group, minlength=panes).astype(np.float64)
    return pane_phi(np.asarray(np.bincount(group, weights=wrong, minlength=panes), np.float64), rows)


def pane_phi(hits: Floats, rows: Floats) -> float:
    """``error_phi`` of errors that were counted already: hits and rows by pane, float64[panes]."""
    inflation, panes = 1.0, len(rows)
    rate = float(hits.sum() / max(rows.sum(), 1.0))
    for block in BLOCKS:
        count = panes // block
        if count < MIN_BLOCKS or not 0.0 < rate < 1.0:
            break
        size = rows[: count * block].reshape(count, block).sum(1)
        centred = hits[: count * block].reshape(count, block).sum(1) - size * rate
        ratio = float((centred**2).sum() / (size.sum() * rate * (1 - rate)))
        if ratio > 1 + SURE * np.sqrt(2 / count):
            inflation = max(inflation, ratio)
    return inflation


def longest_run(column: Column) -> int:
    """Return how many rows in a row carry one value; unusable values break a run."""
    values = column.codes.astype(np.float64) if isinstance(column, Categories) else column.values
    if isinstance(column, Categories):
        values = np.where(values >= 0, values, np.nan)
    if not len(values):
        return 0
    change = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    return int(np.diff(np.append(-1, change)).max())


def _learn(
    subject: ReferenceSubject, column: Column, panes: Counts, timeline: Timeline, hours: Integers | None, strata: int
) -> ReferenceSubject:
    kind = "numeric" if subject.kind is Kind.NUMERIC else "categorical"
    by_pane = None if hours is None or strata == 1 else hours % strata
    latest = slice(max(0, len(panes) - MAX_PANES), None)
    usable = panes[latest] if panes.any() else panes[:0]
    phi = learned_phi(usable, kind, by_pane[latest] if by_pane is not None else None)  # type: ignore[arg-type]
    kept: Counts = np.empty((0, 0), np.int64)
    if by_pane is not None:
        by_hour = np.zeros((strata, panes.shape[1]), np.int64)
        np.add.at(by_hour, by_pane, panes)
        kept = fold_strata(by_hour, strata) if strata == HOURS_OF_WEEK else by_hour
    blocks = _blocks(panes, timeline)
    floor = excess_floor(coarse_cells(subject, blocks))
    return replace(subject, phi=phi, day_floor=floor, strata=kept, repeats=longest_run(column))


def _blocks(panes: Counts, timeline: Timeline) -> Counts:
    """Whole days where time is known, else a dozen blocks of panes in order."""
    if timeline.starts is not None:
        days = timeline.starts // DAY_MS
        group = np.unique(days, return_inverse=True)[1].reshape(-1)
    else:
        group = np.arange(len(panes)) * FLOOR_BLOCKS // len(panes)
    out = np.zeros((int(group.max()) + 1, panes.shape[1]), np.int64)
    np.add.at(out, group, panes)
    return out


def _hours(timeline: Timeline) -> Integers | None:
    if timeline.starts is None:
        return None
    return np.array([stratum_of(int(start), HOURS_OF_WEEK) for start in timeline.starts])


def _strata(
    reference: Reference, columns: Mapping[str, Column], timeline: Timeline, rows: Counts, hours: Integers | None
) -> int:
    """Return 168, 24 or 1: as many strata as the rows carry, and only if some subject differs between hours."""
    if hours is None or timeline.length > HOUR_MS:
        return 1
    by_hour = np.bincount(hours, weights=rows, minlength=HOURS_OF_WEEK)
    strata = choose_strata(by_hour)
    if strata == 1:
        return 1
    for subject in reference.subjects:
        column = columns.get(subject.name)
        if column is None:
            continue
        panes = coarse_cells(
            subject, subject.cells.tally(column, timeline.group, timeline.panes)[:, : subject.cells.count]
        )
        season = np.zeros((HOURS_OF_DAY, panes.shape[1]), np.int64)
        np.add.at(season, hours % HOURS_OF_DAY, panes)
        if excess_floor(season) > SEASON:
            return strata
    return 1
