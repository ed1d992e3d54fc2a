"""Snapshots as versions of one file a model in a DVC repository: ``dvc get``, ``dvc diff`` and ``dvc repro`` see them.

The repository is a git repository of the user's own. A snapshot becomes ``snapshots/MODEL.parquet`` (DVC) with its
manifest ``snapshots/MODEL.json`` (git), one commit, and the tag ``snapshot-`` with the first 16 digits of its SHA-256.
The tag is set last: what died before it is done again, and then gives the same.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from stationkeeper.streams.errors import StoreUnreachable

if TYPE_CHECKING:
    from stationkeeper.retrain.snapshot.snapshot import Snapshot

FOLDER: Final = "snapshots"

TAG_DIGITS: Final = 16
"""Digits of the digest in a tag, chosen: 64 bits meet by chance in billions of snapshots, and all 64 digits make every
command that names one wrap."""

_REMOTE: Final = re.compile(r"^\[core\][^\[]*^\s*remote\s*=", re.MULTILINE)

# Who commits where git knows nobody; a repository's own user.name goes first.
_AUTHOR: Final = ("-c", "user.name=Stationkeeper", "-c", "user.email=stationkeeper@localhost")


class DvcError(ValueError):
    """A repository or program that is not there; the message says what to do."""


@dataclass(frozen=True, slots=True)
class DvcRepository:
    """A directory with git and DVC in it, both already initialised; pushes where DVC has a default remote."""

    directory: Path

    def add(self, snapshot: "Snapshot") -> str:
        """Track a snapshot and return its tag; one that is tagged already is left as it is.

        About three seconds, most of them DVC's start. Raises ``DvcError`` where git, DVC or the repository is missing,
        ``Retryable`` with what they said where they fail: DVC's lock and a remote are worth another try.
        """
        tag = tag_of(snapshot.digest)
        if tag in self.tags():
            return tag
        # A model's name is text of a user; it becomes one part of a path.
        name = quote(str(snapshot.manifest["model"]), safe="")
        data, manifest = (f"{FOLDER}/{name}{suffix}" for suffix in (".parquet", ".json"))
        (self.directory / FOLDER).mkdir(exist_ok=True)
        # DVC leaves a read-only link to its cache there, which must not be written through.
        (self.directory / data).unlink(missing_ok=True)
        shutil.copyfile(snapshot.path, self.directory / data)
        shutil.copyfile(snapshot.path.with_suffix(".json"), self.directory / manifest)
        self._run([dvc_program(), "add", "--quiet", data])
        tracked = [f"{data}.dvc", manifest, f"{FOLDER}/.gitignore"]
        self._git("add", "--", *tracked)
        if self._git("status", "--porcelain", "--", *tracked):
            about = f"Snapshot {snapshot.digest[:12]} of {snapshot.manifest['model']}: {snapshot.rows} rows"
            known = bool(self._git("config", "--default", "", "user.email"))
            self._git(*(() if known else _AUTHOR), "commit", "--quiet", "-m", about, "--", *tracked)
        if self._has_remote():
            self._run([dvc_program(), "push", "--quiet", f"{data}.dvc"])
        self._git("tag", tag)
        return tag

    def tags(self) -> frozenset[str]:
        """Return the tags of the snapshots that are tracked."""
        if not (self.directory / ".dvc").is_dir():
            how = "run there: git init && dvc init && git commit -m DVC"
            raise DvcError(f"{self.directory} is no DVC repository; {how}")
        return frozenset(self._git("tag", "--list", "snapshot-*").split())

    def _has_remote(self) -> bool:
        """Say whether the repository's own configuration names a default remote; read here, as DVC takes a second."""
        files = (self.directory / ".dvc" / name for name in ("config", "config.local"))
        return any(_REMOTE.search(file.read_text()) for file in files if file.exists())

    def _git(self, *arguments: str) -> str:
        return self._run(["git", *arguments])

    def _run(self, command: Sequence[str]) -> str:
        # What DVC tells its makers of each call, unless the user has said otherwise, is not ours to send.
        environment = {"DVC_NO_ANALYTICS": "1", **os.environ}
        try:
            done = subprocess.run(
                command, cwd=self.directory, env=environment, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise DvcError(f"{command[0]} cannot be run in {self.directory}: {error}") from error
        if done.returncode:
            # DVC and git end with the reason and what to do, in up to three lines.
            last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise StoreUnreachable(f"{' '.join(command[:3])} in {self.directory} ended with {done.returncode}: {last}")
        return done.stdout.strip()


def tag_of(digest: str) -> str:
    """Return the git tag of a snapshot's digest."""
    return f"snapshot-{digest[:TAG_DIGITS]}"


def dvc_program() -> str:
    """Return the program ``dvc``: beside our interpreter (the extra ``dvc``), or wherever else it is on PATH."""
    beside = Path(sys.executable).with_name("dvc")
    found = str(beside) if beside.exists() else shutil.which("dvc")
    if found is None:
        raise DvcError("the program dvc is not installed; pip install 'stationkeeper[dvc]', or put it on PATH")
    return found
