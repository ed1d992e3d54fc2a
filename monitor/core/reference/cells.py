"""Cells: where a value of a feature is counted, frozen with the reference so that counts of any two panes add."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.column import (
    Categories,
    Column,
    Floats,
    Integers,
    Numbers,
    Status,
    categories,
)


def hash_value(key: str, salt: str) -> int:
    """Return the 64-bit salted BLAKE2b hash of a canonical key."""
    # BLAKE2b takes no longer key than 64 bytes; ours are shorter, whoever gives a longer salt has its first 64.
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest, "big")


def value_name(key: str, salt: str) -> str:
    """Return the name under which a sensitive value may be shown and stored: ``#`` and 8 letters of its hash."""
    digest = hash_value(key, salt).to_bytes(8, "big")
    return "#" + base64.b32encode(digest[:5]).decode().lower()


Counts = npt.NDArray[np.int64]
Marks = tuple[npt.NDArray[np.integer], list[tuple[Integers, Any]]]
"""Each row's cell, int32[n] or int64[n], and further counters: rows and their position, one for all or one each."""

FINE_CELLS = 256
"""Cells of a number (STATISTICS.md, section 2.2: m = 256): charts and rank cells are cut out of them later. At half an
outlier's cell holds .8 % of the mass and tails blur; at double panes and references double for no measured gain."""

RANK_CELLS = 20
"""Coarse cells that decide (STATISTICS.md, section 2.1: K = 20). Fewer lose change of spread, more add noise to
each."""

TOP_VALUES = 30
HASH_BUCKETS = 64
"""Values with a cell of their own, and salted buckets for all others (STATISTICS.md, sections 2.1 and 5): a new value
of 5 % among 100 000 is found after 200 events with 64 buckets, after 2 225 in one open cell. Half the buckets hold
twice the mass each, so it stands out half as well; double the buckets or values add empty cells to every pane."""

MAX_NAME = 512
"""Longest name of a subject or of a value with a cell of its own: honest ones have tens of characters, and a message on
a topic must not make a role allocate without end. Longer values are counted in the hash buckets."""

KNOWN_VALUES = 4096
"""Most values whose 32-bit hashes a reference keeps, to tell new ones: 16 kB a category. A new value is taken for a
known one by collision in one of a million. Beyond it, new values are not judged at all (``rate_checks``)."""

OCTAVES = 64
LOWEST_OCTAVE = -32
"""Powers of two by which values outside the range are counted, from 2**-32 to 2**31: what is beyond shares the last.
Units of length, weight and money are told apart, epoch stamps are not: in s and in ms they share the last. Half as many
end at 65 000, which amounts in cents pass."""

QUALITY = ("absent", "null", "wrong_type", "not_finite", "unseen", "below", "above")
"""The quality counters beside the cells of every subject, in the order of the layout, which panes and references store.
The first four are the reasons why a row has no usable value, and a `Status` -1 - i is the i-th of them."""

_NULL, _WRONG_TYPE, _NOT_FINITE, _UNSEEN, _BELOW, _ABOVE = range(1, 7)

# Keys whose cell is remembered per category, some 10 MB at worst; then it starts anew. Hashing costs a microsecond a
# key, a look-up a tenth. At half open sets are hashed twice; at double a thousand categories could fill a machine's
# memory.
_CACHE = 65_536

_SORTED_FROM = 512
"""Rows from which on sorting beats a binary search for each: that misses the branch predictor at every step. Time
alone: both give the same cells."""

# An atom is a value with at least this many fine cells' worth of mass: with less, its own cell tells no more than the
# quantile cell that it lies in.
_ATOM_CELLS = 2.0

# Digits of the edges, fewest first: five keep a reference at kilobytes; more only where two edges would fall together.
_EDGE_DIGITS = (5, 7, 10)

# Slack of a cumulated share, so that a quantile that falls on a value's end is not lost to the last bit.
_ROUNDING = 1e-12

