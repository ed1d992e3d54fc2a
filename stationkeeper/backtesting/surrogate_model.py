"""A stand-in model for tables that bring labels but no predictions: its errors show a changed concept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stationkeeper.contracts.column import Categories, Column, Floats, Integers, categories
from stationkeeper.monitor.core.reference import Reference, cell_of

Array = np.ndarray[Any, Any]

# Each row is scored by a model that did not see it; four folds leave three quarters of the rows to learn from.
# Classes beyond ten are too many for a stand-in. The ridge pulls weights of rare cells to zero; sixty accelerated
# steps are past the bend of the loss on the benchmark streams. All chosen: a stand-in must show a change, not predict
# well.
FOLDS = 4
MAX_CLASSES = 10
RIDGE = 3.0
STEPS = 60


@dataclass(frozen=True, slots=True)
class StandIn:
    """Additive logistic regression on the reference's coarse cells, one against the rest for several classes."""

    reference: Reference
    classes: tuple[str, ...]
    weights: Floats

    @property
    def binary(self) -> bool:
        """Whether it answers with a score."""
        return len(self.classes) == 2

    def predict(self, columns: Mapping[str, Column]) -> Array:
        """Return scores of the second class, or the likeliest class of each row."""
        return self.answer(_design(self.reference, columns))

    def answer(self, design: Integers) -> Array:
        """Return answers for coded rows."""
        margin = np.stack([weights[design].sum(1) for weights in self.weights], axis=1)
        if self.binary:
            return np.asarray(1.0 / (1.0 + np.exp(-margin[:, 0])))
        return np.array([self.classes[i] for i in margin.argmax(1)], object)


def fit_stand_in(
    reference: Reference, columns: Mapping[str, Column], label: Array, positive: str | None = None
) -> tuple[StandIn, Array] | None:
    """Fit on the reference rows; returns the model and its cross-fitted answers for those rows.

    Answers for each quarter of the rows come from a model of the others (blocks in order), so the reference error is
    not flattered. Of two classes its scores are about ``positive``; without one either will do, for it is fitted to it.
    None where the label is not 2 to 10 classes. O(rows features steps).
    """
    target = categories(label)
    # More are an id or a number: a one-against-the-rest model of each would be slow and say nothing.
    if not 2 <= len(target.keys) <= MAX_CLASSES or (target.codes < 0).all() or not reference.features:
        return None
    # The positive class last: scores are of the second of two.
    classes = tuple(sorted(target.keys, key=lambda key: (key == positive, key)))
    design = _design(reference, columns)
    codes = _codes(target, classes)
    width = _width(reference)
    # In blocks, not by lot: neighbouring rows are alike, and a model that has seen the neighbours would look better
    # than it is.
    block = np.arange(len(codes)) * FOLDS // len(codes)
    answers: Array = np.empty(len(codes), np.float64 if len(classes) == 2 else object)
    for fold in range(FOLDS):
        rest = (block != fold) & (codes >= 0)
        made = StandIn(reference, classes, _fit(design[rest], codes[rest], len(classes), width))
        answers[block == fold] = made.answer(design[block == fold])
    known = codes >= 0
    return StandIn(reference, classes, _fit(design[known], codes[known], len(classes), width)), answers


def _design(reference: Reference, columns: Mapping[str, Column]) -> Integers:
    """Each row as positions of its features' coarse cells in one weight vector, the intercept first: int64[n, F+1]."""
    parts, at = [np.zeros(len(next(iter(columns.values()))), np.int64)], 1
    for subject in reference.features:
        grid = subject.grid
        parts.append(at + grid[cell_of(subject.cells, columns[subject.name])])
        at += int(grid.max()) + 1
    return np.stack(parts, axis=1)


def _width(reference: Reference) -> int:
    return 1 + sum(int(subject.grid.max()) + 1 for subject in reference.features)


def _fit(design: Integers, codes: Integers, classes: int, width: int) -> Floats:
    wanted = [1] if classes == 2 else range(classes)
    return np.stack([_logistic(design, (codes == k).astype(np.float64), width) for k in wanted])


def _logistic(design: Integers, y: Floats, width: int) -> Floats:
    """Ridge logistic regression by gradient steps with a diagonal curvature bound; deterministic."""
    weights, parts = np.zeros(width), design.shape[1]
    # A class without rows would begin at an infinite intercept; a rarer one than a thousandth is soon learned from
    # there.
    share = float(np.clip(y.mean(), 1e-3, 1 - 1e-3))
    weights[0] = np.log(share / (1 - share))
    flat = design.ravel()
    count = np.bincount(flat, minlength=len(weights)).astype(np.float64)
    # 1/4 is the largest slope of the logistic function: with it each step goes down, without a line search.
    curvature = 0.25 * parts * count + RIDGE
    velocity = np.zeros_like(weights)
    for step in range(STEPS):
        probe = weights + velocity
        p = 1.0 / (1.0 + np.exp(-probe[design].sum(1)))
        gradient = np.bincount(flat, weights=np.repeat(y - p, parts), minlength=len(weights)) - RIDGE * probe
        new = probe + gradient / curvature
        # Accelerated (Nesterov 1983): sixty plain steps would stop short of the bend.
        velocity = (new - weights) * (step / (step + 3.0))
        weights = new
    return weights


def _codes(target: Categories, classes: tuple[str, ...]) -> Integers:
    # Codes below 0 (missing, null and their like) index the four places at the end, from behind.
    table = np.array([*(classes.index(key) for key in target.keys), -1, -1, -1, -1])
    return np.asarray(table[target.codes], np.int64)
