"""Frames of events that may outgrow memory, and rows in one order that may as well: both lie in parts on disk then."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from stationkeeper.retrain.snapshot.events import EVENT_ID, TIME

HELD_BYTES = 128 * 1024 * 1024
"""Frames held in memory before all of them go to disk, chosen: a request of a million rows of ten numbers never leaves
memory, and concatenating and parting them takes three times as much for a moment."""

BUCKETS = 128
"""Parts on disk, by a hash of the event id: what belongs together lies in one. 50 million rows of 30 numbers are 12 GB,
94 MB a part, and a join holds four of them; half as many parts would take half a GiB for that."""

PIECE_CELLS = 6_000_000
"""Values in a piece of ordered rows: 48 MB of numbers and as much of ids, of which sorting and writing hold several
copies. At 16 million the peak of the benchmark `snapshot` was 1.5 GiB."""


@dataclass(slots=True)
class EventFrames:
    """Frames by kind; in memory up to ``HELD_BYTES``, then in buckets of event ids in a directory below ``near``.

    Order within a bucket is the order in which frames were added. What is on disk is a cache: it goes with the object.
    """

    near: Path | None = None
    _held: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    _bytes: int = 0
    _disk: "tempfile.TemporaryDirectory[str] | None" = None
    _files: dict[str, list[list[Path]]] = field(default_factory=dict)
    _parted: dict[str, dict[int, pl.DataFrame]] = field(default_factory=dict)

    def add(self, kind: str, frame: pl.DataFrame) -> None:
        """Take in a frame with the column of event ids."""
        if frame.is_empty():
            return
        self._held.setdefault(kind, []).append(frame)
        self._parted.pop(kind, None)
        self._bytes += int(frame.estimated_size())
        if self._bytes > HELD_BYTES:
            self._spill()

    @property
    def buckets(self) -> range:
        """The buckets there are: one while everything is in memory."""
        return range(BUCKETS if self._files else 1)

    def part(self, kind: str, bucket: int, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        """Return a kind's frames of one bucket as one, or some of its columns; None where there is none."""
        frames = [pl.read_ipc(path) for path in self._files.get(kind, [[]] * BUCKETS)[bucket]]
        if self._files:
            found = self._in_buckets(kind).get(bucket)
            frames += [] if found is None else [found]
        elif self._held.get(kind):
            # Once: each question after this finds one frame.
            self._held[kind] = [pl.concat(self._held[kind], how="diagonal")]
            frames += self._held[kind]
        if columns is not None:
            frames = [frame.select(one for one in columns if one in frame.columns) for frame in frames]
        return pl.concat(frames, how="diagonal") if frames else None

    def drop(self, kind: str) -> None:
        """Let go of all frames of a kind."""
        self._held.pop(kind, None)
        self._parted.pop(kind, None)
        for path in (path for bucket in self._files.pop(kind, []) for path in bucket):
            path.unlink()

    def close(self) -> None:
        """Let go of everything."""
        self._held, self._files, self._parted, self._bytes = {}, {}, {}, 0
        if self._disk is not None:
            self._disk.cleanup()
            self._disk = None

    def scratch(self) -> Path:
        """Return a directory that goes with these frames."""
        if self._disk is None:
            if self.near is not None:
                self.near.mkdir(parents=True, exist_ok=True)
            # A disk that has become read-only keeps them: whoever begins with this directory again removes them.
            self._disk = tempfile.TemporaryDirectory(prefix="rows-", dir=self.near, ignore_cleanup_errors=True)
        return Path(self._disk.name)

    def _in_buckets(self, kind: str) -> dict[int, pl.DataFrame]:
        if kind not in self._parted:
            frames = self._held.get(kind, [])
            self._parted[kind] = _part(pl.concat(frames, how="diagonal")) if frames else {}
        return self._parted[kind]

    def _spill(self) -> None:
        scratch = self.scratch()
        for kind in list(self._held):
            files = self._files.setdefault(kind, [[] for _ in range(BUCKETS)])
            for bucket, frame in self._in_buckets(kind).items():
                path = scratch / f"{kind}-{bucket}-{len(files[bucket])}.arrow"
                # lz4: features repeat, and the disk is slower than it.
                frame.write_ipc(path, compression="lz4")
                files[bucket].append(path)
        self._held, self._parted, self._bytes = {}, {}, 0


def _part(frame: pl.DataFrame) -> dict[int, pl.DataFrame]:
    # A seed of its own and any hash: parts are read by the process that wrote them.
    parts = frame.with_columns(pl.col(EVENT_ID).hash(seed=7).mod(BUCKETS).cast(pl.Int64).alias("@bucket"))
    found = parts.partition_by("@bucket", as_dict=True, include_key=False)
    return {int(key[0]): part for key, part in found.items()}


@dataclass(slots=True)
class OrderedRows:
    """Rows that come in runs of any order and go out in pieces by time and event id; ``runs`` is how many will come.

    An external sort: where pieces begin and end is taken from the first run, which is a sample of all by the hash of
    the event id. It bounds a piece's size and has no part in what all of them hold.
    """

    directory: Path
    runs: int
    _edges: list[tuple[int, str]] | None = None
    _files: list[list[Path]] = field(default_factory=list)

    def add(self, run: pl.DataFrame) -> None:
        """Take in a run."""
        ordered = run.sort(TIME, EVENT_ID)
        if self._edges is None:
            self._edges = self._edges_of(ordered)
            self._files = [[] for _ in range(len(self._edges) + 1)]
        number = sum(len(files) for files in self._files)
        cuts = [0, *(_before(ordered, *edge) for edge in self._edges), len(ordered)]
        for place, files in enumerate(self._files):
            if cuts[place + 1] > cuts[place]:
                path = self.directory / f"run-{place}-{number}.arrow"
                ordered[cuts[place] : cuts[place + 1]].write_ipc(path, compression="lz4")
                files.append(path)

    def pieces(self) -> Iterator[pl.DataFrame]:
        """Yield the rows in order, a piece at a time, and let go of each."""
        for files in self._files:
            if files:
                yield pl.concat([pl.read_ipc(path) for path in files]).sort(TIME, EVENT_ID)
            for path in files:
                path.unlink()

    def _edges_of(self, first: pl.DataFrame) -> list[tuple[int, str]]:
        rows = max(1, PIECE_CELLS // first.width // self.runs)
        return [(int(first[TIME][at]), str(first[EVENT_ID][at])) for at in range(rows, len(first), rows)]


def _before(ordered: pl.DataFrame, time: int, event: str) -> int:
    """Return how many rows come before a time and event id."""
    times = ordered[TIME]
    low, high = int(times.search_sorted(time, "left")), int(times.search_sorted(time, "right"))
    # Rows of one time alone are told apart by id: a nightly batch may have one time for all of its rows.
    return low + int((ordered[EVENT_ID][low:high] < event).sum())
