"""The gain over the unreplaced model is paired, and its interval tells noise from a difference."""

import numpy as np
import pytest

from stationkeeper.demo.gain import Gain, paired_interval


def test_identical_models_have_no_gain_and_no_doubt() -> None:
    assert paired_interval(np.zeros(1_000)) == (0.0, 0.0)


def test_the_interval_holds_the_mean_and_widens_when_neighbours_are_alike() -> None:
    rng = np.random.default_rng(1)
    independent = rng.choice([-1.0, 0.0, 1.0], 8_000, p=[0.04, 0.9, 0.06])
    clustered = np.repeat(rng.choice([-1.0, 0.0, 1.0], 80, p=[0.04, 0.9, 0.06]), 100)
    low, high = paired_interval(independent)
    assert low < independent.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * independent.std() / np.sqrt(8_000), rel=0.35)
    wide_low, wide_high = paired_interval(clustered)
    assert wide_high - wide_low > 3 * (high - low)


def test_the_sentence_keeps_its_sign() -> None:
    worse = Gain(events=1_000, blocks=40, old_error=0.10, new_error=0.12, saved=-0.02, low=-0.03, high=-0.01)
    assert "saved -2.00 points (-3.00 to -1.00" in worse.sentence()
