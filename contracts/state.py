"""What a role keeps: named fields that are checked when they are read back, and bytes kept small in memory."""

import threading
from typing import Any, Final, TypeVar

import msgspec
import zstandard


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every kept state: a frozen record with named fields; numpy arrays are allowed as fields.

    It is stored as a map by field name, so that a field with a default may be added and old state still be read. Where
    older builds stored a list by position, a subclass says ``array_like=True`` and new fields come last.
    """


_S = TypeVar("_S", bound=State)


def state_of(plain: Any, kind: type[_S]) -> _S:
    """Return stored plain values (maps, lists, arrays) as the state they were; O(size).

    Raises ``msgspec.ValidationError`` with the path of the first field that does not fit.
    """
    return msgspec.convert(plain, kind)


def replaced(state: _S, **changes: Any) -> _S:
    """Return the state with some fields changed."""
    return msgspec.structs.replace(state, **changes)


# zstd's fastest: what is squeezed is unpacked and packed again at the next use, so time counts more than the last tenth
# of size.
_LEVEL: Final = 1
# A damaged length must not ask for all memory; 1 GiB is far above the largest pane that limits allow.
_MAX_BYTES: Final = 1 << 30


class _Contexts(threading.local):
    """A thread's own compressor and decompressor: a new one costs ten times the work on a kB."""

    def __init__(self) -> None:
        self.squeezing = zstandard.ZstdCompressor(level=_LEVEL)
        self.expanding = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def squeeze(data: bytes) -> bytes:
    """Return bytes from which ``expand`` makes the same again; counts take about half of what they did."""
    # A copy, because the library returns its result in a buffer of the size that the worst case would have taken.
    return bytes(memoryview(_contexts.squeezing.compress(data)))


def expand(data: bytes) -> bytes:
    """Return what ``squeeze`` was given."""
    return _contexts.expanding.decompress(data, max_output_size=_MAX_BYTES)
