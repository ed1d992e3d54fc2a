"""Snapshots in an object store: what one machine wrote another finds, and an erasure reaches both.

Any store that fsspec has a driver for, by its URL; credentials and endpoints come from the environment, as the driver
reads them (``AWS_…``, ``FSSPEC_S3_ENDPOINT_URL``). The store holds the truth, a local directory copies of what was used
here.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stationkeeper.contracts.masking import masked
from stationkeeper.streams.errors import Retryable

# Whatever else lies in that folder is somebody else's: it is neither read nor deleted.
_OURS = re.compile(r"[0-9a-f]{64}\.(?:parquet|json)")


class ObjectStoreError(ValueError):
    """A URL that nothing here can open; the message says what to install."""


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A folder of an object store, of files named as in the local directory.

    Everything raises ``ObjectStoreError`` where the driver is missing, ``Retryable`` while the store does not answer.
    """

    url: str

    def written(self) -> dict[str, float]:
        """Return our files there, and when each was last written (Unix seconds)."""
        with self._asked("list the files") as (files, root):
            try:
                found = files.ls(root, detail=True)
            except FileNotFoundError:
                return {}
            names = {PurePosixPath(one["name"]).name: one["name"] for one in found}
            return {name: files.modified(at).timestamp() for name, at in names.items() if _OURS.fullmatch(name)}

    def holds(self, name: str) -> bool:
        """Return whether there is such a file."""
        with self._asked(f"look for {name}") as (files, root):
            return bool(files.exists(f"{root}/{name}"))

    def fetch(self, name: str, to: Path) -> bool:
        """Write a file's bytes to a local file, and return whether there is such a file."""
        with self._asked(f"read {name}") as (files, root):
            try:
                files.get_file(f"{root}/{name}", str(to))
            except FileNotFoundError:
                return False
            return True

    def send(self, path: Path) -> None:
        """Put a local file there under its name: whole or not at all."""
        with self._asked(f"write {path.name}") as (files, root):
            there = f"{root}/{path.name}"
            if "file" not in files.protocol:
                files.put_file(str(path), there)
                return
            # An object appears when its last byte is in; a file system shows half of one.
            files.makedirs(root, exist_ok=True)
            files.put_file(str(path), f"{there}.part")
            files.mv(f"{there}.part", there)

    def remove(self, name: str) -> None:
        """Delete a file; one that is gone already is none."""
        if self.holds(name):
            with self._asked(f"delete {name}") as (files, root):
                files.rm_file(f"{root}/{name}")

    @contextmanager
    def _asked(self, doing: str) -> Iterator[tuple[Any, str]]:
        try:
            import fsspec

            files, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            how = "pip install 'stationkeeper[object-store]' and the driver of its scheme (s3fs, gcsfs, adlfs)"
            raise ObjectStoreError(masked(f"snapshots.object_store {self.url}: {error}; {how}")) from None
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own, and some log in here
            raise Retryable(f"could not {doing} at {self.url}: {type(error).__name__}: {error}") from None
        try:
            # What drivers remember of a listing, another machine has changed meanwhile.
            files.invalidate_cache()
            yield files, str(root).rstrip("/")
        except Exception as error:  # noqa: BLE001 - none of those errors says whether time mends it
            raise Retryable(f"could not {doing} at {self.url}: {type(error).__name__}: {error}") from None
