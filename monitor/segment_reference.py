"""A segment's own reference: what it looked like in its first panes, in the cells of the model's reference.

A segment differs from all traffic by nature, so comparing it with the training data of the whole model would find
every segment drifted for ever. Its first rows are taken for its normal state, and until there are enough it is unknown.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from monitor.core.cells import QUALITY, Counts
from monitor.core.reference import Reference

ADOPT_ROWS = 3_000
ADOPT_PANES = 60


@dataclass(slots=True)
class Adoption:
    """The counts of a segment's first panes, int64[width], until they are enough for a reference."""

    counts: Counts
    rows: int = 0
    panes: int = 0

    def add(self, rows: int, counts: Counts) -> bool:
        """Add a pane; returns whether there is now enough."""
        self.rows += rows
        self.panes += bool(rows)
        self.counts = self.counts + counts
        return self.rows >= ADOPT_ROWS and self.panes >= ADOPT_PANES

    def state(self) -> list[Any]:
        """Return what the constructor takes."""
        return [self.counts, self.rows, self.panes]


def segment_reference(reference: Reference, counts: Counts) -> Reference:
    """Return the reference whose counts are the segment's, int64[width] of the same layout.

    What was learned of the order of rows (dependence, day-to-day movement) stays that of the whole model; seasons,
    traffic and labels are left out, as they are the whole model's.
    """
    subjects = []
    for subject in reference.subjects:
        place = reference.layout[subject.name]
        mine = counts[place.histogram]
        if not mine.any():
            subjects.append(replace(subject, strata=np.empty((0, 0), np.int64)))
            continue
        quality = counts[place.quality : place.quality + len(QUALITY)]
        subjects.append(replace(subject, counts=mine.copy(), quality=quality.copy(), strata=np.empty((0, 0), np.int64)))
    rows = max(int(subject.counts.sum()) for subject in subjects)
    return replace(reference, subjects=tuple(subjects), rows=rows, traffic=None, labels=None, source="adoption")
