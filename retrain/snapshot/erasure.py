"""Erasing a person's rows from snapshots, which are named by their content and may be referred to for good.

A snapshot that holds such rows is written again without them, under the digest that it then has. A tombstone of the old
one says so: whoever walks from a version, a request or a younger snapshot to the old digest is led to the new one, and
the old bytes are gone. The first tombstone stays: of two erasures at once the second goes on with what it leads to. One
file that cannot be erased is told of and keeps no other back.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from stationkeeper.contracts.times import to_datetime
from stationkeeper.retrain.snapshot.events import EVENT_ID
from stationkeeper.retrain.snapshot.files import TOMBSTONE, SnapshotError
from stationkeeper.retrain.snapshot.snapshot import MANIFEST_VERSION, ROW_GROUP, Snapshot, SnapshotStore
from stationkeeper.streams.errors import Retryable


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure found in one file and did to it; ``became`` is None in a rehearsal and for a file beside.

    ``kept`` says why the file stays as it is and what to do, None where it was, or would be, erased.
    """

    file: Path
    rows: int
    digest: str | None = None
    became: str | None = None
    kept: str | None = None


@dataclass(frozen=True, slots=True)
class Erasure:
    """Whose rows go: those of these events, and those in which a text feature is the entity itself."""

    entity: str
    events: frozenset[str]

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows that go."""
        # Exactly, not as a part of a text: "12" must not take the rows of "123" with it.
        texts = [name for name, kind in rows.schema.items() if kind == pl.String and name != EVENT_ID]
        named = [pl.col(name) == self.entity for name in texts]
        if EVENT_ID in rows.columns:
            named.append(pl.col(EVENT_ID).is_in([*self.events, self.entity]))
        return rows.filter(pl.any_horizontal(named).fill_null(value=False)) if named else rows.clear()

    def without(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows that stay, in their order."""
        numbered = rows.with_row_index("@row")
        gone = self.of(numbered).select("@row")
        return numbered.join(gone, on="@row", how="anti", maintain_order="left").drop("@row")

    def count(self, file: Path) -> int:
        """Return how many rows of a Parquet file go, a row group in memory at a time; raises ``SnapshotError``."""
        try:
            return sum(len(self.of(rows)) for rows in _batches(file))
        except pa.ArrowInvalid as error:
            # What a process left that was killed while it wrote, or has not ended yet.
            raise SnapshotError(
                f"nobody knows who is in it ({error}); if no training is writing it, remove it"
            ) from None


def erase_snapshots(store: SnapshotStore, erasure: Erasure, at_ms: int, *, really: bool) -> list[Erased]:
    """Erase from every snapshot of a store; returns those with such rows, and those of which nobody can say (``kept``).

    ``at_ms`` is when, as the tombstones tell it; who was erased they do not. Killed anywhere, it can be run again: what
    an earlier run buried and did not get to remove goes with any later one, whomever that is about.
    """
    found: list[Erased] = []
    known: set[str] = set()
    here = set(store.directory.glob("*.parquet"))
    try:
        if store.objects is not None and not store.objects.there():
            why = f"there is nothing at {store.place}: is it the right place, and mounted?"
            return [Erased(store.directory, 0, kept=why)]
        # Once more when all are done: another machine may have written meanwhile.
        while digests := sorted(store.written().keys() - known):
            known.update(digests)
            for digest in digests:
                one = _erase_one(store, digest, erasure, at_ms, known, really=really)
                found += [] if one is None else [one]
                if store.objects is not None:
                    # Looked at, not wanted here: a year of snapshots would fill a disk that never held them.
                    for path in {store.rows_path(name) for name in (digest, one and one.became) if name} - here:
                        path.unlink(missing_ok=True)
        left = store.drop_unfinished() if really else []
    except Retryable as error:
        return [*found, Erased(store.directory, 0, kept=f"{error}; run erase again when it answers")]
    why = "nobody knows who is in it, as it is not written to its end; run erase again when it is, or in a day"
    return [*found, *(Erased(store.directory / name, 0, kept=why) for name in left)]


