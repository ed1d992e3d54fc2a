"""The verb that erases a person's data from what Stationkeeper keeps on disk, and finds what it may not delete."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from stationkeeper.commands.options import ConfigOption, JsonOption, print_json


def erase(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="The entity_id of events, or a value of a feature.")],
    events: Annotated[
        Path | None, typer.Option(help="A file of event ids that are the entity's too, one a line.")
    ] = None,
    work: Annotated[Path | None, typer.Option(help="The role retrain's work directory; default: as it runs here.")] = (
        None
    ),
    really: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would be done.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Erase an entity's rows from snapshots and training files, and list the rejected records that name it.

    Rehearses without --yes. Which events are the entity's is read from the input topics as far back as they reach; of
    older ones give --events. A snapshot is written again under its new SHA-256, with a tombstone at the old one.
    """
    from stationkeeper.process.wiring import WORK_DIRECTORY, open_reader
    from stationkeeper.retrain.snapshot import Erasure, SnapshotStore, erase_files, erase_snapshots

    with open_reader(config) as (settings, reader, _):
        known = set(events.read_text(encoding="utf-8").split()) if events is not None else set()
        known |= _events_of(settings, reader, entity)
        rejected = _rejected(settings, reader, {entity, *known})
    erasure = Erasure(entity, frozenset(known))
    store = SnapshotStore.of(settings.snapshots)
    found = erase_snapshots(store, erasure, round(time.time() * 1_000), really=really)
    beside = erase_files(work or WORK_DIRECTORY, erasure, really=really)
    if json:
        print_json(
            {
                "done": really,
                "events": len(known),
                "snapshots": [{"digest": one.digest, "rows": one.rows, "became": one.became} for one in found],
                "files": [{"file": str(one.file), "rows": one.rows} for one in beside],
                "rejected": rejected,
            }
        )
        return
    word = "erased" if really else "would be erased"
    typer.echo(f"{len(known)} events are the entity's")
    for one in found:
        typer.echo(f"snapshot {one.digest}: {one.rows} rows {word}" + (f", now {one.became}" if one.became else ""))
    for one in beside:
        typer.echo(f"{one.file}: {one.rows} rows {word}")
    for address in rejected:
        typer.echo(f"rejected record {address} may name it: it goes with the retention of its topic")
    if store.dvc is not None and found:
        typer.echo(
            f"DVC keeps its own copies: remove them in {store.dvc.directory} (dvc gc), and in its remote", err=True
        )
    if not really:
        typer.echo("nothing was changed; say --yes to erase")


def _events_of(settings: Any, reader: Any, entity: str) -> set[str]:
    """Return the ids of the events whose ``entity_id`` this is, of all models, as far back as the topics reach."""
    from dataclasses import replace

    import numpy as np

    from stationkeeper.events import EventReader, entity_hash, forms

    wanted = entity_hash(entity)
    found: set[str] = set()
    for form in forms(list(settings.models.values())).values():
        read = EventReader(replace(form, extras=("event_id",)))
        for batch in reader.read(reader.partitions(form.topic)):
            for group in read.discover(batch.values, batch.headers).events:
                if group.entity is not None:
                    mine = np.flatnonzero(group.entity == wanted)
                    found.update(group.extras["event_id"][row] for row in mine.tolist())
    return found


def _rejected(settings: Any, reader: Any, names: Iterable[str]) -> list[str]:
    """Return the addresses of rejected records whose bytes hold one of the names."""
    from stationkeeper.process.wiring import input_topics
    from stationkeeper.streams.dead_letters.box import letters

    wanted = [name.encode() for name in names]
    return [
        letter.address
        for topic in input_topics(settings)
        for letter in letters(reader, topic)
        # As bytes: what was rejected is often no JSON, and then has no fields to look into.
        if any(name in (letter.value or b"") or name in (letter.key or b"") for name in wanted)
    ]