# How booleans are written by producers; the category is the same.
_TRUE = {"true": 1, "1": 1, "True": 1, "false": 0, "0": 0, "False": 0}


@dataclass(frozen=True, slots=True, eq=False)
class NumericCells:
    """Fine cells of a number: cell i holds (edge[i-1], edge[i]], then one cell for missing.

    ``cuts`` rise strictly. An atom (a value with its own mass) has its own cell, whose lower edge is the next float
    below it. Values outside [low, high] of the reference are also counted by octave, floor(log2 |x|) + 1, which names a
    change of unit.
    """

    cuts: Floats
    atoms: Floats
    low: float
    high: float
    edges: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        edges = np.union1d(self.cuts, atom_edges(self.atoms)) if len(self.atoms) else self.cuts
        # The dataclass is frozen; these follow from its fields and are looked up for every batch.
        object.__setattr__(self, "edges", edges)

    @property
    def keys(self) -> Floats:
        """What is looked up in sorted values, how many are at most: edges, infinity, just below ``low``, ``high``."""
        # The neighbour of the smallest or largest float is no float; it becomes 0 or infinity, which sorts as well.
        with np.errstate(over="ignore", under="ignore"):
            return np.concatenate([self.edges, [np.inf, np.nextafter(self.low, -np.inf), self.high]])

    @property
    def count(self) -> int:
        """Number of cells, missing included."""
        return len(self.edges) + 2

    @property
    def width(self) -> int:
        """Number of counters: cells, quality, octaves."""
        return self.count + len(QUALITY) + OCTAVES

    def index(self, values: Floats) -> Integers:
        """Return the cell of each value, shape kept; what is not finite is missing. O(n log cells)."""
        cell = np.searchsorted(self.edges, values, side="left")
        return np.where(np.isfinite(values), cell, self.count - 1)

    def tally(self, column: Column, group: Integers, groups: int) -> Counts:
        """Return the counters of a column by ``group`` int64[n] of its rows, int64[groups, width]. O(n log cells)."""
        if isinstance(column, Categories):
            column = _as_numbers(column)
        out = np.zeros((groups, self.width), np.int64)
        cell, more = self.marks(column)
        out[:, : self.count] = _histogram(group, cell, groups, self.count)
        octaves = self.count + len(QUALITY)
        for rows, position in more:
            if isinstance(position, int):
                out[:, position] = np.bincount(group[rows], minlength=groups)
            else:
                out[:, octaves:] = _histogram(group[rows], position - octaves, groups, OCTAVES)
        return out

    def marks(self, column: Column) -> Marks:
        """Return the cell of each row, and for quality and octaves which rows count where among the counters."""
        if isinstance(column, Categories):
            column = _as_numbers(column)
        values = column.values
        if column.status is None and len(values) >= _SORTED_FROM:
            order = np.argsort(values)
            # Sorted, -inf stands first, +inf and NaN last: the two ends tell of all.
            if np.isfinite(values[order[0]]) and np.isfinite(values[order[-1]]):
                return self._marks_sorted(values, order)
        usable = np.isfinite(values)
        flags: dict[int, npt.NDArray[np.bool_]] = {}
        if column.status is not None:
            usable &= column.status == 0
            if column.status.any():
                flags = {-status - 1: column.status == status for status in Status}
        # Without statuses a NaN is how arrays write null; an infinity is a value, and a wrong one.
        elif not usable.all():
            flags = {_NULL: np.isnan(values), _NOT_FINITE: np.isinf(values)}
        cell = np.where(usable, np.searchsorted(self.edges, values, side="left"), self.count - 1)
        below, above = usable & (values < self.low), usable & (values > self.high)
        flags |= {_BELOW: below, _ABOVE: above}
        more = _places(flags, self.count)
        outside = np.flatnonzero(below | above)
        if len(outside):
            more.append((outside, self.count + len(QUALITY) + octave(values[outside])))
        return cell, more

    def _marks_sorted(self, values: Floats, order: Integers) -> Marks:
        """The marks of finite values: sorting many of them is cheaper than searching the cell of each."""
        ends = values[order].searchsorted(self.keys, side="right")
        cell = np.empty(len(values), np.int32)
        cell[order] = np.repeat(np.arange(self.count - 1, dtype=np.int32), np.diff(ends[:-2], prepend=0))
        below, above = order[: ends[-2]], order[ends[-1] :]
        more: list[tuple[Integers, Any]] = [(below, self.count + _BELOW), (above, self.count + _ABOVE)]
        outside = np.concatenate([below, above])
        more.append((outside, self.count + len(QUALITY) + octave(values[outside])))
        return cell, [(rows, position) for rows, position in more if len(rows)]


