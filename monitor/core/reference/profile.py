"""Build a reference from training data: schema, cells, counts, and what the order of rows teaches."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.column import (
    Categories,
    Column,
    Floats,
    Integers,
    Numbers,
    categories,
    numbers,
)
from stationkeeper.contracts.identity import content_id
from stationkeeper.contracts.messages import SubjectType
from stationkeeper.contracts.wire import SCORE_BINS, score_bin
from stationkeeper.monitor.core.reference.cells import (
    QUALITY,
    Cells,
    Counts,
    NumericCells,
    boolean_cells,
    categorical_cells,
    cell_of,
    numeric_cells,
)
from stationkeeper.monitor.core.reference.reference import Kind, Labels, Reference, Subject, Task
from stationkeeper.monitor.core.reference.schema import Array, Schema, infer_schema
from stationkeeper.monitor.core.reference.weighting import effective_rows, prior_weights, weighted_counts

PREDICTION = "prediction"
HIGH_CARDINALITY = 1_000
FEW_CLASSES = 20
_SENSITIVE_DIGITS = 2


@dataclass(frozen=True, slots=True)
class Roles:
    """Which column plays which part; the others are features unless ``features`` names them."""

    features: tuple[str, ...] | None = None
    prediction: str | None = None
    label: str | None = None
    weight: str | None = None
    ignored: tuple[str, ...] = ()

    def inputs(self, names: Collection[str]) -> list[str]:
        """Return the feature columns; raises ``ValueError`` naming a column that is not there."""
        wanted = [*(self.features or ()), *(n for n in (self.prediction, self.label, self.weight) if n)]
        for name in wanted:
            if name not in names:
                raise ValueError(f"column {name!r} is not in the data; columns are {', '.join(sorted(names)[:50])}")
        if self.features is not None:
            return list(self.features)
        taken = {self.prediction, self.label, self.weight, *self.ignored}
        return [name for name in names if name not in taken]


def profile(  # noqa: PLR0913 - the library call of a training script names each part
    columns: Mapping[str, npt.ArrayLike],
    *,
    model: str = "model",
    version: str = "1",
    features: Collection[str] | None = None,
    prediction: str | None = None,
    label: str | None = None,
    weight: str | None = None,
    prior: Mapping[str, float] | None = None,
    categorical: Collection[str] = (),
    sensitive: Collection[str] = (),
    ignored: Collection[str] = (),
    importance: Mapping[str, float] | None = None,
    ordered: bool = False,
    threshold: float = 0.5,
    positive: str | None = None,
    salt: str | None = None,
    source: str = "training",
) -> Reference:
    """Freeze a reference from ``columns``: name to array of n rows.

    Every column that has no other part is a feature unless ``features`` names them. ``weight`` names a column of row
    weights, ``prior`` the true share of classes: either undoes rebalancing. ``sensitive`` features keep only salted
    hashes of values and edges of two digits. ``ordered`` says that rows are in order of time (dependence between rows
    is then learned by ``monitor.core.adoption.adopt.adopt``). Raises ``ValueError`` naming the column and what to do.
    O(n features log n).
    """
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    rows = {name: len(values) for name, values in arrays.items()}
    if len(set(rows.values())) != 1 or not next(iter(rows.values())):
        raise ValueError(f"columns must have the same number of rows, at least one; got {dict(list(rows.items())[:8])}")
    roles = Roles(tuple(features) if features is not None else None, prediction, label, weight, tuple(ignored))
    named = roles.inputs(arrays)
    for name in (*categorical, *sensitive):
        if name not in arrays:
            raise ValueError(f"column {name!r} is not in the data; columns are {', '.join(sorted(arrays)[:50])}")
    schema = infer_schema(
        {n: arrays[n] for n in named}, categorical=categorical, named=features is not None, ordered=ordered
    )
    if not schema.kinds and prediction is None:
        raise ValueError("no column can be watched: " + "; ".join(schema.notes))
    salt = salt if salt is not None else content_id("salt", model)
    labels = categories(arrays[label]) if label else None
    weights = _weights(arrays, roles, labels, prior)
    subjects = [
        _subject(name, arrays[name], schema, weights, salt, secret=name in sensitive)
        for name in named
        if name in schema.kinds
    ]
    subjects = [replace(s, importance=float((importance or {}).get(s.name, 1.0))) for s in subjects]
    task = None
    if prediction is not None:
        task = infer_task(arrays[prediction])
        subjects.append(_prediction(arrays[prediction], task, weights, salt))
    positive = positive or positive_class(labels)
    known = None
    if prediction is not None and label is not None:
        known = labels_of(arrays[prediction], arrays[label], task or Task.BINARY, threshold, positive, weights)
    return Reference(
        model=model,
        version=version,
        subjects=tuple(subjects),
        salt=salt,
        rows=effective_rows(weights) if weights is not None else next(iter(rows.values())),
        task=task,
        threshold=threshold,
        positive=positive,
        source=source,
        labels=known,
        notes=schema.notes,
    )


def infer_task(prediction: Array) -> Task:
    """Return what predictions look like: few whole numbers or texts are classes, numbers in [0, 1] a binary score."""
    kinds = prediction.dtype.kind
    if kinds == "b":
        return Task.BINARY
    if kinds in "iuf":
        found = prediction[np.isfinite(prediction)].astype(np.float64)
        distinct = np.unique(found)
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
    return bool(np.any((found != 0) & (found != 1)))


def positive_class(labels: Categories | None) -> str:
    """Return the class that counts as positive: ``1`` or ``true`` if there, else the last in order of spelling."""
    keys = labels.keys if labels is not None else ()
    for key in ("1", "true"):
        if key in keys:
            return key
    return max(keys, default="1")


def labels_of(
    prediction: Array, label: Array, task: Task, threshold: float, positive: str, weights: Floats | None = None
) -> Labels:
    """Return score bins and confusion of rows that have both a prediction and a label."""
    right, wrong_up, wrong_down, score, truth, usable = outcomes(prediction, label, task, threshold, positive)
    weight = np.ones(len(prediction)) if weights is None else weights
    weight = np.where(usable, weight, 0.0)
    scale = 1.0 if weights is None or not weight.any() else effective_rows(weight) / weight.sum()
    bins = score_bin(np.nan_to_num(score)) * 2 + truth
    scored = np.bincount(bins, weights=weight * scale, minlength=2 * SCORE_BINS).reshape(SCORE_BINS, 2)
    table = [right & truth, wrong_up, wrong_down, right & ~truth]
    confusion = np.array([(weight * scale)[mask].sum() for mask in table])
    return Labels(np.round(scored).astype(np.int64), np.round(confusion).astype(np.int64))


Flags = npt.NDArray[np.bool_]


def outcomes(
    prediction: Array, label: Array, task: Task, threshold: float, positive: str
) -> tuple[Flags, Flags, Flags, Floats, Flags, Flags]:
    """Return row by row: right, false positive, false negative, score, positive label, usable.

    For several classes a wrong row counts as a false positive and the score is 1 where the row was right.
    """
    guess, truth = categories(prediction), categories(label)
    usable = (guess.codes >= 0) & (truth.codes >= 0)
    if task is Task.MULTICLASS:
        shared = {key: i for i, key in enumerate({*guess.keys, *truth.keys})}
        same = _codes(guess, shared) == _codes(truth, shared)
        right = usable & same
        nothing = np.zeros(len(same), np.bool_)
        return right, usable & ~same, nothing, same.astype(np.float64), nothing, usable
    is_true = usable & _equals(truth, positive)
    if is_score(prediction, task):
        score = numbers(prediction).values
        said = usable & (score >= threshold)
    else:
        said = usable & _equals(guess, positive)
        score = said.astype(np.float64)
    right = usable & (said == is_true)
    return right, said & ~is_true, usable & ~said & is_true, score, is_true, usable


def _codes(column: Categories, shared: Mapping[str, int]) -> Integers:
    table = np.array([*(shared[key] for key in column.keys), -1, -1, -1, -1])
    return np.asarray(table[column.codes], np.int64)


def _equals(column: Categories, key: str) -> Flags:
    same = {key, "true"} if key == "1" else ({key, "1"} if key == "true" else {key})
    table = np.array([*(k in same for k in column.keys), False, False, False, False])
    return np.asarray(table[column.codes], np.bool_)


def _weights(
    arrays: Mapping[str, Array], roles: Roles, labels: Categories | None, prior: Mapping[str, float] | None
) -> Floats | None:
    if roles.weight and prior:
        raise ValueError("give either a weight column or a prior, not both: each undoes the rebalancing by itself")
    if roles.weight:
        weights = numbers(arrays[roles.weight]).values
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ValueError(f"weight column {roles.weight!r}: every weight must be a finite number of 0 or more")
        return weights
    if prior:
        if labels is None:
            raise ValueError("prior needs the label column; name it with label")
        return prior_weights(labels, prior)
    return None


def _subject(name: str, values: Array, schema: Schema, weights: Floats | None, salt: str, *, secret: bool) -> Subject:
    kind = schema.kinds[name]
    column = schema.column(name, values)
    cells = _freeze(column, kind, weights, salt, secret=secret)
    distinct = len(column.keys) if isinstance(column, Categories) else len(np.unique(column.values))
    counts, quality = _count(cells, column, weights)
    return Subject(
        name=name,
        type=SubjectType.FEATURE,
        kind=kind,
        cells=cells,
        counts=counts,
        quality=quality,
        json_type=schema.json_types[name],
        sensitive=secret,
        high_cardinality=kind is Kind.CATEGORICAL and distinct > HIGH_CARDINALITY,
        distinct=distinct,
    )


def _prediction(values: Array, task: Task, weights: Floats | None, salt: str) -> Subject:
    score = is_score(values, task)
    kind = Kind.NUMERIC if score else Kind.CATEGORICAL
    column: Column = numbers(values) if score else categories(values)
    cells = _freeze(column, kind, weights, salt, secret=False)
    counts, quality = _count(cells, column, weights)
    json_type = "number" if score or values.dtype.kind in "iuf" else ""
    distinct = len(column.keys) if isinstance(column, Categories) else 0
    return Subject(PREDICTION, SubjectType.PREDICTION, kind, cells, counts, quality, json_type, distinct=distinct)


def _freeze(column: Column, kind: Kind, weights: Floats | None, salt: str, *, secret: bool) -> Cells:
    if kind is Kind.BOOLEAN:
        return boolean_cells()
    if isinstance(column, Numbers):
        cells = numeric_cells(column.values, weights)
        return _coarse(cells) if secret else cells
    present = column.codes >= 0
    weight = weights[present] if weights is not None else None
    mass = np.bincount(column.codes[present], weights=weight, minlength=len(column.keys)).astype(np.float64)
    return categorical_cells(column.keys, mass, salt=salt, sensitive=secret)


def _coarse(cells: NumericCells) -> NumericCells:
    """Edges of two digits and no atoms: no edge of a sensitive number is anyone's value."""
    rounded = np.unique([float(f"{edge:.{_SENSITIVE_DIGITS}g}") for edge in cells.edges])
    low, high = (float(f"{bound:.{_SENSITIVE_DIGITS}g}") for bound in (cells.low, cells.high))
    return NumericCells(rounded, np.empty(0), min(low, cells.low), max(high, cells.high))


def _count(cells: Cells, column: Column, weights: Floats | None) -> tuple[Counts, Counts]:
    rows = len(column)
    whole = cells.tally(column, np.zeros(rows, np.int64), 1)[0]
    counts = whole[: cells.count]
    quality = whole[cells.count : cells.count + len(QUALITY)].copy()
    if isinstance(column, Categories):
        quality[QUALITY.index("unseen")] = _new_on_odd_rows(column)
    if weights is None:
        return counts, quality
    scale = effective_rows(weights) / rows
    return weighted_counts(cell_of(cells, column), weights, cells.count), np.round(quality * scale).astype(np.int64)


def _new_on_odd_rows(column: Categories) -> int:
    """How many of the odd rows carry a value that no even row has: an honest count of values never seen before."""
    seen = np.zeros(len(column.keys) + 4, np.bool_)
    seen[column.codes[::2]] = True
    odd = column.codes[1::2]
    return int(np.count_nonzero(~seen[odd] & (odd >= 0)))
