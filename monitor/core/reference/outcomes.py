"""What predictions and labels mean together: the task, right and wrong rows, score bins and the confusion table."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.column import Categories, Floats, Integers, categories, numbers, same_class
from stationkeeper.contracts.wire import SCORE_BINS, score_bin
from stationkeeper.monitor.core.reference.cells import Counts
from stationkeeper.monitor.core.reference.outcome_sums import (
    OutcomeSums,
    class_code,
    classes_by_group,
    errors_by_group,
    scores_by_group,
)
from stationkeeper.monitor.core.reference.reference import Labels, Task
from stationkeeper.monitor.core.reference.schema import Array
from stationkeeper.monitor.core.reference.weighting import effective_rows

Flags = npt.NDArray[np.bool_]

FEW_CLASSES = 20
"""Whole-number predictions with at most so many values are classes; more are amounts. Chosen: at half, a model of a
dozen classes is read as a regression and never judged by accuracy; at double, small counts (items in a basket) are read
as classes. A user names the task to overrule it."""


def infer_task(prediction: Array) -> Task:
    """Return what predictions look like: few whole numbers or texts are classes, numbers in [0, 1] a binary score."""
    kinds = prediction.dtype.kind
    if kinds == "b":
        return Task.BINARY
    if kinds in "iuf":
        found = prediction[np.isfinite(prediction)].astype(np.float64)
        distinct = np.unique(found)
        # Before scores: 0 and 1 are both whole numbers and shares, and as classes they need no threshold.
        if len(distinct) <= FEW_CLASSES and np.all(distinct == np.round(distinct)):
            return Task.BINARY if len(distinct) <= 2 else Task.MULTICLASS
        return Task.BINARY if len(found) and found.min() >= 0 and found.max() <= 1 else Task.REGRESSION
    return Task.BINARY if len(categories(prediction).keys) <= 2 else Task.MULTICLASS


def is_score(prediction: Array, task: Task) -> bool:
    """Return whether predictions are numbers to bin, not classes to count."""
    if task is Task.REGRESSION:
        return True
    if task is Task.MULTICLASS or prediction.dtype.kind not in "iuf":
        return False
    found = prediction[np.isfinite(prediction)]
    # 0 and 1 alone are decisions: binned as scores they would fill two bins and say nothing more.
    return bool(np.any((found != 0) & (found != 1)))


# What people write for the two answers of a question: of such a pair the positive one is known.
_YES = frozenset({"1", "true", "yes", "y", "t", "positive", "pos"})
_NO = frozenset({"0", "-1", "false", "no", "n", "f", "negative", "neg"})

_CLEAR = 0.1
"""How far from .5 the scores' AUC must lie to say which of two classes they are about. Chosen: a model worth watching
reaches .6; at half, a bad model is read upside down by its own noise, at double many fair ones are asked about."""

_SIGMAS = 5.0
"""And so many standard errors, so that a small sample is asked about: one in a million by chance."""


def positive_class(
    labels: Categories | None, scores: Floats | None = None, task: Task | None = None
) -> tuple[str, str]:
    """Return the class that scores are about, and a note where the scores themselves told it.

    Known is ``1``, ``true``, ``yes`` … beside its opposite. Of two other classes it is the one that ``scores``
    (float64, NaN none) rank higher, where they do so clearly. It is never guessed by spelling: raises ``ValueError``
    that names the classes. Several classes and measured values have none, which gives ``1``.
    """
    keys = labels.keys if labels is not None else ()
    known = [key for key in keys if key.lower() in _YES and all(k.lower() in _NO for k in keys if k != key)]
    if known or labels is None or all(key.lower() in _NO for key in keys):
        return (known[0] if known else ("true" if "false" in keys else "1")), ""
    # Where the scores are known to be about one class, even among many spellings it must be named; else more than two
    # classes, or a 1 among them, are several, none of which is positive.
    several = len(keys) > (2 if task is None or "1" in keys else FEW_CLASSES)
    if several or task in {Task.MULTICLASS, Task.REGRESSION}:
        return "1", ""
    by_rank = None if scores is None or len(keys) != 2 else _area(scores, labels)
    if by_rank is not None:
        area, error = by_rank
        if abs(area - 0.5) > max(_CLEAR, _SIGMAS * error):
            high, low = keys if area > 0.5 else keys[::-1]
            # `keys` are in the order of first sight; the area is that of the first one.
            return high, (
                f"positive class {high!r}: scores rank it above {low!r} (AUC {max(area, 1 - area):.2f}); "
                f"say --positive {low} if they are about that"
            )
    # Five are a line that a person reads.
    shown = " or ".join(f"--positive {key}" for key in sorted(keys)[:5])
    classes = " and ".join(map(repr, sorted(keys)[:5]))
    raise ValueError(
        f"labels are {classes}: which one are the scores about? say {shown} (positive: in the configuration)"
    )


def _area(scores: Floats, labels: Categories) -> tuple[float, float] | None:
    """The chance that the first class scores above the other (ties half) and its standard error; Mann-Whitney."""
    usable = np.isfinite(scores) & (labels.codes >= 0)
    first = labels.codes[usable] == 0
    n, m = int(first.sum()), int((~first).sum())
    if not n or not m:
        return None
    distinct, place, counts = np.unique(scores[usable], return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    area = (float(rank[place][first].sum()) - n * (n + 1) / 2) / (n * m)
    # The standard error of the rank sum under no order at all (Mann and Whitney 1947).
    return (area, float(np.sqrt((n + m + 1) / (12 * n * m)))) if len(distinct) > 1 else None


def check_positive(positive: str, labels: Categories) -> None:
    """Raise ``ValueError`` where two classes or more are known and the positive one is none of them."""
    # Ten of them tell what labels look like.
    if len(labels.keys) > 1 and not any(same_class(key, positive) for key in labels.keys):
        raise ValueError(
            f"positive {positive!r}: labels are {', '.join(map(repr, sorted(labels.keys)[:10]))}; name one"
        )


def labels_of(
    prediction: Array,
    label: Array,
    task: Task,
    threshold: float,
    positive: str,
    weights: Floats | None = None,
    confidence: Floats | None = None,
) -> Labels:
    """Return score bins, confusion and sums of rows that have both a prediction and a label.

    ``confidence`` float64[n] is the probability of each answer of several classes, NaN where unknown.
    """
    weight = np.ones(len(prediction)) if weights is None else weights
    if task is Task.REGRESSION:
        usable = np.isfinite(numbers(prediction).values) & np.isfinite(numbers(label).values)
    else:
        usable = outcomes(prediction, label, task, threshold, positive)[-1]
    weight = np.where(usable, weight, 0.0)
    scale = 1.0 if weights is None or not weight.any() else effective_rows(weight) / weight.sum()
    nothing = np.zeros(len(prediction), np.int64)
    scored, confusion, sums = outcome_counts(
        prediction,
        label,
        task,
        threshold,
        positive,
        nothing,
        1,
        None if weights is None else weight * scale,
        confidence,
    )
    return Labels(scored[0], confusion[0], sums=sums[0])


def outcome_counts(
    prediction: Array,
    label: Array,
    task: Task,
    threshold: float,
    positive: str,
    group: Integers,
    n: int,
    weights: Floats | None = None,
    confidence: Floats | None = None,
) -> tuple[Counts, Counts, list[OutcomeSums]]:
    """Return scored int64[n, 32, 2], confusion int64[n, 4] and sums by group int64[rows], as ``Labels`` has them.

    Of several classes a row with a confidence is scored by it, and its label is whether the answer was right.
    """
    if task is Task.REGRESSION:
        error = numbers(prediction).values - numbers(label).values
        sums = errors_by_group(error, group, n, weights)
        cells = np.array([one.errors[:, 0] for one in sums]).reshape(n, SCORE_BINS, 2)
        right = cells.sum((1, 2))
        return cells, np.stack([0 * right, 0 * right, 0 * right, right], axis=1), sums
    right, wrong_up, wrong_down, score, truth, usable = outcomes(prediction, label, task, threshold, positive)
    weight = usable.astype(np.float64) if weights is None else np.where(usable, weights, 0.0)
    bins, hit = score_bin(np.nan_to_num(score)), truth
    if task is Task.MULTICLASS:
        # Bin 0 says that no probability came with the answer.
        known = score_bin(np.zeros(len(bins)) if confidence is None else np.nan_to_num(confidence))
        bins, hit = np.where(known > 0, known, bins), right & (known > 0)
    place = group * (2 * SCORE_BINS) + bins * 2 + hit
    scored = np.rint(np.bincount(place, weights=weight, minlength=n * 2 * SCORE_BINS)).reshape(n, SCORE_BINS, 2)
    # The last cell takes all else, unusable rows too: their weight is zero.
    cell = np.select([right & truth, wrong_up, wrong_down], [0, 1, 2], 3)
    confusion = np.rint(np.bincount(group * 4 + cell, weights=weight, minlength=4 * n)).reshape(n, 4)
    if task is Task.MULTICLASS:
        guess, actual = (class_codes(column)[usable] for column in (prediction, label))
        sums = classes_by_group(guess, actual, group[usable], n)
    else:
        given = None if weights is None else weight
        sums = scores_by_group(np.where(usable, score, np.nan), truth.astype(np.int64), group, n, given)
    return scored.astype(np.int64), confusion.astype(np.int64), sums


def by_confidence(scored: Counts, confusion: Counts) -> Counts:
    """Return rows of several classes int64[32, 2] by the answer's probability and whether it was right.

    Bin 0 holds those without a probability, which ``scored`` has at the highest score where they were right; right rows
    beyond those counted as such are they. Linear, and applied twice it changes nothing. By hand: 8 right and 2 wrong
    answers without probabilities, (2, 0) in bin 0 and (8, 0) in bin 31, become (2, 8) in bin 0.
    """
    out: Counts = scored.copy()
    unsure = confusion[3] - scored[:, 1].sum()
    out[-1, 0] -= unsure
    out[0, 1] += unsure
    return out


def class_codes(column: Array) -> Integers:
    """Return the number of each value's class (``outcome_sums.class_code``), int64[n]; 0 where there is none."""
    found = categories(column)
    table = np.array([*(class_code(key) for key in found.keys), 0, 0, 0, 0])
    return np.asarray(table[found.codes], np.int64)