@dataclass(frozen=True, slots=True, eq=False)
class CategoricalCells:
    """Cells of a category: its top values, salted hash buckets for the rest, then missing; a boolean is one too.

    ``values`` are names as they are shown: of a sensitive feature the salted hash only. ``known`` holds 32-bit
    hashes of every value the reference saw (the most frequent ``KNOWN_VALUES`` of them), sorted.
    """

    values: tuple[str, ...]
    buckets: int
    known: npt.NDArray[np.uint32]
    salt: str
    sensitive: bool = False
    boolean: bool = False
    _cache: dict[str, tuple[int, bool]] = field(default_factory=dict, init=False, repr=False)
    _top: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_top", {value: i for i, value in enumerate(self.values)})

    @property
    def count(self) -> int:
        """Number of cells, missing included."""
        return len(self.values) + self.buckets + 1

    @property
    def width(self) -> int:
        """Number of counters: cells and quality."""
        return self.count + len(QUALITY)

    def lookup(self, keys: Sequence[str]) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Return the cell of each canonical key and whether the reference never saw it; hashes each new key once."""
        cells, unseen = np.empty(len(keys), np.int64), np.empty(len(keys), np.bool_)
        cache = self._cache
        for i, key in enumerate(keys):
            found = cache.get(key)
            if found is None:
                # All at once and not the oldest: an order kept for each look-up would cost more than it saves.
                if len(cache) >= _CACHE:
                    cache.clear()
                found = cache[key] = self._place(key)
            cells[i], unseen[i] = found
        return cells, unseen

    def tally(self, column: Column, group: Integers, groups: int) -> Counts:
        """Return the counters of a column by group of rows, int64[groups, width]; cells sum to the group's rows.

        ``group`` int64[n] says to which pane each row belongs. O(n) and a dict look-up a distinct key.
        """
        out = np.zeros((groups, self.width), np.int64)
        cell, more = self.marks(column)
        out[:, : self.count] = _histogram(group, cell, groups, self.count)
        for rows, position in more:
            out[:, position] += np.bincount(group[rows], minlength=groups)
        return out

    def marks(self, column: Column) -> Marks:
        """Return the cell of each row, and for quality which rows count where among the counters."""
        if isinstance(column, Numbers):
            column = _as_categories(column)
        cell, unseen = self.index(column)
        flags = {_UNSEEN: unseen}
        if len(column) and column.codes.min() < 0:
            flags |= {-status - 1: column.codes == status for status in Status}
        if column.mistyped is not None:
            flags[_WRONG_TYPE] = flags.get(_WRONG_TYPE, np.zeros(len(column), np.bool_)) | column.mistyped
        return cell, _places(flags, self.count)

    def index(self, column: Categories) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Return the cell of each row and whether its value was never seen before; statuses are missing."""
        cells, unseen = self.lookup(column.keys)
        # A status is a negative code, so it indexes these last four from the end.
        table = np.concatenate([cells, np.full(len(Status), self.count - 1)])
        return table[column.codes], np.concatenate([unseen, np.zeros(len(Status), np.bool_)])[column.codes]

    def _place(self, key: str) -> tuple[int, bool]:
        if self.boolean:
            # "yes" in a boolean is counted beside false and true, never guessed to be one of them.
            code = _TRUE.get(key)
            return (len(self.values), True) if code is None else (code, False)
        digest = hash_value(key, self.salt)
        cell = self._top.get(value_name(key, self.salt) if self.sensitive else key)
        if cell is None:
            # The upper half chooses the bucket, the lower one tells known values: neither says anything of the other.
            cell = len(self.values) + (digest >> 32) % self.buckets
        short = np.uint32(digest & 0xFFFFFFFF)
        at = int(np.searchsorted(self.known, short))
        return cell, at >= len(self.known) or bool(self.known[at] != short)


