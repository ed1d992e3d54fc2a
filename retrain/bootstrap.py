"""The first champion of a model: trained from a file, registered and made champion, with its reference."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from stationkeeper.contracts.identity import content_id
from stationkeeper.registry import CHAMPION_ALIAS, Registry, category_text
from stationkeeper.retrain.core.plan import TrainingWindow, WindowKind
from stationkeeper.retrain.service.lineage import register_training
from stationkeeper.retrain.service.steps import ReferenceBuilder, reference_of
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot import EVENT_ID, LABEL, LABEL_TIME, TIME, VERSION, SnapshotStore
from stationkeeper.retrain.training.job import TrainingJob, TrainingResult
from stationkeeper.retrain.training.process import train_to_the_end

HOLDOUT = 0.2
"""The newest share of the file, on which the first champion is measured; there is nobody to compare it with.
Chosen: half of it measures on half the rows, twice of it teaches a quarter less."""


class BootstrapError(ValueError):
    """A training file that gives no champion; the message names the column and what to do."""


@dataclass(frozen=True, slots=True)
class FirstChampion:
    """A registered champion: its version, its reference and what it does on the rows held out."""

    model: str
    version: str
    run_id: str
    snapshot: str
    reference_digest: str
    reference: bytes
    threshold: float
    result: TrainingResult


def training_rows(
    table: pl.DataFrame,
    *,
    time_column: str | None = "time",
    label_column: str = "label",
    categorical: Sequence[str] = (),
) -> pl.DataFrame:
    """Return a training table as snapshot rows; without a time column the row number is the time.

    Every column but time and label is a feature; ``categorical`` turns numbers into texts. Raises ``BootstrapError``.
    """
    for name in (label_column, *categorical, *([time_column] if time_column else [])):
        if name not in table.columns:
            raise BootstrapError(f"there is no column {name!r}; the table has {', '.join(table.columns)}")
    labelled = table.filter(pl.col(label_column).is_not_null())
    times = pl.Series(TIME, range(len(labelled)), dtype=pl.Int64) if time_column is None else labelled[time_column]
    if times.dtype.is_temporal():
        times = times.dt.epoch("ms")
    if not times.dtype.is_integer():
        raise BootstrapError(f"column {time_column!r} is {times.dtype}; a time is epoch milliseconds or a datetime")
    labels = labelled[label_column].map_elements(category_text, return_dtype=pl.String)
    features = labelled.drop([label_column, *([time_column] if time_column else [])])
    converted = [_feature(features[name], name in categorical) for name in features.columns]
    # Nine digits, so that ids sort as the rows do in any file that fits a machine.
    reserved = [
        pl.Series(EVENT_ID, [f"row-{row:09d}" for row in range(len(labelled))], dtype=pl.String),
        times.cast(pl.Int64).alias(TIME),
        pl.Series(VERSION, [""] * len(labelled), dtype=pl.String),
        labels.alias(LABEL),
        times.cast(pl.Int64).alias(LABEL_TIME),
    ]
    return pl.DataFrame([*reserved, *converted])


def bootstrap(
    model: str,
    rows: pl.DataFrame,
    settings: RetrainSettings,
    *,
    registry: Registry,
    snapshots: SnapshotStore,
    build_reference: ReferenceBuilder,
    work_dir: Path,
    alias: str | None = CHAMPION_ALIAS,
) -> FirstChampion:
    """Train on all but the held-out rows of ``training_rows``, register, and set the alias.

    Blocks until the training subprocess ends. Raises ``NoModel`` and ``Retryable`` (registry unreachable).
    """
    registry.ping()
    snapshot = snapshots.write(rows, {"model": model, "ranges": [], "base": None})
    job = TrainingJob.of(
        settings,
        model=model,
        snapshot=snapshot.path.resolve(),
        digest=snapshot.digest,
        windows=(TrainingWindow(WindowKind.ALL),),
    ).model_copy(update={"holdout": HOLDOUT, "validation": 0.0})
    request = content_id("boot", model, snapshot.digest, settings.model_dump_json())
    directory = work_dir / request
    result = train_to_the_end(job, directory, settings.training.timeout)
    tags = {"cause": "first champion"}
    registered = register_training(registry, snapshots, directory, request=request, tags=tags, alias=alias)
    digest, reference = reference_of(job, directory, registered.version, snapshots, build_reference)
    shutil.rmtree(directory, ignore_errors=True)
    return FirstChampion(
        model=model,
        version=registered.version,
        run_id=registered.run_id,
        snapshot=snapshot.digest,
        reference_digest=digest,
        reference=reference,
        threshold=result.threshold.value if result.threshold else 0.5,
        result=result,
    )


def _feature(values: pl.Series, categorical: bool) -> pl.Series:  # noqa: FBT001 - a column is one or it is not
    if values.dtype == pl.Boolean and not categorical:
        return values
    if values.dtype.is_numeric() and not categorical:
        numbers = values.cast(pl.Float64)
        return numbers.set(numbers.is_nan() | numbers.is_infinite(), None)
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        return values.map_elements(category_text, return_dtype=pl.String)
    return values.cast(pl.String)
