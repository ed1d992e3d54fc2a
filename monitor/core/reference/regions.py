"""Input regions: groups of the features that the answers rest on most, in which the meaning of scores is watched."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stationkeeper.contracts.column import Column, Integers
from stationkeeper.monitor.core.reference.cells import Cells, Counts, cell_of
from stationkeeper.monitor.core.reference.outcome_sums import REGION_FEATURES
from stationkeeper.monitor.core.reference.pairs import GROUPS, PairSide, group_names, groups_of

# Mutual information below which a feature's groups tell nothing of the answer's: 2 n of it is chi-square with nine
# degrees of freedom where there is none, beyond 27.9 once in a thousand features. At half, features of no importance
# take places; at double, only their samples must be twice as large.
_CHANCE = 27.9

# A group and "unknown" are a digit each of a region's code.
_DIGIT = GROUPS + 1


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Up to ``REGION_FEATURES`` features cut into ``GROUPS`` each, the one that tells most of the answer first."""

    sides: tuple[PairSide, ...]
    cells: tuple[Cells, ...]

    @classmethod
    def of(cls, sides: tuple[PairSide, ...], cells: Mapping[str, Cells]) -> "Regions":
        """Return the regions of features that are counted in ``cells``."""
        return cls(sides, tuple(cells[side.feature] for side in sides))

    def codes(self, columns: Mapping[str, Column], rows: int) -> Integers:
        """Return each row's region as one number, int64[n]: a digit of base 5 a feature, 0 where it is unknown.

        By hand: the second of four groups in the first feature, the fourth in the next: 2 + 4 x 5 = 22. O(n) a feature.
        """
        code = np.zeros(rows, np.int64)
        for k, (side, cells) in enumerate(zip(self.sides, self.cells, strict=True)):
            column = columns.get(side.feature)
            if column is not None:
                code += (side.groups[cell_of(cells, column)].astype(np.int64) + 1) % _DIGIT * _DIGIT**k
        return code

    def names(self) -> list[str]:
        """Return each group as a person reads it, feature after feature: ``amount in its third quarter``."""
        both = zip(self.sides, self.cells, strict=True)
        return [name for side, cells in both for name in group_names(side, cells)]


def choose_regions(
    features: Mapping[str, tuple[Cells, Counts, float]],
    columns: Mapping[str, Column],
    answer: tuple[Cells, Counts],
    answers: Column,
) -> Regions | None:
    """Return the features by which the meaning of scores is watched, None where none tells anything of the answer.

    ``features`` are cells, counts and importance by name, ``answer`` the cells and counts of the prediction. First
    come the most important, among equals those whose groups share the most information with the answer's (mutual
    information of the rows). By hand: of x, noise and a score that rises with x it is x alone. O(features rows).
    """
    cells, counts = answer
    said = groups_of(cells, counts)[cell_of(cells, answers)].astype(np.int64)
    found = []
    for name, (of, mass, importance) in features.items():
        if name not in columns:
            continue
        groups = groups_of(of, mass)
        mine = groups[cell_of(of, columns[name])].astype(np.int64)
        usable = (mine < GROUPS) & (said < GROUPS)
        told = _information(mine[usable], said[usable])
        if 2 * int(usable.sum()) * told > _CHANCE:
            found.append((-importance, -told, PairSide.of(name, groups, of)))
    found.sort(key=lambda one: one[:2])
    sides = tuple(side for *_, side in found[:REGION_FEATURES])
    return Regions.of(sides, {name: of for name, (of, *_) in features.items()}) if sides else None


def _information(one: Integers, other: Integers) -> float:
    """The mutual information of two columns of groups in nats."""
    joint = np.bincount(one * GROUPS + other, minlength=GROUPS**2).reshape(GROUPS, GROUPS) / max(len(one), 1)
    even = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    held = joint > 0
    return float((joint[held] * np.log(joint[held] / even[held])).sum())
