"""Conformal rank cells: where a pane's values rank among everything seen before, as counts over K equal cells.

A value with `below` earlier values under it and `ties` equal to it gets p = (below + U (ties + 1)) / (n + 1),
U uniform: under exchangeability p is uniform whatever the size of the reference, so the null law of the K rank
cells is known exactly (Vovk et al., arXiv 2102.10439).  The bag of earlier values is a histogram of m fine cells
frozen with the reference; values in one fine cell count as ties, which keeps the law.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]

# Cells of rank (docs/statistics.md): twenty of 5 %, each expecting 2.5 of a pane of 50. Half as many merge the
# tails in which a change of scale shows, twice as many double the cost of the bets; all was measured with 20.
RANK_CELLS = 20
# A part of a pane may be at most this share of the bag it is ranked against: events of one part do not rank against
# each other, and `Part.excess` holds to second order only while parts are small. Without parts, 60 000 events a pane
# against 10 000 rows find a shift of .25 sd in 0 of 10, with them in 6 of 6 (docs/statistics.md).
PART_SHARE = 1 / 20
# Features ranked in one array pass: temporaries of this many rows stay in the processor's cache. Speed alone.
_BLOCK = 96
# From this many bag rows a fine cell on, hardly a rank bound cuts more than two fine cells. Speed alone: below it every
# fine cell is split on its own, with the same law.
_DENSE = 20


@dataclass(frozen=True)
class Part:
    """A part of a pane, ranked: cells [F, K] counts over the rank cells, events [F], bag [F] rows ranked against."""

    cells: Floats
    events: Floats
    bag: Floats

    def excess(self) -> Floats:
        """What log e must give back per unit of variance, [F]: b (b - 1) / (2 n) for b events against n rows.

        Events of one part share their bag, so their ranks lean the same way; for b <= n / 20 the mean of the
        product exceeds 1 by at most this factor, to second order.
        """
        return np.asarray(self.events * np.maximum(self.events - 1, 0) / (2 * np.maximum(self.bag, 1)), np.float64)


def pane_generator(key: bytes, stratum: int, start: int) -> np.random.Generator:
    """The random numbers of one pane, from what names it and nothing else.

    key names the model, version, segment and subjects.  A counter-based Philox generator keyed by a BLAKE2 hash:
    live, restarted, replicated, replayed and backtested runs draw the same numbers for the same pane.
    """
    # Philox takes a key of 128 bits.
    digest = blake2b(key + b"|%d|%d" % (stratum, start), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def rank_counts(counts: Counts, bag: NDArray[np.uint32], rng: np.random.Generator, cells: int) -> Floats:
    """Split the fine-cell counts [F, m] of new values over equal rank cells [F, cells], against the bag [F, m].

    The c values of fine cell i rank uniformly on [B_i, B_i + h_i + 1] / (n + 1), B_i the bag below and h_i in the
    cell, so one binomial draw (multinomial where an atom spans several rank cells) has the same law as ranking
    each value with its own U.  Most fine cells lie inside one rank cell and need no draw.  O(F m).
    """
    blocks = range(0, len(counts), _BLOCK)
    return np.concatenate([_rank_block(counts[i : i + _BLOCK], bag[i : i + _BLOCK], rng, cells) for i in blocks])


def _rank_block(counts: Counts, bag: NDArray[np.uint32], rng: np.random.Generator, cells: int) -> Floats:
    """Find the fine cells that the bounds of the rank cells cut, and draw for those alone.

    Ranges of neighbours overlap by one, so a bound cuts one fine cell or two.  Features with a finer cut (a third cell,
    or two bounds in one cell: atoms, small bags) are split cell by cell.
    """
    f, m = counts.shape
    above = np.cumsum(bag.astype(np.int64), axis=1)
    if int(above[:, -1].min()) < _DENSE * m:
        return _split_block(counts, bag, rng, cells)
    before = np.cumsum(counts, axis=1).ravel()
    rows = above[:, -1:] + 1
    bound = np.arange(1, cells) * (rows / cells)
    shift = np.arange(f, dtype=np.int64)[:, None] * (int(rows.max()) + 1)
    wanted = np.floor(bound - 1).astype(np.int64)
    wanted += shift
    at = np.searchsorted((above + shift).ravel(), wanted.ravel(), side="right")
    flat, many, held, bound = above.ravel(), counts.ravel(), bag.ravel(), bound.ravel()
    ends = flat[at]
    twice = ends < bound
    cut = (at + twice).reshape(f, cells - 1)
    hard: Flags = np.any(at.reshape(cut.shape)[:, 1:] <= cut[:, :-1], axis=1)
    second = np.flatnonzero(twice)
    after = np.minimum(at[second] + 1, f * m - 1)
    finer = (flat[after] < bound[second]) | (after % m == 0)
    hard[second.compress(finer) // (cells - 1)] = True
    here = many[at]
    below = before[at] - here
    chance = bound - ends
    width = held[at]
    chance += width
    chance /= width + 1.0
    if hard.any():
        easy = np.repeat(~hard, cells - 1)
        below[easy] += rng.binomial(here.compress(easy), chance.compress(easy))
        known = easy[second]
        second, after = second.compress(known), after.compress(known)
    else:
        below += rng.binomial(here, chance)
    below[second] += rng.binomial(many[after], (bound[second] - flat[after] + held[after]) / (held[after] + 1.0))
    table = below.reshape(f, cells - 1)
    out = np.empty((f, cells))
    out[:, 0] = table[:, 0]
    out[:, 1:-1] = table[:, 1:] - table[:, :-1]
    out[:, -1] = before[m - 1 :: m] - table[:, -1]
    if hard.any():
        out[hard] = _split_block(counts[hard], bag[hard], rng, cells)
    return out


def _split_block(counts: Counts, bag: NDArray[np.uint32], rng: np.random.Generator, cells: int) -> Floats:
    f = len(counts)
    above = np.cumsum(bag, axis=1, dtype=np.float64)
    scale = cells / (above[:, -1:] + 1.0)
    low = (above - bag) * scale
    high = (above + 1.0) * scale
    first = low.astype(np.int64)
    last = np.minimum(np.ceil(high).astype(np.int64) - 1, cells - 1)
    np.minimum(first, last, out=first)
    base = np.arange(f, dtype=np.int64)[:, None] * cells
    split = (last > first) & (counts > 0)
    whole = np.where(split, 0, counts)
    out = np.bincount((base + first).ravel(), weights=whole.ravel(), minlength=f * cells)
    at = np.flatnonzero(split)
    if at.size:
        a, b, begin = low.ravel()[at], high.ravel()[at], first.ravel()[at]
        many = counts.ravel()[at]
        target = at // counts.shape[1] * cells + begin
        pair = last.ravel()[at] == begin + 1
        if not pair.all():
            wide, narrow = np.flatnonzero(~pair), np.flatnonzero(pair)
            drawn = _split_wide(a[wide], b[wide], many[wide], rng, cells)
            # Atoms of one feature are neighbours, so their sums are one run each.
            owner = target[wide] // cells
            runs = np.flatnonzero(np.diff(owner, prepend=-1))
            out.reshape(f, cells)[owner[runs]] += np.add.reduceat(drawn, runs, axis=0)
            a, b, begin, many, target = a[narrow], b[narrow], begin[narrow], many[narrow], target[narrow]
        lower = rng.binomial(many, np.clip((begin + 1 - a) / (b - a), 0.0, 1.0))
        out += np.bincount(target, weights=lower, minlength=f * cells)
        out += np.bincount(target + 1, weights=many - lower, minlength=f * cells)
    return np.asarray(out.reshape(f, cells), np.float64)


def _split_wide(a: Floats, b: Floats, many: Counts, rng: np.random.Generator, cells: int) -> Counts:
    """Multinomial split of the values of atoms whose ranks [a, b] span three rank cells or more."""
    grid = np.arange(cells, dtype=np.float64)
    overlap = np.minimum(b[:, None], grid + 1) - np.maximum(a[:, None], grid)
    chance = np.maximum(overlap, 0.0)
    chance /= chance.sum(-1, keepdims=True)
    return np.asarray(rng.multinomial(many, chance), np.int64)


class BagReference(Protocol):
    """What bags begin with, [S, F, m]: an array, or what reads a stratum [F, m] when it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Strata, features and fine cells."""

    def __getitem__(self, stratum: int, /) -> NDArray[np.integer]: ...


class RankBag:
    """Everything seen before, per stratum and feature, as fine-cell counts [S, F, m] that grow with each pane.

    frozen [F] marks features whose bag no longer grows: while an incident is open the bag must not learn the drift.
    What changes is replaced and never written to, so whoever kept a stratum still has what it was. A stratum takes
    memory, and time, from its first pane on: of 168 hours with 200 features all together are 25 MB.
    """

    def __init__(self, reference: BagReference) -> None:
        """Begin with the reference's fine-cell counts [S, F, m]."""
        self._reference = reference
        self._held: dict[int, NDArray[np.uint32]] = {}
        self._growth: dict[int, GrownStratum] = {}
        self.frozen = np.zeros(reference.shape[1], bool)

    @property
    def counts(self) -> NDArray[np.uint32]:
        """All strata, [S, F, m]."""
        return np.stack([self.stratum(stratum) for stratum in range(self._reference.shape[0])])

    def stratum(self, stratum: int) -> NDArray[np.uint32]:
        """Return what the bags of a stratum hold, [F, m]."""
        if stratum not in self._held:
            first, more = self._reference[stratum], self._growth.get(stratum)
            self._held[stratum] = (first if more is None else first + more.read()).astype(np.uint32)
        return self._held[stratum]

    def rows(self, stratum: int) -> Floats:
        """Rows in the bag of each feature, [F]."""
        return np.asarray(self.stratum(stratum).sum(axis=1), np.float64)

    def growth(self) -> "BagGrowth":
        """Return what the bags hold beyond the reference."""
        for stratum in self._held.keys() - self._growth.keys():
            held, first = self._held[stratum], self._reference[stratum]
            mark = mark_of(held - first.astype(np.uint32))
            self._growth[stratum] = GrownStratum(mark, partial(self._beyond, held, stratum))
        return BagGrowth(self._reference.shape, self._growth)

    def restore(self, growth: "BagGrowth") -> None:
        """Hold the reference and what was grown by; a stratum is made when its first pane comes."""
        self._held.clear()
        self._growth = {stratum: growth.strata[stratum] for stratum, _ in growth.grown()}

    def _beyond(self, held: NDArray[np.uint32], stratum: int) -> Counts:
        return np.asarray(held - self._reference[stratum].astype(np.int64), np.int64)

    def _replace(self, stratum: int, counts: NDArray[np.integer]) -> None:
        """Hold these counts [F, m] from now on."""
        self._held[stratum] = counts.astype(np.uint32)
        self._growth.pop(stratum, None)

    def parts(self, counts: Counts, stratum: int, rng: np.random.Generator) -> Iterator[Part]:
        """Rank a pane of fine-cell counts [F, m] against the bag, growing the bag part by part.

        A pane of at most n / 20 events is one part.  A larger one is cut into random parts of about n / 20: each
        event joins the next part with the same chance, by one binomial draw per fine cell, which under
        exchangeability is as good as taking the events in any order.  Without parts a pane six times the bag would be
        absorbed before it could be seen.
        """
        bag = self.stratum(stratum)
        left = counts.astype(np.int64, copy=False)
        while True:
            n = bag.sum(axis=1, dtype=np.uint64).astype(np.float64)
            remaining = left.sum(axis=1)
            quota = np.maximum(1.0, n * PART_SHARE)
            over = remaining > quota
            if over.any():
                chance = np.where(over, quota / np.maximum(remaining, 1), 1.0)
                taken = rng.binomial(left, chance[:, None])
            else:
                taken = left
            cells = rank_counts(taken, bag, rng, RANK_CELLS)
            events = remaining if taken is left else taken.sum(axis=1)
            yield Part(cells, events.astype(np.float64), n)
            growth = taken if not self.frozen.any() else np.where(self.frozen[:, None], 0, taken)
            bag = bag + growth.astype(np.uint32)
            self._replace(stratum, bag)
            if taken is left:
                return
            left = left - taken
            if not left.any():
                return

    def retract(self, counts: Counts, stratum: int, mask: Flags) -> None:
        """Take the fine-cell counts of an earlier pane, one row for each feature in mask [F], out of their bags.

        Raises ValueError if the bag does not hold them: the pane was never added, or was taken out before.
        """
        bag = self.stratum(stratum).astype(np.int64)
        bag[mask] -= counts
        if (bag < 0).any():
            feature = int(np.flatnonzero((bag < 0).any(axis=1))[0])
            raise ValueError(
                f"cannot take the pane out of the bag of feature {feature}: it holds fewer rows than the pane has; "
                "retract only panes that were added since the last restore, each once"
            )
        self._replace(stratum, bag)


