"""Labels of predictions, counted: how many are ripe, on which side of the onset, and which rows want one.

Where only positives are labelled a row without a label is negative once its label would have come: not before the
first label that is left, and not where an action keeps labels away.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from stationkeeper.contracts.column import Integers
from stationkeeper.contracts.labels.actions import EXPECTED, LEAST, ActionLabels
from stationkeeper.contracts.labels.delay import Absence
from stationkeeper.retrain.core.labels import age_of_absence, positive_texts
from stationkeeper.retrain.core.plan import AbsentLabels, LabelStatistics
from stationkeeper.retrain.snapshot.events import ACTION, LABEL, LABEL_TIME, TIME
from stationkeeper.streams.ports import Partition

MATURITY_QUANTILE = 0.99
"""The share of labels that must have come before rows count as labelled, where ``labels.maturity`` is auto: rows that
are still open look negative. Lower trains sooner on rows whose positives are missing, 1 would wait for the slowest
label ever."""


@dataclass(frozen=True, slots=True)
class Wanting:
    """Which rows without a label want one that would have come: those from ``since`` on, of no ``shut`` action.

    ``text`` is the class that they have for want of it. Of rows before ``since`` no label counts, neither class: frauds
    of days that have no honest rows would raise the share of frauds, and teach that such days are fraud. ``cut`` says
    that labels of before are gone from their topic.
    """

    since: int
    shut: tuple[str, ...]
    text: str
    cut: bool = False

    def expr(self, present: list[str]) -> pl.Expr:
        """Return whether a row without a label wants one, of a frame with the columns ``present``."""
        known = pl.col(TIME) >= self.since
        return known & ~pl.col(ACTION).fill_null("").is_in(self.shut) if ACTION in present and self.shut else known

    def given(self, present: list[str]) -> list[pl.Expr]:
        """Return the labels and their times, ``text`` where one is wanting."""
        label, time = (pl.when(pl.col(TIME) >= self.since).then(pl.col(name)) for name in (LABEL, LABEL_TIME))
        text = pl.when(self.expr(present)).then(label.fill_null(self.text)).otherwise(label)
        return [text.alias(LABEL), time.alias(LABEL_TIME)]


def told_times(before: tuple[int, int] | None, told: Integers) -> tuple[int, int]:
    """Return the times of a partition's first and earliest label after those ``told`` (ms, not empty), in log order."""
    first, earliest = before or (int(told[0]), int(told[0]))
    return first, min(earliest, int(told.min()))


def told_from(told: Mapping[Partition, tuple[int, int]], begin: Mapping[Partition, int]) -> tuple[int, bool]:
    """Return since when (ms) labels can be known, and whether any of before are gone from their topic.

    ``told`` are the times of the first and of the earliest label of each partition, ``begin`` its first offset.
    Retention takes from each partition at another time, so it is the latest first one of those that have lost any: of a
    row before it the label may be gone. Where none is lost it is the earliest, in whatever order labels were written.
    """
    cut = [first for partition, (first, _) in told.items() if begin[partition] > 0]
    return (max(cut), True) if cut else (min((earliest for _, earliest in told.values()), default=0), False)


def wanting_from(labelled: Iterable[pl.DataFrame], since: int, until: int, text: str, *, cut: bool = False) -> Wanting:
    """Find the actions that keep labels away, among rows from ``since`` until ``until`` (ms).

    Only positives are labelled, so that an action may also have few for being harmless; that errs to no evidence.
    """
    actions: dict[str, tuple[int, int]] = {}
    for rows in labelled:
        if ACTION in rows.columns:
            _count_actions(rows.filter(pl.col(TIME).is_between(since, until)), actions)
    found = [ActionLabels(name, *actions[name]) for name in sorted(actions)]
    return Wanting(since, tuple(one.action for one in found if not _labels_come(one, found)), text, cut)