def _erase_one(
    store: SnapshotStore, digest: str, erasure: Erasure, at_ms: int, known: set[str], *, really: bool
) -> Erased | None:
    """Erase from one snapshot; ``known`` are those that are looked at, to which what it becomes is added."""
    path, rows = store.rows_path(digest), 0
    try:
        store.look(digest)
        tombstone = store.tombstone(digest)
        if tombstone is None:
            # Gone since the listing: it was erased or deleted elsewhere.
            if not path.exists() and not store.fetch_rows(digest):
                return None
            rows = erasure.count(path)
        else:
            rows = int(tombstone.get("rows_erased", 0))
        if not rows:
            return None
        before = None if tombstone else _own(store, digest)
        if not really:
            return Erased(path, rows, digest)
        # Buried: by an erasure that was killed, or by another one since the look.
        became = before and _rewrite(store, before, erasure, rows, at_ms, known)
        became = became or _became(store, digest)
        # The files of the digest itself. What ``find`` returns may lie where a tombstone led, and is to stay.
        store.remove(path)
        store.remove(store.manifest_path(digest))
        return Erased(path, rows, digest, became)
    except (SnapshotError, Retryable, OSError) as error:
        return Erased(path, rows, digest, kept=str(error))


def erase_files(directory: Path, erasure: Erasure, *, really: bool) -> list[Erased]:
    """Erase from the Parquet files that trainings left in a work directory: scores by event, rows of a failed run."""
    found = []
    for path in sorted(directory.rglob("*.parquet")):
        try:
            rows = erasure.count(path)
        except SnapshotError as error:
            found.append(Erased(path, 0, kept=str(error)))
            continue
        if not rows:
            continue
        if really:
            part = path.with_suffix(".part")
            erasure.without(pl.read_parquet(path)).write_parquet(part)
            part.replace(path)
        found.append(Erased(path, rows))
    return found


def _own(store: SnapshotStore, digest: str) -> Snapshot | None:
    """Return the snapshot of a digest, None where it is buried; raises ``SnapshotError`` where it is not whole."""
    found = store.find(digest)
    if found is None:
        raise SnapshotError(
            f"it has no manifest, as when its writer was killed or is at it now; run erase again, and if it still has "
            f"none, remove {digest}.parquet in {store.place}"
        )
    return found if found.digest == digest else None


def _became(store: SnapshotStore, digest: str) -> str:
    """Return what a buried snapshot became, which must be there and whole before the buried bytes go."""
    found = store.find(digest)
    if found is None:
        raise SnapshotError(
            f"it is to go, but what it became is not there: put that back, or remove "
            f"{store.directory / f'{digest}.parquet'} and lose its other rows too"
        )
    return found.digest


def _rewrite(
    store: SnapshotStore, before: Snapshot, erasure: Erasure, rows: int, at_ms: int, known: set[str]
) -> str | None:
    """Write a snapshot again without the rows that go, and bury it; its files are the caller's to remove.

    Returns what it became, None where another erasure has buried it meanwhile.
    """
    counted = {"schema", "schema_version", "digest", "bytes", "rows", "labelled", "absent", "columns", "writer"}
    counted |= {"first_time", "last_time", "last_labelled"}
    facts = {name: value for name, value in before.manifest.items() if name not in counted}
    at = to_datetime(at_ms).isoformat()
    facts["erased"] = [*facts.get("erased", []), {"from": before.digest, "rows": rows, "at": at}]
    made = store.write((erasure.without(one) for one in _batches(before.path)), facts)
    tombstone = {
        "schema": TOMBSTONE,
        "schema_version": MANIFEST_VERSION,
        "digest": before.digest,
        "became": made.digest,
        "rows_erased": rows,
        "at": at,
        "model": before.manifest.get("model"),
        "base": before.manifest.get("base"),
    }
    # The tombstone first: from here on the old digest leads to the new one, and a second run removes what is left.
    if store.bury(before.digest, json.dumps(tombstone, indent=1, sort_keys=True)):
        known.add(made.digest)
        return made.digest
    # Ours holds whom the other erased, and nothing leads to it.
    if made.digest not in known and made.digest != _became(store, before.digest):
        store.remove(made.path)
        store.remove(store.manifest_path(made.digest))
    return None


def _batches(file: Path) -> Iterator[pl.DataFrame]:
    for batch in pq.ParquetFile(file).iter_batches(ROW_GROUP):
        yield pl.DataFrame(pl.from_arrow(batch))
