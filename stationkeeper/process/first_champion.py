"""The first champion: trained from a file (or taken as registered), with its reference, written to the log."""

import tempfile
from functools import partial
from pathlib import Path

import polars as pl

from stationkeeper.config import Config
from stationkeeper.deploy.adoption import DeploymentError, adopt, read_deployments
from stationkeeper.process.wiring import reader_for, timezones_of, topics_of
from stationkeeper.profiling.fresh_version import build_reference
from stationkeeper.registry import AdoptionRules, ModelTask, Registry, look_at
from stationkeeper.retrain.bootstrap import FirstChampion, bootstrap, training_rows
from stationkeeper.retrain.snapshot import SnapshotStore
from stationkeeper.streams.connect import sink_for


def train_first_champion(
    config: Config, model: str, table: pl.DataFrame, *, time_column: str | None = "time", label_column: str = "label"
) -> FirstChampion:
    """Train on a table, register the version and set the alias; blocks until the training ends."""
    settings = config.models[model].retraining()
    rows = training_rows(table, time_column=time_column, label_column=label_column)
    with tempfile.TemporaryDirectory(prefix="stationkeeper-first-") as work:
        return bootstrap(
            model,
            rows,
            settings,
            registry=Registry(config.registry),
            snapshots=SnapshotStore.of(config.snapshots),
            build_reference=partial(build_reference, timezones=timezones_of(config)),
            work_dir=Path(work),
        )


def adopt_champion(
    config: Config,
    model: str,
    version: str,
    reference: bytes | None,
    at_ms: int,
    by: str,
    *,
    allow_pickle: bool = False,
) -> str:
    """Write to the log that ``version`` is champion, and return in words what the version is.

    Refusals come before any work: a model with another champion (``DeploymentError``), a version that the registry
    lacks, that does not load or does not answer its signature (``ArtifactError``), a registry that does not answer
    (``Retryable``). ``allow_pickle`` lets a flavour run code of its author, in a process of its own.
    """
    registry = Registry(config.registry)
    registry.tags(model, version)
    _refuse_other_champion(config, model, version)
    settings = config.models[model]
    rules = AdoptionRules(
        settings.retraining().labels.positive_class,
        # The even score, as `profile` has it where nobody names one.
        0.5 if settings.threshold is None else settings.threshold,
        ModelTask(settings.retrain.task) if settings.retrain else None,
        allow_pickle,
    )
    found = look_at(registry, model, version, rules)
    topics = topics_of(config)
    reader = reader_for(config, "adopt")
    sink = sink_for(config.kafka, "adopt")
    try:
        adopt(sink, reader, topics, model, version, at_ms, by=by, reference=reference)
    finally:
        sink.close()
        reader.close()
    return found


def _refuse_other_champion(config: Config, model: str, version: str | None) -> None:
    """Raise ``DeploymentError`` where the log names another champion than ``version``, or any at all for None."""
    reader = reader_for(config, "adopt")
    try:
        held = read_deployments(reader, topics_of(config)).held(model)
    finally:
        reader.close()
    if held is not None and held.champion != version:
        raise DeploymentError(
            f"model {model!r} has champion {held.champion} already; train or offer a candidate to replace it"
        )


def adopt_first_champion(
    config: Config,
    model: str,
    table: pl.DataFrame,
    *,
    at_ms: int,
    by: str = "first champion",
    time_column: str | None = "time",
    label_column: str = "label",
) -> FirstChampion:
    """Train and adopt in one go; raises ``DeploymentError`` before any work when the log names a champion already."""
    _refuse_other_champion(config, model, None)
    first = train_first_champion(config, model, table, time_column=time_column, label_column=label_column)
    adopt_champion(config, model, first.version, first.reference, at_ms, by=by)
    return first
