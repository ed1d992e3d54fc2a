"""Pairs of features that go together: each row in one of sixteen joint cells, so that a broken relation is counted."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.column import Categories, Column, Floats, Integers, Numbers, Status
from stationkeeper.monitor.core.reference.cells import CategoricalCells, Cells, Counts, NumericCells, cell_of

GROUPS = 4
"""Groups of about equal mass into which each feature of a pair is cut. Four tell a change of strength and of sign
apart: a correlation that flips from .6 to -.6 takes the corners of lowest and highest from 1.5 % to 14 % of the rows.
Two would see the sign alone; eight spread the same rows over 64 cells, each four times as noisy."""

MOST_PAIRS = 32
"""Pairs of a reference, those that depend on each other most. Each costs a pane 24 counters and a row about what half a
number does, so the cost stays a fraction of the features'. Double finds relations of the 33rd strength and weaker."""

# Rows that the choice of pairs is made on: they rank the pairs, and of 10 000 a mutual information of .001 is told from
# none. More rows rank no better and cost (features x groups)^2 each.
_CHOICE_ROWS = 10_000
# Multiplications that the choice may cost, a second or so: beyond 600 features it is made on fewer rows.
_CHOICE_COST = 1e11
# Where a side has no usable value; the row then counts in the pair's missing cell.
_MISSING = GROUPS
# Values of a category that a group is named by: more nobody reads.
_NAMED = 3
_QUARTERS = ("lowest quarter", "second quarter", "third quarter", "highest quarter")

# Groups of a side with the missing one, and how many joint ones there are: a row is counted as first x 5 + second.
_SIDES = GROUPS + 1
_JOINT = _SIDES * _SIDES
# The pair's cell of each joint group: the first's groups one after the other, and all that is missing on either side in
# the last cell, as every subject has it.
_CELL = np.pad(np.arange(GROUPS**2).reshape(GROUPS, GROUPS), (0, 1), constant_values=GROUPS**2).ravel()
# The joint groups without anything missing, in the order of the pair's cells.
_INNER = np.flatnonzero(_CELL < GROUPS**2)

# Rows times pairs counted in one pass: what that touches then stays in the second-level cache, and small batches pay
# for one call instead of one a pair.
_TOGETHER = 65_536

# Edges of a feature that is no number: it is cut by its cells.
_NOWHERE = np.full(GROUPS - 1, np.inf)

Codes = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class PairSide:
    """One feature of a pair: the group int8[cells] of each of its cells, missing last as ``GROUPS``.

    Groups of a number rise with its values. ``edges`` float64[3] are where they end, for a number only: the group of a
    value is how many edges lie below it, as its cells have it.
    """

    feature: str
    groups: Codes
    edges: Floats | None = None

    @classmethod
    def of(cls, feature: str, groups: Codes, cells: Cells) -> "PairSide":
        """Return the side of a feature that is counted in ``cells``."""
        if not isinstance(cells, NumericCells):
            return cls(feature, groups)
        # The last cell has no edge above it, and a group without cells begins where it ends.
        ends = np.concatenate([[-np.inf], cells.edges, [np.inf]])
        last = np.searchsorted(groups[:-1], np.arange(GROUPS - 1), side="right")
        return cls(feature, groups, ends[last])


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two features counted together, in ``GROUPS`` x ``GROUPS`` cells and one for rows where either is missing."""

    first: PairSide
    second: PairSide

    @property
    def features(self) -> tuple[str, str]:
        """The names of both."""
        return self.first.feature, self.second.feature


@dataclass(frozen=True, slots=True)
class PlacedPair:
    """A pair with the cells of its features, the place ``first`` of its counters in a vector, and its cells' names."""

    pair: Pair
    cells: tuple[Cells, Cells]
    first: int
    name: str
    values: tuple[str, ...]


