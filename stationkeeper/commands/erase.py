"""The verb that erases a person's data from what Stationkeeper keeps on disk, and finds what it may not delete."""

import time
from collections.abc import Iterable
from json import dumps, loads
from pathlib import Path
from typing import Annotated, Any

import typer

from stationkeeper.commands.options import ConfigOption, JsonOption, print_json


def erase(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="The entity_id of events, or a value of a feature.")],
    events: Annotated[
        Path | None,
        typer.Option(help="A file of event ids that are the entity's too, one a line.", exists=True, dir_okay=False),
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
    Exits 1 where a directory does not exist or a file could not be erased; the rest is erased all the same.
    """
    from stationkeeper.process.wiring import WORK_DIRECTORY, open_reader
    from stationkeeper.retrain.snapshot import Erasure, SnapshotStore, erase_files, erase_snapshots

    # As from a shell variable that is not set: it would take every row in which some text is empty.
    if not entity.strip():
        raise typer.BadParameter(f"ENTITY is {entity!r}; name whom to erase, or an event id of --events")
    with open_reader(config) as (settings, reader, topics):
        known = _listed(events) if events is not None else set()
        known |= _events_of(settings, reader, entity)
        rejected = _rejected(settings, reader, {entity, *known})
        runs = _shadowed(reader, topics)
    erasure = Erasure(entity, frozenset(known))
    store = SnapshotStore.of(settings.snapshots)
    found = erase_snapshots(store, erasure, round(time.time() * 1_000), really=really)
    trained = work or WORK_DIRECTORY
    beside = erase_files(trained, erasure, really=really)
    # Both paths are relative by default: from another directory there is nothing to erase, which must not look done.
    missing = [str(one.absolute()) for one in (store.directory, trained) if not one.is_dir()]
    beside += [one for one in (erase_shadow(settings, run, {entity, *known}, really=really) for run in runs) if one]
    kept = [one for one in (*found, *beside) if one.kept is not None]
    found, beside = ([one for one in some if one.kept is None] for some in (found, beside))
    for lost in missing:
        typer.echo(
            f"there is no directory {lost}, so nothing was looked at there: start erase where the role retrain "
            "runs, or give --work, and snapshots.directory in the configuration",
            err=True,
        )
    for one in kept:
        typer.echo(f"{one.file} is not erased: {one.kept}", err=True)
    if json:
        print_json(
            {
                "done": really,
                "events": len(known),
                "snapshots": [{"digest": one.digest, "rows": one.rows, "became": one.became} for one in found],
                "files": [{"file": str(one.file), "rows": one.rows} for one in beside],
                "rejected": rejected,
                "missing": missing,
                "kept": [{"file": str(one.file), "why": one.kept} for one in kept],
            }
        )
    else:
        _tell(known, found, beside, rejected, really=really)
    if store.dvc is not None and found:
        typer.echo(
            f"DVC keeps its own copies: remove them in {store.dvc.directory} (dvc gc), and in its remote", err=True
        )
    if found:
        typer.echo(
            "versions trained on these snapshots keep values of theirs in card.json (golden): train again, then delete "
            "those versions and their runs in MLflow",
            err=True,
        )
    if missing or kept:
        raise typer.Exit(1)


def _shadowed(reader: Any, topics: Any) -> list[str]:
    """Return the runs that keep the disagreements of a shadow, which name events."""
    from stationkeeper.contracts.messages import Candidate
    from stationkeeper.explain.lineage import read_messages

    candidates = read_messages(reader, topics.candidates.name, Candidate)
    return sorted({one.run_id for one in candidates if one.shadow is not None})


def erase_shadow(settings: Any, run: str, names: set[str], *, really: bool) -> Any:
    """Erase the rows of these events from a run's list of disagreements; returns ``Erased``, None without one."""
    from stationkeeper.registry import ArtifactError, MlflowConnection, read_run_file, write_run_file
    from stationkeeper.retrain.service.lineage import SHADOW_REPORT
    from stationkeeper.retrain.snapshot import Erased
    from stationkeeper.streams.errors import Retryable

    file, connection = Path(f"run-{run}") / SHADOW_REPORT, MlflowConnection(settings.registry)
    try:
        report = loads(read_run_file(connection, settings.registry.tracking_uri, run, SHADOW_REPORT))
        # A segment may be the entity itself, as a text feature of a snapshot may.
        left = [row for row in report["rows"] if names.isdisjoint(map(str, row.values()))]
        gone = len(report["rows"]) - len(left)
        if gone and really:
            write_run_file(connection, run, SHADOW_REPORT, dumps({**report, "rows": left}, indent=1))
        return Erased(file, gone) if gone else None
    except ArtifactError:
        # The run was deleted, and its list with it.
        return None
    except Retryable as error:
        return Erased(file, 0, kept=f"{error}; run erase again when the registry answers")


def _listed(file: Path) -> set[str]:
    """Return the ids of a file, a line each; an id may hold blanks, and a part of it may be the id of another event."""
    try:
        # utf-8-sig: what Excel puts before the first id is not part of it.
        return {line for line in file.read_text(encoding="utf-8-sig").split("\n") if line.strip()}
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"--events {file}: {error}; save it as UTF-8") from None


def _tell(known: set[str], found: list[Any], beside: list[Any], rejected: list[str], *, really: bool) -> None:
    """Print what was erased, or would be."""
    word = "erased" if really else "would be erased"
    typer.echo(f"{len(known)} events are the entity's")
    for one in found:
        typer.echo(f"snapshot {one.digest}: {one.rows} rows {word}" + (f", now {one.became}" if one.became else ""))
    for one in beside:
        typer.echo(f"{one.file}: {one.rows} rows {word}")
    for address in rejected:
        typer.echo(f"rejected record {address} may name it: it goes with the retention of its topic")
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
