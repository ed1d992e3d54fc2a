"""Selective labels: which rows never get one, whom the labelled ones stand for, and with what weight.

Where what is done upon an answer decides whether the truth is ever known (a blocked payment is never seen to be
honest), models learn from and are judged by rows that are not like all. Where the action was drawn by chance and its
probability is known, each labelled row stands for 1 / probability rows like it (Horvitz and Thompson 1952).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stationkeeper.contracts.labels.actions import ActionLabels, shut_actions
from stationkeeper.retrain.core.measures import Flags, Floats
from stationkeeper.retrain.core.segments import Texts

MOST_UNDRAWN = 0.05
"""The share of labelled rows since the change that may lack their probability and count as one row each. Chosen as
``value.MOST_WITHOUT``: with more the weights of the others would say little of all."""

MOVED = 0.05
"""How far the scores of labelled rows may be from those of all, beyond chance (total variation): what the monitor calls
a selection by scores (``monitor.core.performance.label_delay``)."""

GROUPS, RUNS = 16, 8
"""Score groups of equally many rows, as many as the monitor has, and runs of rows in time within which they are
compared, chosen: while traffic drifts, a day without labels moves the scores of the labelled, and is no selection."""


@dataclass(frozen=True, slots=True)
class Selection:
    """That labels come for some of the matured ``rows`` since the change rather than others, and what was done.

    ``shut`` are the actions whose rows never get one; empty where scores alone tell it. ``unseen`` rows have no label
    and no labelled row stands for them. Of ``weighted`` labelled rows (0: nothing was corrected), whose weights are
    worth ``effective`` equal ones (Kish 1965), ``clipped`` reached the bound. ``flipped`` of the unseen are decided
    otherwise by the challenger; None where nothing is decided.
    """

    rows: int
    labelled: int
    shut: tuple[ActionLabels, ...]
    unseen: int
    weighted: int = 0
    effective: float = 0.0
    clipped: int = 0
    flipped: int | None = None

    def words(self) -> str:
        """Return what a person must know, in one sentence."""
        if not self.shut:
            told = (
                f"labels come for some scores rather than others, so that the labelled are not like all "
                f"({self.labelled} of {self.rows} matured rows since the change)"
            )
        else:
            told = f"{shut_words(self.shut)} ({self.labelled} labels on {self.rows} matured rows since the change)"
        if not self.weighted:
            return f"{told}; no assignment_prob says how they were drawn: of {self.unseen} rows nothing is known"
        bound = f", {self.clipped} of them at the bound" if self.clipped else ""
        alone = f"; {self.unseen} rows without a label have none that stands for them" if self.unseen else ""
        worth = f"{self.weighted} labelled rows weigh 1/assignment_prob and are worth {self.effective:.0f} equal ones"
        return f"{told}; {worth}{bound}{alone}"


def shut_words(shut: Sequence[ActionLabels]) -> str:
    """Return which actions get no label, as plans, gates and cards tell it."""
    each = ", ".join(f"{one.labelled} of {one.rows} rows of {one.action!r}" for one in shut)
    return f"labels come for some actions rather than others, so that the labelled are not like all: {each}"


def count_actions(actions: Texts, labelled: Flags) -> list[ActionLabels]:
    """Count rows by action, those without one ("") left out; O(n log n)."""
    names, codes = np.unique(actions, return_inverse=True)
    rows, known = np.bincount(codes, minlength=len(names)), np.bincount(codes, labelled, minlength=len(names))
    each = zip(names.tolist(), rows.tolist(), known.tolist(), strict=True)
    return [ActionLabels(name, n, int(with_label)) for name, n, with_label in each if name]


def effective_rows(weights: Floats) -> float:
    """Return how many rows of equal weight tell as much: (sum w)^2 / sum w^2 (Kish 1965); 0 of none.

    >>> effective_rows(np.array([1.0, 1.0, 2.0])).__round__(6)
    2.666667
    """
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def inverse_weights(drawn: Floats) -> tuple[Floats, float, int]:
    """Return weights of mean 1 for rows drawn with these probabilities, their bound, and how many reached it.

    1 / p is cut at the root of the number of rows, with which the error still vanishes as rows come, at the price of a
    bias that does, too (Ionides 2008, "Truncated importance sampling"); then all are divided by their mean, so that
    they stand beside unweighted rows as many as they are (Hajek 1971). By hand: of p = .5, 1, 1, 1 the bound is 2, and
    2, 1, 1, 1 become 1.6, .8, .8, .8.
    """
    bound = max(len(drawn), 1) ** 0.5
    inverse = 1.0 / drawn
    weights = np.minimum(inverse, bound)
    return weights / (weights.mean() if len(weights) else 1.0), bound, int((inverse > bound).sum())


def chosen_by_score(scores: Floats, labelled: Flags) -> bool:
    """Return whether the scores of labelled rows are further from those of all than chance and ``MOVED`` explain.

    Total variation of rows in time order, each run's labels against the scores of all its rows: as the mean of half the
    absolute differences of G shares is at most sqrt(G / n) / 2, with as much again on top chance passes it less than
    once in a thousand.
    """
    known = np.isfinite(scores)
    scores, labelled = scores[known], labelled[known]
    n = int(labelled.sum())
    if not n or n == len(scores):
        return False
    # Equal scores fall into one group whatever their number.
    edges = np.quantile(scores, np.arange(1, GROUPS) / GROUPS)
    groups = np.searchsorted(edges, scores, side="left")
    due = np.zeros(GROUPS)
    for run in np.array_split(np.arange(len(scores)), RUNS):
        if len(run):
            due += np.bincount(groups[run], minlength=GROUPS) * labelled[run].sum() / len(run)
    apart = np.abs(np.bincount(groups[labelled], minlength=GROUPS) - due).sum() / (2 * n)
    return bool(apart > MOVED + (GROUPS / n) ** 0.5)


@dataclass(frozen=True, slots=True)
class Selected:
    """A selection with what follows for each of n rows: ``weights`` (1.0 where nothing is known), ``unseen`` flags."""

    selection: Selection
    weights: Floats
    unseen: Flags


def select(labelled: Flags, ripe: Flags, actions: Texts, drawn: Floats, scores: Floats | None) -> Selected | None:
    """Return the selection of n rows in time order, None where labels come for all alike; O(n log n).

    ``ripe`` marks matured rows since the change, ``actions`` is "" and ``drawn`` (the action's probability) NaN where
    the event has none, ``scores`` are the champion's. An action that is shut is weighed up by rows of the others;
    where one is drawn with certainty, or nobody knows how, or another is shut too, nobody stands for its rows.
    """
    shut = shut_actions(count_actions(actions[ripe], labelled[ripe]))
    weights, unlabelled = np.ones(len(labelled)), ripe & ~labelled
    rows, told = int(ripe.sum()), int((ripe & labelled).sum())
    if not shut:
        if scores is None or not chosen_by_score(scores[ripe], labelled[ripe]):
            return None
        return Selected(Selection(rows, told, (), int(unlabelled.sum())), weights, unlabelled)
    closed = np.isin(actions, [one.action for one in shut])
    through, known = labelled & ~closed, np.isfinite(drawn)
    weighed = through & known
    unseen, followed = unlabelled & closed, ripe & ~closed
    # The chance of an action says nothing of which of its rows are labelled: chosen by score, they stand for no others.
    chosen = scores is not None and chosen_by_score(scores[followed], labelled[followed])
    left_out = unlabelled & ~closed & chosen
    # Each of two that were drawn by chance would stand for all such rows: what weighs is the chance of any open action,
    # which no event tells.
    chances = len(np.unique(actions[weighed & (drawn < 1.0)]))
    if (
        chances > 1
        or not (through & ripe).any()
        or (through & ripe & ~known).sum() > MOST_UNDRAWN * (through & ripe).sum()
    ):
        unseen |= left_out
        return Selected(Selection(rows, told, shut, int(unseen.sum())), weights, unseen)
    weights[weighed], bound, clipped = inverse_weights(drawn[weighed])
    # 1 - p is the chance of any other action, and says how often an open one was taken only where one alone is shut;
    # below one in `bound` the rows that took it cannot weigh enough.
    if len(shut) == 1:
        unseen &= ~(known & (1.0 - drawn >= 1.0 / bound))
    unseen |= left_out
    since = weighed & ripe
    found = Selection(
        rows, told, shut, int(unseen.sum()), int(weighed.sum()), round(effective_rows(weights[since]), 1), clipped
    )
    return Selected(found, weights, unseen)
