"""What one value adds to a pane's counts, the plain way: the frozen cells and the rules in words."""

import math
from bisect import bisect_left
from collections import Counter
from typing import Any

from stationkeeper.contracts.column import canonical_key, json_type
from stationkeeper.monitor.core.reference import (
    GROUPS,
    LOWEST_OCTAVE,
    OCTAVES,
    QUALITY,
    CategoricalCells,
    NumericCells,
    Reference,
    ReferenceSubject,
)
from stationkeeper.monitor.verify.reading import MISSING


def tally_value(mine: Counter[int], reference: Reference, subject: ReferenceSubject, value: Any) -> None:
    """Count a feature's or the prediction's value in ``mine``, counts by position of the reference's layout."""
    place, cells = reference.layout[subject.name], subject.cells

    def fails(check: str, *, missing: bool = True) -> None:
        mine[place.quality + QUALITY.index(check)] += 1
        if missing:
            mine[place.missing] += 1

    if value is MISSING:
        fails("absent")
    elif value is None:
        fails("null")
    elif isinstance(cells, NumericCells):
        if not isinstance(value, bool | int | float):
            fails("wrong_type")
        # The largest float64 is 1.8e308; Python's integers have no end, and `math.isfinite` raises for longer ones.
        elif (isinstance(value, int) and abs(value) > 10**308) or not math.isfinite(value):
            fails("not_finite")
        else:
            number = float(value)
            # An edge belongs to the cell below it, as the cells were cut.
            mine[place.first + bisect_left(cells.edges.tolist(), number)] += 1
            if not cells.low <= number <= cells.high:
                # Outside the range it is counted in the outermost cell as well: such a value is drift, not missing.
                fails("below" if number < cells.low else "above", missing=False)
                octave = min(max(math.frexp(number)[1] - LOWEST_OCTAVE, 0), OCTAVES - 1)
                mine[place.octaves.start + octave] += 1
    else:
        _tally_category(mine, place.first, cells, subject, value, fails)


def tally_pair(mine: Counter[int], reference: Reference, joint: ReferenceSubject) -> None:
    """Count the joint cell of an event whose two features are in ``mine`` already."""
    place, pair = reference.layout[joint.name], joint.pair
    groups = []
    for side in (pair.first, pair.second) if pair is not None else ():
        at = reference.layout[side.feature]
        cell = next(position for position in range(at.first, at.quality) if mine[position])
        groups.append(int(side.groups[cell - at.first]))
    missing = any(group == GROUPS for group in groups)
    mine[place.missing if missing else place.first + groups[0] * GROUPS + groups[1]] += 1


def _tally_category(
    mine: Counter[int], first: int, cells: CategoricalCells, subject: ReferenceSubject, value: Any, fails: Any
) -> None:
    key = canonical_key(value)
    if key is None:
        # A number without a key is NaN or an infinity; all else without one is a list or an object.
        fails("not_finite" if json_type(value) == "number" else "wrong_type")
        return
    found, unseen = cells.lookup([key])
    mine[first + int(found[0])] += 1
    if bool(unseen[0]):
        fails("unseen", missing=False)
    if subject.json_type and json_type(value) != subject.json_type:
        fails("wrong_type", missing=False)
