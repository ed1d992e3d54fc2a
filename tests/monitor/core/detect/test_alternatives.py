import numpy as np
import pytest

from stationkeeper.monitor.core.detect.alternatives import CellColumns, ReferenceCells, build_alternatives
from stationkeeper.monitor.core.detect.plan import DENSE_ALTERNATIVES
from stationkeeper.monitor.core.detect.shiryaev_roberts import ShiryaevRoberts


def table(counts: np.ndarray, kind: str = "categorical"):
    used = np.ones(counts.shape, bool)
    reference = ReferenceCells(counts.astype(np.float64), counts.sum(axis=1).astype(np.float64), used, ~used)
    dense = DENSE_ALTERNATIVES if kind == "numeric" else 0
    return build_alternatives(reference, kind, np.full(len(counts), 0.02), np.ones((len(counts), dense + 1)), 0.01)


def sums(made, counts: np.ndarray) -> np.ndarray:
    out = np.full((len(counts), made.live.shape[1]), np.nan)
    made.log_ratios(counts.astype(np.float64), out)
    return out


def test_cells_alike_are_held_once_and_give_the_same_sums_bit_for_bit():
    rng = np.random.default_rng(0)
    counts = np.concatenate([rng.integers(50, 900, (6, 4)), np.zeros((6, 64), np.int64), np.full((6, 1), 3)], axis=1)
    whole, pane = table(counts), rng.poisson(2.0, counts.shape)
    lean = whole.lean()
    assert lean.columns is not None
    assert len(lean.columns.outside) < 0.2 * counts.size
    assert lean.inside.size == lean.outside.size == 0
    np.testing.assert_array_equal(sums(lean, pane), sums(whole, pane))


@pytest.mark.parametrize("kind", ["categorical", "numeric"])
def test_cells_that_differ_are_kept_as_they_are(kind: str):
    counts = np.random.default_rng(1).permutation(np.arange(100, 163)).reshape(3, 21)
    whole, pane = table(counts, kind), np.random.default_rng(2).poisson(9.0, (3, 21))
    lean = whole.lean()
    assert lean.columns is None
    np.testing.assert_array_equal(sums(lean, pane), sums(whole, pane))


def test_columns_differ_where_their_last_bit_does():
    inside, outside = np.ones((1, 2, 40)), np.zeros((1, 2, 40))
    inside[0, 1, 7] = np.nextafter(1.0, 2.0)
    found = CellColumns.of(inside, outside)
    assert found is not None
    assert len(found.outside) == 2
    assert found.which[0].tolist().count(found.which[0, 7]) == 1


def test_weights_of_few_values_are_what_they_were():
    rng = np.random.default_rng(3)
    weight = rng.choice(np.array([0.0, 0.01, 0.002]), (5, 90))
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(ShiryaevRoberts(weight).log_weight, np.log(weight))
        other = rng.random((5, 90))
        np.testing.assert_array_equal(ShiryaevRoberts(other).log_weight, np.log(other))
        same = np.repeat(weight[:1], 4, axis=0)
        np.testing.assert_array_equal(ShiryaevRoberts(same).log_weight, np.log(same))