def outcomes(
    prediction: Array, label: Array, task: Task, threshold: float, positive: str
) -> tuple[Flags, Flags, Flags, Floats, Flags, Flags]:
    """Return row by row: right, false positive, false negative, score, positive label, usable.

    For several classes a wrong row counts as a false positive and the score is 1 where the row was right.
    """
    guess, truth = categories(prediction), categories(label)
    usable = (guess.codes >= 0) & (truth.codes >= 0)
    if task is Task.MULTICLASS:
        # One numbering for both: each column numbers its classes in the order of its own first sight.
        shared = {key: i for i, key in enumerate({*guess.keys, *truth.keys})}
        same = _codes(guess, shared) == _codes(truth, shared)
        right = usable & same
        nothing = np.zeros(len(same), np.bool_)
        return right, usable & ~same, nothing, same.astype(np.float64), nothing, usable
    is_true = usable & _equals(truth, positive)
    if is_score(prediction, task):
        score = numbers(prediction).values
        called = usable & (score >= threshold)
    else:
        called = usable & _equals(guess, positive)
        score = called.astype(np.float64)
    right = usable & (called == is_true)
    return right, called & ~is_true, usable & ~called & is_true, score, is_true, usable


def _codes(column: Categories, shared: Mapping[str, int]) -> Integers:
    # Statuses are negative codes, so they index these last places from the end.
    table = np.array([*(shared[key] for key in column.keys), -1, -1, -1, -1])
    return np.asarray(table[column.codes], np.int64)


def _equals(column: Categories, key: str) -> Flags:
    table = np.array([*(same_class(k, key) for k in column.keys), False, False, False, False])
    return np.asarray(table[column.codes], np.bool_)