Cells = NumericCells | CategoricalCells


def _places(flags: Mapping[int, npt.NDArray[np.bool_]], first: int) -> list[tuple[Integers, Any]]:
    """The rows of each quality check that holds for some, and its position after the cells."""
    found = ((np.flatnonzero(rows), first + check) for check, rows in flags.items())
    return [(rows, position) for rows, position in found if len(rows)]


def _histogram(group: Integers, cell: npt.NDArray[np.integer], groups: int, cells: int) -> Counts:
    flat = cell if groups == 1 else group * cells + cell
    counted: Counts = np.bincount(flat, minlength=groups * cells).reshape(groups, cells)
    return counted


def cell_of(cells: Cells, column: Column) -> Integers:
    """Return the cell of each row of a column, int64[n], whatever kind the column has."""
    return cells.marks(column)[0].astype(np.int64, copy=False)


def octave(values: Floats) -> Integers:
    """Return the bucket of floor(log2 |x|) + 1, clipped to ``OCTAVES`` buckets from 2**-32; 1.0 is in bucket 33."""
    bucket: Integers = np.clip(np.frexp(values)[1] - LOWEST_OCTAVE, 0, OCTAVES - 1).astype(np.int64)
    return bucket


def atom_edges(atoms: Floats) -> Floats:
    """Return the edges that give each atom a cell of its own: the atom and the next float below it."""
    with np.errstate(over="ignore", under="ignore"):
        return np.concatenate([np.nextafter(atoms, -np.inf), atoms])


