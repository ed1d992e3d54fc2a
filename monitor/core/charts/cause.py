"""Name what moved in a subject's cells: the simplest sentence that covers most of the distance."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from stationkeeper.contracts.column import Floats
from stationkeeper.monitor.core.charts.distance import positions_of
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import GROUPS, QUALITY, CategoricalCells, Counts, Pair, ReferenceSubject

# A cause is named when it is at least half of what moved: more than all others together. At .25 two causes could both
# claim a verdict, at 1 noise of the other cells would leave nearly every drift as "shape".
_EXPLAINS = 0.5
# Half a point of the rows: below, a change of missing or out-of-range values is what quality checks tolerate as well
# (`quality.TOLERANCE`), and not worth being named before the shape.
_MISSING_SHARE = 0.005
# One cell is a spike when it holds three times its share. A shift of .5 sd gives an outer cell of 5 % 2.5 times its
# share: at 1.5 shifts would be called spikes, at 6 a default value that adds 20 % to such a cell would not.
_SPIKE = 3.0
# A cell the reference never saw counts as one of .1 %, so that a single row there is no infinite ratio.
_LEAST_SHARE = 1e-3
# New values that a sentence names: with more nobody reads to its end, and the rest is in the evidence of the counts.
_NAMED = 3
# The quartiles of a normal law lie 1.349 standard deviations apart: a median's move is told in standard deviations.
_QUARTILES_SD = 1.349
# Stands for 0 where a share or a width is divided by: far below one row in any number of rows, so that no sentence
# depends on it.
_TINY = 1e-12
# The smallest shift (sd) and log scale that are named. Chosen near what cells of 5 % resolve by interpolation; half as
# much names noise, twice as much calls a clear .1 sd (the smallest alternative) a change of shape.
_LEAST_SHIFT, _LEAST_SCALE = 0.05, 0.1


# Rounds of fitting margins: errors shrink a hundredfold a round at the relations that features have, and half a point
# of the rows is what matters. More cost microseconds.
_FITTED = 10


class NamedCause(NamedTuple):
    """A cause, the sentence for a person, and its numbers."""

    cause: Cause
    reason: str
    evidence: dict[str, Any]


def name_cause(
    subject: ReferenceSubject, counts: Counts, quality: Counts, new: Mapping[str, float] | None = None
) -> NamedCause:
    """Compare ``counts`` (the subject's cells since the onset) and ``quality`` counters with the reference.

    Missing values come first, then values never seen, then for categories the cell that gained or lost most, and for
    numbers range, one-cell spike, shift, scale, shape. Values of a sensitive feature appear as salted hashes only.
    ``new`` is the share of each named value among those never seen before, the largest first.
    """
    n, m = max(int(counts.sum()), 1), max(subject.rows, 1)
    p, q = counts / n, subject.counts / m
    moved = 0.5 * float(np.abs(p - q).sum())
    missing = float(p[-1] - q[-1])
    # Six digits tell one row in a million; more are noise that people would compare.
    evidence: dict[str, Any] = {"moved": round(moved, 6), "rows": n}
    if abs(missing) >= max(_EXPLAINS * moved, _MISSING_SHARE):
        way = "rose" if missing > 0 else "fell"
        evidence |= {"missing_before": float(q[-1]), "missing_now": float(p[-1])}
        text = f"{subject.name}: rows without a usable value {way} from {q[-1]:.2%} to {p[-1]:.2%}"
        return NamedCause(Cause.MISSING, text, evidence)
    if subject.pair is not None:
        return _pair(subject, subject.pair, p, q, evidence)
    if isinstance(subject.cells, CategoricalCells):
        return _category(subject, p, q, quality / n, subject.quality / m, evidence, new or {})
    return _number(subject, p, q, quality / n, evidence)


def _category(
    subject: ReferenceSubject,
    p: Floats,
    q: Floats,
    quality: Floats,
    before: Floats,
    evidence: dict[str, Any],
    new: Mapping[str, float],
) -> NamedCause:
    unseen = float(quality[QUALITY.index("unseen")] - before[QUALITY.index("unseen")])
    change = p - q
    up, down = int(np.argmax(change)), int(np.argmin(change))
    if unseen > _EXPLAINS * max(float(change[up]), _TINY):
        named = {name: share * unseen for name, share in list(new.items())[:_NAMED]}
        evidence |= {"new_share": unseen, "cell": cell_name(subject, up, new)}
        evidence |= {"values": {name: round(share, 6) for name, share in named.items()}} if named else {}
        text = f"{subject.name}: values never seen before at {unseen:.1%}"
        names = ", ".join(f"{name!r} {share:.1%}" for name, share in named.items())
        return NamedCause(Cause.NEW_CATEGORY, f"{text}: {names}" if names else text, evidence)
    cell = up if change[up] >= -change[down] else down
    name = cell_name(subject, cell, new)
    evidence |= {"cell": name, "share_before": float(q[cell]), "share_now": float(p[cell])}
    way = "rose" if cell == up else "fell"
    text = f"{subject.name}: {name} {way} from {q[cell]:.2%} to {p[cell]:.2%}"
    return NamedCause(Cause.CATEGORY_SHARE, text, evidence)


def _pair(subject: ReferenceSubject, pair: Pair, p: Floats, q: Floats, evidence: dict[str, Any]) -> NamedCause:
    """Say how the relation changed, or that a feature moved and took the pair along."""
    first, second = pair.features
    now, before = _table(p), _table(q)
    # What is left once the reference's relation has today's shares of either feature is the relation's own change.
    left = 0.5 * float(np.abs(now - with_margins(before, now.sum(1), now.sum(0))).sum())
    evidence |= {"features": [first, second], "relation": round(left, 6)}
    if left < _EXPLAINS * evidence["moved"]:
        alone = [0.5 * float(np.abs(now.sum(axis) - before.sum(axis)).sum()) for axis in (1, 0)]
        mover = first if alone[0] >= alone[1] else second
        moved = f"{evidence['moved']:.1%} of rows changed their joint cell"
        text = f"{subject.name}: {moved}, mostly because {mover} itself moved"
        return NamedCause(Cause.SHAPE, text, evidence)
    if pair.first.edges is not None and pair.second.edges is not None:
        old, new = _correlation(before), _correlation(now)
        evidence |= {"correlation_before": round(old, 4), "correlation_now": round(new, 4)}
        text = f"{first} and {second} no longer go together as they did: correlation of their quarters {old:+.2f}"
        return NamedCause(Cause.JOINT, f"{text} to {new:+.2f}", evidence)
    change = np.abs(p - q)[:-1]
    cell = int(np.argmax(change))
    evidence |= {"cell": subject.cell_name(cell), "share_before": float(q[cell]), "share_now": float(p[cell])}
    text = f"{first} and {second} no longer go together as they did: {subject.cell_name(cell)}"
    return NamedCause(Cause.JOINT, f"{text} went from {q[cell]:.2%} to {p[cell]:.2%}", evidence)


def _table(shares: Floats) -> Floats:
    """The joint shares of a pair by group of the first and the second, without missing, summing to 1."""
    table = shares[:-1].reshape(GROUPS, GROUPS)
    return np.asarray(table / max(float(table.sum()), _TINY), np.float64)


def with_margins(table: Floats, rows: Floats, columns: Floats) -> Floats:
    """Return joint shares with other margins and the same odds ratios (iterative proportional fitting, Deming 1940).

    By hand: of [[.4, .1], [.1, .4]] with rows .8 and .2, columns .8 and .2, the first cell becomes .7 or so.
    """
    out = table.copy()
    for _ in range(_FITTED):
        out *= (rows / np.maximum(out.sum(1), _TINY))[:, None]
        out *= (columns / np.maximum(out.sum(0), _TINY))[None, :]
    return out


def _correlation(table: Floats) -> float:
    """Pearson's correlation of the two group numbers under joint shares."""
    at = np.arange(GROUPS)
    x, y = at - float(table.sum(1) @ at), at - float(table.sum(0) @ at)
    spread = float(np.sqrt((table.sum(1) @ x**2) * (table.sum(0) @ y**2)))
    return float(x @ table @ y) / spread if spread > 0 else 0.0


def cell_name(subject: ReferenceSubject, cell: int, new: Mapping[str, float]) -> str:
    """Return a cell as a person reads it: a bucket of other values by the ``new`` values that are in it."""
    cells = subject.cells
    if new and isinstance(cells, CategoricalCells) and len(cells.values) <= cell < cells.count - 1:
        places = cells.lookup(list(new))[0]
        inside = [repr(name) for name, place in zip(new, places.tolist(), strict=True) if place == cell]
        if inside:
            return ", ".join(inside[:_NAMED])
    return subject.cell_name(cell)


def _number(subject: ReferenceSubject, p: Floats, q: Floats, quality: Floats, evidence: dict[str, Any]) -> NamedCause:
    moved = evidence["moved"]
    below, above = (float(quality[QUALITY.index(name)]) for name in ("below", "above"))
    if below + above >= _EXPLAINS * max(moved, _TINY) and below + above >= _MISSING_SHARE:
        evidence |= {"below": below, "above": above}
        side = "below" if below > above else "above"
        text = f"{subject.name}: {max(below, above):.1%} of values are {side} everything in the reference"
        return NamedCause(Cause.OUT_OF_RANGE, text, evidence)
    change = p[:-1] - q[:-1]
    top = int(np.argmax(change))
    if change[top] >= _EXPLAINS * moved and p[top] > _SPIKE * max(q[top], _LEAST_SHARE):
        evidence |= {"cell": subject.cell_name(top), "share_before": float(q[top]), "share_now": float(p[top])}
        text = f"{subject.name}: {subject.cell_name(top)} rose from {q[top]:.2%} to {p[top]:.2%}"
        return NamedCause(Cause.SPIKE, text, evidence)
    before, now = quartiles(subject, q[:-1]), quartiles(subject, p[:-1])
    width = max(before[2] - before[0], _TINY)
    shift, ratio = (now[1] - before[1]) / width * _QUARTILES_SD, (now[2] - now[0]) / width
    # One value alone has no spread, and 0 no logarithm.
    spread = abs(float(np.log(max(ratio, 1e-9))))
    evidence |= {"median_before": before[1], "median_now": now[1], "shift_sd": shift, "scale": ratio}
    # Amounts that grow spread wider as they move, and the move is what people look for: the spread is named where its
    # logarithm changed by more than twice the shift.
    if abs(shift) >= _LEAST_SHIFT and abs(shift) >= spread / 2:
        way = "up" if shift > 0 else "down"
        text = f"{subject.name}: moved {way}, median {before[1]:.4g} to {now[1]:.4g} ({shift:+.2f} sd)"
        return NamedCause(Cause.SHIFT, text, evidence)
    if spread >= _LEAST_SCALE:
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
