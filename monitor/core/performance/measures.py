"""The measures of performance that people know, from sums: of decisions, probabilities, classes and numbers.

Each equals scikit-learn's on the same rows, to the millionths in which losses are summed; areas under curves come from
cells of the score and say how far binning may move them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor.core.performance.confidence import mean_sequence, share_sequence
from stationkeeper.monitor.core.reference import CategoricalCells, Counts, OutcomeSums, Reference, Task, class_code
from stationkeeper.monitor.core.reference.outcome_sums import (
    BIN_OF_CELL,
    LOG_LOSS,
    LOG_LOSS_SQUARE,
    MICRO,
    ROWS,
    SCORES,
    SQUARE,
    error_scale,
    error_tops,
)

DECISIONS = ("precision", "recall", "accuracy", "f1", "error_rate", "positive_rate")
"""Of decisions between two answers, in the order in which they are shown."""

PROBABILITIES = ("roc_auc", "pr_auc", "log_loss", "brier", "calibration_error")
CLASSES = ("accuracy", "macro_precision", "macro_recall", "macro_f1")
ERRORS = ("mae", "rmse", "bias", "quantile_loss")
VALUE = "value"
"""What a decision brings on average, in the unit of the model's ``value``."""

MEASURES = tuple(dict.fromkeys((*DECISIONS, *PROBABILITIES, *CLASSES, *ERRORS, VALUE)))
"""Every measure there is; of one class a name is followed by the class, as in ``recall of cat``."""

SHARES = frozenset((*DECISIONS, *CLASSES, "roc_auc", "pr_auc", "brier", "calibration_error"))
"""Measures between 0 and 1; the others have the unit of the label or of the value, and log loss nats."""

MOST_CLASSES = 20
"""Classes that are shown each by itself, the most frequent first: as many as a page has room for; double doubles the
series of a model of a thousand classes for classes that a handful of rows have."""

