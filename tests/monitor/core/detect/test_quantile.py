import numpy as np
import pytest
from scipy import stats

from stationkeeper.monitor.core.detect.quantile import (
    beta_cdf,
    chi2_isf,
    clopper_pearson,
    clopper_pearson_upper,
    normal_cdf,
    normal_isf,
    normal_ppf,
)


def test_normal_functions_equal_scipy():
    x = np.linspace(-30, 8, 101)
    np.testing.assert_allclose(normal_cdf(x), stats.norm.cdf(x), rtol=1e-12)
    p = np.concatenate([np.logspace(-250, -0.01, 50), [0.0, 1.0]])
    np.testing.assert_allclose(normal_ppf(p), stats.norm.ppf(p), rtol=1e-12, atol=1e-12)
    assert normal_isf(1e-9) == pytest.approx(stats.norm.isf(1e-9), rel=1e-12)


@pytest.mark.parametrize("df", [1, 2, 19, 95])
@pytest.mark.parametrize("p", [1e-12, 1e-5, 0.3, 0.95])
def test_chi_square_quantile_equals_scipy(p: float, df: int):
    assert chi2_isf(p, df) == pytest.approx(stats.chi2.isf(p, df), rel=1e-10)


def test_chi_square_quantile_refuses_a_probability_outside_its_range():
    with pytest.raises(ValueError, match="p=0"):
        chi2_isf(0, 3)


def test_incomplete_beta_equals_scipy():
    rng = np.random.default_rng(1)
    a, b = 10 ** rng.uniform(-0.3, 4, (2, 300))
    x = rng.random(300)
    np.testing.assert_allclose(beta_cdf(x, a, b), stats.beta.cdf(x, a, b), rtol=1e-8, atol=1e-12)


def test_incomplete_beta_of_nothing_is_nothing_and_of_what_is_no_number_none():
    assert beta_cdf([], [], []).size == 0
    assert np.isnan(beta_cdf(np.nan, 2.0, 3.0))
    assert [beta_cdf(x, 2.0, 3.0) for x in (0.0, 1.0)] == [0.0, 1.0]


def test_clopper_pearson_equals_scipy_for_counts_from_none_to_all():
    n = np.array([1, 50, 10_000, 100_000, 7, 7, 300])
    x = np.array([0, 0, 3, 20_000, 7, 1, 299])
    eta = np.array([0.05, 1e-9, 1e-6, 1e-4, 0.01, 0.2, 1e-7])
    lower, upper = clopper_pearson(x, n, eta)
    expected_lower = [0.0 if k == 0 else stats.beta.ppf(e, k, m - k + 1) for k, m, e in zip(x, n, eta, strict=True)]
    expected_upper = [1.0 if k == m else stats.beta.isf(e, k + 1, m - k) for k, m, e in zip(x, n, eta, strict=True)]
    np.testing.assert_allclose(lower, expected_lower, rtol=1e-7)
    np.testing.assert_allclose(upper, expected_upper, rtol=1e-7)


def test_the_upper_bounds_of_many_counts_are_those_of_each_alone():
    x, n = np.array([[3.0, 0.0, 3.0], [0.2, 40.0, 3.0]]), np.array([[50.0, 0.3, 50.0], [0.4, 40.0, 60.0]])
    alone = [float(clopper_pearson_upper(k, m, 1e-6)) for k, m in zip(x.flat, n.flat, strict=True)]
    np.testing.assert_allclose(clopper_pearson_upper(x, n, 1e-6).ravel(), alone, rtol=1e-12)


def test_clopper_pearson_by_hand():
    # 0 of 100: (1 - u)^100 = .05; 100 of 100: l^100 = .05.
    assert clopper_pearson(0, 100, 0.05)[1] == pytest.approx(1 - 0.05**0.01)
    assert clopper_pearson(100, 100, 0.05)[0] == pytest.approx(0.05**0.01)
