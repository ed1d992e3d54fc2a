"""Snapshots of training data: canonical Parquet named by its SHA-256, with a manifest that says where it came from."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.retrain.settings import SnapshotSettings
from stationkeeper.retrain.snapshot.dvc import DvcError, DvcRepository, tag_of
from stationkeeper.retrain.snapshot.events import ACTION, DRAWN, EVENT_ID, LABEL, LABEL_TIME, TIME, VERSION
from stationkeeper.retrain.snapshot.files import (
    SHA256,
    SnapshotError,
    SnapshotFiles,
    publish,
    read_manifest,
    unfinished,
)
from stationkeeper.retrain.snapshot.object_store import ObjectStore
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.ports import Partition

_log = structlog.get_logger()

# The columns that every snapshot begins with, in this order: the order is part of the digest.
RESERVED = (EVENT_ID, TIME, VERSION, LABEL, LABEL_TIME)
ACTED = (ACTION, DRAWN)
"""Columns that come after them where events tell their action; without them rows keep the digest that they always had.
"""
ROW_GROUP = 65_536
"""Rows of one Parquet group. It is part of the bytes and so of the digest: another size gives old rows new names."""

ALL_ROWS = 2**63 - 1
"""More rows than there are: for who wants a whole snapshot in memory, as a report of its columns does."""

MANIFEST_VERSION = 1
"""Version of the manifest beside a snapshot; another one is refused, not guessed at."""
ACTED_VERSION = 2
"""That of one with actions: a build that does not know their columns would train on them as features."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stored snapshot: its digest (sha256 of the file), the file and its manifest."""

    digest: str
    path: Path
    manifest: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """Rows in the file, labelled or not."""
        return int(self.manifest["rows"])

    @property
    def ripe_until(self) -> int | None:
        """The time (ms) of the youngest row whose label could have come; None where its writer did not say."""
        as_of, maturity = self.manifest.get("as_of"), self.manifest.get("maturity")
        return None if as_of is None or maturity is None else int(as_of) - int(maturity)


@dataclass(slots=True)
class SnapshotFile:
    """Writes the Parquet of a snapshot piece by piece and counts what its manifest says of it.

    The same rows give the same bytes, however they are cut into pieces: columns are ordered reserved first, then by
    name, rows come by time and event id, every row group but the last has ``ROW_GROUP`` rows, and statistics are off.
    Deterministic for one version of pyarrow, which the manifest records.
    """

    path: Path
    rows: int = 0
    labelled: int = 0
    absent: int = 0
    first_time: int | None = None
    last_time: int | None = None
    last_labelled: int | None = None
    columns: dict[str, str] = field(default_factory=dict)
    _writer: "pq.ParquetWriter | None" = None
    _rest: pl.DataFrame | None = None

    def add(self, piece: pl.DataFrame) -> None:
        """Write a piece, whose rows come after those before it."""
        missing = [name for name in RESERVED if name not in piece.columns]
        if missing:
            raise SnapshotError(f"the snapshot lacks the columns {missing}")
        acted = [name for name in ACTED if name in piece.columns]
        features = sorted(name for name in piece.columns if name not in (*RESERVED, *ACTED))
        ordered = piece.select(*RESERVED, *acted, *features)
        self.columns = {name: str(kind) for name, kind in sorted(piece.schema.items())}
        self._count(ordered)
        whole = ordered if self._rest is None else pl.concat([self._rest, ordered])
        full = len(whole) // ROW_GROUP * ROW_GROUP
        self._write(whole[:full])
        self._rest = whole[full:]

    def close(self) -> None:
        """Write the last rows and end the file."""
        if self._rest is not None:
            self._write(self._rest, last=True)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _count(self, piece: pl.DataFrame) -> None:
        self.rows += len(piece)
        times = piece[TIME]
        if len(times):
            self.first_time = int(times[0]) if self.first_time is None else self.first_time
            self.last_time = int(times[-1])
        # Of labelled rows: it is the moment up to which a model trained on this snapshot has seen the truth, and later
        # rows are unseen to it.
        labelled = times.filter(piece[LABEL].is_not_null())
        self.labelled += len(labelled)
        # Nobody told their label: it is the negative one for want of one.
        self.absent += int((piece[LABEL].is_not_null() & piece[LABEL_TIME].is_null()).sum())
        if len(labelled):
            self.last_labelled = int(labelled[-1])

    def _write(self, rows: pl.DataFrame, *, last: bool = False) -> None:
        # One chunk a column: where a page ends depends on where a chunk does.
        table = rows.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
        if self._writer is None:
            # zstd's own default level, written out: another default of a later library would give other bytes, and so
            # another digest for the same rows.
            self._writer = pq.ParquetWriter(
                self.path, table.schema, compression="zstd", compression_level=3, write_statistics=False
            )
        # An empty group only where it is the whole file.
        if len(rows) or (last and not self.rows):
            self._writer.write_table(table, row_group_size=ROW_GROUP)