def numeric_cells(values: Floats, weights: Floats | None = None, cells: int = FINE_CELLS) -> NumericCells:
    """Cut the finite ``values`` float64[n] at their quantiles into at most ``cells`` cells; atoms keep their own.

    An atom is a value with at least 2 / cells of the mass. Fewer quantiles are taken where atoms use up cells.
    Raises ``ValueError`` without a finite value. O(n log n).
    """
    # Stable, so that weights of equal values add in one order: cells must be the same on every machine.
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    mass = np.ones(len(ranked)) if weights is None else weights[order]
    keep = np.isfinite(ranked) & (mass > 0)
    ranked, mass = ranked[keep], mass[keep]
    if not len(ranked):
        raise ValueError("a numeric feature needs at least one finite value")
    distinct, start = np.unique(ranked, return_index=True)
    share = np.add.reduceat(mass, start) / mass.sum()
    atoms = distinct[share >= _ATOM_CELLS / cells]
    # Few values, as of a count: every one is an atom, which needs two edges.
    if len(distinct) < cells // 2:
        atoms = distinct
    cumulated = np.cumsum(share)
    cuts = np.empty(0)
    # One cell is for missing and one for what lies above the last edge; each atom takes two edges from the rest.
    for quantiles in (cells - 2, 3 * cells // 4, cells // 2, cells // 4):
        levels = np.arange(1, quantiles) / quantiles
        at = np.minimum(np.searchsorted(cumulated, levels - _ROUNDING), len(distinct) - 1)
        cuts = _rounded(np.setdiff1d(np.unique(distinct[at]), atoms))
        # Fewer quantiles until they fit: panes of a subject never have more counters than the plan allows.
        if len(np.union1d(cuts, atom_edges(atoms))) < cells:
            break
    # An edge below the range, or at its upper end, would cut off an empty cell.
    inner = cuts[(cuts >= distinct[0]) & (cuts < distinct[-1])]
    return NumericCells(inner, atoms, float(distinct[0]), float(distinct[-1]))


def categorical_cells(
    keys: Sequence[str],
    weights: Floats,
    *,
    salt: str,
    sensitive: bool = False,
    top: int = TOP_VALUES,
    buckets: int = HASH_BUCKETS,
) -> CategoricalCells:
    """Freeze the cells of a category from its distinct ``keys`` and their ``weights`` float64[len(keys)]."""
    # By weight, then by name: a tie at the last place would else give another digest for the same rows.
    order = sorted(range(len(keys)), key=lambda i: (-weights[i], keys[i]))
    named = [i for i in order if sensitive or len(keys[i]) <= MAX_NAME]
    names = tuple(value_name(keys[i], salt) if sensitive else keys[i] for i in named[:top])
    hashes = [hash_value(keys[i], salt) & 0xFFFFFFFF for i in order[:KNOWN_VALUES]]
    return CategoricalCells(names, buckets, np.unique(np.array(hashes, np.uint32)), salt, sensitive)


def boolean_cells() -> CategoricalCells:
    """Return the cells of a boolean: false, true, anything else, missing."""
    return CategoricalCells(("false", "true"), 1, np.empty(0, np.uint32), "", boolean=True)


def rank_grid(counts: npt.NDArray[np.integer | np.floating], cells: int = RANK_CELLS) -> Integers:
    """Return for each ordered fine cell its coarse cell: at most ``cells`` runs of near equal mass, heavy atoms alone.

    ``counts`` [..., K] are the reference's counts of the fine cells without missing, one feature a row; cells without
    mass behind the last are padding. By hand: [1,1,1,1] in 2 -> [0,0,1,1]; [8,1,1] in 2 -> [0,1,1].
    """
    mass = np.asarray(counts, np.float64)
    total = mass.sum(axis=-1, keepdims=True)
    middle = (mass.cumsum(axis=-1) - mass / 2) / np.where(total > 0, total, 1.0)
    # By the middle of its mass and not its end: a heavy cell would else share its level with all that follows.
    level = np.minimum((middle * cells).astype(np.int64), cells - 1)
    # Levels rise with the cells, so that a coarse cell begins where they change.
    grid = np.zeros(level.shape, np.int64)
    (level[..., 1:] != level[..., :-1]).cumsum(axis=-1, out=grid[..., 1:])
    return grid


def _rounded(cuts: Floats) -> Floats:
    """Cuts in the fewest digits that keep them apart, which keeps a reference at kilobytes."""
    for digits in _EDGE_DIGITS:
        short = np.array([float(f"{cut:.{digits}g}") for cut in cuts])
        if len(np.unique(short)) == len(cuts):
            return short
    return cuts


def _as_numbers(column: Categories) -> Numbers:
    """Text in a numeric feature is a wrong type, except the booleans, which JSON producers send for 0 and 1."""
    table = np.array([float(_TRUE[key]) if key in {"true", "false"} else np.nan for key in column.keys] or [np.nan])
    values = np.where(column.codes >= 0, table[np.maximum(column.codes, 0)], np.nan)
    status = np.where(np.isfinite(values), 0, np.minimum(column.codes, 0))
    status = np.where((column.codes >= 0) & ~np.isfinite(values), Status.WRONG_TYPE, status)
    return Numbers(values, status.astype(np.int8))


def _as_categories(column: Numbers) -> Categories:
    """Numbers in a category feature keep their canonical spelling and count as mistyped."""
    made = categories(np.where(np.isfinite(column.values), column.values, 0.0))
    codes = made.codes.copy()
    status = column.status
    if status is None:
        nan = np.isnan(column.values)
        status = np.where(nan, Status.NULL, np.where(np.isfinite(column.values), 0, Status.NOT_FINITE)).astype(np.int8)
    codes[status != 0] = status[status != 0]
    return Categories(codes, made.keys, status == 0)
