"""What the order of the reference's rows teaches: dependence, day-to-day movement, seasons, traffic, repeats."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from stationkeeper.contracts.column import Categories, Column, Floats, Integers
from stationkeeper.contracts.times import UTC_ZONE, local_times
from stationkeeper.monitor.core.adoption.dependence import (
    BLOCKS,
    FLOOR_QUANTILE,
    MIN_BLOCKS,
    SURE,
    learned_phi,
    natural_floor,
    sampling_noise,
)
from stationkeeper.monitor.core.adoption.season import Season, SeasonSums, learn_season, weekday_of
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
# Draws of the noise of a floor, and how sure it must be: the 95 % quantile of 200 is the eleventh largest. Half as many
# make it jump by itself; 99 % would call less movement natural, so that a lively subject pages more.
_REPLICATES = 200
_CERTAIN = 0.95
# Days from which a floor counts as known: the .95 quantile of Student's t is then within 5 % of the normal one.
ENOUGH_DAYS = 20
# That quantile for 1, 2, ... degrees of freedom, the normal one last (tables of Student's t).
_STUDENT = (
    *(6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833),
    *(1.812, 1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.645),
)
FEW_DAYS = "day-to-day movement was learned from"
"""How the note of a reference begins whose floors few days taught; the power card shows it."""
# A seed of its own, so that adopting twice gives one answer; which number it is does not matter.
_SEED = 20_170_911


@dataclass(frozen=True, slots=True)
class Timeline:
    """To which pane each reference row belongs, in order of time: ``group`` int64[n] in 0..panes-1.

    ``starts`` int64[panes] are pane starts in epoch milliseconds, or None where row number is time; ``local`` the same
    by the clock of ``timezone``, which tells hours and days.
    """

    group: Integers
    panes: int
    length: int
    starts: Integers | None = None
    timezone: str = UTC_ZONE
    local: Integers | None = None

    @classmethod
    def of_rows(cls, rows: int, length: int) -> "Timeline":
        """Panes of ``length`` rows each; a shorter remainder joins the last one."""
        panes = max(rows // length, 1)
        return cls(np.minimum(np.arange(rows) // length, panes - 1), panes, length)

    @classmethod
    def of_times(cls, times: Integers, length: int, timezone: str = UTC_ZONE) -> "Timeline":
        """Panes of ``length`` ms over the span of ``times`` int64[n]; panes without rows are left out."""
        starts, group = np.unique(times // length, return_inverse=True)
        starts = starts * length
        return cls(group.reshape(-1), len(starts), length, starts, timezone, local_times(starts, timezone))


def adopt(reference: Reference, columns: Mapping[str, Column], timeline: Timeline) -> Reference:
    """Return the reference with what the order of its rows teaches; the digest does not change.

    ``columns`` hold the reference's rows by subject. With fewer than ``MIN_PANES`` panes dependence stays unknown and a
    note says so. Seasons are used (one bag an hour) only where hours or weekdays differ by more than their days do.
    O(rows features + panes cells features).
    """
    if timeline.panes < MIN_PANES:
        note = f"dependence unknown: {timeline.panes} panes in the reference, at least {MIN_PANES} are needed"
        return replace(reference, notes=(*reference.notes, note))
    rows = np.bincount(timeline.group, minlength=timeline.panes)
    starts, learned = timeline.starts, {}
    columns = reference.with_pairs(columns)
    for subject in reference.watched:
        column = columns.get(subject.name)
        if column is not None:
            panes = subject.cells.tally(column, timeline.group, timeline.panes)[:, : subject.cells.count]
            learned[subject.name] = panes, _season(subject, panes, timeline)
    strata = max((len(season.strata) for _, season in learned.values() if season is not None), default=1)
    days = 0 if timeline.local is None else len(np.unique(timeline.local // DAY_MS))
    watched = [
        _learn(subject, columns[subject.name], *learned[subject.name], timeline, strata)
        if subject.name in learned
        else subject
        for subject in reference.watched
    ]
    traffic = None if starts is None else traffic_of(starts, timeline.length, rows, timeline.timezone)
    notes = (*reference.notes, *widened_note(days))
    return replace(reference.with_watched(watched), traffic=traffic, notes=notes, timezone=timeline.timezone)


def inherit(reference: Reference, before: Reference) -> Reference:
    """Return a reference that takes from ``before`` how the stream itself behaves: dependence, daily movement, repeats.

    Both are laws of the stream more than of a training set, so a version whose own rows had no order of time need not
    learn them anew. Of each subject of one kind the larger phi and floor count; strata and counts stay the reference's
    own. O(features).
    """
    subjects = []
    for subject in reference.watched:
        old = before.by_name.get(subject.name)
        if old is None or old.kind is not subject.kind:
            subjects.append(subject)
            continue
        phi = subject.phi
        if len(old.phi):
            phi = np.maximum(phi, old.phi) if len(phi) else old.phi
        within = subject.phi_within_days
        if len(subject.phi):
            # Both must know that days move independently, else the whole of phi counts.
            within = np.maximum(within, old.phi_within_days) if len(within) == len(old.phi_within_days) else within[:0]
        else:
            within = old.phi_within_days
        floor, repeats = max(subject.day_floor or 0.0, old.day_floor or 0.0), max(subject.repeats, old.repeats)
        subjects.append(replace(subject, phi=phi, phi_within_days=within, day_floor=floor, repeats=repeats))
    return reference.with_watched(subjects)


def may_take_over(before: Reference) -> bool:
    """Whether ``inherit`` is enough to judge at once: dependence is known, and no season that cells must hold."""
    return before.adopted and not any(len(subject.strata) for subject in before.subjects)


@dataclass(frozen=True, slots=True)
class Movement:
    """How far blocks move by themselves, in TV, 0 where sampling alone explains it.

    ``independent`` says that they do, and that a block says nothing of the next: weather lasts for days, so that
    several in a row lie beyond any floor, and dependence has to carry them.
    """

    size: float = 0.0
    independent: bool = False


def excess_floor(blocks: Counts, usual: Floats | None = None, own: Floats | None = None) -> float:
    """Return the natural movement between blocks [D, K] in TV, 0 where sampling alone explains it; see ``movement``."""
    return movement(blocks, usual, own).size


def movement(blocks: Counts, usual: Floats | None = None, own: Floats | None = None) -> Movement:
    """Return the natural movement between blocks [D, K] in TV.

    ``usual`` [D, K] is the mix that each block should have (its weekday's; without: that of all blocks) and ``own`` [D]
    the share of it that the block made itself, by which the movement is larger than it looks. ``natural_floor`` of
    equal laws is above 0 by its own noise; it counts only beyond the 95 % quantile of what 200 seeded replicates of
    multinomial blocks give, and then without their median (squares subtract). By hand: equal blocks give 0.
    """
    kept = blocks.sum(1) > 0
    some = blocks[kept]
    if len(some) < 2:
        return Movement()
    p = some.sum(0) / some.sum() if usual is None else usual[kept]
    found = natural_floor(some, None if usual is None else p)
    generator = np.random.Generator(np.random.Philox(key=_SEED))
    drawn = generator.multinomial(some.sum(1), p, size=(_REPLICATES, len(some)))
    noise = _floors(drawn, None if usual is None else p)
    if found <= float(np.quantile(noise, _CERTAIN)):
        return Movement()
    beyond = float(np.sqrt(max(found**2 - float(np.median(noise)) ** 2, 0.0)))
    size = beyond if own is None else beyond / (1 - float(np.median(own[kept])))
    return Movement(size, not _lasts(some / some.sum(1, keepdims=True) - p))


def _lasts(off: Floats) -> bool:
    """Whether what blocks are off by, [D, K] in order, goes on into the next: correlation beyond 1 / sqrt(D).

    That is one standard error of independent blocks: one such stream in six is taken for one that lasts, and keeps its
    whole phi; at two, 21 days of weather correlated by .4 pass as independent.
    """
    square = float((off * off).sum())
    return square <= 0 or float((off[1:] * off[:-1]).sum()) / square > 1 / np.sqrt(len(off))


def widening(days: int) -> float:
    """Return by how much a floor that this many days taught is widened, 1 from ``ENOUGH_DAYS`` on, and for none.

    As the .95 quantile of Student's t with days - 1 degrees of freedom is to the normal one: what a few days move by is
    itself known badly. By hand: two days 6.314 / 1.645 = 3.84, ten days 1.833 / 1.645 = 1.11.
    """
    return _STUDENT[max(days - 2, 0)] / _STUDENT[-1] if 0 < days < ENOUGH_DAYS else 1.0


def widened_note(days: int) -> tuple[str, ...]:
    """Return what the power card says where few days taught how a day moves."""
    if not 1 < days < ENOUGH_DAYS:
        return ()
    return (f"{FEW_DAYS} {days} days: floors are {widening(days):.2f} times as wide as {ENOUGH_DAYS} would make them",)


def _floors(blocks: Counts, usual: Floats | None = None) -> Floats:
    """The floor of many sets of blocks [R, D, K] in one pass, float64[R].

    As ``natural_floor``, but for the noise quantile that it takes off, so that replicates lie a little higher than what
    they are compared with: a floor is then found later, never for nothing.
    """
    sizes = blocks.sum(2, keepdims=True)
    p = blocks.sum(1, keepdims=True) / sizes.sum(1, keepdims=True) if usual is None else usual
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


def day_movement(days: Counts, weekday: Integers, season: Season | None) -> Movement:
    """Return how far whole days, int64[D, K] in coarse cells, move by themselves.

    About their weekday's mix where weeks have one; widened where there are few days.
    """
    if season is not None and len(season.strata) == HOURS_OF_WEEK:
        found = movement(days, season.days[weekday], season.leverage[weekday])
    else:
        found = movement(days)
    return replace(found, size=found.size * widening(len(days)))


def floor_of(moves: Movement, days: Counts, season: Season | None) -> float:
    """Return the floor of days, int64[D, K] in coarse cells, that move so far.

    At least what sampling leaves open of rows that many strata share, or what they have wrong in common would be drift
    in each.
    """
    if season is None or len(season.strata) <= 1:
        return moves.size
    total = days.sum(axis=0)
    return max(moves.size, float(sampling_noise(total / max(total.sum(), 1), int(total.sum()))))


def _season(subject: ReferenceSubject, panes: Counts, timeline: Timeline) -> Season | None:
    """What the hours of the week teach of a subject; None where panes have no time, or are longer than an hour."""
    if timeline.local is None or timeline.length > HOUR_MS or not panes.any():
        return None
    sums = SeasonSums(panes.shape[1], int(subject.grid.max()) + 1)
    hour = timeline.local // HOUR_MS
    cuts = np.flatnonzero(np.diff(hour, prepend=hour[0] - 1))
    blocks = np.add.reduceat(panes, cuts, axis=0)
    sums.add_blocks(hour[cuts] * HOUR_MS, blocks, coarse_cells(subject, blocks))
    days, weekday = _days(panes, timeline)
    if weekday is None:
        return None
    return learn_season(sums.counts(slice(None), slice(None), coarse_cells(subject, days), weekday, subject.grid))


def _learn(
    subject: ReferenceSubject,
    column: Column,
    panes: Counts,
    season: Season | None,
    timeline: Timeline,
    strata: int,
) -> ReferenceSubject:
    kind = "numeric" if subject.kind is Kind.NUMERIC else "categorical"
    latest = slice(max(0, len(panes) - MAX_PANES), None)
    usable = panes[latest] if panes.any() else panes[:0]
    kept: Counts = np.empty((0, 0), np.int64)
    of: Integers | None = None
    if strata > 1 and timeline.local is not None:
        kept = season.folded(strata) if season is not None else np.tile(subject.counts, (strata, 1))
        of = np.array([stratum_of(int(start), strata) for start in timeline.local[latest]])[: len(usable)]
    days, weekday = _days(panes, timeline)
    coarse = coarse_cells(subject, days)
    moves = Movement(excess_floor(coarse)) if weekday is None else day_movement(coarse, weekday, season)
    floor = floor_of(moves, coarse, season)
    known = kept if len(kept) else None
    phi = learned_phi(usable, kind, of, known)  # type: ignore[arg-type]
    within = np.empty(0)
    # Of blocks of rows nobody knows where a day ends.
    if timeline.local is not None and moves.independent:
        within = learned_phi(usable, kind, of, known, timeline.local[latest][: len(usable)] // DAY_MS)  # type: ignore[arg-type]
    return replace(subject, phi=phi, phi_within_days=within, day_floor=floor, strata=kept, repeats=longest_run(column))


def _days(panes: Counts, timeline: Timeline) -> tuple[Counts, Integers | None]:
    """Whole days with their weekdays from Monday where time is known, else a dozen blocks of panes in order."""
    weekday: Integers | None = None
    if timeline.local is not None:
        found, group = np.unique(timeline.local // DAY_MS, return_inverse=True)
        weekday, group = weekday_of(found), group.reshape(-1)
    else:
        group = np.arange(len(panes)) * FLOOR_BLOCKS // len(panes)
    out = np.zeros((int(group.max()) + 1, panes.shape[1]), np.int64)
    np.add.at(out, group, panes)
    return out, weekday