# Below so many whole numbers harmonic sums are added up; from there three terms of Euler's series are exact to 1e-12.
_SMALL = 64
_HARMONIC = np.append(0.0, np.cumsum(1.0 / np.arange(1, _SMALL)))
_EULER = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure and its 95 % confidence sequence: ``value`` is NaN where not defined, a bound where none is known.

    ``binning`` is how far at most the value may be from that of the rows themselves because scores are binned.
    """

    name: str
    value: float
    low: float
    high: float
    rows: int
    binning: float = 0.0


@dataclass(frozen=True, slots=True)
class ValueMatrix:
    """What each outcome of a decision is worth: true positive, false positive, false negative, true negative."""

    worth: tuple[float, float, float, float]


def measures(confusion: Counts) -> dict[str, Measure]:
    """Return precision, recall, accuracy, F1, error rate and positive rate of int64[4] with their intervals.

    By hand: tp 8, fp 2, fn 4, tn 86: precision .8, recall .667, accuracy .94, F1 .727. F1 has no simple interval; its
    bounds are those of precision and recall combined, which is wider than 95 %.
    """
    tp, fp, fn, tn = (float(count) for count in confusion)
    rows = tp + fp + fn + tn
    parts = {
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "accuracy": (tp + tn, rows),
        "error_rate": (fp + fn, rows),
        "positive_rate": (tp + fn, rows),
    }
    found = {name: _share(name, hits, of) for name, (hits, of) in parts.items()}
    p, r = found["precision"], found["recall"]
    # Of the counts, as scikit-learn has it: 0 and not undefined where nothing positive was found.
    value = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan
    found["f1"] = Measure("f1", value, _f1(p.low, r.low), _f1(p.high, r.high), int(rows))
    return {name: found[name] for name in DECISIONS}


def weighted_measures(rows: Counts, weight: Floats, square: Floats) -> dict[str, Measure]:
    """Return what ``measures`` does of int64[4] rows that stand for others: sums of their weights and of the squares.

    A share is that of weights (Hajek 1971). Its interval is the wider of two: that of as many equal rows as the weights
    are worth (Kish 1965), and that of its linearised variance ``sum w^2 (x - share)^2 / (sum w)^2``, which is larger
    where what is measured goes with the weight. By hand: 8 true and 2 false positives of weight 4, 10 false and 90 true
    negatives of 1: precision .8, recall 32 / 42 = .762, accuracy 122 / 140 = .871.
    """
    parts = {"precision": ([0], [1]), "recall": ([0], [2]), "accuracy": ([0, 3], [1, 2])}
    parts |= {"error_rate": ([1, 2], [0, 3]), "positive_rate": ([0, 2], [1, 3])}

    def share(name: str, hits: list[int], misses: list[int]) -> Measure:
        n, of, squares = (float(one[hits + misses].sum()) for one in (rows, weight, square))
        if not of:
            return Measure(name, math.nan, 0.0, 1.0, 0)
        value = float(weight[hits].sum()) / of
        spread = float(square[hits].sum() * (1 - value) ** 2 + square[misses].sum() * value**2)
        equal = of**2 / squares
        bounds = [share_sequence(value * equal, equal), mean_sequence(value, math.sqrt(n * spread) / of, n)]
        low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
        return Measure(name, value, max(low, 0.0), min(high, 1.0), int(n))

    found = {name: share(name, *part) for name, part in parts.items()}
    tp, fp, fn, _ = weight.tolist()
    p, r = found["precision"], found["recall"]
    value = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan
    found["f1"] = Measure("f1", value, _f1(p.low, r.low), _f1(p.high, r.high), int(rows.sum()))
    return {name: found[name] for name in DECISIONS}


def probability_measures(sums: OutcomeSums) -> dict[str, Measure]:
    """Return the areas under both curves, log loss, Brier score and expected calibration error of scores in [0, 1].

    The calibration error is the mean over the shared score bins of |mean score - share of positives|, weighted by rows;
    chance alone gives about .8 sqrt(share (1 - share) / rows) a bin, so it is no 0 for a perfect model.
    """
    ranked, rows = sums.ranked, sums.one(ROWS)
    loss, square = sums.one(LOG_LOSS) / MICRO, sums.one(SQUARE) / MICRO
    mean = loss / rows if rows else math.nan
    spread = _deviation(sums.one(LOG_LOSS_SQUARE) / MICRO, loss, rows)
    brier = _share("brier", square, rows)
    out = [roc_auc(ranked), pr_auc(ranked), Measure("log_loss", mean, *_from_zero(mean, spread, rows), rows), brier]
    return {one.name: one for one in [*out, _calibration_error(sums, rows)]}


def roc_auc(ranked: Counts) -> Measure:
    """Return the area under the ROC curve of int64[cells, 2], rows by score cell (rising) and label.

    The chance that a positive scores above a negative, ties half; pairs within a cell are such ties, so that of the
    rows lies within half of their share (``binning``). Its deviation is DeLong's (Biometrics 1988), from the cells.
    By hand: cells (2, 0), (1, 1), (0, 2): 8.5 of 9 pairs, .9444, give or take .0556: the pair in the middle.
    """
    negatives, positives = ranked[:, 0].astype(np.float64), ranked[:, 1].astype(np.float64)
    n, p = float(negatives.sum()), float(positives.sum())
    if not n or not p:
        return Measure("roc_auc", math.nan, 0.0, 1.0, int(n + p))
    # Half of its own cell: a pair within a cell is a tie, as the cells cannot tell which scores above.
    above = (np.cumsum(negatives) - negatives / 2) / n
    below = (np.cumsum(positives[::-1])[::-1] - positives / 2) / p
    value = float(positives @ above / p)
    binning = float(positives @ negatives / (2 * n * p))
    variance = _weighted_variance(above, positives) / p + _weighted_variance(below, negatives) / n
    low, high = mean_sequence(value, math.sqrt(variance * (n + p)), n + p)
    return Measure("roc_auc", value, max(low - binning, 0.0), min(high + binning, 1.0), int(n + p), binning)


def pr_auc(ranked: Counts) -> Measure:
    """Return the average precision of int64[cells, 2], rows by score cell (rising) and label.

    The mean, over the positives, of the precision among all that score as high. Within a cell the positives may come
    first, last, or all at one score; the value is midway, and that of the rows lies within ``binning``. O(cells).
    By hand: from the top 1 positive, then a cell with 1 of either: 1 and 1/1 to 2/3, together .917 give or take .083.
    """
    # From the highest score down, as precision is asked of all rows above a threshold.
    negatives, positives = ranked[::-1, 0].astype(np.float64), ranked[::-1, 1].astype(np.float64)
    p = float(positives.sum())
    if not p:
        return Measure("pr_auc", math.nan, 0.0, 1.0, int(ranked.sum()))
    hits, misses = np.cumsum(positives) - positives, np.cumsum(negatives) - negatives
    first = _precisions(hits, misses, positives)
    last = _precisions(hits, misses + negatives, positives)
    # Rows of one score are one threshold, as in scikit-learn: the precision at the end of it holds for all of them.
    tied = positives * (hits + positives) / np.maximum(hits + positives + misses + negatives, 1)
    best, worst = float(np.maximum(first, tied).sum() / p), float(last.sum() / p)
    return Measure("pr_auc", (best + worst) / 2, math.nan, math.nan, int(ranked.sum()), (best - worst) / 2)


def class_measures(confusion: Counts, sums: OutcomeSums, names: Mapping[int, str]) -> dict[str, Measure]:
    """Return accuracy, the means over classes of precision, recall and F1, and these of each frequent class.

    ``names`` are the classes by code, as far as they are known. What is neither predicted nor true takes no part;
    what is never predicted has a precision of 0, as in scikit-learn.
    """
    found = sums.classes
    hits, of = float(confusion[0] + confusion[3]), float(confusion.sum())
    out = {"accuracy": _share("accuracy", hits, of)}
    each = np.array(list(found.values()) or [(0, 0, 0)], np.float64)
    both, called, true = each.T
    parts = {
        "precision": both / np.maximum(called, 1),
        "recall": both / np.maximum(true, 1),
        "f1": 2 * both / np.maximum(called + true, 1),
    }
    for name, value in parts.items():
        mean = float(value.mean()) if found else math.nan
        out[f"macro_{name}"] = Measure(f"macro_{name}", mean, math.nan, math.nan, int(of))
    # By true rows and then by code, so that a tie shows the same classes at every look.
    frequent = sorted(found, key=lambda code: (-found[code][2], code))[:MOST_CLASSES]
    for code in frequent:
        key, (right, predicted, actual) = names.get(code, f"class {code}"), found[code]
        for name, rows in (("precision", predicted), ("recall", actual)):
            out[f"{name} of {key}"] = _share(f"{name} of {key}", right, rows)
    return out


def error_measures(sums: OutcomeSums, quantile: float = 0.5) -> dict[str, Measure]:
    """Return mean absolute error, root mean square error, bias (prediction less label) and quantile loss of numbers.

    The quantile loss at q is the mean of max(q d, (q - 1) d) for d = label - prediction, which follows from the mean
    absolute error and the bias: (mae - (2 q - 1) bias) / 2. By hand: errors 3 and -1: 2, 2.236, 1, and 1 at q = .5.
    """
    errors, (unit, square_unit), tops = sums.errors, error_scale(), error_tops()
    rows = int(errors[:, 0].sum())
    if not rows:
        return {name: Measure(name, math.nan, math.nan, math.nan, 0) for name in ERRORS}
    absolute, signed = float(errors[:, 1] @ unit), float(errors[:, 2] @ unit)
    square = float(errors[:, 3] @ square_unit)
    # Of the fourth power only the octave is known: its upper edge makes the interval of the square wider, never less.
    fourth = float((errors[:, 3] * square_unit) @ tops**2)
    mae, bias, mean_square = absolute / rows, signed / rows, square / rows
    low, high = _from_zero(mean_square, _deviation(fourth, square, rows), rows)
    return {
        "mae": Measure("mae", mae, *_from_zero(mae, _deviation(square, absolute, rows), rows), rows),
        "rmse": Measure("rmse", math.sqrt(mean_square), math.sqrt(low), math.sqrt(high), rows),
        "bias": Measure("bias", bias, *mean_sequence(bias, _deviation(square, signed, rows), rows), rows),
        "quantile_loss": _quantile_loss(mae, bias, square / rows, quantile, rows),
    }


def value_measure(confusion: Counts, value: ValueMatrix) -> Measure:
    """Return what a decision is worth on average, with its interval.

    By hand: worth (50, -5, -20, 0) of tp 8, fp 2, fn 4, tn 86: (400 - 10 - 80) / 100 = 3.1.
    """
    rows, worth = int(confusion.sum()), np.array(value.worth)
    if not rows:
        return Measure(VALUE, math.nan, math.nan, math.nan, 0)
    # Scaled to [0, 1], where the sequence of shares holds and is narrower than that of an unbounded mean.
    mean, least, span = float(worth @ confusion) / rows, float(worth.min()), float(np.ptp(worth))
    low, high = share_sequence((mean - least) / span * rows if span else 0.0, rows)
    return Measure(VALUE, mean, least + low * span, least + high * span, rows)


def every_measure(
    task: Task | None,
    confusion: Counts,
    sums: OutcomeSums,
    *,
    names: Mapping[int, str] | None = None,
    value: ValueMatrix | None = None,
    quantile: float = 0.5,
) -> dict[str, Measure]:
    """Return the measures that a task has, in the order in which they are shown; without a task those of decisions."""
    if task is Task.REGRESSION:
        return error_measures(sums, quantile)
    if task is Task.MULTICLASS:
        return class_measures(confusion, sums, names or {})
    found = measures(confusion)
    # Answers without a probability count as 0 and 1: of those a loss or a curve says nothing more.
    if sums.ranked[1:-1].any():
        found |= probability_measures(sums)
    if value is not None:
        found[VALUE] = value_measure(confusion, value)
    return found


def reference_classes(reference: Reference | None) -> dict[int, str]:
    """Return the classes that a reference's predictions had, by code; those beyond its top values have no name."""
    prediction = None if reference is None else reference.prediction
    if prediction is None or not isinstance(prediction.cells, CategoricalCells):
        return {}
    return class_names(prediction.cells.values)


