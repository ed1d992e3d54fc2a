"""Labels of predictions, counted: how many are ripe, on which side of the onset, and which rows want one.

Where only positives are labelled a row without a label is negative once its label would have come: not before the
first label that is left, and not where an action keeps labels away.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from stationkeeper.contracts.column import Integers
from stationkeeper.contracts.labels.actions import EXPECTED, LEAST, ActionLabels, shut_actions
from stationkeeper.contracts.labels.delay import Absence
from stationkeeper.retrain.core.labels import AgeOfAbsence, NegativeRule, age_of_absence, positive_texts
from stationkeeper.retrain.core.plan import AbsentLabels, LabelStatistics
from stationkeeper.retrain.snapshot.events import ACTION, LABEL, LABEL_TIME, TIME
from stationkeeper.streams.ports import Partition

MATURITY_QUANTILE = 0.99
"""The share of labels that must have come before rows count as labelled, where ``labels.maturity`` is auto: rows that
are still open look negative. Lower trains sooner on rows whose positives are missing, 1 would wait for the slowest
label ever."""


@dataclass(frozen=True, slots=True)
class Wanting:
    """Which rows without a label want one that would have come, by a rule; ``text`` is the class that they have.

    Of rows before ``since_ms`` no label counts, neither class: frauds of days that have no honest rows would raise the
    share of frauds, and teach that such days are fraud.
    """

    rule: NegativeRule
    text: str = ""

    def expr(self, present: list[str]) -> pl.Expr:
        """Return whether a row without a label wants one, of a frame with the columns ``present``."""
        return (pl.col(TIME) >= self.rule.since_ms) & self._open(present)

    def counted(self, present: list[str]) -> pl.Expr:
        """Return whether a row has a class: a label that counts, or one that it wants."""
        return (pl.col(LABEL).is_not_null() & (pl.col(TIME) >= self.rule.since_ms)) | self.expr(present)

    def given(self, present: list[str]) -> list[pl.Expr]:
        """Return the labels and their times, ``text`` where one is wanting."""
        label, time = (pl.when(pl.col(TIME) >= self.rule.since_ms).then(pl.col(name)) for name in (LABEL, LABEL_TIME))
        text = pl.when(self.expr(present)).then(label.fill_null(self.text)).otherwise(label)
        return [text.alias(LABEL), time.alias(LABEL_TIME)]

    def kept(self, base: pl.DataFrame) -> pl.DataFrame:
        """Return labelled rows of an earlier snapshot, without its negatives of actions that are shut.

        It may not have known them: a build before this rule made blocked payments honest, and so may fewer rows have.
        """
        told = pl.col(LABEL_TIME).is_not_null()
        label = pl.when(told).then(pl.col(LABEL)).otherwise(pl.lit(self.text))
        return base.filter(told | self._open(base.columns)).with_columns(label.alias(LABEL))

    def _open(self, present: list[str]) -> pl.Expr:
        return (
            ~pl.col(ACTION).fill_null("").is_in(self.rule.shut)
            if ACTION in present and self.rule.shut
            else pl.lit(value=True)
        )


@dataclass(slots=True)
class LabelTimes:
    """When labels were told, by partition: since when any can be known, where retention takes them from their topic.

    ``kept_since`` gives since when a topic has lost nothing and the longest span of a segment (ms), None where nobody
    can tell; ``latest`` is the latest label of all, 0 before any.
    """

    kept_since: Callable[[str], tuple[int, int] | None] = lambda _topic: None
    latest: int = 0
    # The first label of each partition in log order, and the earliest.
    _told: dict[Partition, tuple[int, int]] = field(default_factory=dict)
    _kept: dict[str, tuple[int, int] | None] = field(default_factory=dict)

    def add(self, partition: Partition, told: Integers) -> None:
        """Take in when a partition's next labels were told (ms, not empty), in log order."""
        first, earliest = self._told.get(partition, (int(told[0]), int(told[0])))
        self._told[partition] = first, min(earliest, int(told.min()))
        self.latest = max(self.latest, int(told.max()))

    def since(self, lost: Collection[Partition]) -> tuple[int, bool]:
        """Return since when (ms) labels can be known, and whether any of before are gone.

        ``lost`` are the partitions of one topic that have lost any. Retention takes from each at another time, so it is
        the latest first one of those: of a row before it the label may be gone; where one has none left, the latest
        label of all. Where none is lost it is the earliest, in whatever order labels were written.

        Where labels are rare that is much later than what was lost, so it is no later than what the topic says that it
        keeps, and than a segment after the oldest label that is left. The second bounds what was lost while a topic
        kept less than now: a segment goes once its newest label is too old, and spans no more than ``segment``, so
        wherever one of an age is left, no partition has lost a label that is younger by more than that. By hand: of
        a topic that keeps 30 days in segments of 7 the oldest label left is 34 days old, so what was told in the last
        27 days is there. Had it kept 7 days until an hour ago, the oldest would be at most 14 days old, and what was
        told in the last 7 is there. Labels that a person deletes, and a ``segment.ms`` that was longer once, are beyond
        it.
        """
        if not lost:
            return min((earliest for _, earliest in self._told.values()), default=0), False
        cut = max(self._told[one][0] if one in self._told else self.latest for one in lost)
        topics = {one.topic for one in lost}
        for topic in topics - self._kept.keys():
            # Once, and after they were read: what a later look would call lost is here already.
            self._kept[topic] = self.kept_since(topic)
        oldest = min((first for first, _ in self._told.values()), default=self.latest)
        bounds = [cut if (kept := self._kept[one]) is None else max(kept[0], oldest + kept[1]) for one in topics]
        return min(cut, max(bounds)), True


