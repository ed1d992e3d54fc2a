"""Row weights that undo rebalancing, and whole counts of weighted rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.column import categories
from stationkeeper.monitor.core.reference.weighting import effective_rows, prior_weights, weighted_counts


def test_a_prior_undoes_rebalancing_by_hand() -> None:
    weights = prior_weights(categories([1, 0] * 5), {"1": 0.1})
    assert weights.tolist() == pytest.approx([0.2, 1.8] * 5)


def test_classes_that_are_not_named_share_the_rest_as_they_do_now() -> None:
    # a: .5 of the rows shall be .2; b and c (.3 and .2) share .8 as 3 to 2.
    weights = prior_weights(categories(["a"] * 5 + ["b"] * 3 + ["c"] * 2), {"a": 0.2})
    assert weights.tolist() == pytest.approx([0.4] * 5 + [1.6] * 5)


@pytest.mark.parametrize(
    ("labels", "prior", "message"),
    [
        ([1, 0], {"yes": 0.1}, "no row has the label 'yes'; labels are 0, 1"),
        ([1, 0], {"1": 0.1, "0": 0.2}, "the shares sum to 0.3"),
        ([1, 0, 2], {"1": 0.5, "0": 0.5}, "the shares sum to 1;"),
        ([1, 0], {"1": 0.0}, "prior 1=0.0: must be between 0 and 1"),
        ([1, 0], {"1": 1.0}, "prior 1=1.0: must be between 0 and 1"),
        ([1, None], {"1": 0.5}, "some rows have no label"),
    ],
)
def test_a_prior_that_cannot_be_is_refused_with_its_reason(
    labels: list[object], prior: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prior_weights(categories(np.array(labels, object)), prior)


@given(st.lists(st.integers(0, 2), min_size=3, max_size=60), st.floats(0.01, 0.99))
def test_weights_have_mean_one_and_give_the_class_its_share(drawn: list[int], share: float) -> None:
    classes = np.array([0, 1, *drawn])
    weights = prior_weights(categories(classes), {"1": share})
    assert weights.mean() == pytest.approx(1.0)
    assert weights[classes == 1].sum() / weights.sum() == pytest.approx(share)


@given(st.integers(1, 10_000), st.sampled_from([0.1, 1 / 3, 1.0, 7.3]))
def test_equal_weights_are_worth_every_row(rows: int, weight: float) -> None:
    assert effective_rows(np.full(rows, weight)) == rows


def test_effective_rows_by_hand() -> None:
    # Kish: (1 + 1 + 4)^2 / (1 + 1 + 16) = 2.
    assert effective_rows(np.array([1.0, 1.0, 4.0])) == 2


def test_the_remainder_goes_to_the_cells_that_lost_most_and_ties_to_the_first() -> None:
    # Two effective rows, 1/6 and 5/6 of the weight: .33 and 1.67 rows, so 0 + 1 and one more for the second.
    assert weighted_counts(np.array([0, 1, 1]), np.array([1.0, 1.0, 4.0]), 3).tolist() == [0, 2, 0]
    # Weights 1, 1, 2 are worth 16 / 6 = 2 rows: .5, .5 and 1. The tie falls alike on every machine.
    assert weighted_counts(np.array([0, 1, 2]), np.array([1.0, 1.0, 2.0]), 3).tolist() == [1, 0, 1]


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0.01, 100)), min_size=1, max_size=50))
def test_whole_counts_sum_to_the_effective_rows_and_lie_within_one_of_the_exact(rows: list[tuple[int, float]]) -> None:
    cell, weights = np.array([cell for cell, _ in rows]), np.array([weight for _, weight in rows])
    counts = weighted_counts(cell, weights, 5)
    worth = effective_rows(weights)
    exact = np.bincount(cell, weights=weights, minlength=5) / weights.sum() * worth
    assert counts.sum() == worth
    assert (np.abs(counts - exact) < 1 + 1e-6).all()
