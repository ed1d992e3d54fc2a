"""Build a reference from training data: schema, cells, counts, and what the order of rows teaches."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.column import (
    Categories,
    Column,
    Floats,
    Numbers,
    categories,
    numbers,
)
from stationkeeper.contracts.identity import content_id
from stationkeeper.contracts.messages import SubjectType
from stationkeeper.monitor.core.reference.cells import (
    MAX_NAME,
    QUALITY,
    Cells,
    Counts,
    NumericCells,
    boolean_cells,
    categorical_cells,
    cell_of,
    numeric_cells,
)
from stationkeeper.monitor.core.reference.outcomes import (
    check_positive,
    infer_task,
    is_score,
    labels_of,
    positive_class,
)
from stationkeeper.monitor.core.reference.pairs import MOST_PAIRS, choose_pairs
from stationkeeper.monitor.core.reference.reference import (
    Kind,
    Reference,
    ReferenceSubject,
    Task,
    joint_subject,
)
from stationkeeper.monitor.core.reference.schema import Array, Schema, infer_schema
from stationkeeper.monitor.core.reference.weighting import effective_rows, prior_weights, weighted_counts

PREDICTION = "prediction"
"""Name of the prediction's subject, as in the events."""

HIGH_CARDINALITY = 1_000
"""More distinct values than this and a category is marked as open: its top 30 values and 64 buckets then hold more than
ten values each on average. A mark for reports; it changes no decision."""

# Digits of a sensitive number's edges: an edge is then shared by every value of the same two digits, so it is nobody's
# own. One digit leaves nine edges a power of ten; with three, an edge of a salary is a salary.
_SENSITIVE_DIGITS = 2


@dataclass(frozen=True, slots=True)
class Roles:
    """Which column plays which part; the others are features unless ``features`` names them."""

    features: tuple[str, ...] | None = None
    prediction: str | None = None
    label: str | None = None
    weight: str | None = None
    ignored: tuple[str, ...] = ()
    confidence: str | None = None

    def inputs(self, names: Collection[str]) -> list[str]:
        """Return the feature columns; raises ``ValueError`` naming a column that is not there."""
        parts = (self.prediction, self.label, self.weight, self.confidence)
        wanted = [*(self.features or ()), *(n for n in parts if n)]
        # Fifty names are more than a wrong one needs to be found, and a table may have thousands.
        for name in wanted:
            if name not in names:
                raise ValueError(f"column {name!r} is not in the data; columns are {', '.join(sorted(names)[:50])}")
        if self.features is not None:
            return list(self.features)
        taken = {*parts, *self.ignored}
        return [name for name in names if name not in taken]


