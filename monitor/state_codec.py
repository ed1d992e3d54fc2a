"""State of any size as records of a compacted topic: nested values and arrays in numbered, compressed parts."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import zstandard

from stationkeeper.contracts.state import expand
from stationkeeper.streams.errors import Fatal

FORMAT: Final = 4
"""1: arrays as they are. 2: integers in the narrowest type that holds them; watches in pieces. 3: as 2, but hours may
be those of a time zone and segments compared, which builds of format 2 would take for hours of UTC, or leave out. 4: as
3, but bags may have grown from a reference that followed a season, which builds before would take for the one made."""

ZONED: Final = 3
"""What is written where no reference has followed a season, so that builds of format 3 can go on from it."""

PLAIN: Final = 2
"""What is written where a state holds nothing that builds of format 2 would misread, so that they can go on from it."""

# Half of Kafka's default largest record (1 MiB): a part does not compress again, and headers need room. Half of it
# doubles the records of a large state.
PART_BYTES: Final = 512 * 1024

# Codes of msgpack extensions, in every state record that holds an array: none is ever given another meaning.
_ARRAY, _NARROW = 1, 2
_WIDTHS = (np.uint8, np.uint16, np.uint32)


class _Part(msgspec.Struct, array_like=True):
    """Part ``index`` of ``total`` of the state written by flush ``generation``."""

    generation: int
    index: int
    total: int
    data: bytes


def _enc_hook(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype == np.int64 and value.size:
            low, high = int(value.min()), int(value.max())
            kind = next((kind for kind in _WIDTHS if low >= 0 and high <= np.iinfo(kind).max), None)
            if kind is not None:
                narrow = (np.dtype(kind).newbyteorder("<").str, value.shape, value.astype(kind).tobytes())
                return msgspec.msgpack.Ext(_NARROW, msgspec.msgpack.encode(narrow))
        fixed = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
        head = (fixed.dtype.str, value.shape, fixed.tobytes())
        return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(head))
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"state holds a {type(value).__name__}, which has no stored form")


def _narrow_hook(code: int, data: memoryview) -> Any:
    if code not in {_ARRAY, _NARROW}:
        raise Fatal(f"state holds an extension {code} that this version does not know; upgrade this role")
    dtype, shape, raw = msgspec.msgpack.decode(data)
    array = np.frombuffer(raw, dtype=np.dtype(dtype)).reshape(shape)
    return array if code == _NARROW else array.astype(np.dtype(dtype).newbyteorder("="))


def _ext_hook(code: int, data: memoryview) -> Any:
    array = _narrow_hook(code, data)
    return array.astype(np.int64) if code == _NARROW else array


_encoder = msgspec.msgpack.Encoder(enc_hook=_enc_hook)
_decoder = msgspec.msgpack.Decoder(ext_hook=_ext_hook)
_narrow_decoder = msgspec.msgpack.Decoder(ext_hook=_narrow_hook)
_part = msgspec.msgpack.Decoder(_Part)


def refuse_other(key: bytes, value: bytes, newest: int) -> None:
    """Raise ``Fatal`` where the first byte of a state record is no format that this version reads (1 to ``newest``)."""
    found = value[0] if value else 0
    if 1 <= found <= newest:
        return
    what = "is damaged" if not found else f"has format {found}, this version reads 1 to {newest}"
    raise Fatal(
        f"state record {key.decode()} {what}: it was written by a newer version, or is not ours. Nothing was changed; "
        "start the version that wrote it, or a later one. To start without this state instead, delete the state topic "
        "and reset the group's offsets"
    )


def freeze(value: Any) -> bytes:
    """Return plain nested values and numpy arrays as compressed bytes."""
    # Near the fastest: state is written with every pane, and most of it is counts that are narrow already.
    return zstandard.ZstdCompressor(level=1).compress(_encoder.encode(value))


def thaw(data: bytes, *, narrow: bool = False) -> Any:
    """Return what ``freeze`` was given; tuples come back as lists, int64 in the type it was stored in if ``narrow``."""
    return (_narrow_decoder if narrow else _decoder).decode(expand(data))


def parts(key: str, value: Any, generation: int, written: int = PLAIN) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records (key, value) of one state: ``key/0``, ``key/1``, …; a shorter state leaves old parts unused.

    ``written`` is the format to write, ``FORMAT`` or ``PLAIN``.
    """
    data = freeze(value)
    total = max(1, -(-len(data) // PART_BYTES))
    for index in range(total):
        piece = data[index * PART_BYTES : (index + 1) * PART_BYTES]
        record = bytes((written,)) + msgspec.msgpack.encode(_Part(generation, index, total, piece))
        yield f"{key}/{index}".encode(), record


def gather(values: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Return the states by key among records of ``parts``; raises ``Fatal`` as `whole`."""
    return {name: thaw(data) for name, data in whole(values).items()}


def whole(values: Mapping[bytes, bytes]) -> dict[str, bytes]:
    """Return the states by key as ``freeze`` made them; raises ``Fatal`` for a newer format or a missing part.

    Older formats are read; the next record of a key is written in the present one.
    """
    found: dict[str, dict[int, _Part]] = {}
    for key, value in values.items():
        name, _, index = key.decode().rpartition("/")
        refuse_other(key, value, FORMAT)
        found.setdefault(name, {})[int(index)] = _part.decode(value[1:])
    out: dict[str, bytes] = {}
    for name, pieces in found.items():
        head = pieces.get(0)
        if head is None:
            raise Fatal(
                f"state {name!r} lacks its first part; the state topic lost records, remove its key to start anew"
            )
        wanted = [pieces.get(index) for index in range(head.total)]
        if any(piece is None or piece.generation != head.generation for piece in wanted):
            raise Fatal(f"state {name!r} has parts of different flushes; the state topic lost records")
        out[name] = b"".join(piece.data for piece in wanted if piece is not None)
    return out
