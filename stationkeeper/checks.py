"""``check``: finds what would fail later, before anything runs; each finding says what to do."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Literal

from contracts.times import format_duration
from monitor.mapping import MappingError, forms
from retrain.registry import Registry
from stationkeeper.config import Config
from stationkeeper.input_sample import sample_input
from stationkeeper.wiring import input_topics, reader_for, topics_of
from streams.errors import Fatal, Retryable
from streams.ports import Reader
from streams.topic_config import topic_config
from streams.topics import admin_client, ensure_inputs, ensure_internal

Outcome = Literal["ok", "warning", "failed"]
_MARKS: dict[Outcome, str] = {"ok": "✓", "warning": "△", "failed": "✗"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, what was found, and what to do where it is not right.

    ``lines`` are the records of a sample: the mapped events, then those that failed.
    """

    what: str
    outcome: Outcome
    detail: str
    lines: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """Return the mark of the outcome."""
        return _MARKS[self.outcome]

    @property
    def failed(self) -> bool:
        """Return whether something would fail."""
        return self.outcome == "failed"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def run_checks(config: Config, *, sample: int = 0, create: bool = False) -> list[Check]:
    """Look at everything a role would need; a broker that is away ends the look, all else is looked at."""
    found = [_models(config)]
    try:
        form_count = len(forms(list(config.models.values())))
        found.append(Check("input mappings", "ok", f"{form_count} topic(s) read in one way each"))
    except MappingError as error:
        return [*found, Check("input mappings", "failed", str(error))]
    try:
        found += _topics(config, create=create)
        found += _retention(config)
        with closing(reader_for(config, "check")) as reader:
            found += _inputs(config, reader, sample)
    except (Retryable, Fatal) as error:
        found.append(Check("Kafka", "failed", str(error)))
    found.append(_registry(config))
    return found


def _models(config: Config) -> Check:
    if not config.models:
        return Check("configuration", "failed", "models: is empty; let stationkeeper init write one from a sample")
    parts = [
        f"{name}: {model.false_pages}, pane {format_duration(model.pane)}"
        + ("" if model.labels else ", no labels: performance stays unknown")
        + ("" if model.retrain else ", no retrain: section: requests have no taker")
        for name, model in config.models.items()
    ]
    return Check("configuration", "ok", "; ".join(parts))


def _topics(config: Config, *, create: bool) -> Iterator[Check]:
    created = ensure_internal(config.kafka, topics_of(config))
    yield Check("internal topics", "ok", f"{len(created)} created, all have their partitions")
    missing = ensure_inputs(config.kafka, input_topics(config), create_inputs=create)
    if missing and not create:
        text = f"{', '.join(missing)} do not exist; create them, or run check --create"
        yield Check("input topics", "failed", text)
    else:
        new = f", {len(missing)} of them new" if missing else ""
        yield Check("input topics", "ok", f"{len(input_topics(config))} exist{new}")


def _retention(config: Config) -> Iterator[Check]:
    """Compare how long inputs are kept with what is read back: the label horizon and the training history."""
    with admin_client(config.kafka) as admin:
        kept = {name: topic_config(admin, name).get("retention.ms") for name in input_topics(config)}
    for name, model in config.models.items():
        if model.retrain is None:
            continue
        wanted = model.retrain.data.history
        for kind, mapping in model.topics().items():
            retention = int(kept.get(mapping.topic) or -1)
            if 0 <= retention < wanted:
                yield Check(
                    f"retention of {mapping.topic}",
                    "warning",
                    f"keeps {format_duration(retention)} of {kind}s; {name} trains on up to {format_duration(wanted)} "
                    "(retrain.data.history): older rows come from earlier snapshots or are lost. Raise retention.ms",
                )


def _inputs(config: Config, reader: Reader, sample: int) -> Iterator[Check]:
    known = forms(list(config.models.values()))
    for topic, form in known.items():
        partitions = reader.partitions(topic)
        if not partitions:
            continue
        bounds = reader.bounds(partitions)
        total = sum(end - first for first, end in bounds.values())
        if not total:
            yield Check(f"topic {topic}", "warning", "is empty: nothing can be said about its records yet")
            continue
        if not sample:
            yield Check(f"topic {topic}", "ok", f"{total:,} records in {len(partitions)} partition(s)")
            continue
        each = max(sample // len(partitions), 1)
        start = {p: max(first, end - each) for p, (first, end) in bounds.items()}
        seen = sample_input(config, form, reader, start)
        outcome: Outcome = "ok" if not seen.failures else ("warning" if seen.events else "failed")
        lines = (*seen.events[:sample], *(f"{_MARKS['failed']} {line}" for line in seen.failures[:sample]))
        yield Check(f"topic {topic}", outcome, seen.counts(), lines)


def _registry(config: Config) -> Check:
    if not any(model.retrain for model in config.models.values()):
        return Check("registry", "ok", "not needed: no model has a retrain: section")
    try:
        Registry(config.registry).ping()
    except Retryable as error:
        return Check("registry", "failed", str(error))
    return Check("registry", "ok", config.registry.tracking_uri.split("@")[-1])