# The mark of a stratum that has not grown: no digest is empty.
NOTHING = b""


class GrownStratum(NamedTuple):
    """What the bags of a stratum [F, m] grew by, and what tells it from any other growth; `NOTHING` for none."""

    mark: bytes
    read: Callable[[], NDArray[np.integer]]


class BagGrowth:
    """Bags [S, F, m] less the reference's counts; an array to numpy, int64[S, F, m], computed when it is asked for.

    Bags are replaced as they grow and never written to, so that this is what they held when it was made. A stratum that
    is not among ``strata`` has not grown.
    """

    def __init__(self, shape: tuple[int, ...], strata: Mapping[int, GrownStratum]) -> None:
        self.shape, self.strata = shape, dict(strata)

    @classmethod
    def of(cls, counts: NDArray[np.integer]) -> "BagGrowth":
        """Return the growth that an array [S, F, m] holds."""
        read = {stratum: GrownStratum(mark_of(one), partial(np.asarray, one)) for stratum, one in enumerate(counts)}
        return cls(counts.shape, read)

    @property
    def marks(self) -> tuple[bytes, ...]:
        """The mark of each stratum."""
        return tuple(self.strata[i].mark if i in self.strata else NOTHING for i in range(len(self)))

    def grown(self) -> Iterator[tuple[int, bytes]]:
        """Yield the strata whose bags have grown, and the mark of each."""
        return ((stratum, mark) for stratum, mark in enumerate(self.marks) if mark != NOTHING)

    def where(self, kept: Flags) -> "BagGrowth":
        """Return the growth of the features in ``kept`` [F] alone."""
        strata = {}
        for stratum, _ in self.grown():
            counts = self[stratum]
            counts[~kept] = 0
            # Held until its hour comes, of a week of 200 features 25 MB instead of 50.
            tight = counts.astype(np.uint32) if counts.min() >= 0 else counts
            strata[stratum] = GrownStratum(mark_of(tight), partial(np.asarray, tight))
        return BagGrowth(self.shape, strata)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, stratum: int) -> Counts:
        found = self.strata.get(stratum)
        return np.zeros(self.shape[1:], np.int64) if found is None else np.array(found.read(), np.int64)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return np.stack([self[stratum] for stratum in range(len(self))]).astype(dtype or np.int64)


def mark_of(growth: NDArray[np.integer]) -> bytes:
    """Return a fingerprint of what a bag grew by, [F, m], of its content alone; `NOTHING` for zeros."""
    # Eight bytes: two growths of one stratum share a mark with a chance of 2^-64.
    # A difference that was negative wraps, and comes out the same each time.
    narrow = np.ascontiguousarray(growth).astype(np.uint32, copy=False)
    return blake2b(narrow.data, digest_size=8).digest() if narrow.any() else NOTHING
