"""What performance is judged by: the labelled rows of a reference and of panes, counted as the model's task asks."""

from dataclasses import replace

import numpy as np

from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor.core.performance.error_size import ErrorSize
from stationkeeper.monitor.core.performance.performance import OutcomePane, Performance, labels_mark
from stationkeeper.monitor.core.reference import Counts, Labels, OutcomeSums, Reference, Task, by_confidence


def judged(reference: Reference) -> Labels | None:
    """Return the labelled rows of a reference by which performance is judged, None where there are none.

    Builds before sums counted numbers as if they were answers: such a reference of a regression tells nothing. Those of
    several classes are by the answer's probability, where the reference has any.
    """
    labels = reference.labels
    if labels is None or not labels.rows:
        return None
    if reference.task is Task.MULTICLASS and labels.scored[1:, 1].any():
        # Of weighted rows each count is rounded by itself, so that what is left may be one below none.
        scored = np.maximum(by_confidence(labels.scored, labels.confusion), 0)
        return replace(labels, scored=scored, several=True)
    return labels if labels.numeric == (reference.task is Task.REGRESSION) else None


def calibrated(judge: Performance | ErrorSize | None, known: Labels) -> Labels:
    """Return the labelled reference ``known`` as calm weeks have refreshed it for who judges by it, else as it is."""
    if isinstance(judge, Performance) and labels_mark(judge.labels) == labels_mark(known):
        return judge.calibration.labels
    return known


def judged_counts(confusion: Counts, scored: Counts, sums: OutcomeSums) -> tuple[Counts, Counts]:
    """Return counts as ``Labels`` and ``OutcomePane`` have them: of numbers the octaves of the error, all right."""
    errors = sums.errors[:, 0]
    rows = int(errors.sum())
    return (np.array([0, 0, 0, rows]), errors) if rows else (confusion, scored)


def judged_answers(pane: OutcomePane, labels: Labels) -> OutcomePane:
    """Return a pane of several classes as its reference counts them: by probabilities, else right or wrong alone.

    By hand: 8 right and 2 wrong rows are 8 of the highest score and 2 of the lowest where the reference has none.
    """
    if labels.several:
        return replace(pane, scored=by_confidence(pane.scored, pane.confusion))
    scored = np.zeros_like(pane.scored)
    scored[0, 0], scored[-1, 0] = pane.confusion[1], pane.confusion[3]
    return replace(pane, scored=scored)


def delayed_counts(confusion: Counts, scored: Counts, sums: OutcomeSums) -> Counts:
    """Return scored int64[32, 2] as delays of labels are learned from: of several classes right and wrong answers.

    Predictions are counted by the answer's own probability before a label tells whether it was right.
    """
    table = scored.reshape(SCORE_BINS, 2)
    return by_confidence(table, confusion) if sums.several else table
