"""The input topics as the monitor would read them, and their events beside the references they are judged by."""

import time
from collections.abc import Iterator, Mapping

from stationkeeper.check.baselines import KnownReferences
from stationkeeper.check.finding import MARKS, Outcome, SetupCheck
from stationkeeper.check.mismatch import (
    Mismatch,
    event_mismatches,
    of_model,
    reference_mismatches,
    trainer_mismatch,
    version_mismatch,
)
from stationkeeper.check.sample import sample_input
from stationkeeper.config import Config
from stationkeeper.events import DEFAULT_POSITIVE, Events, Form, forms
from stationkeeper.streams.ports import Reader

# How many of a topic's newest records are looked at where --sample asks for fewer: a field that is null in one of a
# hundred is met, and it takes less than a second.
_LOOKED_AT = 500
# Without --sample that many of the records that cannot be read are shown: enough to see of which kind they are.
_SHOWN = 3


def check_inputs(config: Config, reader: Reader, known: KnownReferences, sample: int) -> Iterator[SetupCheck]:
    """Yield what the newest records of each input become, ``sample`` of them in words, then each model's mismatches."""
    events: list[Events] = []
    for topic, form in forms(list(config.models.values())).items():
        yield from _topic(config, reader, topic, form, sample, events)
    for name in config.models:
        if mine := of_model(events, name):
            yield _beside(config, name, mine, known)


def _topic(
    config: Config, reader: Reader, topic: str, form: Form, sample: int, events: list[Events]
) -> Iterator[SetupCheck]:
    partitions = reader.partitions(topic)
    if not partitions:
        return
    bounds = reader.bounds(partitions)
    total = sum(end - first for first, end in bounds.values())
    if not total:
        yield SetupCheck(f"topic {topic}", "warning", "is empty: nothing can be said about its records yet")
        return
    # Spread over the partitions: one producer often fills one of them, and a mistake of another would not be met.
    each = max(max(sample, _LOOKED_AT) // len(partitions), 1)
    start = {p: max(first, end - each) for p, (first, end) in bounds.items()}
    seen = sample_input(config, form, reader, start)
    events += seen.events
    # A topic may hold other kinds of records too; only one of which nothing can be read has surely a wrong mapping.
    outcome: Outcome = "ok" if not seen.failures else ("warning" if seen.lines else "failed")
    failures = [f"{MARKS['failed']} {line}" for line in seen.failures[: sample or _SHOWN]]
    newest = seen.lines[-sample:] if sample else []
    detail = f"{seen.counts()} (the newest of {total:,} records in {len(partitions)} partition(s))"
    yield SetupCheck(f"topic {topic}", outcome, detail, (*newest, *failures))


def _beside(config: Config, name: str, events: list[Events], known: KnownReferences) -> SetupCheck:
    """Set one model's events beside its reference; several versions' events are compared with the champion's."""
    settings, count = config.models[name], sum(map(len, events))
    versions: Mapping[str, object] = known.versions.get(name, {})
    # With events of one version its own reference judges; of several, the champion's is the one that pages.
    seen = {part.owners[owner][1] for part in events for owner in part.owner.tolist()}
    reference = known.reference(name, next(iter(seen)) if len(seen) == 1 else None)
    positive = settings.positive or (DEFAULT_POSITIVE if reference is None else reference.positive)
    now = round(time.time() * 1_000)
    found: list[Mismatch] = [*event_mismatches(events, settings, now, positive)]
    if settings.retrain is not None:
        found += trainer_mismatch(events, settings.retraining())
    if reference is not None:
        found += version_mismatch(events, list(versions))
        found += reference_mismatches(events, reference, settings, now)
    against = "no reference yet" if reference is None else f"the reference of version {reference.version}"
    outcome: Outcome = "failed" if any(one.fails for one in found) else ("warning" if found else "ok")
    lines = tuple(f"{MARKS['failed' if one.fails else 'warning']} {one.words}" for one in found)
    words = f"{len(found)} differences" if len(found) != 1 else "1 difference"
    return SetupCheck(
        f"events of {name}", outcome, f"{count} events beside {against}: {words if found else 'alike'}", lines
    )