def class_names(keys: tuple[str, ...]) -> dict[int, str]:
    """Return class names by code."""
    return {class_code(key): key for key in keys}


def _share(name: str, hits: float, of: float) -> Measure:
    return Measure(name, hits / of if of else math.nan, *share_sequence(hits, of), int(of))


def _f1(precision: float, recall: float) -> float:
    both = precision + recall
    return 2 * precision * recall / both if both else 0.0


def _calibration_error(sums: OutcomeSums, rows: int) -> Measure:
    positives = np.bincount(BIN_OF_CELL, weights=sums.ranked[:, 1], minlength=SCORE_BINS)
    gap = np.abs(sums.part(SCORES) / MICRO - positives)
    value = float(gap.sum()) / rows if rows else math.nan
    return Measure("calibration_error", value, math.nan, math.nan, rows)


def _deviation(squares: float, summed: float, rows: float) -> float:
    """The standard deviation of rows from the sums of their squares and of themselves."""
    # Of equal rows the difference may fall below 0 by rounding.
    return math.sqrt(max(squares / rows - (summed / rows) ** 2, 0.0)) if rows else 0.0


def _from_zero(mean: float, deviation: float, rows: float) -> tuple[float, float]:
    # Losses and absolute errors cannot be negative, and a page that says so is not believed.
    low, high = mean_sequence(mean, deviation, rows)
    return max(low, 0.0), high