def _labels_come(one: ActionLabels, actions: Sequence[ActionLabels]) -> bool:
    """Return whether positives of an action get their label, so that one of its rows without is a negative.

    Unlike ``shut_actions``, which speaks only where ten labels were due: frauds are rare. By hand: of 997 000 approved
    payments 2 000 are frauds, so of 3 000 that were blocked six labels would be due, and none came; these are mostly
    frauds, and would all be honest. Of fewer than ten labels in all the most frequent action alone is trusted.
    """
    best = max(actions, key=lambda other: (other.labelled, other.rows))
    if best.labelled < EXPECTED:
        return one == max(actions, key=lambda other: other.rows)
    return one.labelled > LEAST * best.labelled / best.rows * one.rows


def count_labels(
    labelled: Iterable[pl.DataFrame],
    onset_ms: int,
    as_of_ms: int,
    maturity_ms: int | None,
    positive: str,
    wanting: Wanting | None,
    age_ms: int | None,
) -> LabelStatistics:
    """Count ripe rows before and after the onset, those ``wanting`` a label too; a None maturity is estimated."""
    before = after = positives = absent = 0
    actions: dict[str, tuple[int, int]] = {}
    for every in labelled:
        told = pl.col(LABEL).is_not_null()
        known = told if wanting is None else (told & (pl.col(TIME) >= wanting.since)) | wanting.expr(every.columns)
        rows = every.filter(known)
        if maturity_ms is None:
            maturity_ms = label_maturity(rows)
        # A younger labelled row is one whose label came quickly; where positives are told sooner than negatives those
        # alone would teach a rate that nobody has.
        ripe = rows.filter(pl.col(TIME) <= as_of_ms - maturity_ms)
        later = ripe.filter(pl.col(TIME) >= onset_ms)
        yes = positive_texts(later[LABEL].drop_nulls().unique().to_list(), positive)
        before, after = before + len(ripe) - len(later), after + len(later)
        positives += int(later[LABEL].is_in(list(yes)).sum())
        absent += later[LABEL].null_count()
        if ACTION in every.columns:
            _count_actions(every.filter(pl.col(TIME).is_between(onset_ms, as_of_ms - maturity_ms)), actions)
    done = tuple(ActionLabels(name, *actions[name]) for name in sorted(actions))
    none = None if wanting is None else AbsentLabels(absent, age_ms, wanting.since if wanting.cut else None)
    return LabelStatistics(as_of_ms, maturity_ms or 0, before, after, positives, done, none)


def label_maturity(rows: pl.DataFrame) -> int:
    """Return the age (ms) by which 99 % of labels have come, from the older half of the labelled rows.

    The younger half would hold the quick labels only. Zero without rows.
    """
    if rows.is_empty():
        return 0
    older = rows.filter(pl.col(TIME) <= pl.col(TIME).median())
    delay = older.select((pl.col(LABEL_TIME) - pl.col(TIME)).quantile(MATURITY_QUANTILE, "higher")).item()
    return max(0, int(delay))


def absent_from(
    absence: Absence, labelled: Iterable[pl.DataFrame], positive: str, since: int, until: int
) -> tuple[int, int | None]:
    """Return the time of the oldest row from ``since`` on, and the age from which one without a label is negative.

    Ages are counted to ``until``, the latest label: what came since may be on its way.
    """
    first, told = until, [pl.DataFrame(schema={TIME: pl.Int64, LABEL_TIME: pl.Int64})]
    for every in labelled:
        rows = every.filter(pl.col(TIME) >= since)
        first = min(first, int(rows[TIME].to_numpy().min(initial=first)))
        yes = positive_texts(rows[LABEL].drop_nulls().unique().to_list(), positive)
        told.append(rows.filter(pl.col(LABEL).is_in(list(yes))).select(TIME, LABEL_TIME))
    times, known = (pl.concat(told)[name].to_numpy() for name in (TIME, LABEL_TIME))
    return first, age_of_absence(absence, until - times, known - times, until - first)


def _count_actions(rows: pl.DataFrame, actions: dict[str, tuple[int, int]]) -> None:
    """Add to (rows, labels) of each action those of ``rows``."""
    known = rows.filter(pl.col(ACTION).is_not_null())
    for action, n, told in known.group_by(ACTION).agg(pl.len(), pl.col(LABEL).count().alias("told")).rows():
        one = actions.get(action, (0, 0))
        actions[action] = (one[0] + n, one[1] + told)
