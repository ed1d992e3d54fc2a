"""Name what moved in a subject's cells: the simplest sentence that covers most of the distance."""

from typing import Any, NamedTuple

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.monitor.core.charts.distance import positions_of
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import QUALITY, CategoricalCells, Counts, ReferenceSubject

_EXPLAINS = 0.5
_MISSING_SHARE = 0.005
_SPIKE = 3.0


class NamedCause(NamedTuple):
    """A cause, the sentence for a person, and its numbers."""

    cause: Cause
    reason: str
    evidence: dict[str, Any]


def name_cause(subject: ReferenceSubject, counts: Counts, quality: Counts) -> NamedCause:
    """Compare ``counts`` (the subject's cells since the onset) and ``quality`` counters with the reference.

    Missing values come first, then values never seen, then for categories the cell that gained or lost most, and for
    numbers range, one-cell spike, shift, scale, shape. Values of a sensitive feature appear as salted hashes only.
    """
    n, m = max(int(counts.sum()), 1), max(subject.rows, 1)
    p, q = counts / n, subject.counts / m
    moved = 0.5 * float(np.abs(p - q).sum())
    missing = float(p[-1] - q[-1])
    evidence: dict[str, Any] = {"moved": round(moved, 6), "rows": n}
    if abs(missing) >= max(_EXPLAINS * moved, _MISSING_SHARE):
        way = "rose" if missing > 0 else "fell"
        evidence |= {"missing_before": float(q[-1]), "missing_now": float(p[-1])}
        text = f"{subject.name}: rows without a usable value {way} from {q[-1]:.2%} to {p[-1]:.2%}"
        return NamedCause(Cause.MISSING, text, evidence)
    if isinstance(subject.cells, CategoricalCells):
        return _category(subject, p, q, quality / n, subject.quality / m, evidence)
    return _number(subject, p, q, quality / n, evidence)


def _category(
    subject: ReferenceSubject, p: Floats, q: Floats, quality: Floats, before: Floats, evidence: dict[str, Any]
) -> NamedCause:
    unseen = float(quality[QUALITY.index("unseen")] - before[QUALITY.index("unseen")])
    change = p - q
    up, down = int(np.argmax(change)), int(np.argmin(change))
    if unseen > _EXPLAINS * max(float(change[up]), 1e-12):
        evidence |= {"new_share": unseen, "cell": subject.cell_name(up)}
        return NamedCause(Cause.NEW_CATEGORY, f"{subject.name}: values never seen before at {unseen:.1%}", evidence)
    cell = up if change[up] >= -change[down] else down
    evidence |= {"cell": subject.cell_name(cell), "share_before": float(q[cell]), "share_now": float(p[cell])}
    way = "rose" if cell == up else "fell"
    text = f"{subject.name}: {subject.cell_name(cell)} {way} from {q[cell]:.2%} to {p[cell]:.2%}"
    return NamedCause(Cause.CATEGORY_SHARE, text, evidence)


def _number(subject: ReferenceSubject, p: Floats, q: Floats, quality: Floats, evidence: dict[str, Any]) -> NamedCause:
    moved = evidence["moved"]
    below, above = (float(quality[QUALITY.index(name)]) for name in ("below", "above"))
    if below + above >= _EXPLAINS * max(moved, 1e-12) and below + above >= _MISSING_SHARE:
        evidence |= {"below": below, "above": above}
        side = "below" if below > above else "above"
        text = f"{subject.name}: {max(below, above):.1%} of values are {side} everything in the reference"
        return NamedCause(Cause.OUT_OF_RANGE, text, evidence)
    change = p[:-1] - q[:-1]
    top = int(np.argmax(change))
    if change[top] >= _EXPLAINS * moved and p[top] > _SPIKE * max(q[top], 1e-3):
        evidence |= {"cell": subject.cell_name(top), "share_before": float(q[top]), "share_now": float(p[top])}
        text = f"{subject.name}: {subject.cell_name(top)} rose from {q[top]:.2%} to {p[top]:.2%}"
        return NamedCause(Cause.SPIKE, text, evidence)
    before, now = quartiles(subject, q[:-1]), quartiles(subject, p[:-1])
    width = max(before[2] - before[0], 1e-12)
    shift, ratio = (now[1] - before[1]) / width * 1.349, (now[2] - now[0]) / width
    evidence |= {"median_before": before[1], "median_now": now[1], "shift_sd": shift, "scale": ratio}
    if abs(shift) >= 0.05 and abs(shift) >= abs(np.log(max(ratio, 1e-9))) / 2:
        way = "up" if shift > 0 else "down"
        text = f"{subject.name}: moved {way}, median {before[1]:.4g} to {now[1]:.4g} ({shift:+.2f} sd)"
        return NamedCause(Cause.SHIFT, text, evidence)
    if abs(np.log(max(ratio, 1e-9))) >= 0.1:
        text = f"{subject.name}: spread x{ratio:.2f} around the same middle"
        return NamedCause(Cause.SCALE, text, evidence)
    return NamedCause(Cause.SHAPE, f"{subject.name}: {moved:.1%} of rows changed cell", evidence)


def quartiles(subject: ReferenceSubject, shares: Floats) -> tuple[float, float, float]:
    """Return the quartiles of ordered cells' shares by linear interpolation of cell positions; 0s without mass."""
    cells = subject.cells
    if isinstance(cells, CategoricalCells) or shares.sum() <= 0:
        return 0.0, 0.0, 0.0
    positions = positions_of(cells.edges, cells.low, cells.high)
    cumulated = np.cumsum(shares) / shares.sum()
    middle = cumulated - 0.5 * shares / shares.sum()
    low, half, high = np.interp([0.25, 0.5, 0.75], middle, positions)
    return float(low), float(half), float(high)
