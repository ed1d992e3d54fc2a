"""Counts packed into few bytes, exactly: a mark or a gap for each that is not zero, and a short code for its value."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stationkeeper.contracts.state import expand
from stationkeeper.monitor.core.reference import Counts

Integers = NDArray[np.integer[Any]]
Unsigned = NDArray[np.unsignedinteger[Any]]

# Values below 15 take half a byte; 15 says that the rest follows. Most counters of a minute are smaller.
_NIBBLE = 15
# The first byte is where x 4 + form: three forms of values, one spare.
_FORMS = 4
# How positions are told: a bit for each counter, the gaps between those that count, or not at all.
_MARKS, _GAPS, _WHOLE = range(3)
# A value is this at most, the nibble before it and the one that was taken off: below 2^15, so that `merge` adds two of
# them within 16 bits.
_HALF_FULL = 0x7FFF - 2 * _NIBBLE

# Widths tried in turn, with the value that says "more follows in the next".
_LEVELS = ((np.uint8, 0xFF), (np.uint16, 0xFFFF))


def pack(counts: Integers) -> bytes:
    """Return int64[width] (or narrower) as bytes; any value is kept exactly, small ones in half a byte. O(width).

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
    # `compress` takes a fifth of the time of a mask between brackets, which branches at each value.
    return _pack_listed(present, small.compress(present))


def _pack_listed(present: NDArray[np.bool_], values: Unsigned) -> bytes:
    """Pack the ``values`` that are not zero, and where they are ``present`` [width]."""
    many, marks = len(values), -(-len(present) // 8)
    values -= values.dtype.type(1)
    form, codes = _spelled(values)
    # How many gaps follow takes four bytes, and each gap one at least.
    if many + 4 < marks:
        gaps = np.diff(np.flatnonzero(present), prepend=-1).astype(np.uint64)
        gaps -= np.uint64(1)
        where = many.to_bytes(4, "little") + _bytes(gaps, 0)
        if len(where) < marks:
            return bytes([_GAPS * _FORMS + form]) + where + codes
    return bytes([_MARKS * _FORMS + form]) + np.packbits(present).tobytes() + codes


def unpack(data: bytes, width: int) -> Counts:
    """Return what ``pack`` was given, int64[width]."""
    return _unpacked(data, width).astype(np.int64, copy=False)


def merge(one: bytes, other: bytes, width: int) -> bytes:
    """Return the sum of two packed vectors, packed. O(width)."""
    return pack(_unpacked(one, width) + _unpacked(other, width))


def unpack_sparse(data: bytes, width: int) -> tuple[Counts, Counts]:
    """Return the positions of the counts that are not zero, in order, and their values, int64 each."""
    where, form = divmod(data[0], _FORMS)
    if where == _WHOLE:
        counts = _from_codes(data, 1, width, form)
        at = np.flatnonzero(counts != 0)
        return at, counts[at].astype(np.int64, copy=False)
    at, values = _listed(data, width)
    return at, values.astype(np.int64, copy=False)


def _unpacked(data: bytes, width: int) -> Integers:
    """The counts in a type so wide that the sum of two of them fits it, too."""
    where, form = divmod(data[0], _FORMS)
    if where == _WHOLE:
        return _from_codes(data, 1, width, form)
    at, values = _listed(data, width)
    out = np.zeros(width, values.dtype)
    out[at] = values
    return out


def _listed(data: bytes, width: int) -> tuple[Counts, Integers]:
    """Positions and values where only what counts something is spelled."""
    where, form = divmod(data[0], _FORMS)
    if where == _GAPS:
        # Behind the first byte and the four that number the gaps.
        gaps, first = _from_bytes(data, 5, int.from_bytes(data[1:5], "little"), 0)
        gaps += 1
        at = np.cumsum(gaps) - 1
    else:
        first = 1 + -(-width // 8)
        at = np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8, first - 1, 1), count=width).view(np.bool_))
    values = _from_codes(data, first, len(at), form)
    values += values.dtype.type(1)
    return at, values


