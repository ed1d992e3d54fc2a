"""What a chart shows of a subject: the very numbers that a verdict at the same pane carries."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stationkeeper.contracts.messages import SubjectState, SubjectType
from stationkeeper.monitor.core.charts.distance import (
    Distance,
    coarse_cells,
    distances,
    ordered_distances,
    positions_of,
)
from stationkeeper.monitor.core.reasons import Unknown
from stationkeeper.monitor.core.reference import QUALITY, Counts, NumericCells, ReferenceSubject

# Below, a subject is `unknown: few_rows`. Chosen: TV between equal laws in twenty cells is about .3 at 30 rows, so
# that a chart of fewer shows nothing but noise; half as many would flicker, twice as many hide a quiet segment.
FEW_ROWS = 30


@dataclass(frozen=True, slots=True)
class Chart:
    """One subject at one closed pane.

    ``effect`` is the share of rows that changed cell (bias-corrected TV), ``noise`` what sampling alone gives;
    ``evidence`` and ``threshold`` are natural logs of e-values; ``since`` is the start of the rows counted; ``quality``
    holds the share of rows by check. ``compared`` is what its rows were compared with: the subject, by the hours of
    the window alone where no incident holds it. ``unknown`` says why nothing is known, else None.
    """

    subject: str
    type: SubjectType
    state: SubjectState
    rows: int
    since: int
    effect: float
    noise: float
    evidence: float
    threshold: float
    distances: Mapping[str, Distance]
    quality: Mapping[str, float]
    compared: ReferenceSubject = field(compare=False, repr=False)
    incident: str | None = None
    unknown: Unknown | None = None


def measure(subject: ReferenceSubject, counts: Counts) -> Mapping[str, Distance]:
    """Return the distances between cells since some time and the reference: int64[cells.count], missing last.

    Sums of cells (PSI, TV, ...) use about twenty cells of near equal reference mass and missing; KS and Wasserstein
    use every fine cell without missing. O(cells).
    """
    cells = subject.cells
    if not isinstance(cells, NumericCells):
        return distances(counts, subject.counts)
    coarse, reference = coarse_cells(subject, counts), coarse_cells(subject, subject.counts)
    found = dict(distances(coarse, reference))
    if counts[:-1].any():
        positions = positions_of(cells.edges, cells.low, cells.high)
        found |= ordered_distances(counts[:-1], subject.counts[:-1], positions)
    return found


def quality_shares(counters: Counts, rows: int) -> Mapping[str, float]:
    """Return the share of rows by quality counter, int64[7] over ``rows``."""
    most = max(rows, 1)
    return {name: value / most for name, value in zip(QUALITY, counters.tolist(), strict=True)}
