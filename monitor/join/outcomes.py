"""Pairs of the label join as sums: by owner, by the prediction's pane, and by the pane in which both were known."""

import numpy as np
from msgspec import structs

from stationkeeper.contracts.column import Floats, Integers
from stationkeeper.contracts.wire import OF_CLASSES, OF_NUMBERS, SCORE_BINS, OutcomeDelta, pack
from stationkeeper.monitor.core.reference import (
    OutcomeSums,
    added_actions,
    assigned_by_group,
    classes_by_group,
    errors_by_group,
    scores_by_group,
)
from stationkeeper.monitor.join.settled import Corrections, coded
from stationkeeper.monitor.join.store import Flags, Owners, Rows

_LOSS_SCALE = 1_000_000
"""Squared errors are summed in millionths as integers, so that sums do not depend on the order of events."""

_MAX_ERROR = 1e3
"""The largest error that counts in the loss: its square times the scale and 9 million rows still fits into an int64,
and one absurd label cannot overflow a pane. Only errors beyond it would count differently at half or double."""


def outcomes_of(
    owners: Owners, predictions: Rows, labels: Rows, pane: int, *, corrects: bool = False
) -> list[OutcomeDelta]:
    """Return the sums of paired rows (equal order) by owner, prediction pane and the pane in which both were known.

    ``pane`` is its length (ms). A label of 0 or 1 counts in the confusion (true and false positives, false and true
    negatives) and in the scores by bin and class; any label counts in the squared error and the label's age. E.g. a
    score of 0.9, decided positive, with a label of 0 that came a minute later: one false positive, a loss of 0.81 and
    60 000 ms. Of several classes a right one counts as a true negative, a wrong one as a false positive with a loss
    of 1: in the bin of the answer's own probability, by whether it was right; without one, which bin 0 says, a right
    one has the highest score and a wrong one the lowest, as builds before probabilities had them all. Numbers have no
    confusion, and count in the bin of their prediction. Segments carry no curves, which would be most of their bytes.
    What was done upon the answer is told with its probability, in a prediction's ``label``; not where an outcome
    ``corrects``, as a pair that is kept has its label there. O(n log n).
    """
    if not len(predictions):
        return []
    # A label can come before its prediction: a pair is known when the later of both is.
    known = np.maximum(predictions["time"], labels["time"])
    start = predictions["time"] - predictions["time"] % pane
    keys = np.stack([predictions["owner"].astype(np.int64), start, known - known % pane])
    groups, group = np.unique(keys, axis=1, return_inverse=True)
    group, n = group.reshape(-1), groups.shape[1]
    label, score = labels["label"].astype(np.float64), predictions["score"].astype(np.float64)
    kind, classy = predictions["decision"] & ~np.uint8(1), coded(labels)
    classes, numbers = (kind == OF_CLASSES) & classy & np.isfinite(score), (kind == OF_NUMBERS) & ~classy
    binary = ((label == 0.0) | (label == 1.0)) & (kind == 0) & ~classy
    right = classes & (score == label)
    positive, decided = binary & (label == 1.0), binary & ((predictions["decision"] & 1) > 0)
    cell = np.where(right, 3, np.where(decided | classes, np.where(positive, 0, 1), np.where(positive, 2, 3)))
    confusion = np.bincount((group * 4 + cell)[binary | classes], minlength=4 * n).reshape(n, 4)
    width = 2 * SCORE_BINS
    bins = predictions["bin"].astype(np.int64)
    at_score = bins * 2 + np.where(classes, right, positive)
    at_score = np.where(classes & (bins == 0), right * (SCORE_BINS - 1) * 2, at_score)
    known_at_score = binary | classes | numbers
    scored = np.bincount((group * width + at_score)[known_at_score], minlength=width * n).reshape(n, width)
    # An infinity stands for what is beyond a row's numbers: two of them compare in nothing.
    with np.errstate(invalid="ignore"):
        apart = score - label
    error = np.where(classes, ~right, np.nan_to_num(apart))
    # A class and a number, while a reference is replaced, compare in nothing.
    error = np.where(classy == (kind == OF_CLASSES), error, 0.0)
    plain = binary | (~classes & ~classy & (kind != OF_CLASSES))
    sums = _sums(score, label, apart, group, n, binary, plain & ~binary, classes)
    loss = np.zeros(n, np.int64)
    np.add.at(loss, group, np.rint(np.minimum(np.abs(error), _MAX_ERROR) ** 2 * _LOSS_SCALE).astype(np.int64))
    age = np.zeros(n, np.int64)
    np.add.at(age, group, known - predictions["time"])
    rows = np.bincount(group, minlength=n)
    done: list[OutcomeSums] = []
    if not corrects and any(owners.names[owner].action for owner in np.unique(groups[0]).tolist()):
        # Numbers are right, as performance counts them.
        cells = np.where(binary | classes, cell, 3)
        done = assigned_by_group(predictions["label"].astype(np.float64), cells, group, n)
    out: list[OutcomeDelta] = []
    for at in range(n):
        owner = owners.names[int(groups[0, at])]
        whole, part = sums[at].pack(), sums[at].without_curves().pack() if owner.segments else b""
        actions = {owner.action: done[at].pack()} if done and owner.action else {}
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
                part if segment else whole,
                actions=actions,
            )
            for segment in ("", *owner.segments)
        ]
    return out


