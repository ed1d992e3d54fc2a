"""Rows to columns: one pass over each field of a batch, by kind of event."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from monitor.columns import (
    CategoryColumn,
    Events,
    FeatureColumn,
    Integers,
    Keys,
    NumberColumn,
    category_column,
    number_column,
)
from monitor.core.column import Status
from monitor.faults import MAX_TEXT
from monitor.hashing import hash_ids
from monitor.instants import BAD, parse_instants
from monitor.mapping import DEFAULT_POSITIVE, Form
from monitor.rows import ABSENT, RowType
from monitor.settings import Kind

Rows = Sequence[Any]


def assemble(
    row_type: RowType, form: Form, rows: Rows, index: Integers | None, salt: np.uint64, *, clean: bool
) -> tuple[Events, ...] | None:
    """Return the events of each kind among rows of the right types, or None if a rule of ``Faults.of`` is broken.

    ``index`` int64[n] are the rows' positions in the batch (None: all in order). ``clean`` says that every row came
    from the strict pass, so that numeric features hold nothing but numbers and nulls.
    """
    if not len(rows):
        return ()
    if index is None:
        index = np.arange(len(rows), dtype=np.int64)
    if len(form.kinds) == 1:
        kind = form.kinds[0]
        found = set(map(row_type.get["kind"], rows))
        if found - {kind, ABSENT}:
            return None
        events = _one_kind(row_type, form, kind, rows, index, salt, clean=clean)
        return None if events is None else (events,)
    kinds = [row_type.get["kind"](row) for row in rows]
    if set(kinds) - set(form.kinds):
        return None
    out = []
    for kind in form.kinds:
        chosen = [i for i, one in enumerate(kinds) if one == kind]
        if not chosen:
            continue
        events = _one_kind(row_type, form, kind, [rows[i] for i in chosen], index[chosen], salt, clean=clean)
        if events is None:
            return None
        out.append(events)
    return tuple(out)


def _one_kind(
    row_type: RowType, form: Form, kind: Kind, rows: Rows, index: Integers, salt: np.uint64, *, clean: bool
) -> Events | None:
    get = row_type.get
    ids = _texts(get["event_id"], rows, loose=not form.own)
    if ids is None:
        return None
    times = parse_instants(list(map(get["time"], rows)), form.time_unit)
    if (times == BAD).any():
        return None
    owner = _owners(row_type, form, kind, rows)
    if owner is None:
        return None
    weight = _measure(get.get("weight"), rows, lowest=np.nextafter(0, 1))
    if weight is False:
        return None
    events = Events(
        kind,
        index,
        times,
        hash_ids(ids, salt),
        owner[0],
        owner[1],
        weight=weight,
        segments=_segments(row_type, form, rows),
    )
    if kind == "label":
        labels = list(map(get["label"], rows))
        return None if ABSENT in set(map(_identity, labels)) else replace(events, label=category_column(labels, ABSENT))
    events = replace(events, features=_features(row_type, rows, clean=clean))
    return _with_prediction(row_type, form, rows, events) if kind == "prediction" else events


def _identity(value: object) -> object:
    return value if value is ABSENT else None


def _texts(get: Callable[[Any], Any], rows: Rows, *, loose: bool) -> list[str] | None:
    values = list(map(get, rows))
    kinds = set(map(type, values))
    if kinds != {str}:
        if not loose or not kinds <= {str, int}:
            return None
        values = list(map(str, values))
    longest, shortest = max(map(len, values)), min(map(len, values))
    return values if shortest >= 1 and longest <= MAX_TEXT else None


def _owners(
    row_type: RowType, form: Form, kind: Kind, rows: Rows
) -> tuple[Integers, tuple[tuple[str, str], ...]] | None:
    """(model, version) of each row as codes; labels and features may lack a version."""
    models, model_code = _codes(row_type.get.get("model"), rows, form.model)
    if any(model not in form.models for model in models):
        return None
    versions, version_code = _codes(None if kind == "label" else row_type.get.get("version"), rows, form.version or "")
    if any(len(version) > MAX_TEXT or (kind == "prediction" and not version) for version in versions):
        return None
    if len(models) == 1:
        return version_code, tuple((models[0], version) for version in versions)
    pairs = model_code * len(versions) + version_code
    distinct, owner = np.unique(pairs, return_inverse=True)
    width = len(versions)
    return owner.reshape(-1), tuple((models[pair // width], versions[pair % width]) for pair in distinct.tolist())


def _codes(get: Callable[[Any], Any] | None, rows: Rows, constant: str | None) -> tuple[tuple[str, ...], Integers]:
    if get is None:
        return (constant or "",), np.zeros(len(rows), np.int64)
    values = list(map(get, rows))
    first = values[0]
    if isinstance(first, str) and values.count(first) == len(values):
        return (first,), np.zeros(len(rows), np.int64)
    keys = Keys()
    texts = ["" if value is None or value is ABSENT else str(value) for value in values]
    codes = np.fromiter(map(keys.__getitem__, texts), np.int64, len(rows))
    return tuple(keys), codes


def _measure(get: Callable[[Any], Any] | None, rows: Rows, lowest: float) -> Any:
    """A column of numbers with NaN where there is none; None if there is none at all, False if one is below."""
    if get is None:
        return None
    values = np.fromiter(map(get, rows), np.float64, len(rows))
    if np.isnan(values).all():
        return None
    return False if (values < lowest).any() else values


def _segments(row_type: RowType, form: Form, rows: Rows) -> dict[str, CategoryColumn]:
    n = len(rows)
    found: dict[str, CategoryColumn] = {
        name: CategoryColumn(np.zeros(n, np.int64), (value,)) for name, value in form.segment.items()
    }
    get = row_type.get.get("segment")
    if get is None:
        return found
    values = list(map(get, rows))
    if values.count(None) == n:
        return found
    names = {name for value in values if value for name in value}
    for name in sorted(names):
        found[name] = category_column([ABSENT if not v else v.get(name, ABSENT) for v in values], ABSENT)
    return found


def _features(row_type: RowType, rows: Rows, *, clean: bool) -> dict[str, FeatureColumn]:
    n = len(rows)
    found: dict[str, FeatureColumn] = {}
    for name, get in row_type.feature.items():
        if name not in row_type.numeric:
            found[name] = category_column(list(map(get, rows)), ABSENT)
            continue
        if clean:
            values = np.fromiter(map(get, rows), np.float64, n)
            missing = np.isnan(values)
            if not missing.any():
                found[name] = NumberColumn(values)
                continue
            status = np.zeros(n, np.int8)
            rest = np.flatnonzero(missing).tolist()
            status[rest] = [Status.NULL if get(rows[i]) is None else Status.ABSENT for i in rest]
            found[name] = NumberColumn(values, status)
            continue
        found[name] = number_column([_absent_nan(get(row)) for row in rows], ABSENT)
    return found


def _absent_nan(value: Any) -> Any:
    return ABSENT if isinstance(value, float) and np.isnan(value) else value


def _with_prediction(row_type: RowType, form: Form, rows: Rows, events: Events) -> Events | None:
    n = len(rows)
    latency = _measure(row_type.get.get("latency_ms"), rows, lowest=0.0)
    if latency is False:
        return None
    values = list(map(row_type.get["prediction"], rows))
    kinds = set(map(type, values))
    if dict in kinds:
        if any(isinstance(v, dict) and not all(0.0 <= share <= 1.0 for share in v.values()) for v in values):
            return None
        positive = [form.positive.get(model, DEFAULT_POSITIVE) for model, _ in events.owners]
        values = [
            _from_shares(v, positive[owner]) if isinstance(v, dict) else v
            for v, owner in zip(values, events.owner.tolist(), strict=True)
        ]
        kinds = set(map(type, values))
    if kinds <= {float, int, bool}:
        score = np.fromiter(values, np.float64, n)
        return replace(events, prediction=NumberColumn(score), latency=latency)
    if str in kinds:
        return replace(events, prediction=category_column(values, ABSENT), latency=latency)
    column = number_column(values, ABSENT)
    return replace(events, prediction=column, latency=latency)


def _from_shares(shares: dict[str, float], positive: str) -> float | str | None:
    """The positive class's probability; for other classes the likeliest (the first by name among equals)."""
    if positive in shares:
        return float(shares[positive])
    return min(shares, key=lambda name: (-shares[name], name)) if shares else None
