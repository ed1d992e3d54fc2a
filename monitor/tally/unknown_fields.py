"""Fields that the reference does not know: looked for in one of eight records, because decoding skips them unread."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from stationkeeper.events import Events, Flags, Form, Integers, PathKeys, Reading, nameable, object_at, refuse
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally.totals import MOST_NAMES
from stationkeeper.streams.ports import Batch

SAMPLE: Final = 8
"""One of this many records is looked at, and each unknown field found there counts as this many."""

LONGEST_NAME: Final = 128
"""Characters of the longest field name that is shown: longer ones are data in the wrong place."""

_DECODERS = 64
"""Sets of known names whose strict decoder is kept, one for each reference in force; beyond it all are made anew."""

# Knuth's multiplicative hash, 2^32 over the golden ratio: bits 16 to 18 of the product are spread evenly over offsets.
_FACTOR, _SHIFT = 0x9E3779B1, 16


def sampled(offsets: Integers) -> Flags:
    """Return which records are looked at, bool[n]: every eighth in the mean, by the offset alone.

    The offset times 0x9E3779B1, bits 16 to 18 being zero: transaction markers leave holes of any pattern, and a plain
    remainder could miss every record.
    """
    flags: Flags = ((offsets * _FACTOR) >> _SHIFT) & (SAMPLE - 1) == 0
    return flags


@dataclass(frozen=True, slots=True)
class UnknownCount:
    """Events of one owner, and how many unknown fields each stands for, int64[n]."""

    events: Events
    counts: Integers


class UnknownFields:
    """Counts the fields of events that their reference does not know, by topic, and keeps the names of some."""

    def __init__(self, forms: Mapping[str, Form], models: Mapping[str, ModelSettings], references: References) -> None:
        self._models, self._references = models, references
        self._topics = {topic: TopicFields(form) for topic, form in forms.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of some fields that were found, sorted."""
        return tuple(sorted({name for topic in self._topics.values() for name in topic.names}))

    def count(self, batch: Batch, events: Events, reading: Reading, read: AbstractSet[str]) -> list[UnknownCount]:
        """Return the counts of each owner's sampled events that have any; ``read`` are the features that are read.

        Where the reading says that no event holds any other, and the reference knows them all, no record is looked at
        again.
        """
        index = np.flatnonzero(sampled(batch.offsets[events.rows]))
        if not len(index):
            return []
        owner = events.owner[index]
        found = []
        for code, (model, version) in enumerate(events.owners):
            reference = self._references.of(model, version)
            if reference is None or self._models[model].source != events.kind:
                continue
            known = reference.by_name.keys() | self._references.left_out(reference.digest)
            # Both: a feature may be read for another model of the topic, whose reference knows it.
            if reading.known and read <= known:
                continue
            which = index[owner == code]
            values = [reading.values[row] for row in events.rows[which].tolist()]
            counts = self._topics[batch.partition.topic].count(values, known)
            if counts.any():
                found.append(UnknownCount(events.keep(which), counts * SAMPLE))
        return found


class TopicFields:
    """Counts the features of one topic's records that a reference does not know, and keeps the names of some."""

    def __init__(self, form: Form) -> None:
        path = form.features
        self._path = path if isinstance(path, tuple) else None
        self._decode = object_at(path) if isinstance(path, tuple) else None
        self._strict: dict[frozenset[str], Any] = {}
        self.names: dict[str, None] = {}

    def count(self, values: Sequence[bytes | None], known: Collection[str]) -> Integers:
        """Return how many features of each record are not ``known``, int64[n].

        A mapping that names each feature reads nothing else, so nothing is unknown there. O(bytes).
        """
        found = np.zeros(len(values), np.int64)
        if self._decode is None or self._all_known(values, known):
            return found
        for at, value in enumerate(values):
            features = self._decode(value or b"{}")
            if not isinstance(features, dict):
                continue
            unknown = [name for name in features if name not in known]
            found[at] = len(unknown)
            for name in unknown:
                # The first few, for a person: their number is counted whole.
                if len(self.names) < MOST_NAMES and len(name) <= LONGEST_NAME:
                    self.names[name] = None
        return found

    def _all_known(self, values: Sequence[bytes | None], known: Collection[str]) -> bool:
        """Whether one strict pass in C finds nothing but known features, as it does nearly always."""
        names = frozenset(known)
        decode = self._strict.get(names)
        if decode is None:
            if len(self._strict) >= _DECODERS:
                self._strict.clear()
            decode = self._strict[names] = _strict_decoder(self._path or (), names)
        try:
            for value in values:
                decode(value)
        except (TypeError, msgspec.MsgspecError, RecursionError):
            return False
        return True


def _strict_decoder(path: PathKeys, names: frozenset[str]) -> Any:
    """What refuses a record with a feature that is not among ``names`` and costs half of a dictionary."""
    # Then every record is looked at name by name: slower, and the same counts.
    if not all(map(nameable, (*path, *names))):
        return refuse
    fields: list[Any] = [(f"f{place}", Any, None) for place in range(len(names))]
    rename = {f"f{place}": name for place, name in enumerate(sorted(names))}
    kind: Any = msgspec.defstruct("Known", fields, rename=rename, forbid_unknown_fields=True, gc=False)
    for key in reversed(path):
        kind = msgspec.defstruct("Holder", [("inner", kind)], rename={"inner": key}, gc=False)
    return msgspec.json.Decoder(kind).decode
