"""Our own topics by their ids: one that was deleted and created again is another log, at offsets that look alike."""

import json
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from stationkeeper.streams.errors import Retryable, StreamError, TopicReplaced
from stationkeeper.streams.ports import Partition, Sink, Source

# How often our own topics are looked up. At half the brokers are asked twice as often for what hardly ever happens; at
# double two seconds of records go into a log that lacks what came before.
_LOOK_S = 1.0


class OwnTopics:
    """The topics of our own that a role depends on: in memory it keeps what they held, and commits by their offsets.

    What it would write to a new one lacks what the old one held: read back at the next start, that is a state which
    never was. So the role ends, and says why. The ids stand as a note beside the group's offsets, which outlive any one
    of these topics (a broker drops the offsets of a topic with it, so the note stands at several): a topic that was
    replaced while no role ran is told at the next start, once. Where all are new nothing is known, as on a first start.
    """

    def __init__(self, source: Source, now_ms: Callable[[], int]) -> None:
        """``now_ms`` (wall) dates a note that says something new: of several that are found the youngest holds."""
        self._source, self._now_ms = source, now_ms
        self._ids: dict[str, str] = {}
        self._looked = -_LOOK_S
        self._at = 0
        self._read: frozenset[str] = frozenset()
        self._anchors: frozenset[Partition] = frozenset()
        self._noted = False

    def begin(self, names: Collection[str], inputs: Collection[Partition]) -> None:
        """Compare with what the group has noted; raises ``TopicReplaced``. ``inputs`` are the assigned partitions."""
        if not names:
            return
        found = self._source.topic_ids(sorted(names))
        self._read = frozenset(partition.topic for partition in inputs)
        self._anchors = self._beside(found)
        notes = map(_read, self._source.notes(sorted({*self._anchors, *inputs})))
        at, ids = max(notes, key=lambda note: note[0], default=(0, {}))
        known = ids | self._ids
        # One that is gone at this moment keeps its id: what appears under its name later is another.
        self._ids = {**known, **found}
        self._noted = ids == self._ids
        self._at = at if self._noted else max(self._now_ms(), at + 1)
        self._refuse([name for name, found_id in found.items() if known.get(name, found_id) != found_id])

    def check(self, names: Collection[str]) -> None:
        """Raise ``TopicReplaced`` where one is another than at first, ``Retryable`` where one is gone."""
        if not names or time.monotonic() - self._looked < _LOOK_S:
            return
        found = self._source.topic_ids(sorted(names))
        self._looked = time.monotonic()
        # One that appears later is noted with the next transaction, under a younger date than the notes without it.
        if new := {name: one for name, one in found.items() if name not in self._ids}:
            self._anchors |= self._beside(new)
            self._noted, self._at = False, max(self._now_ms(), self._at + 1)
        # A broker older than 2.8 has no ids to tell by.
        other = [name for name, found_id in found.items() if self._ids.setdefault(name, found_id) != found_id]
        if other:
            self._ids |= found
            self._at += 1
        self._refuse(other)
        if gone := [name for name in names if name in self._ids and name not in found]:
            raise Retryable(
                f"{', '.join(gone)}: deleted; nothing is read or written until it is there again, as another topic "
                "(stationkeeper check creates it)"
            )

    def _beside(self, names: Collection[str]) -> frozenset[Partition]:
        """Where a note stands for topics that are not read: offset 0 of one means nothing to anyone, the note does."""
        return frozenset(Partition(name, 0) for name in names if name not in self._read)

    @staticmethod
    def _refuse(other: Collection[str]) -> None:
        if other:
            raise TopicReplaced(
                f"{', '.join(sorted(other))}: deleted and created again since this role began to live by it; what it "
                "held is lost. Start the roles again: they begin with what the new one holds (docs/operations.md, a "
                "topic of ours)"
            )

    @property
    def note(self) -> str:
        """What is written beside every offset that is committed, "" where there is nothing to tell topics by."""
        known = {name: one for name, one in sorted(self._ids.items()) if one}
        # The NUL is for confluent-kafka 2.16.1, which reads a note past its end, up to the next NUL in memory.
        return json.dumps({"at": self._at, "topics": known}, separators=(",", ":")) + "\0" if known else ""

    def carried(self, offsets: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """Return the offsets of a transaction, with those beside which only the note is of interest where it is new."""
        return offsets if self._noted or not self.note else {**dict.fromkeys(self._anchors, 0), **offsets}

    def settled(self) -> None:
        """Note that a transaction with ``carried`` has gone through."""
        self._noted = True

    def accept(self, sink: Sink) -> None:
        """Note the ids of the new topics, so that the next start, after this one has told of them, goes on."""
        self._noted = False
        # Where it does not go through, as in a rebalance, the next start tells of it once more.
        with suppress(StreamError):
            sink.begin()
            sink.commit(self.carried({}), self._source.group(), self.note)


def _read(note: str) -> tuple[int, dict[str, str]]:
    """What a note says: since when (ms), and each topic's id; nothing where somebody else wrote it."""
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        found = json.loads(note.rstrip("\0"))
        return int(found["at"]), {str(name): str(one) for name, one in found["topics"].items()}
    return 0, {}