def rule_from(
    labelled: Iterable[pl.DataFrame], since: int, until: int
) -> tuple[NegativeRule, tuple[ActionLabels, ...]]:
    """Return the rule by rows from ``since`` until ``until`` (ms), and the actions that keep labels away among them.

    Only positives are labelled, so that an action may also have few for being harmless; that errs to no evidence.
    """
    actions: dict[str, tuple[int, int]] = {}
    for rows in labelled:
        if ACTION in rows.columns:
            _count_actions(rows.filter(pl.col(TIME).is_between(since, until)), actions)
    found = [ActionLabels(name, *actions[name]) for name in sorted(actions)]
    shut = tuple(one for one in found if not _labels_come(one, found))
    return NegativeRule(since, tuple(one.action for one in shut)), shut


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


@dataclass(frozen=True, slots=True)
class Negatives:
    """How rows without a label are counted: from which age (ms), by which rule, and the actions that it was made by."""

    maturity_ms: int
    absent: AbsentLabels
    rule: NegativeRule
    shut: tuple[ActionLabels, ...]


def negatives_from(
    absence: Absence,
    every: Callable[[], Iterable[pl.DataFrame]],
    told: LabelTimes,
    lost: Mapping[Partition, int],
    positive: str,
    as_of_ms: int,
    maturity_ms: int | None,
) -> Negatives:
    """Return how the rows that ``every`` gives are counted, where the partitions ``lost`` have lost so many labels.

    Back from the latest label: of what has come since nobody knows whether it is late.
    """
    (since, cut), latest = told.since(lost), told.latest
    first, older, found = absent_from(absence, every(), positive, since, min(as_of_ms, latest or as_of_ms))
    # Of labels that never came nobody knows how late they are.
    age = None if not latest else found.age_ms if maturity_ms is None else maturity_ms
    short = (found.watched_ms, found.needed_ms) if latest and age is None and found.needed_ms else None
    # While it cannot be told, every row is too young.
    maturity = as_of_ms - first + 1 if age is None else age + max(as_of_ms - latest, 0)
    rule, shut = rule_from(every(), since, as_of_ms - maturity)
    # Told of labels that rows have lost: where no row is older, it is not their topic that keeps too little.
    gone = since if cut and latest and older else None
    return Negatives(maturity, AbsentLabels(0, age, gone, short), replace(rule, gone=sum(lost.values())), shut)


def count_labels(
    labelled: Iterable[pl.DataFrame],
    onset_ms: int,
    as_of_ms: int,
    maturity_ms: int | None,
    positive: str,
    negatives: Negatives | None = None,
) -> LabelStatistics:
    """Count ripe rows before and after the onset, ``negatives`` too; a None maturity is estimated."""
    before = after = positives = absent = 0
    wanting = None
    if negatives is not None:
        wanting, maturity_ms = Wanting(negatives.rule), negatives.maturity_ms
    actions: dict[str, tuple[int, int]] = {}
    for every in labelled:
        rows = every.filter(pl.col(LABEL).is_not_null() if wanting is None else wanting.counted(every.columns))
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
        if ACTION in every.columns and negatives is None:
            _count_actions(every.filter(pl.col(TIME).is_between(onset_ms, as_of_ms - maturity_ms)), actions)
    found = LabelStatistics(as_of_ms, maturity_ms or 0, before, after, positives)
    if negatives is None:
        return replace(found, shut=shut_actions([ActionLabels(name, *actions[name]) for name in sorted(actions)]))
    told = replace(negatives.absent, rows=absent)
    return replace(found, shut=negatives.shut, absent=told, rule=negatives.rule)


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
) -> tuple[int, bool, AgeOfAbsence]:
    """Return the time of the oldest row from ``since`` on, whether some are older, and the age of an absent label.

    Ages are counted to ``until``, the latest label: what came since may be on its way.
    """
    first, older, told = until, False, [pl.DataFrame(schema={TIME: pl.Int64, LABEL_TIME: pl.Int64})]
    for every in labelled:
        rows = every.filter(pl.col(TIME) >= since)
        first = min(first, int(rows[TIME].to_numpy().min(initial=first)))
        older |= len(rows) < len(every)
        yes = positive_texts(rows[LABEL].drop_nulls().unique().to_list(), positive)
        told.append(rows.filter(pl.col(LABEL).is_in(list(yes))).select(TIME, LABEL_TIME))
    times, known = (pl.concat(told)[name].to_numpy() for name in (TIME, LABEL_TIME))
    return first, older, age_of_absence(absence, until - times, known - times, until - first)


def _count_actions(rows: pl.DataFrame, actions: dict[str, tuple[int, int]]) -> None:
    """Add to (rows, labels) of each action those of ``rows``."""
    known = rows.filter(pl.col(ACTION).is_not_null())
    for action, n, told in known.group_by(ACTION).agg(pl.len(), pl.col(LABEL).count().alias("told")).rows():
        one = actions.get(action, (0, 0))
        actions[action] = (one[0] + n, one[1] + told)