class PairCounter:
    """Counts the pairs of a layout in batches of columns: each feature is cut into groups once, whatever its pairs."""

    def __init__(self, placed: Iterable[PlacedPair]) -> None:
        self._placed = tuple(placed)
        both = [part for one in self._placed for part in zip((one.pair.first, one.pair.second), one.cells, strict=True)]
        self._sides = {side.feature: (side, cells) for side, cells in both}
        at = {name: i for i, name in enumerate(self._sides)}
        self._first = np.array([at[one.pair.first.feature] for one in self._placed], np.int64)
        self._second = np.array([at[one.pair.second.feature] for one in self._placed], np.int64)
        self._edges = np.array([_NOWHERE if side.edges is None else side.edges for side, _ in self._sides.values()])
        # Where each pair's counters stand in the vector: pairs stand one behind the other, all of one width.
        self._at = np.array([one.first for one in self._placed], np.int64)[:, None] + np.arange(GROUPS**2 + 1)

    def tally(
        self, columns: Mapping[str, Column], group: Integers, groups: int, skip: frozenset[str], out: Counts
    ) -> None:
        """Add the joint cells of n rows to ``out`` int64[groups, width]; ``group`` int64[n] tells each row's group.

        A pair with a feature in ``skip`` is not counted: these events do not carry it. O(n) a feature and pair.
        """
        which = self._counted(skip)
        if not len(which):
            return
        rows, codes = len(group), self._codes(columns, len(group))
        together = max(_TOGETHER // max(rows, 1), 1)
        for part in np.split(which, range(together, len(which), together)):
            first = np.arange(len(part), dtype=np.int32)[:, None] * groups
            flat = self._joint(codes, part) + _JOINT * (first if groups == 1 else first + group)
            counts = np.bincount(flat.ravel(), minlength=len(part) * groups * _JOINT)
            folded = counts.reshape(len(part), groups, _JOINT)[:, :, _INNER]
            missing = counts.reshape(len(part), groups, _JOINT).sum(2, keepdims=True) - folded.sum(2, keepdims=True)
            at = self._at[part]
            out[:, at] += np.concatenate([folded, missing], axis=2).transpose(1, 0, 2)

    def marks(self, columns: Mapping[str, Column], rows: int, skip: frozenset[str]) -> Iterator[Integers]:
        """Yield where each of n rows counts, int64[n], pair by pair."""
        which = self._counted(skip)
        if len(which):
            cells = _CELL[self._joint(self._codes(columns, rows), which)]
            yield from cells + self._at[which, :1]

    def columns(self, columns: Mapping[str, Column], rows: int) -> dict[str, Column]:
        """Return each pair by name as a category of its joint cells, missing as null: for what reads columns."""
        if not self._placed:
            return {}
        place = np.where(_CELL == GROUPS**2, int(Status.NULL), _CELL)
        joint = self._joint(self._codes(columns, rows), np.arange(len(self._placed)))
        return {one.name: Categories(place[joint[k]], one.values) for k, one in enumerate(self._placed)}

    def _counted(self, skip: frozenset[str]) -> Integers:
        return np.array([k for k, one in enumerate(self._placed) if not skip.intersection(one.pair.features)], np.int64)

    def _joint(self, codes: Codes, which: Integers) -> Codes:
        """The pair of groups of each row as one number below ``_JOINT``, int8[pairs, n]."""
        found: Codes = codes[self._first[which]] * np.int8(_SIDES) + codes[self._second[which]]
        return found

    def _codes(self, columns: Mapping[str, Column], rows: int) -> Codes:
        """The group of each row in each feature, int8[features, n]; numbers are cut all at once."""
        codes = np.full((len(self._sides), rows), _MISSING, np.int8)
        whole, values = [], []
        for at, (name, (side, cells)) in enumerate(self._sides.items()):
            column = columns.get(name)
            if column is None:
                continue
            if side.edges is not None and isinstance(column, Numbers) and column.status is None:
                whole.append(at)
                values.append(column.values)
            else:
                codes[at] = side.groups[cell_of(cells, column)]
        if whole:
            codes[whole] = _cut(np.stack(values), self._edges[whole])
        return codes


def _cut(values: Floats, edges: Floats) -> Codes:
    """The groups int8[F, n] of numbers float64[F, n] at edges float64[F, 3]; what is not finite is missing."""
    # Three comparisons a value: a third of what a look-up among 256 edges costs.
    found: Codes = (values > edges[:, :1]).view(np.int8)
    for k in range(1, GROUPS - 1):
        found += (values > edges[:, k : k + 1]).view(np.int8)
    finite = np.isfinite(values)
    if not finite.all():
        found[~finite] = _MISSING
    return found


def choose_pairs(
    features: Mapping[str, tuple[Cells, Counts]], columns: Mapping[str, Column], most: int = MOST_PAIRS
) -> tuple[Pair, ...]:
    """Return the pairs of features that depend on each other most: the strongest ``most`` edges of a Chow-Liu tree.

    ``features`` are cells and reference counts int64[cells] by name. The tree (Chow and Liu 1968) joins all features by
    the edges of largest mutual information, so that of the relations of many features each is in some pair, and no
    feature in all of them. O(features^2 rows). By hand: of x, x + noise and z the first pair is x with x + noise.
    """
    sides = [
        PairSide.of(name, groups, cells)
        for name, (cells, counts) in features.items()
        if name in columns
        for groups in (_groups(cells, counts),)
        # A constant goes together with nothing.
        if len(np.unique(groups[:-1][counts[:-1] > 0])) > 1
    ]
    if len(sides) < 2 or most < 1:
        return ()
    rows = len(columns[sides[0].feature])
    many = int(min(_CHOICE_ROWS, max(_CHOICE_COST / (len(sides) * _SIDES) ** 2, 1)))
    # Spread over all rows: the first of a file may be one day or one class.
    chosen = np.unique(np.linspace(0, rows - 1, min(many, rows)).astype(np.int64))
    codes = np.stack([side.groups[cell_of(features[side.feature][0], columns[side.feature])[chosen]] for side in sides])
    information = _mutual_information(codes)
    edges = sorted(_spanning_tree(information), key=lambda edge: (-information[edge], edge))
    return tuple(Pair(sides[i], sides[j]) for i, j in edges[:most])


def pair_cells(pair: Pair, cells: tuple[Cells, Cells]) -> CategoricalCells:
    """Return the joint cells of a pair, named as a person reads them: ``x in its lowest quarter, y = 'a'``."""
    first, second = (_names(side, of) for side, of in zip((pair.first, pair.second), cells, strict=True))
    names = tuple(f"{one}, {other}" for one in first for other in second)
    return CategoricalCells(names, 0, np.empty(0, np.uint32), "")


def _groups(cells: Cells, counts: Counts) -> Codes:
    """Cut the cells of a feature into groups of about equal reference mass; a category's in order of frequency."""
    mass = counts[:-1].astype(np.float64)
    order = np.arange(len(mass)) if isinstance(cells, NumericCells) else np.argsort(-mass, kind="stable")
    middle = np.cumsum(mass[order]) - 0.5 * mass[order]
    groups = np.full(len(counts), _MISSING, np.int8)
    groups[order] = np.minimum(GROUPS * middle / max(mass.sum(), 1.0), GROUPS - 1).astype(np.int8)
    return groups


def _names(side: PairSide, cells: Cells) -> list[str]:
    if not isinstance(cells, CategoricalCells):
        return [f"{side.feature} in its {quarter}" for quarter in _QUARTERS]
    found = []
    for group in range(GROUPS):
        inside = [value for value, of in zip(cells.values, side.groups.tolist(), strict=False) if of == group]
        listed = " or ".join(map(repr, inside[:_NAMED])) or "other values"
        # Groups without a value of their own would have one name.
        found.append(f"{side.feature} = {listed}" if inside else f"{side.feature} = {listed} ({group + 1})")
    return found


def _mutual_information(codes: Codes) -> Floats:
    """Mutual information in nats of each two of F features, float64[F, F], from their groups int8[F, n]."""
    features, rows = codes.shape
    hot = (codes[:, None, :] == np.arange(_SIDES, dtype=np.int8)[None, :, None]).astype(np.float32)
    flat = hot.reshape(features * _SIDES, rows)
    joint = (flat @ flat.T).astype(np.float64).reshape(features, _SIDES, features, _SIDES) / rows
    alone = hot.mean(axis=2, dtype=np.float64)
    even = alone[:, :, None, None] * alone[None, None, :, :]
    terms = np.zeros_like(joint)
    np.log(joint / np.where(even > 0, even, 1.0), where=joint > 0, out=terms)
    return np.asarray((joint * terms).sum(axis=(1, 3)), np.float64)


def _spanning_tree(weight: Floats) -> list[tuple[int, int]]:
    """Return the edges (i < j) of a maximum spanning tree of a symmetric float64[F, F] (Prim 1957)."""
    features = len(weight)
    best, parent = weight[0].copy(), np.zeros(features, np.int64)
    inside = np.zeros(features, np.bool_)
    inside[0] = True
    edges = []
    for _ in range(features - 1):
        at = int(np.argmax(np.where(inside, -np.inf, best)))
        edges.append((min(at, int(parent[at])), max(at, int(parent[at]))))
        inside[at] = True
        nearer = ~inside & (weight[at] > best)
        best[nearer], parent[nearer] = weight[at][nearer], at
    return edges
