"""Pairs of the label join as sums: by owner, by the prediction's pane, and by the pane in which both were known."""

import numpy as np

from stationkeeper.contracts.wire import SCORE_BINS, OutcomeDelta, pack
from stationkeeper.monitor.join.store import Owners, Rows

_LOSS_SCALE = 1_000_000
"""Squared errors are summed in millionths as integers, so that sums do not depend on the order of events."""

_MAX_LOSS = 1e6
"""The largest squared error that counts: times the scale and 9 million rows it still fits into an int64, and one absurd
label cannot overflow a pane. Only errors of about a thousand and more would count differently at half or double."""


def outcomes_of(owners: Owners, predictions: Rows, labels: Rows, pane: int) -> list[OutcomeDelta]:
    """Return the sums of paired rows (equal order) by owner, prediction pane and the pane in which both were known.

    ``pane`` is its length (ms). A label of 0 or 1 counts in the confusion (true and false positives, false and true
    negatives) and in the scores by bin and class; any label counts in the squared error and the label's age. E.g. a
    score of 0.9, decided positive, with a label of 0 that came a minute later: one false positive, a loss of 0.81 and
    60 000 ms. O(n log n).
    """
    if not len(predictions):
        return []
    # A label can come before its prediction: a pair is known when the later of both is.
    known = np.maximum(predictions["time"], labels["time"])
    start = predictions["time"] - predictions["time"] % pane
    keys = np.stack([predictions["owner"].astype(np.int64), start, known - known % pane])
    groups, group = np.unique(keys, axis=1, return_inverse=True)
    group, n = group.reshape(-1), groups.shape[1]
    label = labels["label"].astype(np.float64)
    binary = (label == 0.0) | (label == 1.0)
    positive, decided = label == 1.0, predictions["decision"] > 0
    cell = np.where(decided, np.where(positive, 0, 1), np.where(positive, 2, 3))
    confusion = np.bincount((group * 4 + cell)[binary], minlength=4 * n).reshape(n, 4)
    width = 2 * SCORE_BINS
    place = predictions["bin"].astype(np.int64) * 2 + positive
    scored = np.bincount((group * width + place)[binary], minlength=width * n).reshape(n, width)
    error = np.nan_to_num(predictions["score"].astype(np.float64) - label)
    loss = np.zeros(n, np.int64)
    np.add.at(loss, group, np.rint(np.minimum(error**2, _MAX_LOSS) * _LOSS_SCALE).astype(np.int64))
    age = np.zeros(n, np.int64)
    np.add.at(age, group, known - predictions["time"])
    rows = np.bincount(group, minlength=n)
    out: list[OutcomeDelta] = []
    for at in range(n):
        owner = owners.names[int(groups[0, at])]
        out += [
            OutcomeDelta(
                owner.model,
                owner.version,
                segment,
                int(groups[1, at]),
                pane,
                int(rows[at]),
                int(groups[2, at]),
                pack(confusion[at]),
                pack(scored[at]),
                int(loss[at]),
                int(age[at]),
            )
            for segment in ("", *owner.segments)
        ]
    return out


def merged_outcomes(outcomes: list[OutcomeDelta]) -> list[OutcomeDelta]:
    """Return the sums by pane in which they were known, pane, version and segment, in this order."""
    found: dict[tuple[int, int, str, str], OutcomeDelta] = {}
    for one in outcomes:
        key = (one.known_at, one.start, one.version, one.segment)
        other = found.get(key)
        found[key] = one if other is None else _add_outcomes(other, one)
    return [found[key] for key in sorted(found)]


def _add_outcomes(one: OutcomeDelta, other: OutcomeDelta) -> OutcomeDelta:
    return OutcomeDelta(
        one.model,
        one.version,
        one.segment,
        one.start,
        one.length,
        one.rows + other.rows,
        one.known_at,
        pack(np.frombuffer(one.confusion, "<i8") + np.frombuffer(other.confusion, "<i8")),
        pack(np.frombuffer(one.scored, "<i8") + np.frombuffer(other.scored, "<i8")),
        one.loss + other.loss,
        one.age_ms + other.age_ms,
    )
