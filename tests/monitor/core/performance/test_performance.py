"""Rates of labelled predictions with their intervals, and the confusion expected without labels."""

import numpy as np
import pytest

from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor.core.performance import (
    LabelledPaneState,
    OutcomePane,
    RecentOutcomes,
    explain_calibration,
    explain_errors,
    measures,
)
from stationkeeper.monitor.core.reference import Labels

SCORED = np.arange(2 * SCORE_BINS).reshape(SCORE_BINS, 2)


def test_the_measures_of_a_confusion_table_by_hand():
    found = measures(np.array([8, 2, 4, 86]))
    assert [round(found[name].value, 3) for name in ("precision", "recall", "accuracy", "f1")] == [
        0.8,
        0.667,
        0.94,
        0.727,
    ]
    assert found["error_rate"].low < 0.06 < found["error_rate"].high


def test_errors_are_explained_against_the_reference():
    labels = Labels(SCORED, np.array([50, 5, 5, 40]))
    text, change, numbers = explain_errors(labels, SCORED, np.array([40, 15, 15, 30]))
    assert change == pytest.approx(0.2)
    assert text == "wrong in 30.0% of labelled rows, 10.0% on the reference"
    assert numbers["labels"] == 100


def test_calibration_is_explained_by_what_the_scores_stood_for():
    reference, now = np.zeros((32, 2), np.int64), np.zeros((32, 2), np.int64)
    reference[30], now[30] = (20, 80), (80, 20)
    reference[10], now[10] = (90, 10), (88, 12)
    reference[3], now[3] = (100, 0), (0, 0)
    now[20] = (0, 50)  # the reference has no label of these scores
    text, change, numbers = explain_calibration(Labels(reference, np.array([80, 20, 10, 190])), now)
    assert text == "positive in 20.0% of 100 labelled rows, 80.0% at these scores on the reference"
    assert change == pytest.approx(-0.6)
    assert numbers["labels"] == 250


def test_panes_of_builds_that_wrote_lists_are_read():
    plain = [[60, 120, SCORED.ravel().tolist(), [1, 2, 3, 4], 9, None]]
    made = RecentOutcomes()
    made.restore([state_of(item, LabelledPaneState) for item in plain])
    scored, confusion = made.total(60)
    assert scored.tolist() == SCORED.tolist()
    assert confusion.tolist() == [1, 2, 3, 4]
    made.add(OutcomePane(120, 180, SCORED, np.array([1, 0, 0, 0]), 10, 10))
    assert made.first_row(60) is None
    assert made.first_row(120) == 10
    assert made.total(120)[1].tolist() == [1, 0, 0, 0]
