import numpy as np
import pytest
from scipy.special import ndtr

from stationkeeper.monitor.core.adoption.dependence import (
    learned_phi,
    natural_floor,
)
from stationkeeper.monitor.core.detect.drift import effect_floor
from stationkeeper.monitor.core.detect.plan import DENSE_ALTERNATIVES
from stationkeeper.monitor.core.panes.pane import stratum_of

UNIFORM = np.append(np.full(40, 1 / 40), 0)


def test_independent_panes_keep_phi_at_one():
    rng = np.random.default_rng(1)
    phi = learned_phi(rng.multinomial(50, UNIFORM, size=600), "numeric")
    assert phi.shape == (DENSE_ALTERNATIVES + 2,)
    assert np.median(phi) == 1.0
    assert phi.max() < 1.6


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_panes_seen_twice_double_the_variance(kind):
    rng = np.random.default_rng(2)
    panes = np.repeat(rng.multinomial(50, UNIFORM, size=500), 2, axis=0)
    phi = learned_phi(panes, kind)
    assert phi.shape == ((DENSE_ALTERNATIVES + 2) if kind == "numeric" else 2,)
    # The largest of many noisy ratios lies above the truth, never far below it.
    assert 1.6 < np.median(phi) < 3.2


def test_a_cycle_between_strata_is_not_dependence():
    rng = np.random.default_rng(3)
    tilt = np.append(np.linspace(1, 3, 40), 0)
    laws = [tilt / tilt.sum(), tilt[::-1][1:].tolist()]
    laws[1] = np.append(np.array(laws[1]), 0)
    laws[1] /= laws[1].sum()
    strata = np.arange(400) % 2
    panes = np.array([rng.multinomial(50, laws[s]) for s in strata])
    assert learned_phi(panes, "numeric").max() > 2
    assert learned_phi(panes, "numeric", strata).max() < 2


def test_few_panes_say_nothing():
    rng = np.random.default_rng(4)
    np.testing.assert_array_equal(learned_phi(rng.multinomial(50, UNIFORM, size=15), "numeric"), 1.0)


def test_identical_days_have_no_floor_and_noisy_days_little():
    assert natural_floor(np.tile([300, 500, 200], (10, 1))) == 0
    assert natural_floor([[3, 4, 5]]) == 0
    rng = np.random.default_rng(5)
    for rows, floor in ((500, 0.04), (20_000, 0.01)):
        assert natural_floor(rng.multinomial(rows, np.full(20, 0.05), size=60)) < floor


def test_a_day_effect_is_learned_as_its_natural_distance():
    rng = np.random.default_rng(6)
    # Every day moves .1 of a standard deviation up or down: TV = 2 Phi(.05) - 1 = .04.
    edges = np.quantile(rng.standard_normal(200_000), np.arange(1, 20) / 20)
    days = [
        np.bincount(np.searchsorted(edges, sign * 0.1 + rng.standard_normal(20_000)), minlength=20)
        for sign in rng.choice([-1, 1], 40)
    ]
    assert natural_floor(days) == pytest.approx(0.04, abs=0.008)
    assert effect_floor(0.02, natural_floor(days)) == pytest.approx(1.5 * natural_floor(days))
    assert effect_floor(0.02, natural_floor(np.tile([300, 700], (5, 1)))) == 0.02
    assert effect_floor(0.02, 0.04) == pytest.approx(0.06)
    assert effect_floor(0.02, 0.8) == 0.9


def test_hour_of_the_week_by_hand():
    # 2024-01-01 00:00 UTC was a Monday.
    monday = 1_704_067_200_000
    assert stratum_of(monday, 168) == 0
    assert stratum_of(monday + 25 * 3_600_000, 168) == 25
    assert stratum_of(monday + 25 * 3_600_000, 24) == 1
    assert stratum_of(0, 168) == 72
    assert stratum_of(monday, 1) == 0


def test_what_days_move_by_is_not_dependence_within_them():
    rng, hours = np.random.default_rng(8), np.arange(24 * 21)
    edges = np.arange(1, 20) / 20

    def panes_of(day_sd: float, carry: float) -> np.ndarray:
        move = rng.normal(size=len(hours) // 24) * day_sd
        wander = np.zeros(len(hours))
        for t in range(1, len(hours)):
            wander[t] = carry * wander[t - 1] + rng.normal() * 0.2 * (carry > 0)
        shift = move[hours // 24] + wander
        cells = [np.bincount(np.searchsorted(edges, ndtr(rng.normal(size=300) + s)), minlength=21) for s in shift]
        return np.array(cells)

    days = panes_of(0.1, 0.0)
    assert learned_phi(days, "numeric").max() > 20
    assert learned_phi(days, "numeric", days=hours // 24).max() < 2.5
    # Hours that lean on each other are dependence within days as well.
    assert learned_phi(panes_of(0.0, 0.6), "numeric", days=hours // 24).max() > 10
    # One pane a day says nothing of what is within.
    np.testing.assert_array_equal(learned_phi(days, "numeric", days=hours), 1.0)
