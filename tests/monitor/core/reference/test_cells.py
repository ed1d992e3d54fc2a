from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.contracts.column import (
    Categories,
    Column,
    Numbers,
    Status,
    canonical_key,
    categories,
    numbers,
)
from stationkeeper.monitor.core.reference import QUALITY, NumericCells, octave, rank_grid
from stationkeeper.monitor.core.reference.cells import boolean_cells, categorical_cells, numeric_cells


def tally(cells: Any, column: Column) -> np.ndarray:
    counted: np.ndarray = cells.tally(column, np.zeros(len(column), np.int64), 1)[0]
    return counted


def quality(cells: Any, counted: np.ndarray) -> dict[str, int]:
    return {name: int(counted[cells.count + i]) for i, name in enumerate(QUALITY) if counted[cells.count + i]}


def test_a_value_lies_in_the_cell_that_its_upper_edge_closes():
    cells = NumericCells(np.array([1.0, 2.0]), np.empty(0), 0.0, 3.0)
    assert cells.index(np.array([0.5, 1.0, 1.5, 2.0, 2.5, np.nan, np.inf])).tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_an_atom_has_its_own_cell():
    rng = np.random.default_rng(1)
    values = np.concatenate([np.zeros(300), rng.exponential(1.0, 700)])
    cells = numeric_cells(values)
    near = cells.index(np.array([-1e-300, 0.0, 1e-300]))
    assert len(set(near.tolist())) == 3
    counted = tally(cells, Numbers(values))
    assert counted[near[1]] == 300


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=400))
def test_cells_sum_to_rows_for_any_numbers(values: list[float]):
    cells = numeric_cells(np.array(values))
    counted = tally(cells, Numbers(np.array([*values, np.nan, np.inf])))
    assert counted[: cells.count].sum() == len(values) + 2
    assert cells.count <= 257
    assert quality(cells, counted) == {"null": 1, "not_finite": 1}


def test_continuous_values_use_the_cells_evenly():
    rng = np.random.default_rng(2)
    values = rng.normal(size=20_000)
    cells = numeric_cells(values)
    counted = tally(cells, Numbers(values))[: cells.count - 1]
    assert cells.count > 250
    assert counted.min() > 60
    assert counted.max() < 100


def test_what_is_outside_the_reference_is_counted_by_octave():
    cells = numeric_cells(np.linspace(1.0, 2.0, 100))
    counted = tally(cells, Numbers(np.array([1_500.0, 1_600.0, 0.5])))
    assert quality(cells, counted) == {"above": 2, "below": 1}
    octaves = counted[cells.count + len(QUALITY) :]
    assert octaves[octave(np.array([1_500.0]))[0]] == 2


def test_text_in_a_number_is_a_wrong_type_and_a_boolean_is_a_number():
    cells = numeric_cells(np.array([0.0, 1.0]))
    counted = tally(cells, categories(np.array([True, "1", None], object)))
    assert quality(cells, counted) == {"wrong_type": 1, "null": 1}
    assert counted[: cells.count].sum() == 3


def test_new_values_share_hash_buckets_and_are_counted_as_unseen():
    cells = categorical_cells(["a", "b", "c"], np.array([5.0, 3.0, 1.0]), salt="s", top=2)
    counted = tally(cells, categories(["a", "b", "c", "new", None]))
    assert counted[:2].tolist() == [1, 1]
    assert counted[2:-8].sum() == 2
    assert counted[: cells.count].sum() == 5
    assert quality(cells, counted) == {"null": 1, "unseen": 1}


def test_mixed_types_are_one_category_and_never_an_error():
    assert canonical_key(1) == canonical_key(1.0) == canonical_key("1") == "1"
    column = categories(np.array([1, 1.0, "1", True, None, float("nan"), float("inf"), [1], 0.5], object), "number")
    assert column.keys == ("1", "true", "0.5")
    assert column.codes.tolist() == [0, 0, 0, 1, -2, -2, -4, -3, 2]
    assert column.mistyped is not None
    assert column.mistyped.tolist() == [False, False, True, True, False, False, False, False, False]