def _quantile_loss(mae: float, bias: float, square: float, q: float, rows: int) -> Measure:
    mean = (mae - (2 * q - 1) * bias) / 2
    # Its square is at most that of the error, times the larger weight.
    spread = math.sqrt(max(max(q, 1 - q) ** 2 * square - mean**2, 0.0))
    return Measure("quantile_loss", mean, *_from_zero(mean, spread, rows), rows)


def _weighted_variance(values: Floats, weights: Floats) -> float:
    mean = float(values @ weights / weights.sum())
    return float((values - mean) ** 2 @ weights / weights.sum())


def _precisions(hits: Floats, misses: Floats, positives: Floats) -> Floats:
    """The sum, over ``positives`` that come after ``hits``, of precision with ``misses`` before: int64[cells] each.

    sum_{i=1..p} (h + i) / (h + i + m) = p - m (H(h + m + p) - H(h + m)), H the harmonic numbers.
    """
    seen = hits + misses
    return np.asarray(positives - misses * (_harmonic(seen + positives) - _harmonic(seen)), np.float64)


def _harmonic(n: Floats) -> Floats:
    large = np.maximum(n, _SMALL - 1)
    # Euler and Maclaurin's series; from _SMALL on what follows is below 1e-13.
    series = np.log(large) + _EULER + 1 / (2 * large) - 1 / (12 * large**2) + 1 / (120 * large**4)
    return np.where(n < _SMALL, _HARMONIC[np.minimum(n, _SMALL - 1).astype(np.int64)], series)
