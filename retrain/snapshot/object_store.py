"""Snapshots in an object store: what one machine wrote another finds, and an erasure reaches both.

Any store that fsspec has a driver for, by its URL; credentials and endpoints come from the environment, as the driver
reads them (``AWS_…``, ``FSSPEC_S3_ENDPOINT_URL``). The store holds the truth, a local directory copies of what was used
here.
"""

import math
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar
from uuid import uuid4

from stationkeeper.streams.errors import StoreUnreachable

T = TypeVar("T")

PART: Final = ".part-"
"""How the name of an unfinished file begins; a reader looks for ``*.parquet`` and passes it by."""

# Whatever else lies in that folder is somebody else's: it is neither read nor deleted.
_OURS = re.compile(r"[0-9a-f]{64}\.(?:parquet|json|erased)|\.part-[0-9a-f]{32}")

# What a driver may take, which has limits of its own (s3fs: 60 s, five times) or none (webhdfs). Chosen: a listing of a
# thousand files takes a second, and a role that is told to stop is killed after 30 s.
_ANSWER_S: Final = 20.0
# And what bytes may take besides, chosen: a tenth of a slow line of today.
_BYTES_PER_S: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A folder of an object store, of files named as in the local directory.

    Everything raises ``Retryable`` while the store does not answer, within a limit of ours, and where its driver is
    missing, which somebody may install.
    """

    url: str

    def there(self) -> bool:
        """Return whether there is such a folder: of an object store, whether anything lies in it."""
        return self._ask("look", lambda files, root: bool(files.exists(root)))

    def written(self) -> dict[str, float]:
        """Return our files there, and when each was last written (Unix seconds; infinite where no driver knows)."""

        def at(files: Any, path: str) -> float:
            try:
                return float(files.modified(path).timestamp())
            # Some drivers have no times (ftp): nothing there is ever old, but a person is erased from it all the same.
            except NotImplementedError:
                return math.inf

        def listed(files: Any, root: str) -> dict[str, float]:
            try:
                found = files.ls(root, detail=True)
            except FileNotFoundError:
                return {}
            names = {PurePosixPath(one["name"]).name: one["name"] for one in found}
            return {name: at(files, path) for name, path in names.items() if _OURS.fullmatch(name)}

        return self._ask("list the files", listed)

    def size(self, name: str) -> int | None:
        """Return the bytes of a file, None where there is none."""

        def asked(files: Any, root: str) -> int | None:
            try:
                return int(files.info(f"{root}/{name}")["size"])
            except FileNotFoundError:
                return None

        return self._ask(f"look for {name}", asked)

    def fetch(self, name: str, to: Path) -> bool:
        """Write a file's bytes to a local file, and return whether there is such a file."""

        def read(files: Any, root: str) -> bool:
            try:
                files.get_file(f"{root}/{name}", str(to))
            except FileNotFoundError:
                return False
            return True

        size = self.size(name)
        return size is not None and self._ask(f"read {name}", read, size)

    def send(self, path: Path) -> None:
        """Put a local file there under its name: whole or not at all."""

        def put(files: Any, root: str) -> None:
            from fsspec import AbstractFileSystem

            there = f"{root}/{path.name}"
            # An object appears when its last byte is in; a file system shows half of one, and can rename.
            if type(files).mv is AbstractFileSystem.mv:
                files.put_file(str(path), there)
                return
            # Of its own name, as another machine may be sending the same.
            part = f"{root}/{PART}{uuid4().hex}"
            # No folder is made: that of a disk which is not mounted would hide in the machine's own.
            try:
                files.put_file(str(path), part)
                if "file" in files.protocol:
                    # Rows of customers: readable as they are here (see `publish`).
                    Path(part).chmod(0o640)
                elif files.exists(there):
                    # Some rename over nothing that is there (sftp).
                    files.rm_file(there)
                files.mv(part, there)
            finally:
                if files.exists(part):
                    files.rm_file(part)

        self._ask(f"write {path.name}", put, path.stat().st_size)

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file where none of its name is; returns whether none was."""

        def put(files: Any, root: str) -> bool:
            there = f"{root}/{name}"
            # First asked: a driver may know of no such way, and write over what is there.
            if files.exists(there):
                return False
            try:
                files.pipe_file(there, data, mode="create")
            except FileExistsError:
                return False
            return True

        return self._ask(f"write {name}", put)

    def remove(self, name: str) -> None:
        """Delete a file; one that is gone already is none."""

        def delete(files: Any, root: str) -> None:
            if files.exists(f"{root}/{name}"):
                files.rm_file(f"{root}/{name}")

        self._ask(f"delete {name}", delete)

    def probe(self) -> float:
        """Write a file, find it in the listing and delete it; returns when it was written, by the store's clock."""
        name = f"{PART}{uuid4().hex}"
        with TemporaryDirectory() as directory:
            file = Path(directory) / name
            file.write_text("stationkeeper check")
            self.send(file)
        try:
            at = self.written().get(name)
        finally:
            self.remove(name)
        if at is None:
            raise StoreUnreachable(f"what was written to {self.url} is not in its listing")
        return at

    def _ask(self, doing: str, call: Callable[[Any, str], T], size: int = 0) -> T:
        """Call the driver in a thread, which is left behind where it gives no answer; ``size`` are the bytes moved."""
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(self._driven(call))
            except BaseException as error:  # noqa: BLE001 - it is raised by whoever waits for it
                answer.set_exception(error)

        threading.Thread(target=run, daemon=True, name="object store").start()
        limit = _ANSWER_S + size / _BYTES_PER_S
        try:
            return answer.result(limit)
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own; none says whether time mends it
            why = f"{type(error).__name__}: {error}" if answer.done() else f"no answer within {limit:.0f} s"
            raise StoreUnreachable(f"could not {doing} at {self.url}: {why}") from None

    def _driven(self, call: Callable[[Any, str], T]) -> T:
        try:
            import fsspec

            fsspec.get_filesystem_class(self.url.partition("://")[0])
        except (ImportError, ValueError) as error:
            how = "pip install 'stationkeeper[s3]', or 'stationkeeper[object-store]' and the driver (gcsfs, adlfs)"
            raise ImportError(f"{error}; {how}") from None
        files, root = fsspec.core.url_to_fs(self.url)
        # What drivers remember of a listing, another machine has changed meanwhile.
        files.invalidate_cache()
        return call(files, str(root).rstrip("/"))
