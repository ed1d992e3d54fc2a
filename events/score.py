"""What a version decided for each event: its score, whether it is positive, and whether it is missing."""

from collections.abc import Collection

import numpy as np

from stationkeeper.contracts.column import same_class
from stationkeeper.events.columns import CategoryColumn, Events, Flags, Floats, NumberColumn
from stationkeeper.events.text_values import NULL_WORDS


def decide(events: Events, threshold: float, positive: str) -> tuple[Floats, Flags, Flags]:
    """Return (score float64[n] with NaN, positive decision bool[n], no prediction bool[n]) of predictions.

    A number is positive from ``threshold`` on. A class (text, boolean) is positive if it is the positive one, and its
    score is then 1, else 0.
    """
    column = events.prediction
    n = len(events)
    if isinstance(column, NumberColumn):
        return column.values, column.values >= threshold, np.isnan(column.values)
    if isinstance(column, CategoryColumn):
        # One place at least, which rows without a key index below.
        table = np.array([same_class(key, positive) for key in column.keys] or [False])
        present = column.codes >= 0
        chosen = table[np.maximum(column.codes, 0)] & present
        score = np.where(present, chosen.astype(np.float64), np.nan)
        if column.each is not None:
            number = column.of_type("number")
            values = column.numbers().values
            score = np.where(number, values, score)
            chosen = np.where(number, values >= threshold, chosen)
        return score, chosen, ~present
    return np.full(n, np.nan), np.zeros(n, np.bool_), np.ones(n, np.bool_)


def confidences(events: Events) -> Floats:
    """Return the probability of each answer that is one of several classes, float64[n]; 0 where none came with it."""
    return np.zeros(len(events)) if events.confidence is None else np.nan_to_num(events.confidence)


def missing_label_words(texts: Collection[str], positive: str) -> frozenset[str]:
    """Return the label texts that say that no truth is known: words for nothing, where the classes are numbers.

    By hand against ``1``: of ``0``, ``1``, ``NA`` it is ``NA``; against ``fraud`` it is none, for ``none`` may well be
    the other class. Every reader of labels goes by it: the join, a table, the trainer.
    """
    return NULL_WORDS.intersection(texts) if same_class(positive, "1") else frozenset()


def outcomes(events: Events, positive: str) -> Floats:
    """Return labels as numbers, float64[n]: 1 for the positive class, 0 for another, a number as it is.

    A label that is a number other than 0 or 1 is a measured value (regression) and stays as it is. Where labels are
    numbers, the words for a missing one (``NULL_WORDS``) are unusable, as in a feature of numbers: NaN.
    """
    column = events.label
    if column is None:
        return np.full(len(events), np.nan)
    gone = missing_label_words(column.keys, positive)
    table = np.array([np.nan if key in gone else _outcome(key, positive) for key in column.keys] or [np.nan])
    return np.where(column.codes >= 0, table[np.maximum(column.codes, 0)], np.nan)


def _outcome(key: str, positive: str) -> float:
    if same_class(key, positive):
        return 1.0
    # Only where the positive class is a number are other labels measured values; beside a named class all others are
    # its opposite.
    if same_class(positive, "1"):
        try:
            return float(key)
        except ValueError:
            return 0.0
    return 0.0
