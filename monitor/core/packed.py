"""Counts packed into few bytes, exactly: a mark or a gap for each that is not zero, and a short code for its value."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.core.cells import Counts

Unsigned = NDArray[np.unsignedinteger[Any]]

_NIBBLE = 15
_GAPS = 128
_LEVELS = ((np.uint8, 0xFF), (np.uint16, 0xFFFF))


def pack(counts: Counts) -> bytes:
    """Return int64[width] as bytes; any value is kept exactly, small ones in half a byte. O(width).

    Where a counter stands costs a bit of every counter, or about a byte of those that are not zero, whichever is less.
    Its value less one costs half a byte, a byte or two, whichever is least for all; those that do not fit cost one,
    two or eight bytes more. By hand: 256 counters of 1 to 15 take 1 + 32 + 128 bytes; three such
    among 256 take 1 + 4 + 3 + 2.
    """
    small = _narrowed(counts)
    present = small != 0
    values = small[present]
    values -= values.dtype.type(1)
    marks = -(-len(counts) // 8)
    form, codes = _spelled(values)
    if len(values) + 4 < marks:
        gaps = np.diff(np.flatnonzero(present), prepend=-1).astype(np.uint64)
        gaps -= np.uint64(1)
        where = len(values).to_bytes(4, "little") + _bytes(gaps, 0)
        if len(where) < marks:
            return bytes([_GAPS + form]) + where + codes
    return bytes([form]) + np.packbits(present).tobytes() + codes


def unpack(data: bytes, width: int) -> Counts:
    """Return what ``pack`` was given, int64[width]."""
    at, values = unpack_sparse(data, width)
    out = np.zeros(width, np.int64)
    out[at] = values
    return out


def unpack_sparse(data: bytes, width: int) -> tuple[Counts, Counts]:
    """Return the positions of the counts that are not zero, in order, and their values, int64 each."""
    form = data[0]
    if form >= _GAPS:
        gaps, first = _from_bytes(data, 5, int.from_bytes(data[1:5], "little"), 0)
        gaps += 1
        at = np.cumsum(gaps) - 1
    else:
        first = 1 + -(-width // 8)
        at = np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8, first - 1, 1), count=width).view(np.bool_))
    values = _from_codes(data, first, len(at), form % _GAPS)
    values += 1
    return at, values


def _narrowed(counts: Counts) -> Unsigned:
    """The counts in the narrowest unsigned type that holds them; negative ones wrap, and come back so."""
    if len(counts) and counts.min() >= 0:
        largest = int(counts.max())
        for dtype, limit in _LEVELS:
            if largest <= limit:
                return counts.astype(dtype)
    return counts.astype(np.uint64)


def _spelled(values: Unsigned) -> tuple[int, bytes]:
    """The shortest of three codes: from half a byte, from a byte, from two bytes."""
    many = len(values)
    beyond = np.count_nonzero(values >= _NIBBLE)
    if 2 * beyond <= many:
        short = np.minimum(values, values.dtype.type(_NIBBLE)).astype(np.uint8)
        pairs = np.append(short, np.uint8(0)) if many % 2 else short
        large = values[short == _NIBBLE] - values.dtype.type(_NIBBLE) if beyond else values[:0]
        return 0, (pairs[0::2] | pairs[1::2] << 4).tobytes() + _bytes(large, 0)
    return (1, _bytes(values, 0)) if 2 * np.count_nonzero(values >= _LEVELS[0][1]) <= many else (2, _bytes(values, 1))


def _from_codes(data: bytes, first: int, many: int, form: int) -> Counts:
    if form:
        return _from_bytes(data, first, many, form - 1)[0]
    pairs = np.frombuffer(data, np.uint8, (many + 1) // 2, first)
    short = np.empty(2 * len(pairs), np.uint8)
    short[0::2] = pairs & _NIBBLE
    short[1::2] = pairs >> 4
    short = short[:many]
    values = short.astype(np.int64)
    large = np.flatnonzero(short == _NIBBLE)
    if len(large):
        values[large] += _from_bytes(data, first + len(pairs), len(large), 0)[0]
    return values


def _bytes(values: Unsigned, level: int) -> bytes:
    """Spell values in one byte each, the largest in two more, and what is still larger in eight more."""
    out = []
    for dtype, largest in _LEVELS[level:]:
        if values.dtype.itemsize < np.dtype(dtype).itemsize:
            values = values.astype(dtype)
        short = np.minimum(values, values.dtype.type(largest)).astype(dtype)
        out.append(short.tobytes())
        values = values[short == largest] - values.dtype.type(largest)
    return b"".join([*out, values.astype(np.uint64).tobytes()])


def _from_bytes(data: bytes, first: int, many: int, level: int) -> tuple[Counts, int]:
    """Return the values that ``_bytes`` spelled, and where they end; sums wrap as the differences did."""
    dtype, largest = _LEVELS[level]
    short: Unsigned = np.frombuffer(data, dtype, many, first)
    values = short.astype(np.int64)
    first += short.nbytes
    open_ = np.flatnonzero(short == largest)
    for dtype, largest in _LEVELS[level + 1 :]:
        short = np.frombuffer(data, dtype, len(open_), first)
        first += short.nbytes
        values[open_] += short
        open_ = open_[short == largest]
    if len(open_):
        values[open_] += np.frombuffer(data, np.int64, len(open_), first)
    return values, first + 8 * len(open_)
