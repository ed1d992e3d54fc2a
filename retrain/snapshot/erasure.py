"""Erasing a person's rows from snapshots, which are named by their content and may be referred to for good.

A snapshot that holds such rows is written again without them, under the digest that it then has. In place of the old
manifest lies a tombstone that says so: whoever walks from a version, a request or a younger snapshot to the old digest
is led to the new one, and the old bytes are gone.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from stationkeeper.contracts.times import to_datetime
from stationkeeper.retrain.snapshot.events import EVENT_ID
from stationkeeper.retrain.snapshot.snapshot import MANIFEST_VERSION, ROW_GROUP, TOMBSTONE, Snapshot, SnapshotStore


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure found in one file and did to it; ``became`` is None in a rehearsal and for a file beside."""

    file: Path
    rows: int
    digest: str | None = None
    became: str | None = None


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
        """Return how many rows of a Parquet file go; a row group in memory at a time."""
        return sum(len(self.of(rows)) for rows in _batches(file))


def erase_snapshots(store: SnapshotStore, erasure: Erasure, at_ms: int, *, really: bool) -> list[Erased]:
    """Erase from every snapshot of a store; returns those with such rows. Killed anywhere, it can be run again.

    ``at_ms`` is when, as the tombstones tell it; who was erased they do not. Raises ``SnapshotError`` for a snapshot
    that is damaged: nobody can say what is in it.
    """
    found = []
    for path in sorted(store.directory.glob("*.parquet")):
        rows = erasure.count(path)
        if not rows:
            continue
        became = _rewrite(store, path.stem, erasure, rows, at_ms).digest if really else None
        found.append(Erased(path, rows, path.stem, became))
    return found


def erase_files(directory: Path, erasure: Erasure, *, really: bool) -> list[Erased]:
    """Erase from the Parquet files that trainings left in a work directory: scores by event, rows of a failed run."""
    found = []
    for path in sorted(directory.rglob("*.parquet")):
        rows = erasure.count(path)
        if not rows:
            continue
        if really:
            part = path.with_suffix(".part")
            erasure.without(pl.read_parquet(path)).write_parquet(part)
            part.replace(path)
        found.append(Erased(path, rows))
    return found


def _rewrite(store: SnapshotStore, digest: str, erasure: Erasure, rows: int, at_ms: int) -> Snapshot:
    before = store.find(digest)
    assert before is not None  # noqa: S101 - its file was listed a moment ago
    counted = {"schema", "schema_version", "digest", "bytes", "rows", "labelled", "columns", "writer"}
    counted |= {"first_time", "last_time", "last_labelled"}
    facts = {name: value for name, value in before.manifest.items() if name not in counted}
    at = to_datetime(at_ms).isoformat()
    facts["erased"] = [*facts.get("erased", []), {"from": digest, "rows": rows, "at": at}]
    made = store.write((erasure.without(one) for one in _batches(before.path)), facts)
    tombstone = {
        "schema": TOMBSTONE,
        "schema_version": MANIFEST_VERSION,
        "digest": digest,
        "became": made.digest,
        "rows_erased": rows,
        "at": at,
        "model": before.manifest.get("model"),
        "base": before.manifest.get("base"),
    }
    # The tombstone first: from here on the old digest leads to the new one, and a second run removes what is left.
    store.bury(digest, json.dumps(tombstone, indent=1, sort_keys=True))
    before.path.unlink()
    return made


def _batches(file: Path) -> Iterator[pl.DataFrame]:
    for batch in pq.ParquetFile(file).iter_batches(ROW_GROUP):
        yield pl.DataFrame(pl.from_arrow(batch))
