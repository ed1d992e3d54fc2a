"""The features that records carry, by name: looked for where no reference says beforehand which there are."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from stationkeeper.events.json_reader import mended
from stationkeeper.events.mapping import Form, PathKeys

_NUMBER_STARTS: Final = frozenset(b"-0123456789n")
"""How a JSON number or a null begins: a feature of nothing else is read as a number."""


class FeatureNames:
    """Finds the features of one topic's records and whether each holds nothing but numbers and nulls."""

    def __init__(self, form: Form) -> None:
        self._limit = form.max_fields
        if isinstance(form.features, tuple):
            self._objects: list[tuple[Callable[[bytes], Any], dict[str, str] | None]] = [
                (object_at(form.features), None)
            ]
            return
        parents: dict[PathKeys, dict[str, str]] = {}
        for name, path in form.features.items():
            parents.setdefault(path[:-1], {})[path[-1]] = name
        self._objects = [(object_at(path), names) for path, names in parents.items()]

    def look(self, values: Sequence[bytes], known: Mapping[str, bool]) -> dict[str, bool]:
        """Return ``known`` with what these records add; a number becomes none where a record holds anything else.

        At most as many names as one record may have fields: names that differ from record to record are data in the
        wrong place, and each would cost a column. O(bytes), a Python step a value.
        """
        found = dict(known)
        for value in values:
            for read, names in self._objects:
                held = read(value)
                for key, inner in held.items() if isinstance(held, dict) else ():
                    name = key if names is None else names.get(key)
                    if name is None or (name not in found and len(found) >= self._limit):
                        continue
                    number = memoryview(inner)[0] in _NUMBER_STARTS
                    found[name] = found.get(name, True) and number
        return found


def object_at(path: PathKeys) -> Callable[[bytes], Any]:
    """Return what reads the object at a path as a dictionary of undecoded values, None where there is none."""
    kind: Any = dict[str, msgspec.Raw] | None
    for key in reversed(path):
        kind = msgspec.defstruct("Holder", [("inner", kind | None, None)], rename={"inner": key}, gc=False)
    decode = msgspec.json.Decoder(kind).decode

    def read(value: bytes) -> Any:
        try:
            held: Any = decode(value)
        except msgspec.DecodeError:
            if (whole := mended(value)) == value:
                return None
            return read(whole)
        except RecursionError:
            return None
        for _ in path:
            held = getattr(held, "inner", None)
        return held

    return read
