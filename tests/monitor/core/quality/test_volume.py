import numpy as np
import pytest
from scipy import stats

from stationkeeper.monitor.core.adoption.traffic import VolumeModel
from stationkeeper.monitor.core.quality.volume import FACTORS, VolumeDetector, negative_binomial_log_ratio

FLAT = VolumeModel(np.full(168, 100.0), 20.0)
PRODUCTION = np.log(43_200.0)


def _draw(rng, mean, size, number):
    return rng.negative_binomial(size, size / (size + mean), number)


def test_log_ratio_equals_scipy_and_the_hand():
    x = np.arange(0, 300, 7)
    r = 12.0
    expected = stats.nbinom.logpmf(x, r, r / (r + 150)) - stats.nbinom.logpmf(x, r, r / (r + 100))
    np.testing.assert_allclose(negative_binomial_log_ratio(x, 150, 100, r), expected, atol=1e-9)
    assert negative_binomial_log_ratio(0, 1e-300, 10, 10) == pytest.approx(10 * np.log(2))


def test_bets_are_valid_over_the_whole_tolerance():
    detector = VolumeDetector(FLAT, np.inf)
    x = np.arange(5000)
    for change in (1 / 1.1, 1.0, 1.1):
        law = stats.nbinom.pmf(x, 20, 20 / (20 + 100 * change))
        for bet, edge in zip(detector.bet, detector.edge, strict=True):
            assert law @ np.exp(negative_binomial_log_ratio(x, bet * 100, edge * 100, 20)) <= 1 + 1e-6


@pytest.mark.parametrize(("factor", "prototype"), [(0.0, 1), (0.5, 5), (2.0, 4)])
def test_outage_half_and_double_are_found_as_fast_as_the_prototype(factor, prototype):
    rng = np.random.default_rng(1)
    delays = []
    for _ in range(40):
        detector = VolumeDetector(FLAT, PRODUCTION)
        for t, x in enumerate(_draw(rng, 100, 20, 20)):
            detector.step(int(x), 0, t, 1.0)
        delay = 0
        while True:
            delay += 1
            x = int(_draw(rng, 100 * factor, 20, 1)[0]) if factor else 0
            if detector.step(x, 0, 20 + delay, 1.0).paged[0]:
                break
        delays.append(delay)
    assert np.median(delays) <= 1.3 * prototype + 1


def test_volume_within_tolerance_keeps_the_budget():
    rng = np.random.default_rng(2)
    pages = 0
    for change in (1 / 1.1, 1.0, 1.1):
        for _ in range(10):
            detector = VolumeDetector(FLAT, np.log(200.0))
            for t, x in enumerate(_draw(rng, 100 * change, 20, 200)):
                pages += detector.step(int(x), t % 168, t, 1.0).paged[0]
    assert pages <= 30 + 3 * np.sqrt(30)


def test_a_bet_inside_the_tolerance_takes_no_part():
    detector = VolumeDetector(FLAT, np.inf, tolerance=0.5)
    live = dict(zip(FACTORS, detector.live[0], strict=True))
    assert not live[1.35]
    assert not live[0.75]
    assert live[2.0]
    with pytest.raises(ValueError, match="tolerance"):
        VolumeDetector(FLAT, 1.0, tolerance=-0.1)
