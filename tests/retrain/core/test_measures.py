import math

import numpy as np
import pytest

from stationkeeper.retrain.core.measures import f1_score, log_loss_rows, performance


def test_measures_by_hand():
    labels = np.array([True, True, False, False])
    found = performance(labels, np.array([0.9, 0.2, 0.6, 0.1]), 0.5)
    assert (found.alerts, found.precision, found.recall, found.f1) == (2, 0.5, 0.5, 0.5)
    assert log_loss_rows(labels, np.array([0.9, 0.2, 0.6, 0.1]))[2] == pytest.approx(-math.log(0.4))


def test_f1_without_anything_positive_is_zero():
    found = f1_score(np.array([0.0, 2.0]), np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    assert found.tolist() == [0.0, pytest.approx(2 / 3)]