def profile(  # noqa: PLR0913 - the library call of a training script names each part
    columns: Mapping[str, npt.ArrayLike],
    *,
    model: str = "model",
    version: str = "1",
    features: Collection[str] | None = None,
    prediction: str | None = None,
    label: str | None = None,
    confidence: str | None = None,
    weight: str | None = None,
    prior: Mapping[str, float] | None = None,
    categorical: Collection[str] = (),
    sensitive: Collection[str] = (),
    ignored: Collection[str] = (),
    untyped: Collection[str] = (),
    importance: Mapping[str, float] | None = None,
    ordered: bool = False,
    threshold: float = 0.5,
    positive: str | None = None,
    salt: str | None = None,
    source: str = "training",
    pairs: int = MOST_PAIRS,
    task: Task | None = None,
) -> Reference:
    """Freeze a reference from ``columns``: name to array of n rows.

    Every column that has no other part is a feature unless ``features`` names them. ``confidence`` names a column with
    the probability of each answer of several classes: what right answers are estimated from. ``weight`` names a column
    of row weights, ``prior`` the true share of classes: either undoes rebalancing. ``sensitive`` features keep only
    salted hashes of values and edges of two digits. ``ordered`` says that rows are in order of time (dependence between
    rows is then learned by ``monitor.core.adoption.adopt.adopt``). ``untyped`` features take any JSON type, for their
    file did not tell it. ``pairs`` of features that go together, at most so many, are counted together as well.
    ``task`` is what predictions are, where their values do not tell. Raises ``ValueError`` naming the column and what
    to do. O(n features log n).
    """
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    rows = {name: len(values) for name, values in arrays.items()}
    if len(set(rows.values())) != 1 or not next(iter(rows.values())):
        raise ValueError(f"columns must have the same number of rows, at least one; got {dict(list(rows.items())[:8])}")
    chosen = None if features is None else tuple(features)
    roles = Roles(chosen, prediction, label, weight, tuple(ignored), confidence)
    named = roles.inputs(arrays)
    for name in named:
        if len(name) > MAX_NAME:
            raise ValueError(
                f"column {name[:40]!r}… has a name of {len(name)} characters, at most {MAX_NAME}: rename it"
            )
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
    subjects = [
        replace(
            s,
            importance=float((importance or {}).get(s.name, 1.0)),
            json_type="" if s.name in untyped else s.json_type,
        )
        for s in subjects
    ]
    joint = _joint(subjects, {s.name: schema.column(s.name, arrays[s.name]) for s in subjects}, weights, pairs)
    if prediction is None:
        task = None
    else:
        task = task or infer_task(arrays[prediction])
        subjects.append(_prediction(arrays[prediction], task, weights, salt))
    told = ""
    if positive is None:
        scores = (
            arrays[prediction] if prediction is not None and is_score(arrays[prediction], task or Task.BINARY) else None
        )
        positive, told = positive_class(labels, None if scores is None else numbers(scores).values, task)
    elif labels is not None and task in {None, Task.BINARY}:
        check_positive(positive, labels)
    known = None
    if prediction is not None and label is not None:
        sure = None if confidence is None else numbers(arrays[confidence]).values
        known = labels_of(arrays[prediction], arrays[label], task or Task.BINARY, threshold, positive, weights, sure)
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
        notes=(*schema.notes, told) if told else schema.notes,
        pairs=joint,
    )


def _joint(
    features: Sequence[ReferenceSubject], columns: Mapping[str, Column], weights: Floats | None, most: int
) -> tuple[ReferenceSubject, ...]:
    """The pairs of features that depend on each other most, with the reference's rows counted in them."""
    of = {subject.name: (subject.cells, subject.counts) for subject in features}
    cells = {name: cells for name, (cells, _) in of.items()}
    found = [joint_subject(pair, cells) for pair in choose_pairs(of, columns, most)]
    # Two long names together could be longer than any file may have.
    found = [one for one in found if len(one.name) <= MAX_NAME and one.name not in of]
    columns = Reference("", "", tuple(features), "", 0, pairs=tuple(found)).with_pairs(columns)
    rows = weights if weights is not None else np.ones(max(map(len, columns.values()), default=1))
    return tuple(
        replace(one, counts=weighted_counts(cell_of(one.cells, columns[one.name]), rows, one.cells.count))
        for one in found
    )


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


def _subject(
    name: str, values: Array, schema: Schema, weights: Floats | None, salt: str, *, secret: bool
) -> ReferenceSubject:
    kind = schema.kinds[name]
    column = schema.column(name, values)
    cells = _freeze(column, kind, weights, salt, secret=secret)
    distinct = len(column.keys) if isinstance(column, Categories) else len(np.unique(column.values))
    counts, quality = _count(cells, column, weights)
    return ReferenceSubject(
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


def _prediction(values: Array, task: Task, weights: Floats | None, salt: str) -> ReferenceSubject:
    score = is_score(values, task)
    kind = Kind.NUMERIC if score else Kind.CATEGORICAL
    column: Column = numbers(values) if score else categories(values)
    cells = _freeze(column, kind, weights, salt, secret=False)
    counts, quality = _count(cells, column, weights)
    json_type = "number" if score or values.dtype.kind in "iuf" else ""
    distinct = len(column.keys) if isinstance(column, Categories) else 0
    return ReferenceSubject(
        PREDICTION, SubjectType.PREDICTION, kind, cells, counts, quality, json_type, distinct=distinct
    )


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
