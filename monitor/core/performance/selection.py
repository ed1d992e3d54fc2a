"""Labels that what was done upon the answer keeps away: whose, and measures that weigh those that came for the others.

A blocked payment is never seen to be honest. Where the action was drawn by chance and its probability is known, each
labelled row stands for 1 / probability rows like it (Horvitz and Thompson 1952). What is weighed is shown and never
judged: weights are estimates of few rows, and a detector that bets on them would keep no promise.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.labels.actions import ActionLabels, shut_actions
from stationkeeper.contracts.labels.delay import COMPLETE
from stationkeeper.monitor.core.performance.measures import Measure, weighted_measures
from stationkeeper.monitor.core.reference import CHANCE_OCTAVES, UNSAID, AssignedRows, Counts

MOST_UNDRAWN = 0.05
"""The share of labelled rows that may lack their probability and count with the mean weight, chosen: with more the
weights of the others would say little of all."""

MOST_UNSEEN = 0.05
"""The share of an action's rows that no labelled row may stand for, from which corrected measures do not speak of all:
of those rows and not of all, as what is blocked is most of what is called positive. As much as labels may be missing
before a cohort is judged (``label_delay.COMPLETE``); at double recall could be off by a tenth."""


@dataclass(frozen=True, slots=True)
class LabelSelection:
    """That labels come for the rows of some actions and not of others, and what was made of it.

    Of ``rows`` old enough ``labelled`` have a label. ``shut`` are the actions whose rows get none, most rows first;
    ``unseen`` rows have no label and no labelled row stands for them. ``measures`` by name are corrected: of
    ``weighted`` rows (0: nothing is corrected), worth ``effective`` equal ones (Kish 1965), ``clipped`` of them at the
    bound. ``unsaid`` labelled rows say no action, where others do.
    """

    rows: int
    labelled: int
    shut: tuple[ActionLabels, ...]
    unseen: int
    weighted: int = 0
    effective: float = 0.0
    clipped: int = 0
    unsaid: int = 0
    measures: Mapping[str, Measure] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether the corrected measures speak of all rows."""
        return self.weighted > 0 and self.followed and self.unseen <= MOST_UNSEEN * sum(one.rows for one in self.shut)

    @property
    def followed(self) -> bool:
        """Whether nearly all rows of the other actions have their label.

        The probability of an action says nothing of which of its rows are labelled. By hand: of approved payments only
        scores above .3 are reviewed, one of ten: weighed by the chance of approval, accuracy is .60 where .86 is true.
        """
        rows, labelled = self._open()
        return labelled >= COMPLETE * rows

    def _open(self) -> tuple[int, int]:
        """Return the rows of the actions that are not shut, and how many of them have a label."""
        shut, told = sum(one.rows for one in self.shut), sum(one.labelled for one in self.shut)
        return self.rows - shut, self.labelled - told

    def words(self) -> str:
        """Return what a person must know, in one sentence."""
        each = ", ".join(
            f"{one.labelled} of {one.rows} rows {f'of {one.action!r}' if one.action else 'that say no action'} have one"
            for one in self.shut
        )
        told = f"labels come for some actions rather than others: {each}"
        if not self.weighted and self.unsaid > MOST_UNDRAWN * self.labelled:
            return f"{told}; {self.unsaid} labelled rows say no action, so of {self.unseen} rows nothing is known"
        if not self.weighted:
            return f"{told}; no assignment_prob says how they were drawn, so of {self.unseen} rows nothing is known"
        if not self.followed:
            rows, labelled = self._open()
            return f"{told}; {labelled} of {rows} rows of the others have one, and what chose them no event says"
        bound = f", {self.clipped} of them at the bound" if self.clipped else ""
        alone = f"; for {self.unseen} rows without a label none stands" if self.unseen else ""
        worth = f"{self.weighted} labelled rows weigh 1/assignment_prob and are worth {self.effective:.0f} equal ones"
        return f"{told}; {worth}{bound}{alone}"


def actions_without_labels(
    actions: Mapping[str, AssignedRows], usual: Collection[str] = ()
) -> tuple[ActionLabels, ...]:
    """Return the actions whose rows never get a label, most rows first, of a part as is ``usual``: `shut_actions`."""
    return shut_actions([_counted(name, one) for name, one in sorted(actions.items())], usual)


def _counted(name: str, rows: AssignedRows) -> ActionLabels:
    every = int(rows.rows.sum())
    # Rows that say no action are counted from when others do: labels of those before are labels of no row.
    return ActionLabels(name, every, min(int(rows.labelled.sum()), every))


def label_selection(actions: Mapping[str, AssignedRows], closed: Collection[str]) -> LabelSelection | None:
    """Return what labels say of rows whose labels are in, where those of ``closed`` actions get none; None without.

    Weights are cut at the root of the number of weighed rows, with which the error still vanishes as rows come (Ionides
    2008). By hand: of payments that were blocked with .95 and let through with .05, each of the latter weighs 20 where
    400 rows or more are weighed.
    """
    each = [_counted(name, one) for name, one in sorted(actions.items())]
    shut = tuple(sorted((one for one in each if one.action in closed), key=lambda one: -one.rows))
    if not shut:
        return None
    rows, told = sum(one.rows for one in each), sum(one.labelled for one in each)
    through = [one for name, one in actions.items() if name not in closed]
    labelled: Counts = sum((one.labelled for one in through), np.zeros((CHANCE_OCTAVES + 1, 4), np.int64))
    inverse: Floats = sum((one.inverse for one in through), np.zeros((CHANCE_OCTAVES + 1, 4)))[:CHANCE_OCTAVES]
    drawn, undrawn = labelled[:CHANCE_OCTAVES], labelled[CHANCE_OCTAVES]
    weighted, beside = int(drawn.sum()), int(undrawn.sum())
    unsaid = int(actions[UNSAID].labelled.sum()) if UNSAID in actions and UNSAID not in closed else 0
    # Each of two that were drawn by chance would stand for all such rows: what weighs is the chance of any open action,
    # which no event tells.
    chances = sum(float(one.inverse.sum()) > int(one.labelled[:CHANCE_OCTAVES].sum()) * (1 + 1e-9) for one in through)
    if chances > 1 or not weighted or beside > MOST_UNDRAWN * (weighted + beside):
        unseen = sum(max(one.rows - one.labelled, 0) for one in shut)
        return LabelSelection(rows, told, shut, unseen, unsaid=unsaid)
    bound = weighted**0.5
    each_weight = np.divide(inverse, drawn, out=np.zeros_like(inverse), where=drawn > 0)
    clipped = int(drawn[each_weight > bound].sum())
    cut = np.minimum(each_weight, bound)
    usual = float((drawn * cut).sum()) / weighted
    weight = (drawn * cut).sum(0) + undrawn * usual
    square = (drawn * cut**2).sum(0) + undrawn * usual**2
    # Of an octave the rows with the least chance of another action: none of them is said to be stood for wrongly.
    stands = np.append(2.0 ** -np.arange(1, CHANCE_OCTAVES + 1) >= 1.0 / bound, False)
    unseen = sum(int(actions[one.action].rows[~stands].sum()) for one in shut)
    if len(shut) > 1:
        # Then the chance of any other action is mostly that of another one that is shut, too.
        unseen = sum(max(one.rows - one.labelled, 0) for one in shut)
    return LabelSelection(
        rows,
        told,
        shut,
        unseen,
        weighted + beside,
        float(weight.sum() ** 2 / square.sum()),
        clipped,
        unsaid,
        weighted_measures(drawn.sum(0) + undrawn, weight, square),
    )
