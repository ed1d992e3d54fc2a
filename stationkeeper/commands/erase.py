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
    Exits 1 where a directory does not exist, a file could not be erased or the registry is away; the rest is erased all
    the same.
    """
    from stationkeeper.process.wiring import WORK_DIRECTORY, open_reader
    from stationkeeper.retrain.snapshot import Erasure, SnapshotStore, erase_files, erase_snapshots

    # As from a shell variable that is not set: it would take every row in which some text is empty.
    if not entity.strip():
        raise typer.BadParameter(f"ENTITY is {entity!r}; name whom to erase, or an event id of --events")
    # Whole: what a refused model keeps of the entity would stay, and the answer would say that all is gone.
    with open_reader(config, whole=True) as (settings, reader, _):
        known = _listed(events) if events is not None else set()
        known |= _events_of(settings, reader, entity)
        rejected = _rejected(settings, reader, {entity, *known})
    erasure = Erasure(entity, frozenset(known))
    store = SnapshotStore.of(settings.snapshots)
    found = erase_snapshots(store, erasure, round(time.time() * 1_000), really=really)
    trained = work or WORK_DIRECTORY
    beside = erase_files(trained, erasure, really=really)
    # Both paths are relative by default: from another directory there is nothing to erase, which must not look done.
    missing = [str(one.absolute()) for one in (store.directory, trained) if not one.is_dir()]
    if (database := _no_database(settings)) is None:
        beside += _shadows(settings, erasure, really=really)
    elif any(one.retrain is not None for one in settings.models.values()):
        missing.append(str(database.absolute()))
    kept = [one for one in (*found, *beside) if one.kept is not None]
    found, beside = ([one for one in some if one.kept is None] for some in (found, beside))
    for lost in missing:
        kind = "file" if database is not None and lost == str(database.absolute()) else "directory"
        typer.echo(
            f"there is no {kind} {lost}, so nothing was looked at there: start erase where the role retrain runs, or "
            "give --work, and snapshots.directory and registry.tracking_uri in the configuration",
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


def _no_database(settings: Any) -> Path | None:
    """Return the SQLite file of the registry where there is none: MLflow would make an empty one, and find nobody."""
    uri = settings.registry.tracking_uri
    file = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    return file if uri.startswith("sqlite:///") and not file.exists() else None


def _shadows(settings: Any, erasure: Any, *, really: bool) -> list[Any]:
    """Erase from the lists of disagreements of every run; returns ``Erased`` of those that hold the entity."""
    from stationkeeper.registry import ArtifactError, MlflowConnection, retrained_runs
    from stationkeeper.retrain.service.lineage import SHADOW_REPORT
    from stationkeeper.retrain.snapshot import Erased
    from stationkeeper.streams.errors import Retryable

    try:
        # Of the registry and not of the topic of candidates, which forgets after a quarter what runs keep for good.
        runs = retrained_runs(MlflowConnection(settings.registry))
    except (ArtifactError, Retryable) as error:
        return [Erased(Path(SHADOW_REPORT), 0, kept=f"{error}; run erase again when the registry answers")]
    return [one for one in (erase_shadow(settings, run, erasure, really=really) for run in runs) if one]


def erase_shadow(settings: Any, run: str, erasure: Any, *, really: bool) -> Any:
    """Erase these events' rows from a run's list of disagreements, and the entity from the sentence above it.

    Returns ``Erased``, whose rows count a segment that named the entity as one; None where nothing holds it.
    """
    from stationkeeper.registry import ArtifactError, MlflowConnection, read_run_file, write_run_file
    from stationkeeper.retrain.service.lineage import SHADOW_REPORT
    from stationkeeper.retrain.snapshot import Erased
    from stationkeeper.streams.errors import Retryable

    file, connection = Path(f"run-{run}") / SHADOW_REPORT, MlflowConnection(settings.registry)
    try:
        report = loads(read_run_file(connection, settings.registry.tracking_uri, run, SHADOW_REPORT))
        left = [row for row in report["rows"] if not _theirs(row, erasure)]
        summary = report.get("summary", {})
        named = {place: _unnamed(place, erasure.entity) for place in summary.get("places", ())}
        gone = len(report["rows"]) - len(left) + sum(place != said for place, said in named.items())
        if gone and really:
            text = report["text"]
            for place, said in named.items():
                text = text.replace(place, said)
            kept = {**report, "text": text, "rows": left}
            if named:
                kept["summary"] = {**summary, "places": [*named.values()]}
            write_run_file(connection, run, SHADOW_REPORT, dumps(kept, indent=1))
        return Erased(file, gone) if gone else None
    except ArtifactError:
        # The run holds no such list, or is gone with it.
        return None
    except Retryable as error:
        return Erased(file, 0, kept=f"{error}; run erase again when the registry answers")


def _theirs(row: dict[str, Any], erasure: Any) -> bool:
    """Whether a disagreement is of these events, or of a segment that is the entity itself."""
    from stationkeeper.retrain.snapshot import EVENT_ID
    from stationkeeper.retrain.training.job import GROUP

    # No other cell: an entity called "unknown" or "flip" would take every row that our own words say that of. An event
    # called "12" is no segment of hour 12, either.
    event = row.get(EVENT_ID)
    segments = [row[name] for name in row if name.startswith(GROUP)]
    return event == erasure.entity or event in erasure.events or erasure.entity in map(str, segments)


def _unnamed(place: str, entity: str) -> str:
    """Return a segment as the sentence names it, NAME=VALUE (K of N rows), without its value where that is the entity.

    A value that ends in "=" and the entity loses that end, too: nobody can tell it from a feature with "=" in its name.
    """
    from stationkeeper.retrain.core.shadow import told

    head, bracket, counts = place.rpartition(" (")
    # As it is told, and whole, as older builds told it.
    ends = [f"={one}" for one in (told(entity), entity) if head.endswith(f"={one}")]
    return f"{head.removesuffix(ends[0])}=(erased){bracket}{counts}" if ends else place


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
