"""What the tally keeps of one input partition, and its records on the state topic."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
import zstandard

from stationkeeper.contracts.codes import DeadLetterCode, Outcome
from stationkeeper.contracts.state import State
from stationkeeper.contracts.wire import Progress
from stationkeeper.monitor.state_codec import refuse_other
from stationkeeper.monitor.tally.clock import LogEnd, PartitionClock
from stationkeeper.monitor.tally.dedupe import Seen
from stationkeeper.monitor.tally.id_chunks import IdChunk, IdChunks
from stationkeeper.monitor.tally.segments import Places
from stationkeeper.streams.dead_letters.limit import Rejections
from stationkeeper.streams.ports import Batch, Partition

FORMAT: Final = 1
"""The first byte of every state record; a record of a later format is refused, not guessed at."""

MAX_DIGESTS = 256
"""Changes of references that are remembered by offset; older ones are merged. Chosen: a model takes a new
reference with a release, so that ``verify`` can recount years; double doubles the head record of every flush."""

_MAX_BYTES = 16 * 1024 * 1024
"""Longest a state record may unpack to: far above the 128 KiB of a chunk and the widest head, so that only a damaged
record reaches it, and that cannot fill the memory."""

_LEVEL: Final = -1
"""Most of the state is hashes, of which zstd finds nothing at any level; this one looks for half as long."""


class PartitionHead(State, frozen=True, array_like=True):
    """The small part of the state: one record a partition, rewritten with every flush that read something.

    ``next_offset`` is where reading goes on, -1 where it has not begun (only that the topic is stopped is then kept).
    ``digests`` lists (offset, {model/version: digest}) from which a reference counted the events, newest last; the
    versions named in it are those that have a place. ``refused`` counts events by the limit that left no place for
    them, ``rejections`` is what ``Rejections`` holds, ``expired`` the records that retention took unread. ``began`` is
    the offset from which the log was counted, None where an older version did not note it. ``topic_id`` is that of the
    topic that the offsets are of, ``end_offset`` its last known end, ``epoch`` how often it was begun anew, and
    ``accepted`` when that was decided (ms). ``stopped`` says why the topic is not read, for whoever asks without the
    process. ``dropped`` lists (offset, models) from which on the events of which models were left out, newest last.
    ``actions`` lists (model, the actions told apart, in the order they came).
    """

    next_offset: int
    clock: int
    received: int
    outcomes: dict[str, int]
    codes: dict[str, int]
    digests: list[tuple[int, dict[str, str]]]
    refused: dict[str, int] = {}
    rejections: tuple[int, int, int] = (0, 0, 0)
    expired: int = 0
    began: int | None = None
    topic_id: str = ""
    end_offset: int = 0
    epoch: int = 0
    accepted: int = 0
    stopped: str = ""
    dropped: list[tuple[int, list[str]]] = []
    actions: list[tuple[str, list[str]]] = []


class SegmentValues(State, frozen=True, array_like=True):
    """The segment values that have a place: (model, dimension, values in the order they came)."""

    places: list[tuple[str, str, list[str]]]


_head = msgspec.msgpack.Decoder(PartitionHead)
_chunk = msgspec.msgpack.Decoder(IdChunk)
_places = msgspec.msgpack.Decoder(SegmentValues)


def _packed(value: msgspec.Struct) -> bytes:
    return bytes((FORMAT,)) + zstandard.ZstdCompressor(level=_LEVEL).compress(msgspec.msgpack.encode(value))


def _unpacked(value: bytes, key: bytes) -> bytes:
    refuse_other(key, value, FORMAT)
    return zstandard.ZstdDecompressor().decompress(value[1:], max_output_size=_MAX_BYTES)


class PartitionState:
    """Clock, seen ids and cumulative outcomes of one input partition: a function of its log prefix alone."""

    def __init__(self, partition: Partition, horizon: int) -> None:
        self.partition = partition
        self.clock = PartitionClock()
        self.seen = Seen(horizon)
        self.ids = IdChunks(self.key, horizon)
        self.horizon = horizon
        self.next_offset: int | None = None
        self.began: int | None = None
        self.received = 0
        self.outcomes = dict.fromkeys(Outcome, 0)
        self.codes: dict[str, int] = {}
        self.digests: list[tuple[int, dict[str, str]]] = []
        self.versions: set[tuple[str, str]] = set()
        self.places = Places()
        self.refused: dict[str, int] = {}
        self.rejections = Rejections()
        self.expired = 0
        self.topic_id, self.stopped = "", ""
        self.dropped: list[tuple[int, list[str]]] = []
        self.actions: dict[str, list[str]] = {}
        self.end_offset = self.epoch = self.accepted = 0
        self.end = LogEnd()
        self._stored: list[bytes] = []

    @property
    def key(self) -> bytes:
        """The key of the head record."""
        return f"{self.partition.topic}/{self.partition.index}".encode()

    @property
    def _places_key(self) -> bytes:
        return self.key + b"/segments"

    def read(self, batch: Batch) -> None:
        """Stand behind a batch, which may be empty; the first one says from where the log was counted."""
        if self.next_offset is None:
            self.began = int(batch.offsets[0]) if len(batch) else batch.next_offset
        self.next_offset = batch.next_offset

    def lose(self, offset: int, records: int) -> None:
        """Stand behind records before ``offset`` that retention removed unread.

        The state passes them: with nothing to read behind them, they would be lost again at every start.
        """
        self.expired += records
        self.next_offset = max(self.next_offset or 0, offset)

    def begin_anew(self, topic_id: str, decided: int) -> None:
        """Count another topic of this name from its beginning; what is known to be unread of the one before is lost.

        To be called on a state that was just restored: its records on the state topic become tombstones.
        """
        lost, epoch = max(self.end_offset - (self.next_offset or 0), 0), self.epoch + 1
        stored, expired = self._stored, self.expired
        self.__init__(self.partition, self.horizon)  # type: ignore[misc] # nothing of the other topic may remain
        self.topic_id, self.accepted, self.epoch, self.expired = topic_id, decided, epoch, expired + lost
        self.next_offset = self.began = 0
        for key in stored:
            self.ids.discard(key)

    def reject(self, codes: Iterable[DeadLetterCode]) -> None:
        """Count records that go to the dead letters."""
        for code in codes:
            self.outcomes[Outcome.REJECTED] += 1
            self.codes[code.value] = self.codes.get(code.value, 0) + 1

    def refuse(self, limit: str, events: int) -> None:
        """Count events that a limit left no place for."""
        self.refused[limit] = self.refused.get(limit, 0) + events

    def use(self, offset: int, digests: Mapping[tuple[str, str], str]) -> None:
        """Note from which offset on references count the events, where that changed."""
        latest: dict[str, str] = {}
        for _, known in self.digests:
            # Later ones over earlier: what is in force now, model by model.
            latest |= known
        new = {f"{model}/{version}": digest for (model, version), digest in digests.items()}
        changed = {name: digest for name, digest in new.items() if latest.get(name) != digest}
        if changed:
            self.digests.append((offset, changed))
            if len(self.digests) > MAX_DIGESTS:
                # The two oldest become one: what came before the later of them can no longer be recounted by verify.
                merged = self.digests[0][1] | self.digests[1][1]
                self.digests[:2] = [(self.digests[1][0], merged)]

    def drop_from(self, offset: int, models: Sequence[str]) -> None:
        """Note from which offset on the events of which models are left out, where that changed."""
        if sorted(models) != (self.dropped[-1][1] if self.dropped else []):
            # Each change is a restart with another configuration: as many are kept as of references.
            self.dropped = [*self.dropped, (offset, sorted(models))][-MAX_DIGESTS:]

    def records(self) -> Iterable[tuple[bytes, bytes | None]]:
        """Yield the key and value (None: a tombstone) of each state record that changed since the last call."""
        head = PartitionHead(
            next_offset=-1 if self.next_offset is None else self.next_offset,
            clock=self.clock.now,
            received=self.received,
            outcomes={outcome.value: count for outcome, count in self.outcomes.items()},
            codes=self.codes,
            digests=self.digests,
            refused=self.refused,
            rejections=(self.rejections.seen, self.rejections.rejected, self.rejections.run),
            expired=self.expired,
            began=self.began,
            topic_id=self.topic_id,
            end_offset=self.end_offset,
            epoch=self.epoch,
            accepted=self.accepted,
            stopped=self.stopped,
            dropped=self.dropped,
            actions=list(self.actions.items()),
        )
        yield self.key, _packed(head)
        if self.places.changed:
            known = [(*owner, list(values)) for owner, values in self.places.known.items()]
            yield self._places_key, _packed(SegmentValues(places=known))
            self.places.changed = False
        for key, chunk in self.ids.records(self.next_offset or 0):
            yield key, None if chunk is None else _packed(chunk)

    def restore(self, values: Mapping[bytes, bytes | None]) -> None:
        """Take over what ``records`` wrote; raises ``Fatal`` for a format that this version does not read."""
        value = values.get(self.key)
        if value is None:
            return
        head = _head.decode(_unpacked(value, self.key))
        self.next_offset = None if head.next_offset < 0 else head.next_offset
        self.clock.now, self.received = head.clock, head.received
        # Over the zeros, so that an outcome that is newer than the state begins at zero.
        self.outcomes |= {Outcome(name): count for name, count in head.outcomes.items()}
        self.codes = dict(head.codes)
        self.digests = [(offset, dict(known)) for offset, known in head.digests]
        names = (name.partition("/") for _, known in self.digests for name in known)
        self.versions = {(model, version) for model, _, version in names}
        self.refused, self.rejections = dict(head.refused), Rejections(*head.rejections)
        self.expired, self.began = head.expired, head.began
        self.topic_id, self.end_offset, self.epoch = head.topic_id, head.end_offset, head.epoch
        self.accepted, self.stopped = head.accepted, head.stopped
        self.dropped = list(head.dropped)
        self.actions = {model: list(names) for model, names in head.actions}
        # All that may have to be taken back should the topic be begun anew.
        self._stored = [key for key in values if key.startswith(self.key + b"/")]
        if (saved := values.get(self._places_key)) is not None:
            for model, dimension, found in _places.decode(_unpacked(saved, self._places_key)).places:
                self.places.take_over(model, dimension, found)
        stored = (
            (key, value) for key, value in values.items() if value is not None and key.startswith(self.ids.prefix)
        )
        chunks = ((key, _chunk.decode(_unpacked(value, key))) for key, value in stored)
        for ids in self.ids.restore(chunks, self.next_offset or 0):
            self.seen.restore(*ids)

    def conservation(self) -> dict[str, int]:
        """Return received and the five outcomes."""
        return {"received": self.received, **{outcome.value: count for outcome, count in self.outcomes.items()}}

    def progress(self, kinds: Sequence[str], *, idle: bool) -> list[Progress]:
        """Return how far the partition is, for each kind of event it carries; before its first batch only a stop."""
        if self.next_offset is None and not self.stopped:
            return []
        idle = idle and not self.stopped
        return [
            Progress(*self.partition, kind, self.next_offset or 0, self.clock.now, idle, self.stopped, self.epoch)
            for kind in kinds
        ]
