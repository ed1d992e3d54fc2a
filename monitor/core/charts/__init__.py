"""Charts: how far cells lie from their reference, in the distances people know, and what moved, in a sentence.

In: counts of a window and a reference's subjects, in the same cells. Out: `Distance` by name, what
a `Chart` shows, a `NamedCause`, a `SegmentPart` of a change. State: none.
Invariant: distances inform and never decide; a chart shows the very numbers that a verdict at the same pane carries.
Read `distance` (formulas and their noise), `chart`, `comparison` (many subjects at once), `cause`, `segment_parts` (in
which segments a change lies).
"""

from stationkeeper.monitor.core.charts.cause import NamedCause, cell_name, name_cause
from stationkeeper.monitor.core.charts.chart import FEW_ROWS, Chart, measure, quality_shares
from stationkeeper.monitor.core.charts.comparison import compare
from stationkeeper.monitor.core.charts.distance import Distance, coarse_cells, distances, positions_of
from stationkeeper.monitor.core.charts.segment_parts import SegmentPart, segment_parts

__all__ = [
    "FEW_ROWS",
    "Chart",
    "Distance",
    "NamedCause",
    "SegmentPart",
    "cell_name",
    "coarse_cells",
    "compare",
    "distances",
    "measure",
    "name_cause",
    "positions_of",
    "quality_shares",
    "segment_parts",
]
