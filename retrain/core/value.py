"""What decisions are worth: the share of what could be won that a model wins, by the matrix of ``value``."""

from dataclasses import dataclass

import numpy as np

from stationkeeper.retrain.core.measures import Flags, Floats

# The share of held-out rows that may lack their amount and are left out of both sums. Chosen: in any large set a few
# lack it, so that at none the gate would never pass; with many more, those left out could be the ones that decide. It
# holds among rare rows too: of all rows alone, 5 % could be every positive, and who flags nobody won.
MOST_WITHOUT = 0.05


@dataclass(frozen=True, slots=True)
class Worth:
    """What a true positive, a false positive, a false negative and a true negative are worth, in one unit.

    ``amount`` names the feature whose value multiplies each row's; "" where every row counts alike.
    """

    matrix: tuple[float, float, float, float]
    amount: str = ""


def value_columns(labels: Flags, decisions: tuple[Flags, Flags], worth: Worth, amounts: Floats | None) -> Floats | str:
    """Return what old and new decisions win above the worst, and what could be won: float64[n, 3]; a text says why not.

    A row whose amount is missing wins nothing on either side; where more than ``MOST_WITHOUT`` of the positives or
    negatives, or of those on which old and new differ, miss it, nothing is told.
    By hand: a found fraud is worth 90, a call -5, a missed fraud -100, at amounts of 1. Of one fraud and one honest
    payment the best decisions are worth 90 + 0, the worst -100 - 5: 195 can be won. Who flags both wins 190 of them.
    """
    size = np.ones(len(labels)) if amounts is None else amounts
    missing = ~np.isfinite(size) if not worth.amount or amounts is not None else np.ones(len(labels), np.bool_)
    differ = decisions[0] != decisions[1]
    for rows, among in (
        ("rows", np.ones(len(labels), np.bool_)),
        ("positives", labels),
        ("negatives", ~labels),
        ("positives that the two decide differently", labels & differ),
        ("negatives that the two decide differently", ~labels & differ),
    ):
        without, count = int((missing & among).sum()), int(among.sum())
        if without > MOST_WITHOUT * count:
            return (
                f"{without} of {count} held-out {rows} have no {worth.amount}, by which decisions are valued; "
                f"at most {MOST_WITHOUT:.0%} may"
            )
    size = np.where(np.isfinite(size), size, 0.0)
    tp, fp, fn, tn = worth.matrix
    flagged, passed = np.where(labels, tp, fp), np.where(labels, fn, tn)
    least = np.minimum(flagged, passed)
    won = [np.where(one, flagged, passed) - least for one in decisions]
    # Of a refund, say, the amount is negative: it has a size all the same.
    found = np.stack([*won, np.maximum(flagged, passed) - least], axis=1) * np.abs(size)[:, None]
    return found if found[:, 2].any() else "the decisions on the held-out rows are worth the same either way"


def value_gain(sums: Floats) -> Floats:
    """Return the share of what could be won that the new decisions win beyond the old ones, of sums float64[r, 3]."""
    found: Floats = (sums[:, 1] - sums[:, 0]) / np.maximum(sums[:, 2], np.finfo(np.float64).tiny)
    return found
