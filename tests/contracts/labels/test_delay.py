"""How late labels come: what share has come at an age, and when a row without one is a negative."""

import numpy as np
import pytest

from stationkeeper.contracts.labels.delay import Absence, absence_age, complete_share, delay_edges


def test_the_share_known_at_an_age_is_a_product_over_reversed_time():
    # Five of ten labels after an hour, five after six: at ages between, half are known.
    came = np.array([[5, 0, 0, 0, 0, 5]])
    assert complete_share(came, np.ones_like(came)).tolist() == [0.5, 0.5, 0.5, 0.5, 0.5, 1.0]
    # Of eight with a delay of at most two days four took the second; of two seen for three days one took the third.
    epochs, seen = np.array([[0, 1, 1], [4, 3, 0]]), np.array([[1, 1, 1], [1, 1, 0]])
    assert complete_share(epochs, seen).tolist() == [0.25, 0.5, 1.0]


def test_absence_is_a_negative_from_the_age_at_which_nearly_all_positives_are_known():
    hour = 3_600_000
    edges, rule = delay_edges(hour, 24 * hour), Absence(hour, 24 * hour, 2 * hour)
    share = np.where(edges < 5 * hour, 0.9, 0.96)
    age = absence_age(edges, share, rule, 24 * hour)
    # Ages two an octave: the first of at least five hours.
    assert age == pytest.approx(5.66 * hour, rel=0.01)
    assert absence_age(edges, np.full(len(edges), 0.96), rule, 24 * hour) == rule.least
    assert absence_age(edges, share, rule, 11 * hour) is None, "watched for less than twice as long"
    assert absence_age(edges, np.full(len(edges), 0.9), rule, 24 * hour) is None
