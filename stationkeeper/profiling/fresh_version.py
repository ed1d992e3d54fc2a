"""Builds the reference of a freshly trained version: retrain has the rows, the monitor knows what a reference is."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from stationkeeper.contracts.times import UTC_ZONE
from stationkeeper.monitor.core.reference import Task, dump
from stationkeeper.monitor.profiling import profile
from stationkeeper.registry import FeatureKind, ModelTask
from stationkeeper.retrain.service.steps import ReferenceRows

# Names that begin with @ cannot be features' (retrain.snapshot.events).
_SCORE = "@score"
_LABEL = "@label"
_TIME = "@time"
_SURE = "@confidence"


def build_reference(rows: ReferenceRows, timezones: Mapping[str, str]) -> tuple[str, bytes]:
    """Return digest and JSON of the reference of a new version, from rows like those it will see.

    ``timezones`` says by model whose clock tells its hours; UTC where nothing is said.
    """
    several = rows.card.task is ModelTask.MULTICLASS
    # Events carry the class's text; its index would be read as an amount where there are many classes.
    answers, truth = (
        pl.Series([None if np.isnan(one) else rows.card.classes[int(one)] for one in values.tolist()], dtype=pl.String)
        if several
        else pl.Series(values)
        for values in (rows.scores, rows.labels)
    )
    columns = [*rows.features.get_columns(), pl.Series(_TIME, rows.times), answers.alias(_SCORE)]
    labelled = bool(np.isfinite(rows.labels).any())
    if labelled:
        columns.append(truth.alias(_LABEL))
    sure = several and rows.confidence is not None
    if sure:
        columns.append(pl.Series(_SURE, rows.confidence))
    reference = profile(
        pl.DataFrame(columns),
        model=rows.model,
        version=rows.version,
        time=_TIME,
        timezone=timezones.get(rows.model, UTC_ZONE),
        prediction=_SCORE,
        label=_LABEL if labelled else None,
        confidence=_SURE if sure else None,
        categorical=[spec.name for spec in rows.specs if spec.kind is FeatureKind.CATEGORICAL],
        threshold=rows.card.threshold,
        task=Task(rows.card.task.value),
    )
    # The rows have 1 for it; labels and classes of events to come have its text.
    if not several:
        reference = replace(reference, positive=rows.positive)
    return reference.digest, dump(reference).encode()
