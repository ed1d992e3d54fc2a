"""Fields that the reference does not know: looked for in one of eight records, because decoding skips them unread."""

from collections import deque
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from stationkeeper.events.columns import Flags, Integers
from stationkeeper.events.mapping import Form, PathKeys
from stationkeeper.events.reader import object_at

SAMPLE: Final = 8
"""One of this many records is looked at, and each unseen field found there counts as this many."""

MOST_NAMES: Final = 20
LONGEST_NAME: Final = 128
_DECODERS = 64
_FACTOR, _SHIFT = 0x9E3779B1, 16


def sampled(offsets: Integers) -> Flags:
    """Return which records are looked at, bool[n]: every eighth in the mean, told by the offset alone.

    The offset times 0x9E3779B1, bits 16 to 18 being zero: transaction markers leave holes of any pattern, and a plain
    remainder could miss every record.
    """
    flags: Flags = ((offsets * _FACTOR) >> _SHIFT) & (SAMPLE - 1) == 0
    return flags


class UnseenFields:
    """Counts the features of one topic's records that a reference does not know, and keeps the names of some."""

    def __init__(self, form: Form) -> None:
        path = form.features
        self._path = path if isinstance(path, tuple) else None
        self._decode = object_at(path) if isinstance(path, tuple) else None
        self._strict: dict[frozenset[str], Any] = {}
        self.names: dict[str, None] = {}

    def count(self, values: Sequence[bytes | None], known: Collection[str]) -> Integers:
        """Return how many features of each record are not ``known``, int64[n].

        A mapping that names each feature reads nothing else, so nothing is unseen there. O(bytes).
        """
        found = np.zeros(len(values), np.int64)
        if self._decode is None or self._all_known(values, known):
            return found
        for at, value in enumerate(values):
            features = self._decode(value or b"{}")
            if not isinstance(features, dict):
                continue
            unseen = [name for name in features if name not in known]
            found[at] = len(unseen)
            for name in unseen:
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
            deque(map(decode, values), maxlen=0)
        except (TypeError, msgspec.MsgspecError, RecursionError):
            return False
        return True


def _strict_decoder(path: PathKeys, names: frozenset[str]) -> Any:
    """What refuses a record with a feature that is not among ``names`` and costs half of a dictionary."""
    fields: list[Any] = [(f"f{place}", Any, None) for place in range(len(names))]
    rename = {f"f{place}": name for place, name in enumerate(sorted(names))}
    kind: Any = msgspec.defstruct("Known", fields, rename=rename, forbid_unknown_fields=True, gc=False)
    for key in reversed(path):
        kind = msgspec.defstruct("Holder", [("inner", kind)], rename={"inner": key}, gc=False)
    return msgspec.json.Decoder(kind).decode