def corrections_of(owners: Owners, found: Corrections, pane: int) -> list[OutcomeDelta]:
    """Return what corrections change, as sums of no row: those of the new labels less those of the old.

    They stand in the pane in which the new label was known; where it came while the first waited for its prediction, in
    that in which the pair was known, as the store keeps the first label's time alone. E.g. a positive
    decision labelled 0 and then 1: one false positive less and one true positive more. O(n log n).
    """
    later, were = found.after, found.before.copy()
    # Known with the new one, so that both are in one pane and the delays of labels cancel out.
    were["time"] = later["time"]
    gained = outcomes_of(owners, found.predictions, later, pane, corrects=True)
    lost = [_negative(one) for one in outcomes_of(owners, found.predictions, were, pane, corrects=True)]
    rows = [structs.replace(one, corrected=one.rows, rows=0) for one in gained]
    return merged_outcomes([*rows, *lost])


def _negative(one: OutcomeDelta) -> OutcomeDelta:
    sums = OutcomeSums.unpack(one.sums)
    return structs.replace(
        one,
        rows=0,
        corrected=0,
        confusion=pack(-np.frombuffer(one.confusion, "<i8")),
        scored=pack(-np.frombuffer(one.scored, "<i8")),
        loss=-one.loss,
        age_ms=-one.age_ms,
        sums=OutcomeSums(sums.at, -sums.sum).pack(),
    )


def _sums(
    score: Floats, label: Floats, apart: Floats, group: Integers, n: int, binary: Flags, numbers: Flags, classes: Flags
) -> list[OutcomeSums]:
    """Return the sums of each group, of the rows of each kind."""
    out = [OutcomeSums.none()] * n
    parts = []
    if binary.any():
        parts.append(scores_by_group(score[binary], label[binary].astype(np.int64), group[binary], n))
    if numbers.any():
        parts.append(errors_by_group(apart[numbers], group[numbers], n))
    if classes.any():
        guess, actual = (values[classes].astype(np.int64) for values in (score, label))
        parts.append(classes_by_group(guess, actual, group[classes], n))
    for part in parts:
        out = [one + other for one, other in zip(out, part, strict=True)]
    return out


def merged_outcomes(outcomes: list[OutcomeDelta]) -> list[OutcomeDelta]:
    """Return the sums by pane in which they were known, pane, version and segment, in this order.

    Corrections stay apart, behind the outcomes that they correct: those have rows, corrections have none.
    """
    found: dict[tuple[int, int, str, str, bool], OutcomeDelta] = {}
    for one in outcomes:
        key = (one.known_at, one.start, one.version, one.segment, not one.rows)
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
        (OutcomeSums.unpack(one.sums) + OutcomeSums.unpack(other.sums)).pack(),
        one.corrected + other.corrected,
        added_actions(one.actions, other.actions),
    )
