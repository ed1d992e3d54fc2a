"""The latest labelled panes, so that what happened to the model's errors since an onset can be summed."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from stationkeeper.contracts.state import State
from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor.core.performance.estimate import FEW_ROWS, MOST_THIN, split_errors, thin_share, with_scores
from stationkeeper.monitor.core.performance.performance import OutcomePane
from stationkeeper.monitor.core.reference import Counts, Labels, error_middles

MAX_PANES = 1_000
"""Labelled panes kept, each under a kilobyte packed: sixteen hours of one-minute panes, weeks where labels come in
batches. At half, an incident older than eight hours explains its errors by the latest only; at double the state of a
model with many segments doubles."""


class LabelledPaneState(State, frozen=True, array_like=True):
    """A remembered pane by position, as builds before named states wrote it: 64 score counts and 4 of the confusion."""

    start: int
    end: int
    scored: list[int]
    confusion: list[int]
    last_row: int | None
    first_row: int | None


class RecentOutcomes:
    """Up to ``MAX_PANES`` panes of labelled predictions."""

    def __init__(self) -> None:
        self._panes: deque[OutcomePane] = deque(maxlen=MAX_PANES)

    def add(self, pane: OutcomePane) -> None:
        """Remember a pane that holds labels."""
        self._panes.append(pane)

    def total(self, start: int) -> tuple[Counts, Counts]:
        """Return scored int64[32, 2] and confusion int64[4] of the panes that start at ``start`` or later."""
        chosen = [pane for pane in self._panes if pane.start >= start]
        scored = sum((pane.scored for pane in chosen), np.zeros((SCORE_BINS, 2), np.int64))
        return scored, sum((pane.confusion for pane in chosen), np.zeros(4, np.int64))

    def first_row(self, start: int) -> int | None:
        """Return the row number with which the first such pane begins, where rows are numbered."""
        # Panes come in order of time, so the first that matches is the earliest.
        return next((pane.first_row for pane in self._panes if pane.start >= start), None)

    def state(self) -> list[LabelledPaneState]:
        """Return the panes, oldest first."""
        return [
            LabelledPaneState(
                start=p.start,
                end=p.end,
                scored=p.scored.ravel().tolist(),
                confusion=p.confusion.tolist(),
                last_row=p.last_row,
                first_row=p.first_row,
            )
            for p in self._panes
        ]

    def restore(self, state: Iterable[LabelledPaneState]) -> None:
        """Take over the panes that ``state`` gave."""
        self._panes.clear()
        for p in state:
            scored = np.array(p.scored, np.int64).reshape(SCORE_BINS, 2)
            confusion = np.array(p.confusion, np.int64)
            self._panes.append(OutcomePane(p.start, p.end, scored, confusion, p.last_row, p.first_row))


def explain_errors(
    labels: Labels, scored: Counts, confusion: Counts, threshold: float = 0.5
) -> tuple[str, float, Mapping[str, Any]]:
    """Return the sentence, the change of the error rate, and the numbers, against the labelled reference.

    Of scores it says what part other scores explain, and what part only another concept does (`split_errors`). Of
    numbers it is the change of the mean absolute error, as a share of that of the reference; both are read from
    counts by octave, so they are good to a few percent.
    """
    rows = max(int(confusion.sum()), 1)
    if labels.numeric:
        middles = error_middles()
        usual, met = (float(counts.ravel() @ middles) / max(int(counts.sum()), 1) for counts in (labels.scored, scored))
        change = met / usual - 1 if usual else 0.0
        text = f"off by {met:.3g} on average in labelled rows, by {usual:.3g} on the reference"
        return text, change, {"error_before": usual, "error_now": met, "labels": rows}
    now = float(confusion[1] + confusion[2]) / rows
    before = labels.error_rate
    # None and not 0 where nothing was flagged, or nothing positive came: a verdict must not say "precision 0".
    tp, fp, fn, _ = (float(count) for count in confusion)
    numbers: dict[str, Any] = {"error_before": before, "error_now": now, "labels": rows}
    flagged, positive = (tp + fp, tp + fn) if not labels.several else (0.0, 0.0)
    numbers |= {"precision": tp / flagged if flagged else None, "recall": tp / positive if positive else None}
    text = f"wrong in {now:.1%} of labelled rows, {before:.1%} on the reference"
    split = split_errors(scored, labels, now, threshold)
    if split is None:
        # Of classes and without a positive label there is nothing to split, whatever the scores.
        if labels.scored[:, 1].any() and (thin := thin_share(scored, labels)) > MOST_THIN:
            numbers["thin_share"] = thin
            text = (
                f"{text}; whether other scores explain it is not known: {thin:.0%} of these rows have scores of which "
                f"the reference has fewer than {FEW_ROWS} labelled rows"
            )
        return text, now - before, numbers
    mix, concept, low, high = (100 * one for one in (split.mix, split.concept, split.low, split.high))
    rest = "the rest is within chance" if low <= 0 <= high else f"a changed meaning of scores {concept:+.1f}"
    numbers |= {"mix_points": mix, "concept_points": concept, "concept_low": low, "concept_high": high}
    text = f"{text}; the mix of scores explains {mix:+.1f} points, {rest} ({low:+.1f} to {high:+.1f})"
    return text, now - before, numbers


def explain_calibration(labels: Labels, scored: Counts) -> tuple[str, float, Mapping[str, Any]]:
    """Return the sentence, the change of the share of positives, and the numbers, of what scores stand for now.

    ``scored`` int64[bins, 2] (negative, positive). Scores may stand for more here and for less there, and the two would
    cancel: told is the side on which more rows changed. By hand: a bin with 80 of 100 positive on the reference and 20
    of 100 now, beside one with 10 and 12: "positive in 20.0% of 100 labelled rows, 80.0% at these scores on the
    reference".
    """
    scored = with_scores(scored, labels)
    usual, now = labels.scored.sum(1), scored.sum(1)
    # Scores that the reference has no label of stood for nothing.
    expected = now * labels.scored[:, 1] / np.maximum(usual, 1)
    change = np.where(usual > 0, scored[:, 1] - expected, 0.0)
    less = change[change < 0].sum() + change[change > 0].sum() < 0
    side = (change < 0) if less else (change > 0)
    rows = max(int(now[side].sum()), 1)
    before, met = float(expected[side].sum()) / rows, float(scored[side, 1].sum()) / rows
    numbers: dict[str, Any] = {"positive_before": before, "positive_now": met, "labels": int(now.sum())}
    what = "right" if labels.several else "positive"
    text = f"{what} in {met:.1%} of {rows} labelled rows, {before:.1%} at these scores on the reference"
    return text, met - before, numbers
