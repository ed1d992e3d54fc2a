"""Builds the reference of a freshly trained version: retrain has the rows, the monitor knows what a reference is."""

from dataclasses import replace

import numpy as np
import polars as pl

from stationkeeper.monitor.core.reference import dump
from stationkeeper.monitor.profiling import profile
from stationkeeper.registry import FeatureKind
from stationkeeper.retrain.service.steps import ReferenceRows

# Names that begin with @ cannot be features' (retrain.snapshot.events).
_SCORE = "@score"
_LABEL = "@label"
_TIME = "@time"


def build_reference(rows: ReferenceRows) -> tuple[str, bytes]:
    """Return digest and JSON of the reference of a new version, from rows like those it will see."""
    columns = [*rows.features.get_columns(), pl.Series(_TIME, rows.times), pl.Series(_SCORE, rows.scores)]
    labelled = bool(np.isfinite(rows.labels).any())
    if labelled:
        columns.append(pl.Series(_LABEL, rows.labels))
    reference = profile(
        pl.DataFrame(columns),
        model=rows.model,
        version=rows.version,
        time=_TIME,
        prediction=_SCORE,
        label=_LABEL if labelled else None,
        categorical=[spec.name for spec in rows.specs if spec.kind is FeatureKind.CATEGORICAL],
        threshold=rows.card.threshold,
    )
    # The rows have 1 for it; labels and classes of events to come have its text.
    reference = replace(reference, positive=rows.positive)
    return reference.digest, dump(reference).encode()