def describe_ranges(begin: Mapping[Partition, int], end: Mapping[Partition, int]) -> list[dict[str, Any]]:
    """Return offset ranges as JSON: topic, partition, first offset and the offset after the last."""
    return [
        {"topic": partition.topic, "partition": partition.index, "begin": begin[partition], "end": end[partition]}
        for partition in sorted(end)
    ]


@dataclass(frozen=True, slots=True)
class SnapshotStore(SnapshotFiles):
    """Snapshots as files named by their SHA-256; writing the same content again changes nothing.

    ``retention_ms`` (wall) is how long a snapshot is kept that nothing names; None keeps all. ``dvc`` is where each one
    is tracked as well. With ``objects`` what asks there raises ``Retryable`` while it does not answer.
    """

    retention_ms: int | None = None
    dvc: DvcRepository | None = None

    @classmethod
    def of(cls, settings: SnapshotSettings) -> Self:
        """Return the store that a configuration describes."""
        dvc = None if settings.dvc is None else DvcRepository(settings.dvc)
        objects = None if settings.object_store is None else ObjectStore(settings.object_store)
        return cls(settings.directory, objects, settings.retention, dvc)

    def write(self, rows: pl.DataFrame | Iterable[pl.DataFrame], facts: Mapping[str, Any]) -> Snapshot:
        """Store a frame, or pieces that come by time and event id; holds a piece in memory.

        ``facts`` (model, offset ranges, as_of, maturity, base) go into the manifest. Rows from which a person was
        erased since are not stored: returned is what became of them; raises ``SnapshotError`` where that is gone.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        pieces = [rows.sort(TIME, EVENT_ID)] if isinstance(rows, pl.DataFrame) else rows
        with unfinished(self.directory) as part:
            file = SnapshotFile(part)
            try:
                for piece in pieces:
                    file.add(piece)
                file.close()
            finally:
                file.abandon()
            digest = digest_of(part)
            self.look(digest)
            # The topics still hold what was erased here: the same request, made again, must not bring it back.
            if self.tombstone(digest) is not None:
                return self._instead(digest)
            path = self.rows_path(digest)
            size = part.stat().st_size
            # The name is the content: a file that is there holds the same bytes, and rewriting it under a reader would
            # not.
            if path.exists():
                # Wanted again, so young again: a request that has not recorded it yet must not lose it to its age.
                path.touch()
            else:
                publish(part, path)
        manifest = {
            "schema": "snapshot",
            "schema_version": ACTED_VERSION if ACTION in file.columns else MANIFEST_VERSION,
            "digest": digest,
            "bytes": size,
            "rows": file.rows,
            "labelled": file.labelled,
            **({"absent": file.absent} if file.absent else {}),
            "first_time": file.first_time,
            "last_time": file.last_time,
            "last_labelled": file.last_labelled,
            "columns": file.columns,
            "writer": f"pyarrow {pa.__version__}",
            **facts,
        }
        beside = self.manifest_path(digest)
        # The first manifest stays: another request with the same rows must not rewrite where the first one's came from.
        if not beside.exists():
            with unfinished(self.directory) as part:
                part.write_text(json.dumps(manifest, indent=1, sort_keys=True))
                publish(part, beside)
        if not self.send(digest):
            return self._instead(digest)
        self._track()
        return Snapshot(digest, path, read_manifest(beside))

    def _track(self) -> None:
        """Export what DVC does not track yet, oldest first; a repository that fails is told of, and tried next time."""
        if self.dvc is None:
            return
        try:
            known = self.dvc.tags()
            for path in sorted(self.directory.glob("*.parquet"), key=lambda one: one.stat().st_mtime):
                if tag_of(path.stem) in known:
                    continue
                # What is on its way out, here or on another machine, must not be copied to where it stays.
                self.look(path.stem)
                if self.tombstone(path.stem) is None:
                    self.dvc.add(Snapshot(path.stem, path, read_manifest(self.manifest_path(path.stem))))
        except (DvcError, SnapshotError, Retryable, OSError) as error:
            # The rows are safe here, and a retrain does not wait for whoever else wants to have them.
            _log.warning(LogEvent.SNAPSHOT_NOT_TRACKED.value, why=str(error))

    def find(self, digest: str) -> Snapshot | None:
        """Return a stored snapshot by its digest, or None; raises ``SnapshotError`` when it is damaged.

        Of one from which somebody was erased it is what became of it, under its new digest. Brought from the object
        store where it is not here.
        """
        digest = self.became(digest, look=True)
        if not self.rows_path(digest).exists():
            self.fetch_rows(digest)
        try:
            return self.local(digest)
        except SnapshotError:
            # A copy that this disk damaged: the store may have it whole.
            if not self.fetch_rows(digest):
                raise
        try:
            return self.local(digest)
        except SnapshotError as error:
            raise SnapshotError(f"{error}, and {digest}.* at {self.place}, which has it so too") from None

    def local(self, digest: str) -> Snapshot | None:
        """Return what ``find`` does, without asking the object store."""
        digest = self.became(digest)
        path = self.rows_path(digest)
        # A digest may come from a card in the registry; only a SHA-256 becomes part of a path.
        if not SHA256.fullmatch(digest) or not path.exists() or not self.manifest_path(digest).exists():
            return None
        found = digest_of(path)
        if found != digest:
            raise SnapshotError(f"snapshot {digest} is damaged: its bytes hash to {found}; remove {path}")
        manifest = read_manifest(self.manifest_path(digest))
        if manifest.get("schema_version") not in (MANIFEST_VERSION, ACTED_VERSION):
            raise SnapshotError(
                f"snapshot {digest} has schema_version {manifest.get('schema_version')}, this version reads "
                f"{MANIFEST_VERSION} and {ACTED_VERSION}"
            )
        return Snapshot(digest, path, manifest)

    def read(self, digest: str, most: int = ALL_ROWS) -> pl.DataFrame:
        """Return the `newest_rows` of a snapshot after checking its bytes; raises ``SnapshotError``."""
        snapshot = self.find(digest)
        if snapshot is None:
            raise SnapshotError(f"no snapshot {digest} in {self.place}; give --snapshot one of: {self._some()}")
        return newest_rows(snapshot.path, most)

    def expire(self, named: Callable[[], Iterable[str]]) -> list[str]:
        """Remove what is past its retention and not ``named``, nor a base of what is; returns the digests.

        ``named`` is asked only where something is old enough, and whatever it raises leaves every file in place.
        """
        if self.retention_ms is None:
            return []
        return self.prune(named, time.time() - self.retention_ms / 1_000)

    def prune(self, named: Callable[[], Iterable[str]], older_than_s: float) -> list[str]:
        """Remove snapshots last written before ``older_than_s`` (Unix seconds); see ``expire``."""
        old = sorted(digest for digest, written in self.written().items() if written < older_than_s)
        kept = self._with_bases(named()) if old else set()
        removed = [digest for digest in old if digest not in kept]
        for digest in removed:
            self.remove(self.rows_path(digest))
            self.remove(self.manifest_path(digest))
        self.drop_copies()
        self.drop_unfinished()
        return removed

    def _with_bases(self, digests: Iterable[str]) -> set[str]:
        """Return the digests with those of the snapshots whose rows they took over, to the first of each chain."""
        found: set[str] = set()
        waiting = list(digests)
        while waiting:
            digest = waiting.pop()
            self.look(digest)
            # A registry shared with another site names snapshots that lie on its disk.
            if digest in found or not SHA256.fullmatch(digest):
                continue
            try:
                manifest = self.tombstone(digest) or read_manifest(self.manifest_path(digest))
            except FileNotFoundError:
                continue
            except SnapshotError:
                # It is kept, and says nothing of a base.
                manifest = {}
            found.add(digest)
            waiting += [one for one in (manifest.get("base"), manifest.get("became")) if one]
        return found

    def _instead(self, digest: str) -> Snapshot:
        """Return what became of a buried digest, young again as any snapshot that is wanted."""
        found = self.find(digest)
        if found is None:
            raise SnapshotError(
                f"snapshot {digest} holds rows of somebody who was erased, and {self.became(digest)}, which it became "
                f"then, is not in {self.place}; put it back, or ask again when the topics hold them no more"
            )
        found.path.touch()
        return found if self.send(found.digest) else self._instead(found.digest)

    def _some(self) -> str:
        # Five of 64 digits: a few lines of a terminal, with the newest first; the directory has the rest.
        written = self.written()
        return ", ".join(sorted(written, key=lambda one: written[one], reverse=True)[:5]) or "none is stored"


def merge_base(rows: pl.DataFrame, base: pl.DataFrame, first: int | None) -> pl.DataFrame:
    """Put labelled rows of an earlier snapshot before the rows of this one.

    What the topics no longer hold, the champion's own training data still do. Rows of the base that are younger than
    ``first``, the time of the first row of this one, or known here by event id, are left out; columns take the types of
    ``rows``.
    """
    older = base.filter(pl.col(LABEL).is_not_null())
    if first is not None:
        # Strictly before, and unknown by id: a row in both would be learnt twice.
        older = older.filter(pl.col(TIME) < first).join(rows, on=EVENT_ID, how="anti")
    shared = [name for name in rows.columns if name in older.columns]
    # Not strict: an old value that does not fit today's type becomes null; strict, the whole request would fail for it.
    older = older.select(shared).cast({name: rows.schema[name] for name in shared}, strict=False)
    return pl.concat([older, rows], how="diagonal").select(rows.columns)


def labels_words(manifest: Mapping[str, Any]) -> str:
    """Return how many rows a snapshot's manifest calls labelled, and of these how many negative for want of a label."""
    absent = f", {manifest['absent']} of them negative for want of a label" if manifest.get("absent") else ""
    return f"{manifest.get('labelled')} labelled{absent}"


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; O(bytes), in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def newest_rows(path: Path, most: int) -> pl.DataFrame:
    """Return the newest ``most`` labelled rows of a snapshot file, and those without a label among them, in its order.

    Of these at most ``most`` as well, the newest: where few rows have a label, all since the oldest of many would be
    larger than memory. Row groups are read one at a time, from the newest back to the one that holds the oldest row.
    """
    file = pq.ParquetFile(path)
    found = [pl.DataFrame(pl.from_arrow(file.schema_arrow.empty_table()))]
    left = unlabelled = most
    for group in reversed(range(file.num_row_groups)):
        if left <= 0:
            break
        rows = pl.DataFrame(pl.from_arrow(file.read_row_group(group)))
        known = rows[LABEL].is_not_null()
        # How many there are from each row to the newest, itself included.
        labelled, others = (one.cast(pl.Int64).cum_sum(reverse=True) for one in (known, ~known))
        kept = (known & (labelled <= left)) | (~known & (labelled < left) & (others <= unlabelled))
        found.append(rows.filter(kept))
        left -= int(known.sum())
        unlabelled -= int((~known).sum())
    return pl.concat(found[::-1])
