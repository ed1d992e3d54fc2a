"""What every decoder must hold to, for third parties to run in their own tests: ``check_decoder(MyDecoder(), …)``."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.plugins import NotConforming
from stationkeeper.events.decoder import Decoded, Decoder, Headers

Example = tuple[bytes, Headers, Mapping[str, Any] | DeadLetterCode]
"""A record's value and headers, and the object that it holds or the code that refuses it."""

_STEPS: Final = 64
"""Lengths to which each example is cut: enough to meet every field of a small record, few enough for long ones."""


def check_decoder(decoder: Decoder, examples: Sequence[Example]) -> None:
    """Try a decoder on records whose meaning is known, and on those records cut and spoilt.

    Raises ``NotConforming`` where it gives another object or code, answers the same record differently a second time or
    after others, raises anything but ``ValueError`` for spoilt bytes, or gives what is not JSON. At least one example
    must be an object. O(examples * bytes).
    """
    if not isinstance(decoder, Decoder):
        raise NotConforming(f"{type(decoder).__name__} has no method decode(value, headers)")
    if all(isinstance(expected, DeadLetterCode) for _, _, expected in examples):
        raise NotConforming("no example is a record that decodes: give at least one")
    for value, headers, expected in [*examples, *reversed(examples)]:
        found = _plain(decoder.decode(value, headers), value)
        wanted = expected if isinstance(expected, DeadLetterCode) else dict(expected)
        if found != wanted:
            raise NotConforming(f"{value!r} gives {found!r} and should give {wanted!r}")
    for value, headers, _ in examples:
        for spoilt in _spoilt(value):
            try:
                first, second = (decoder.decode(spoilt, headers) for _ in range(2))
            except ValueError:
                continue
            except Exception as error:
                raise NotConforming(f"{spoilt!r} raises {error!r}: only ValueError says that bytes are bad") from error
            if _plain(first, spoilt) != _plain(second, spoilt):
                raise NotConforming(f"{spoilt!r} gives {first!r} and then {second!r}")


def _plain(found: Decoded, value: bytes) -> Any:
    """The answer as plain values; text that is not JSON stays text, for the reader refuses it."""
    if isinstance(found, DeadLetterCode):
        return found
    try:
        text = found if isinstance(found, bytes) else msgspec.json.encode(found)
    except TypeError as error:
        raise NotConforming(f"{value!r} gives what JSON does not have: {error}") from error
    try:
        return msgspec.json.decode(text)
    except ValueError:
        return text


def _spoilt(value: bytes) -> list[bytes]:
    # First bytes that mean something to a decoder: the magic byte of a frame, another version of it, the beginning of
    # plain JSON, and one that no UTF-8 text has.
    step = max(1, len(value) // _STEPS)
    cut = [value[:end] for end in range(0, len(value), step)]
    return [*cut, value + b"\0", *(bytes([first]) + value[1:] for first in (0, 1, 0x7B, 0xFF))]
