import numpy as np
import pytest
from scipy import stats

pytest.importorskip("river")

from benchmarks.detection import peers
from benchmarks.detection.world import run_length


def _samples(width, n=600):
    rng = np.random.default_rng(width)
    return np.sort(rng.standard_normal((5, width)), axis=1), np.sort(rng.standard_normal((5, n)), axis=1)


@pytest.mark.parametrize("width", [50, 200])
def test_window_statistics_equal_scipy(width):
    window, reference = _samples(width)
    ks = [stats.ks_2samp(w, r).statistic for w, r in zip(window, reference, strict=True)]
    np.testing.assert_allclose(peers.ks_distance(window, reference), ks)
    w1 = [stats.wasserstein_distance(w, r) / r.std() for w, r in zip(window, reference, strict=True)]
    np.testing.assert_allclose(peers.normed_wasserstein(window, reference), w1)


def test_the_statistic_of_kswin_equals_scipy():
    rng = np.random.default_rng(1)
    # A rest of thirty is drawn whole, so that nothing is random.
    window = rng.standard_normal((6, 60))
    expected = [stats.ks_2samp(w[-30:], w[:30]).statistic for w in window]
    np.testing.assert_allclose(peers.kswin_distance(window, rng), expected)


def test_run_length_by_hand():
    assert run_length(np.array([10.0, np.inf]), 100) == 110