@dataclass(frozen=True, slots=True)
class SparseCounts:
    """A vector as state has it: the distances between the positions that count something, and their values.

    Both are int64, or as narrow as they were stored; ``size`` are the bytes that it takes packed, 0 where the state of
    an older build does not say.
    """

    step: Counts
    values: Counts
    width: int
    size: int = 0

    def positions(self) -> Counts:
        """Return the positions that count something, in order."""
        return self.step.cumsum(dtype=np.int64)

    def vector(self) -> Integers:
        """Return the vector, in the type of its values."""
        counts = np.zeros(self.width, self.values.dtype)
        counts[self.positions()] = self.values
        return counts

    def packed(self) -> bytes:
        """Return what ``pack`` makes of the vector, which is not made where few of its positions count."""
        if 2 * len(self.values) >= self.width:
            return pack(self.vector())
        present = np.zeros(self.width, np.bool_)
        present[self.positions()] = True
        return _pack_listed(present, _narrowed(self.values))


Kept = bytes | SparseCounts
"""A vector that is kept: squeezed and packed, or as it was read back, of which most are never asked for."""


class PackedRows:
    """Kept vectors of one width; an array to numpy, int64[rows, width], unpacked when it is asked for."""

    def __init__(self, rows: tuple[Kept, ...], width: int) -> None:
        """``rows`` as ``squeeze(pack(counts))``, or as they were read back."""
        self.rows, self.width = rows, width

    def sparse(self, at: int) -> SparseCounts:
        """Return a row as state has it."""
        row = self.rows[at]
        if isinstance(row, SparseCounts):
            # As wide as those that are unpacked: the same counts are the same bytes of state.
            step, values = (part.astype(np.int64, copy=False) for part in (row.step, row.values))
            return SparseCounts(step, values, row.width, row.size or len(row.packed()))
        packed = expand(row)
        positions, values = unpack_sparse(packed, self.width)
        return SparseCounts(np.diff(positions, prepend=0), values, self.width, len(packed))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> Counts:
        return kept_counts(self.rows[at], self.width)

    def __iter__(self) -> Iterator[Counts]:
        return (self[at] for at in range(len(self)))

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return np.array(list(self), dtype or np.int64).reshape(-1, self.width)


def kept_counts(kept: Kept, width: int) -> Counts:
    """Return a vector that was kept, int64[width]."""
    if isinstance(kept, SparseCounts):
        return kept.vector().astype(np.int64, copy=False)
    return unpack(expand(kept), width)


def kept_packed(kept: Kept) -> bytes:
    """Return a vector that was kept as ``pack`` packs it."""
    return kept.packed() if isinstance(kept, SparseCounts) else expand(kept)


def _narrowed(counts: Integers) -> Unsigned:
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
        short = np.zeros(many + many % 2, np.uint8)
        np.minimum(values, values.dtype.type(_NIBBLE), out=short[:many], casting="unsafe")
        large = values.compress(short[:many] == _NIBBLE) - values.dtype.type(_NIBBLE) if beyond else values[:0]
        # Two neighbours as one number of two bytes: the second moves down beside the first.
        pairs = short.view("<u2")
        return 0, (pairs | pairs >> 4).astype(np.uint8).tobytes() + _bytes(large, 0)
    return (1, _bytes(values, 0)) if 2 * np.count_nonzero(values >= _LEVELS[0][1]) <= many else (2, _bytes(values, 1))


def _from_codes(data: bytes, first: int, many: int, form: int) -> Integers:
    """The values that `_spelled` spelled, in the narrowest type that `_unpacked` may use."""
    if form:
        return _from_bytes(data, first, many, form - 1)[0]
    pairs = np.frombuffer(data, np.uint8, (many + 1) // 2, first).astype("<u2")
    pairs |= pairs << 4
    pairs &= _NIBBLE << 8 | _NIBBLE
    short = pairs.view(np.uint8)[:many]
    large = np.flatnonzero(short == _NIBBLE)
    if not len(large):
        return short
    more = _from_bytes(data, first + len(pairs), len(large), 0)[0]
    narrow = int(more.min()) >= 0 and int(more.max()) <= _HALF_FULL
    values: Integers = short.astype(np.uint16 if narrow else np.int64)
    values[large] += more.astype(values.dtype, copy=False)
    return values


def _bytes(values: Unsigned, level: int) -> bytes:
    """Spell values in one byte each, the largest in two more, and what is still larger in eight more."""
    out = []
    for dtype, largest in _LEVELS[level:]:
        if values.dtype.itemsize < np.dtype(dtype).itemsize:
            values = values.astype(dtype)
        short = np.minimum(values, values.dtype.type(largest)).astype(dtype)
        out.append(short.tobytes())
        values = values.compress(short == largest) - values.dtype.type(largest)
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
        open_ = open_.compress(short == largest)
    if len(open_):
        values[open_] += np.frombuffer(data, np.int64, len(open_), first)
    return values, first + 8 * len(open_)
