"""Counts packed into few bytes, exactly: a mark or a gap for each that is not zero, and a short code for its value."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.core.cells import Counts

Unsigned = NDArray[np.unsignedinteger[Any]]

_NIBBLE = 15
_FORMS = 4
_MARKS, _GAPS, _WHOLE = range(3)
_LEVELS = ((np.uint8, 0xFF), (np.uint16, 0xFFFF))


def pack(counts: Counts) -> bytes:
    """Return int64[width] as bytes; any value is kept exactly, small ones in half a byte. O(width).

    Where half of the counters or more count something, all are spelled. Else only those are, less one, and where they
    stand costs a bit of every counter, or about a byte of each of them, whichever is less. A value costs half a byte, a
    byte or two, whichever is least for all; those that do not fit cost one, two or eight bytes more. By hand: 256
    counters of 1 to 14 take 1 + 128 bytes; three such among 256 take 1 + 4 + 3 + 2.
    """
    small = _narrowed(counts)
    many = int(np.count_nonzero(small))
    if 2 * many >= len(counts):
        form, codes = _spelled(small)
        return bytes([_WHOLE * _FORMS + form]) + codes
    present = small != 0
    values = small[present]
    values -= values.dtype.type(1)
    marks = -(-len(counts) // 8)
    form, codes = _spelled(values)
    if many + 4 < marks:
        gaps = np.diff(np.flatnonzero(present), prepend=-1).astype(np.uint64)
        gaps -= np.uint64(1)
        where = many.to_bytes(4, "little") + _bytes(gaps, 0)
        if len(where) < marks:
            return bytes([_GAPS * _FORMS + form]) + where + codes
    return bytes([_MARKS * _FORMS + form]) + np.packbits(present).tobytes() + codes


def unpack(data: bytes, width: int) -> Counts:
    """Return what ``pack`` was given, int64[width]."""
    where, form = divmod(data[0], _FORMS)
    if where == _WHOLE:
        return _from_codes(data, 1, width, form)
    at, values = unpack_sparse(data, width)
    out = np.zeros(width, np.int64)
    out[at] = values
    return out


def unpack_sparse(data: bytes, width: int) -> tuple[Counts, Counts]:
    """Return the positions of the counts that are not zero, in order, and their values, int64 each."""
    where, form = divmod(data[0], _FORMS)
    if where == _WHOLE:
        counts = _from_codes(data, 1, width, form)
        at = np.flatnonzero(counts != 0)
        return at, counts[at]
    if where == _GAPS:
        gaps, first = _from_bytes(data, 5, int.from_bytes(data[1:5], "little"), 0)
        gaps += 1
        at = np.cumsum(gaps) - 1
    else:
        first = 1 + -(-width // 8)
        at = np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8, first - 1, 1), count=width).view(np.bool_))
    values = _from_codes(data, first, len(at), form)
    values += 1
    return at, values


class PackedRows:
    """Packed vectors of one width; an array to numpy, int64[rows, width], unpacked when it is asked for."""

    def __init__(self, rows: tuple[bytes, ...], width: int) -> None:
        self.rows, self.width = rows, width

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> Counts:
        return unpack(self.rows[at], self.width)

    def __iter__(self) -> Iterator[Counts]:
        return (unpack(row, self.width) for row in self.rows)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return np.array(list(self), dtype or np.int64).reshape(-1, self.width)


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
