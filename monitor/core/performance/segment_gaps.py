"""How far the segments of a dimension lie apart in what a model decides: rates of labelled rows and their gaps."""

from collections.abc import Mapping
from dataclasses import dataclass

from stationkeeper.monitor.core.performance.confidence import share_sequence
from stationkeeper.monitor.core.reference import Counts

RATES = {
    "true positive rate": ((0,), (0, 2)),
    "false positive rate": ((1,), (1, 3)),
    "approval rate": ((0, 1), (0, 1, 2, 3)),
}
"""Each rate's places in the confusion (true positive, false positive, false negative, true negative): of how many rows
how many. The names are those of the gate's protected segments."""

FEW_LABELS = 30
"""Rows of a rate below which a segment is left out of its gap, and counted, as at the gate: at 30 rows a rate of .5 has
a standard error of 9 points; half as many would let chance tell groups apart, twice as many would hide a group."""


@dataclass(frozen=True, slots=True)
class SegmentGap:
    """The gap of one rate between the segments ``lowest`` and ``highest`` of a dimension.

    ``low`` to ``high`` holds the gap in 95 % of cases for each segment, however often it is looked at; 0 in it means
    that the two may be equal. ``left_out`` is how many segments had too few rows to compare.
    """

    dimension: str
    rate: str
    lowest: str
    highest: str
    lowest_value: float
    highest_value: float
    low: float
    high: float
    left_out: int

    @property
    def gap(self) -> float:
        """The highest rate less the lowest."""
        return self.highest_value - self.lowest_value


def segment_gaps(dimension: str, confusions: Mapping[str, Counts]) -> list[SegmentGap]:
    """Return the gap of each rate between a dimension's segments; none where fewer than two have enough rows.

    ``confusions`` are int64[4] by segment. The interval is from the two confidence sequences of the rates
    (`share_sequence`): at least the lower end of the higher less the upper end of the lower. By hand: a: 90, 5, 10, 95
    and b: 60, 5, 40, 95 have true positive rates of .9 and .6, false ones of .05 both: a gap of .3 and none.
    O(segments).
    """
    found = []
    for rate, (hits, of) in RATES.items():
        counted = {name: (int(one[list(hits)].sum()), int(one[list(of)].sum())) for name, one in confusions.items()}
        enough = {name: pair for name, pair in counted.items() if pair[1] >= FEW_LABELS}
        if len(enough) < 2:
            continue
        ranked = sorted(enough, key=lambda name: (enough[name][0] / enough[name][1], name))
        lowest, highest = enough[ranked[0]], enough[ranked[-1]]
        least, most = share_sequence(*lowest), share_sequence(*highest)
        values = lowest[0] / lowest[1], highest[0] / highest[1]
        ends = max(most[0] - least[1], 0.0), most[1] - least[0]
        left = len(counted) - len(enough)
        found.append(SegmentGap(dimension, rate, ranked[0], ranked[-1], *values, *ends, left))
    return found
