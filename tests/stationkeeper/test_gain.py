"""The gain over the unreplaced model is paired, and its interval tells noise from a difference."""

import numpy as np
import pytest

from stationkeeper.demo.gain import Gain, Paired, compare


def test_identical_models_have_no_gain_and_no_doubt() -> None:
    rng = np.random.default_rng(0)
    truth, flagged = rng.random(1_000) < 0.2, rng.random(1_000) < 0.3
    found = compare(truth, flagged, flagged)
    for one in (found.f1, found.wrong):
        assert (one.gained, one.low, one.high) == (0.0, 0.0, 0.0)
        assert one.old == one.new


def test_both_measures_by_hand() -> None:
    # Of each four events one is true. The old version finds it and flags another; the new one only finds every second.
    truth = np.tile([True, False, False, False], 80)
    old = np.tile([True, True, False, False], 80)
    new = np.tile([True, False, False, False, False, False, False, False], 40)
    found = compare(truth, old, new)
    # F1 = 2 tp / (2 tp + fp + fn): 2 * 80 / (160 + 80) and 2 * 40 / (80 + 40).
    assert found.f1.old == pytest.approx(2 / 3)
    assert found.f1.new == pytest.approx(2 / 3)
    assert (found.wrong.old, found.wrong.new, found.wrong.gained) == (0.25, 0.125, 0.125)


def test_the_interval_holds_the_mean_and_widens_when_neighbours_are_alike() -> None:
    rng = np.random.default_rng(1)
    truth = np.zeros(8_000, bool)
    independent = rng.random(8_000) < 0.06
    clustered = np.repeat(rng.random(80) < 0.06, 100)
    found = compare(truth, independent, truth).wrong
    assert found.low < independent.mean() < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * independent.std() / np.sqrt(8_000), rel=0.35)
    wide = compare(truth, clustered, truth).wrong
    assert wide.high - wide.low > 3 * (found.high - found.low)


def test_the_sentence_keeps_its_sign() -> None:
    f1 = Paired(old=0.75, new=0.745, gained=-0.005, low=-0.01, high=0.0)
    worse = Gain(events=1_000, blocks=40, f1=f1, wrong=Paired(old=0.10, new=0.12, gained=-0.02, low=-0.03, high=-0.01))
    assert "gained -0.0050 (-0.0100 to +0.0000)" in worse.sentence()
    assert "saved -2.00 points (-3.00 to -1.00)" in worse.sentence()
