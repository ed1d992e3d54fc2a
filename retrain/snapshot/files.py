"""The files of snapshots: rows and manifest named by SHA-256, in a directory and, where one is set, an object store."""

import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stationkeeper.contracts.masking import masked
from stationkeeper.retrain.snapshot.object_store import PART, ObjectStore

TOMBSTONE = "snapshot-tombstone"
"""The schema of what lies beside, under ``<sha256>.erased``, where rows were erased: never written over or removed."""

UNFINISHED_S = 86_400
"""Age of an unfinished file from which on nobody is writing it, chosen: of the largest it takes hours."""

SHA256 = re.compile(r"[0-9a-f]{64}")
"""What a digest looks like: a model's card names one, and nothing else becomes part of a path."""


class SnapshotError(ValueError):
    """A snapshot that is missing, damaged or not of this version; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class SnapshotFiles:
    """A directory of ``<sha256>.parquet`` and ``<sha256>.json``, in ``objects`` too where it is set.

    Then all of them lie there, and the directory holds copies of those used here; what asks there raises ``Retryable``
    while it does not answer. None of them is ever changed, and a third, ``<sha256>.erased``, says that both are to go:
    who writes them looks for it before and after, who erases writes it before it deletes; so nobody comes back.
    """

    directory: Path
    objects: ObjectStore | None = None

    @property
    def place(self) -> str:
        """Where all snapshots lie, as a person names it, passwords hidden."""
        return str(self.directory) if self.objects is None else masked(self.objects.url)

    def rows_path(self, digest: str) -> Path:
        """Return where the rows of a digest lie."""
        return self.directory / f"{digest}.parquet"

    def manifest_path(self, digest: str) -> Path:
        """Return where the manifest of a digest lies."""
        return self.directory / f"{digest}.json"

    def tombstone_path(self, digest: str) -> Path:
        """Return where it lies what became of a digest that somebody was erased from."""
        return self.directory / f"{digest}.erased"

    def bury(self, digest: str, tombstone: str) -> bool:
        """Put a tombstone beside a snapshot; returns whether it is this one, as the first stays, whoever wrote it."""
        path = self.tombstone_path(digest)
        with unfinished(self.directory) as part:
            part.write_text(tombstone)
            # The store decides between two machines.
            if self.objects is not None and not self.objects.create(path.name, part.read_bytes()):
                self._fetch(path)
                return False
            return publish(part, path, first=self.objects is None)

    def tombstone(self, digest: str) -> Mapping[str, Any] | None:
        """Return what became of rows that somebody was erased from, None where nobody was; ``SnapshotError``."""
        path = self.tombstone_path(digest)
        return read_manifest(path) if SHA256.fullmatch(digest) and path.exists() else None

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

    def send(self, digest: str) -> bool:
        """Put a snapshot into the object store, the manifest last, as without one a file is not there.

        Returns False where somebody was erased from it meanwhile, with what lay here and there removed.
        """
        rows, manifest = self.rows_path(digest), self.manifest_path(digest)
        if self.objects is not None:
            # Of another size it is what a cut line left, where a driver shows half a file.
            if self.objects.size(rows.name) != rows.stat().st_size:
                self.objects.send(rows)
            # Also where it is there already: wanted again, so young again.
            self.objects.send(manifest)
        self.look(digest)
        if self.tombstone(digest) is None:
            return True
        # Whoever erased may have deleted them before they came.
        self.remove(rows)
        self.remove(manifest)
        return False

    def look(self, digest: str) -> None:
        """Bring what the object store says of a digest: that somebody was erased from it, or its manifest."""
        paths = self.tombstone_path(digest), self.manifest_path(digest)
        # Neither ever changes.
        if not paths[0].exists() and not self._fetch(paths[0]) and not paths[1].exists():
            self._fetch(paths[1])

    def became(self, digest: str, *, look: bool = False) -> str:
        """Follow the tombstones from a digest to what is there now; ``look`` asks the object store for them.

        Raises ``SnapshotError`` where they lead in a circle.
        """
        walked: set[str] = set()
        while digest not in walked:
            walked.add(digest)
            if look:
                self.look(digest)
            tombstone = self.tombstone(digest)
            if tombstone is None:
                return digest
            if look and self.objects is not None:
                # Erased elsewhere, and what it became is there: the copy goes as well.
                self.rows_path(digest).unlink(missing_ok=True)
            digest = str(tombstone.get("became"))
        # Each step leads to fewer rows, so nothing of ours leads back.
        raise SnapshotError(f"{digest}.erased leads back to itself; remove it if its rows name nobody who was erased")

    def fetch_rows(self, digest: str) -> bool:
        """Bring a snapshot's rows from the object store, over those here; returns whether they are there."""
        return self._fetch(self.rows_path(digest))

    def _fetch(self, path: Path) -> bool:
        if self.objects is None or not SHA256.fullmatch(path.stem) or self.objects.size(path.name) is None:
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
        """Remove copies of rows that somebody was erased from on another machine."""
        there = {} if self.objects is None else self.objects.written()
        for path in self.directory.glob("*.parquet"):
            if f"{path.stem}.erased" in there:
                path.unlink(missing_ok=True)

    def drop_unfinished(self) -> list[str]:
        """Remove what a process that was killed left of a file it never finished; returns those that may be at work."""
        found = {path.name: path.stat().st_mtime for path in self.directory.glob(PART + "*")}
        if self.objects is not None:
            found |= {name: at for name, at in self.objects.written().items() if name.startswith(PART)}
        old = [name for name, at in found.items() if at < time.time() - UNFINISHED_S]
        for name in old:
            self.remove(self.directory / name)
        return sorted(found.keys() - set(old))


def read_manifest(path: Path) -> Mapping[str, Any]:
    """Return what a manifest or a tombstone says; raises ``SnapshotError`` where it is none."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise SnapshotError(f"{path.name} cannot be read ({error}); remove it, or put a whole one back") from None
    if not isinstance(found, dict):
        raise SnapshotError(f"{path.name} holds no JSON object; remove it, or put a whole one back")
    return found


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


def publish(part: Path, path: Path, *, first: bool = False) -> bool:
    """Give a file that is complete its name, so that it is whole or absent, whenever the process dies.

    With ``first`` only where none has the name; returns whether it has it now.
    """
    with part.open("rb") as file:
        # A rename may reach the disk before the bytes do: after a power cut the name would stand for half a file, and
        # `find` would call it damaged.
        os.fsync(file.fileno())
    # The temporary file is 0600. Rows of customers: the group may read them (trainer, auditor), nobody else.
    part.chmod(0o640)
    if not first:
        part.replace(path)
        return True
    try:
        path.hardlink_to(part)
    except OSError:
        if path.exists():
            return False
        # A disk without links (FAT, some network shares).
        part.replace(path)
    return True
