"""What was done upon answers and with what probability, as sums: by action, over all rows and over labelled ones.

Where the action decides who gets a label (a blocked payment never gets one), these say whom the labels stand for. A sum
lies at a position that never changes, as in `outcome_sums`; all are whole numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from stationkeeper.contracts.column import Floats, Integers
from stationkeeper.monitor.core.reference.outcome_sums import MICRO, Counts, OutcomeSums, total

CHANCE_OCTAVES: Final = 11
"""Octaves of a probability told apart, from 1/2 to 1 down to 1/2048; the last takes all below. A row drawn with less
would weigh 2 048 others, which cut at the root of the rows asks for four million of them; at half as many octaves a
policy that explores one row in a hundred is cut short."""

_UNKNOWN = CHANCE_OCTAVES
# True positive, false positive, false negative, true negative.
_CELLS = 4

UNSAID: Final = ""
"""Stands for the action of rows that say none, where others of their version do."""

# Rows and the sum of 1/p in millionths, by octave (the last: unknown) and cell of the confusion. Written to topics and
# state: never moved, nor given away again.
_LABELLED = slice(0, (CHANCE_OCTAVES + 1) * _CELLS * 2)
# All rows by octave of the chance of any other action; the last: unknown, or none.
_DRAWN = slice(128, 128 + CHANCE_OCTAVES + 1)


@dataclass(frozen=True, slots=True)
class AssignedRows:
    """Rows of one action: ``rows`` int64[11 + 1] of all by octave of the chance of any other, the last without one.

    ``labelled`` int64[11 + 1, 4] are those with a label by octave of their own probability (the last: unknown) and cell
    of the confusion (true positive, false positive, false negative, true negative), ``inverse`` float64[11 + 1, 4]
    their sum of 1 / probability.
    """

    rows: Counts
    labelled: Counts
    inverse: Floats

    @classmethod
    def of(cls, sums: OutcomeSums) -> "AssignedRows":
        """Read the sums of one action."""
        table = sums.part(_LABELLED).reshape(CHANCE_OCTAVES + 1, _CELLS, 2)
        return cls(sums.part(_DRAWN), table[:, :, 0], table[:, :, 1] / MICRO)


def chance_octave(chance: Floats) -> Integers:
    """Return the octave of each probability, int64[n]; ``CHANCE_OCTAVES`` for NaN and for what is not above 0.

    >>> chance_octave(np.array([1.0, 0.6, 0.5, 0.05, 1e-9, np.nan])).tolist()
    [0, 0, 1, 4, 10, 11]
    """
    known = chance > 0
    found = np.floor(-np.log2(np.where(known, chance, 1.0))).astype(np.int64)
    return np.where(known, np.clip(found, 0, CHANCE_OCTAVES - 1), _UNKNOWN)


def drawn_by_group(drawn: Floats, group: Integers, n: int) -> list[OutcomeSums]:
    """Return for each of ``n`` groups the rows of one action whose probability was ``drawn``: all [rows]."""
    # The chance of any other action: a row of another stands for them where there was one.
    place = chance_octave(1.0 - drawn)
    width = CHANCE_OCTAVES + 1
    counts = np.bincount(group * width + place, minlength=n * width).reshape(n, width)
    return [OutcomeSums((at := np.flatnonzero(row)) + _DRAWN.start, row[at]) for row in counts]


def assigned_by_group(drawn: Floats, cell: Integers, group: Integers, n: int) -> list[OutcomeSums]:
    """Return for each of ``n`` groups the labelled rows by probability and cell of the confusion: all [rows].

    By hand: two true negatives drawn with .5 are 2 rows and 4 of 1/p in the second octave.
    """
    at = chance_octave(drawn)
    place, width = group * _LABELLED.stop + (at * _CELLS + cell) * 2, n * _LABELLED.stop
    counts = np.bincount(place, minlength=width)
    # Rounded row by row, so that sums do not depend on the order of events; 2^53 holds four million of the largest.
    inverse = np.where(at < _UNKNOWN, np.rint(MICRO / np.where(at < _UNKNOWN, drawn, 1.0)), 0.0)
    most = float(MICRO << CHANCE_OCTAVES)
    counts += np.rint(np.bincount(place + 1, weights=np.minimum(inverse, most), minlength=width)).astype(np.int64)
    return [OutcomeSums(at := np.flatnonzero(row), row[at]) for row in counts.reshape(n, -1)]


def predicted_by_action(actions: Mapping[str, bytes], rows: int) -> dict[str, OutcomeSums]:
    """Return the sums of ``rows`` predictions by action, packed as a record carries them, those of none as `UNSAID`."""
    found = {name: OutcomeSums.unpack(sums) for name, sums in actions.items()}
    said = sum(int(AssignedRows.of(sums).rows.sum()) for sums in found.values())
    return _with_unsaid(found, np.array([_DRAWN.stop - 1]), np.array([rows - said]))


def labelled_by_action(actions: Mapping[str, bytes], cells: Counts) -> dict[str, OutcomeSums]:
    """Return the sums of labels by action, those of none as `UNSAID`: ``cells`` int64[4] is the confusion of all."""
    found = {name: OutcomeSums.unpack(sums) for name, sums in actions.items()}
    said = sum((AssignedRows.of(sums).labelled.sum(0) for sums in found.values()), np.zeros(_CELLS, np.int64))
    return _with_unsaid(found, (_UNKNOWN * _CELLS + np.arange(_CELLS)) * 2, cells - said)


def _with_unsaid(found: dict[str, OutcomeSums], at: Integers, left: Counts) -> dict[str, OutcomeSums]:
    # Below none: what is no answer, as a label of neither class, has a cell by action and none in the confusion.
    used = left > 0
    return found | ({UNSAID: OutcomeSums(at[used], left[used])} if used.any() else {})


def counts_alone(sums: OutcomeSums) -> OutcomeSums:
    """Return of an action's sums how many rows there are, and how many with a label: in two positions instead of 100.

    It is all that says whether labels come for an action; of the answers and probabilities it says nothing.
    """
    found = AssignedRows.of(sums)
    counts = np.array([found.labelled.sum(), found.rows.sum()])
    return OutcomeSums.of(np.array([(_UNKNOWN * _CELLS + _CELLS - 1) * 2, _DRAWN.stop - 1]), counts)


def added_actions(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the sums of either by action, packed as records carry them, in the order of their names."""
    if not one or not other:
        return dict(one or other)
    names = sorted({*one, *other})
    both = {name: [OutcomeSums.unpack(side.get(name, b"")) for side in (one, other)] for name in names}
    return {name: total(sums).pack() for name, sums in both.items()}
