import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from stationkeeper.monitor.core.charts.chart import measure
from stationkeeper.monitor.core.charts.distance import (
    chi2,
    distances,
    hellinger,
    js,
    ks,
    positions_of,
    psi,
    tv,
    wasserstein,
)
from stationkeeper.monitor.core.reference.cells import numeric_cells
from tests.monitor.core.streams import columns_for, reference_of

SHARES = st.lists(st.integers(0, 50), min_size=2, max_size=8)


def test_psi_and_tv_by_hand():
    p, q = np.array([0.5, 0.5]), np.array([0.6, 0.4])
    assert psi(p, q) == pytest.approx(0.1 * np.log(1.2) + 0.1 * np.log(1.25))
    assert tv(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == 0.5


@given(SHARES, st.integers(0, 7))
def test_js_hellinger_and_chi_square_equal_scipy(counts: list[int], turn: int):
    window = np.array(counts) + 1
    reference = np.roll(window, turn) * 3 + np.arange(len(window))
    p, q = window / window.sum(), reference / reference.sum()
    assert js(p, q) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-9)
    assert hellinger(p, q) == pytest.approx(np.linalg.norm(np.sqrt(p) - np.sqrt(q)) / np.sqrt(2), abs=1e-9)
    expected = stats.chi2_contingency(np.stack([window, reference]), correction=False)
    assert chi2(window, reference)[0] == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.2, 1.0])
def test_ks_and_wasserstein_equal_scipy_on_raw_data_within_the_binning_error(shift: float):
    rng = np.random.default_rng(3)
    reference, window = rng.normal(size=8_000), rng.normal(shift, 1, 2_000)
    cells = numeric_cells(reference)
    p = np.bincount(cells.index(window), minlength=cells.count)[:-1] / 2_000
    q = np.bincount(cells.index(reference), minlength=cells.count)[:-1] / 8_000
    exact = stats.ks_2samp(window, reference).statistic
    assert exact - max(p.max(), q.max()) <= ks(p, q) <= exact + 1e-12
    positions = positions_of(cells.edges, cells.low, cells.high)
    assert wasserstein(p, q, positions) == pytest.approx(stats.wasserstein_distance(window, reference), abs=0.03)


def test_distances_of_equal_laws_are_near_zero_whatever_the_rows():
    reference = reference_of({"x": np.random.default_rng(0).normal(size=10_000)})
    subject, place = reference.subjects[0], reference.layout["x"]
    for rows in (50, 500, 5_000):
        raw, corrected, noise = [], [], 0.0
        for seed in range(20):
            data = {"x": np.random.default_rng(seed + 1).normal(size=rows)}
            counts = reference.layout.tally(columns_for(reference, data), np.zeros(rows, np.int64), np.array([rows]))
            found = measure(subject, counts[0][place.histogram])
            raw.append(found["psi"].raw)
            corrected.append(found["psi"].value)
            noise = found["psi"].noise
            assert found["tv"].value < 3 * found["tv"].noise
        assert np.mean(corrected) < 0.35 * np.mean(raw)
        assert np.mean(raw) == pytest.approx(noise, rel=0.4)


def test_distances_do_not_depend_on_how_panes_were_cut():
    rng = np.random.default_rng(0)
    reference, parts = rng.integers(1, 40, 12), rng.integers(0, 9, (6, 12))
    whole = distances(parts.sum(0), reference, positions=np.arange(12.0))
    again = distances(parts[:2].sum(0) + parts[2:].sum(0), reference, positions=np.arange(12.0))
    assert whole == again


def test_no_rows_have_no_distance():
    assert distances(np.zeros(3, np.int64), np.ones(3, np.int64)) == {}
