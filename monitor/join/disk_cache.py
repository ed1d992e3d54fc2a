"""The label join's store on local disk: a cache of what its topic says, to be deleted at any time."""

import contextlib
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.state import State
from stationkeeper.monitor.join.store import WAITING_ROW, Owner, Rows

_MAGIC: Final = b"SKJOIN3\n"
"""The first bytes of a file and its version: another one is no cache, and costs a rebuild."""

_LENGTHS: Final = 12
"""Bytes of the two lengths after the magic: of the head (4) and of all rows (8)."""

_CHUNK: Final = 64 * 1024 * 1024
"""Bytes of rows that are copied at once while a file is written; the loop goes on beside it, so this is all it adds."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StoreSnapshot:
    """One joins partition's store after the records below ``offset``, all of them committed.

    ``store`` names the join's state that it belongs to: a topic made anew has another one. ``marks`` are (offset,
    highest time so far) as in the join.
    """

    store: str
    offset: int
    base: int
    clock: int
    marks: list[tuple[int, int]]
    owners: list[Owner]
    predictions: Rows
    labels: Rows
    settled: Rows

    @property
    def rows(self) -> tuple[Rows, Rows, Rows]:
        """All its rows, in the order of its file."""
        return self.predictions, self.labels, self.settled

    @property
    def nbytes(self) -> int:
        """About the size of its file."""
        # Two int64 a mark, and a header of a few numbers a table and owner: an estimate that caches are evicted by.
        return sum(rows.nbytes for rows in self.rows) + 16 * len(self.marks) + 256 * (1 + len(self.owners))


class CacheHead(State, frozen=True):
    """What a cache file says before its rows: a ``StoreSnapshot`` with the numbers of its rows in their place."""

    store: str
    offset: int
    base: int
    clock: int
    marks: list[tuple[int, int]]
    owners: list[Owner]
    rows: tuple[int, int, int]


_head = msgspec.msgpack.Decoder(CacheHead)


class CacheError(ValueError):
    """A cache file that says nothing: torn, damaged, or of another version."""


def freeze(snapshot: StoreSnapshot) -> Iterator[bytes]:
    """Yield a snapshot as the pieces of its file: magic, lengths, head, rows, and the CRC-32 of all before it."""
    facts = {name: getattr(snapshot, name) for name in ("store", "offset", "base", "clock", "marks", "owners")}
    head = msgspec.msgpack.encode(CacheHead(**facts, rows=_sizes(snapshot)))
    total = sum(rows.nbytes for rows in snapshot.rows)
    checked = 0
    for piece in (
        _MAGIC,
        len(head).to_bytes(4, "little") + total.to_bytes(8, "little"),
        head,
        *(chunk for rows in snapshot.rows for chunk in _chunks(rows)),
    ):
        checked = zlib.crc32(piece, checked)
        yield piece
    yield checked.to_bytes(4, "little")


def _sizes(snapshot: StoreSnapshot) -> tuple[int, int, int]:
    predictions, labels, settled = map(len, snapshot.rows)
    return predictions, labels, settled


def _chunks(rows: Rows) -> Iterator[bytes]:
    step = _CHUNK // WAITING_ROW.itemsize
    for first in range(0, len(rows), step):
        yield rows[first : first + step].tobytes()


def thaw(data: bytes) -> StoreSnapshot:
    """Return the snapshot of a file's bytes; raises ``CacheError`` for anything but what ``freeze`` made."""
    first = len(_MAGIC) + _LENGTHS
    if len(data) < first + 4 or data[: len(_MAGIC)] != _MAGIC:
        raise CacheError("is no cache of this version")
    size = int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 4], "little")
    total = int.from_bytes(data[len(_MAGIC) + 4 : first], "little")
    # Before the checksum: a torn file is told from a damaged one, for whoever reads the log.
    if len(data) != first + size + total + 4:
        raise CacheError(f"has {len(data)} bytes, its head says {first + size + total + 4}")
    view = memoryview(data)
    if zlib.crc32(view[:-4]) != int.from_bytes(view[-4:], "little"):
        raise CacheError("has a wrong checksum")
    try:
        head = _head.decode(view[first : first + size])
        rows = np.frombuffer(view[first + size : -4], WAITING_ROW)
    except (msgspec.MsgspecError, ValueError) as error:
        raise CacheError(f"cannot be read: {error}") from error
    ends = head.rows[0], head.rows[0] + head.rows[1]
    sides = rows[: ends[0]], rows[ends[0] : ends[1]], rows[ends[1] :]
    return StoreSnapshot(head.store, head.offset, head.base, head.clock, head.marks, head.owners, *sides)


class JoinCache:
    """Files of one directory, one a joins partition; every failure costs a rebuild and is logged, nothing else.

    ``save`` writes beside the loop, one partition at a time, to a new file that takes the old one's place when it is
    whole. Without a directory nothing is kept. ``most_bytes`` bounds one file times the partitions that are kept.
    """

    def __init__(self, directory: Path | None, name: str, most_bytes: int) -> None:
        self._directory, self._name, self._most_bytes = directory, name, most_bytes
        self._sizes: dict[int, int] = {}
        self._writer: threading.Thread | None = None
        self.dropped = 0

    def path(self, index: int) -> Path | None:
        """Return the file of a partition, None without a directory."""
        return None if self._directory is None else self._directory / f"{self._name}.{index}.join"

    def load(self, index: int, store: str, committed: int) -> StoreSnapshot | None:
        """Return a partition's snapshot if it is whole, of this store, and not ahead of the committed offset."""
        path = self.path(index)
        if path is None:
            return None
        try:
            snapshot = thaw(path.read_bytes())
        # The first start, or a cache that somebody deleted: nothing to tell of.
        except FileNotFoundError:
            return None
        except (OSError, CacheError) as error:
            self._drop(path, str(error))
            return None
        if snapshot.store != store:
            self._drop(path, "belongs to another join state")
            return None
        # However it came to be ahead: its rows come again and would pair twice.
        if snapshot.offset > committed:
            self._drop(path, f"is at offset {snapshot.offset}, committed is {committed}")
            return None
        self._sizes[index] = snapshot.nbytes
        return snapshot

    @property
    def busy(self) -> bool:
        """Whether a file is being written."""
        return self._writer is not None and self._writer.is_alive()

    def save(self, index: int, snapshot: StoreSnapshot) -> None:
        """Write a partition's snapshot in the background; its rows must not change any more."""
        path = self.path(index)
        if path is None:
            return
        self.settle()
        self._sizes[index] = snapshot.nbytes
        # Counted before it is written, or the disk would be full first. The old file goes too: it would be ever farther
        # back.
        if sum(self._sizes.values()) > self._most_bytes:
            del self._sizes[index]
            self._drop(path, f"would pass join.cache_bytes ({self._most_bytes}) with {snapshot.nbytes} bytes")
            return
        self._writer = threading.Thread(target=self._write, args=(path, snapshot), name="join-cache", daemon=True)
        self._writer.start()

    def settle(self) -> None:
        """Wait until nothing is being written."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _write(self, path: Path, snapshot: StoreSnapshot) -> None:
        fresh = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("wb") as out:
                out.writelines(freeze(snapshot))
            # Not synced: after a power cut the checksum shows a torn file, and the topic has it all.
            fresh.replace(path)
        except OSError as error:
            self._drop(fresh, str(error))

    def _drop(self, path: Path, reason: str) -> None:
        self.dropped += 1
        log.warning(LogEvent.CACHE_DROPPED, path=str(path), reason=reason)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