def test_a_sensitive_value_is_stored_and_shown_as_a_salted_hash():
    cells = categorical_cells(["alice"], np.array([1.0]), salt="s", sensitive=True)
    assert "alice" not in cells.values
    assert cells.values[0].startswith("#")
    assert tally(cells, categories(["alice"]))[0] == 1
    other = categorical_cells(["alice"], np.array([1.0]), salt="t", sensitive=True)
    assert other.values != cells.values


def test_a_boolean_takes_numbers_and_counts_the_rest_as_unseen():
    cells = boolean_cells()
    counted = tally(cells, categories(np.array([True, 1, 0, "yes", None], object)))
    assert counted[: cells.count].tolist() == [1, 2, 1, 1]
    assert quality(cells, counted) == {"null": 1, "unseen": 1}


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 40), st.text(max_size=3), st.booleans(), st.floats()), max_size=60),
    st.integers(1, 4),
)
def test_groups_of_rows_add_to_the_whole(values: list[Any], groups: int):
    kinds: list[Any] = [
        categorical_cells(["1", "2", "x"], np.array([2.0, 1.0, 1.0]), salt="s", top=2),
        numeric_cells(np.arange(30.0)),
        boolean_cells(),
    ]
    array = np.empty(len(values), object)
    array[:] = values
    column = categories(array, "string")
    group = np.arange(len(values)) % groups
    for cells in kinds:
        parts = cells.tally(column, group, groups)
        assert parts.sum(0).tolist() == tally(cells, column).tolist()
        assert parts[:, : cells.count].sum() == len(values)


def test_a_numeric_status_names_what_was_wrong():
    cells = numeric_cells(np.arange(10.0))
    status = np.array([0, Status.ABSENT, Status.NULL, Status.WRONG_TYPE, Status.NOT_FINITE], np.int8)
    counted = tally(cells, Numbers(np.array([1.0, 0, 0, 0, 0]), status))
    assert quality(cells, counted) == {"absent": 1, "null": 1, "wrong_type": 1, "not_finite": 1}
    assert counted[cells.count - 1] == 4


def test_numbers_in_a_category_keep_their_spelling():
    cells = categorical_cells(["1", "2"], np.array([1.0, 1.0]), salt="s")
    counted = tally(cells, Numbers(np.array([1.0, 2.0, np.nan])))
    assert counted[:2].tolist() == [1, 1]
    assert quality(cells, counted) == {"null": 1, "wrong_type": 2}


@pytest.mark.parametrize(("counts", "cells", "grid"), [([1, 1, 1, 1], 2, [0, 0, 1, 1]), ([8, 1, 1], 2, [0, 1, 1])])
def test_rank_grid_by_hand(counts: list[int], cells: int, grid: list[int]):
    assert rank_grid(np.array(counts), cells).tolist() == grid


@given(st.lists(st.lists(st.integers(0, 10_000), min_size=1, max_size=9), min_size=1, max_size=4), st.integers(1, 25))
def test_coarse_cells_of_many_features_at_once_are_those_of_each_alone(features: list[list[int]], cells: int):
    rows = np.zeros((len(features), 9))
    for row, counts in zip(rows, features, strict=True):
        row[: len(counts)] = counts
    for grid, counts in zip(rank_grid(rows, cells), features, strict=True):
        assert grid[: len(counts)].tolist() == rank_grid(np.array(counts), cells).tolist()


@given(st.lists(st.integers(0, 50) | st.integers(0, 10_000), min_size=1, max_size=60), st.integers(1, 25))
def test_coarse_cells_are_runs_numbered_without_gaps_and_none_but_a_heavy_cell_is_too_heavy(
    counts: list[int], cells: int
):
    grid = rank_grid(np.array(counts), cells)
    assert grid[0] == 0
    assert set(np.diff(grid).tolist()) <= {0, 1}
    assert grid[-1] < cells
    mass = np.bincount(grid, weights=counts)
    # A run begins and ends by the middles of its cells: it may be heavier than its part by half of each of the two.
    assert all(m <= sum(counts) / cells + max(counts) for m in mass)


def test_numbers_of_objects():
    column = numbers(np.array([1, None, "x", True, float("inf")], object))
    assert column.status is not None
    assert column.status.tolist() == [0, -2, -3, 0, -4]
    assert isinstance(categories(["a"]), Categories)
