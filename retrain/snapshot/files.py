"""The files of snapshots: rows and manifest named by SHA-256, in a directory and, where one is set, an object store."""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stationkeeper.retrain.snapshot.object_store import ObjectStore

PART = ".part-"
"""How the name of an unfinished file begins; a reader looks for ``*.parquet`` and passes it by."""

TOMBSTONE = "snapshot-tombstone"
"""The schema of what lies in place of a manifest when rows were erased: another name than ``snapshot``, which tools of
others read as one that is there."""

SHA256 = re.compile(r"[0-9a-f]{64}")
"""What a digest looks like: a model's card names one, and nothing else becomes part of a path."""


@dataclass(frozen=True, slots=True)
class SnapshotFiles:
    """A directory of ``<sha256>.parquet`` and ``<sha256>.json``, in ``objects`` too where it is set.

    Then all of them lie there, and the directory holds copies of those used here; what asks there raises ``Retryable``
    while it does not answer.
    """

    directory: Path
    objects: ObjectStore | None = None

    def rows_path(self, digest: str) -> Path:
        """Return where the rows of a digest lie."""
        return self.directory / f"{digest}.parquet"

    def manifest_path(self, digest: str) -> Path:
        """Return where the manifest of a digest lies."""
        return self.directory / f"{digest}.json"

    def bury(self, digest: str, tombstone: str) -> None:
        """Put a tombstone in place of a manifest; the file that it was about is the caller's to remove."""
        with unfinished(self.directory) as part:
            part.write_text(tombstone)
            publish(part, self.manifest_path(digest))
        if self.objects is not None:
            self.objects.send(self.manifest_path(digest))

    def tombstone(self, digest: str) -> Mapping[str, Any] | None:
        """Return what lies in place of the manifest of rows that somebody was erased from, or None."""
        if not SHA256.fullmatch(digest) or not self.manifest_path(digest).exists():
            return None
        manifest = json.loads(self.manifest_path(digest).read_bytes())
        return manifest if manifest.get("schema") == TOMBSTONE else None

    def written(self) -> dict[str, float]:
        """Return when each snapshot was last wanted (Unix seconds), here or in the object store."""
        # Age by the wall, from the file: a snapshot of a replayed year is as old as the day that wrote it.
        found = {path.stem: path.stat().st_mtime for path in self.directory.glob("*.parquet")}
        there = {} if self.objects is None else self.objects.written()
        for name, at in there.items():
            digest, _, kind = name.partition(".")
            # A manifest is written again whenever its rows are wanted; alone it is a tombstone.
            if kind == "parquet":
                found[digest] = max(at, there.get(f"{digest}.json", at))
        return found

    def send(self, digest: str) -> None:
        """Put a snapshot into the object store: the manifest last, as without one a file is not there."""
        if self.objects is None:
            return
        if not self.objects.holds(self.rows_path(digest).name):
            self.objects.send(self.rows_path(digest))
        # Also where it is there already: wanted again, so young again.
        self.objects.send(self.manifest_path(digest))

    def fetch_manifest(self, digest: str) -> bool:
        """Bring a manifest as the object store has it, where an erasure elsewhere may have left a tombstone."""
        return self._fetch(self.manifest_path(digest))

    def fetch_rows(self, digest: str) -> bool:
        """Bring a snapshot's rows from the object store; returns whether they were not here before."""
        return not self.rows_path(digest).exists() and self._fetch(self.rows_path(digest))

    def _fetch(self, path: Path) -> bool:
        if self.objects is None or not SHA256.fullmatch(path.stem):
            return False
        self.directory.mkdir(parents=True, exist_ok=True)
        with unfinished(self.directory) as part:
            if found := self.objects.fetch(path.name, part):
                publish(part, path)
        return found

    def remove(self, path: Path) -> None:
        """Remove the rows or the manifest at a path, and those in the object store before."""
        if self.objects is not None:
            self.objects.remove(path.name)
        path.unlink(missing_ok=True)

    def drop_copies(self) -> None:
        """Remove copies of rows that somebody was erased from on another machine: of those the store has no rows."""
        there = {} if self.objects is None else self.objects.written()
        for path in self.directory.glob("*.parquet"):
            # Rows are sent before their manifest.
            if f"{path.stem}.json" in there and path.name not in there:
                path.unlink()


@contextmanager
def unfinished(directory: Path) -> Iterator[Path]:
    """Yield the path of a file to write; what is left of it when the block ends is removed."""
    with tempfile.NamedTemporaryFile(dir=directory, prefix=PART, delete=False) as file:
        part = Path(file.name)
    try:
        yield part
    finally:
        # A full disk is not made fuller by each try.
        part.unlink(missing_ok=True)


def publish(part: Path, path: Path) -> None:
    """Give a file that is complete its name, so that it is whole or absent, whenever the process dies."""
    with part.open("rb") as file:
        # A rename may reach the disk before the bytes do: after a power cut the name would stand for half a file, and
        # `find` would call it damaged.
        os.fsync(file.fileno())
    # The temporary file is 0600. Rows of customers: the group may read them (trainer, auditor), nobody else.
    part.chmod(0o640)
    part.replace(path)
