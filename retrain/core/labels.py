"""What labels mean to a model of two classes: which are positive, why some teach nothing, when none is a negative."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from stationkeeper.contracts.column import Integers, same_class
from stationkeeper.contracts.labels.delay import Absence, absence_ages, complete_share, delay_edges

# Chosen: enough to recognise a column by, few enough for one line.
_SHOWN = 10


def positive_texts(texts: Collection[str], positive: str) -> frozenset[str]:
    """Return the texts that spell the positive class: of 0, 1, false and true against ``true`` they are 1 and true."""
    return frozenset(text for text in texts if same_class(text, positive))


def misfit(texts: Collection[str], positive: str, *, whole: bool) -> str | None:
    """Return in words why labels with these texts give no model of two classes, None where they may.

    ``whole`` says that no label is still to come: then one class is a fault as well, before it only says that the other
    is rare. By hand: ``{"0", "1", "false"}`` against ``true`` are two classes; ``{"legit", "fraud"}`` are not.
    """
    yes = positive_texts(texts, positive)
    others: list[str] = []
    # Sorted, so that the same labels give the same words and a request's detail does not change at each survey.
    for text in sorted(set(texts) - yes):
        if not any(same_class(text, other) for other in others):
            others.append(text)
    # One spelling beside the positive class is two classes; none yet may only mean that the labels of the other are
    # late.
    if len(others) < 2 and (not whole or (yes and others)):
        return None
    shown = ", ".join(repr(text) for text in sorted(texts)[:_SHOWN]) or "none"
    return (
        f"a binary model needs two classes, {positive!r} and one other; the labels are {shown}. Set positive: of the "
        "model to the label's own word"
    )


def negative_text(texts: Collection[str], positive: str) -> str:
    """Return the text of the class that a row without a label is of: that of the known ``texts`` that are not positive.

    By hand against ``fraud``: of ``{"fraud", "legit"}`` it is ``legit``, of ``{"fraud"}`` it is ``not fraud``.
    """
    others = sorted(set(texts) - positive_texts(texts, positive))
    if others:
        return others[0]
    return "false" if same_class(positive, "true") else "true" if same_class(positive, "false") else f"not {positive}"


@dataclass(frozen=True, slots=True)
class NegativeRule:
    """Which rows without a label are negatives: those from ``since_ms`` on, of no ``shut`` action.

    ``gone`` is how many offsets the partitions of labels had lost in all when it was told.
    """

    since_ms: int
    shut: tuple[str, ...] = ()
    gone: int = 0

    def by_now(self, since_ms: int, gone: int) -> Self:
        """Return the rule as it is by what is left of labels now: the same while no partition has lost more.

        So a snapshot that is made again has the same bytes, though how long its topic keeps labels counts from now.
        """
        return self if gone and gone == self.gone else replace(self, since_ms=max(self.since_ms, since_ms))


@dataclass(frozen=True, slots=True)
class AgeOfAbsence:
    """The age from which a row without a label is negative (ms), None while that cannot be told.

    Labels have been watched for ``watched_ms``, and must be for ``needed_ms``: None where no age can be seen at all.
    """

    age_ms: int | None
    watched_ms: int
    needed_ms: int | None


def age_of_absence(absence: Absence, ages: Integers, delays: Integers, watched: int) -> AgeOfAbsence:
    """Return from which age a row without a label is negative.

    ``ages`` and ``delays`` int64[n] (ms) are of the rows with a positive label: how long ago they were predicted, and
    how late their label came. ``watched`` is the age of the oldest row. As the monitor judges (``absence_age``), from
    its counts of the same; O(n log n).
    """
    edges = delay_edges(absence.pane, absence.horizon)
    n = len(edges)
    # Rows as old as the same edges are an epoch.
    table = np.zeros((n + 1, n), np.int64)
    old, late = np.searchsorted(edges, ages, side="right"), np.minimum(np.searchsorted(edges, delays), n - 1)
    np.add.at(table, (old, late), 1)
    seen = (np.arange(n + 1)[:, None] > np.arange(n)).astype(np.int64)
    found = absence_ages(edges, complete_share(table, seen), absence)
    if found is None:
        return AgeOfAbsence(None, watched, None)
    return AgeOfAbsence(found[0] if watched >= found[1] else None, watched, found[1])
