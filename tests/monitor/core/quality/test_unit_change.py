"""A change of unit is told from drift: the factor is named, and an ordinary shift is not taken for one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stationkeeper.monitor.core.quality.unit_change import FACTORS, FAR, MIN_ROWS, UnitChange, unit_change
from tests.monitor.core.streams import Columns, bank, columns_for, reference_of

REFERENCE = reference_of(bank(5_000))
SIGNED = reference_of({"gap": np.random.default_rng(0).normal(20.0, 4.0, 5_000)})
# Five hundred rows that the reference has not seen.
AMOUNT, AGE = (bank(500, 5)[name] for name in ("amount", "age"))


def found(values: Any, name: str = "amount", reference: Any = REFERENCE) -> UnitChange | None:
    data: Columns = {name: np.asarray(values)}
    place, rows = reference.layout[name], len(values)
    counts = reference.layout.tally(columns_for(reference, data), np.zeros(rows, np.int64), np.array([rows]))[0]
    return unit_change(reference.by_name[name], counts[place.histogram], counts[place.octaves])


@pytest.mark.parametrize(
    ("factor", "name"),
    [(1_000.0, "x1000"), (100.0, "x100"), (0.01, "1/100"), (60.0, "x60"), (1e6, "x1e6"), (2.54, "x2.54 (inch to cm)")],
)
def test_the_factor_is_named_in_the_direction_in_which_the_values_moved(factor: float, name: str) -> None:
    change = found(AMOUNT * factor)
    assert change is not None
    assert (change.name, change.factor) == (name, factor)
    assert change.left < change.moved


def test_a_factor_that_leaves_half_of_the_way_explains_nothing() -> None:
    # A third more: nearer to 1.609 (miles to km) than to nothing, and still no change of miles to km.
    spread = reference_of({"length": np.random.default_rng(0).lognormal(3, 0.38, 5_000)})
    assert found(np.random.default_rng(2).lognormal(3, 0.38, 300) * 1.36, "length", spread) is None


def test_a_wide_feature_that_moved_little_is_not_tried_against_the_factors() -> None:
    wide = reference_of({"length": np.random.default_rng(0).lognormal(3, 1.5, 5_000)})
    assert found(np.random.default_rng(2).lognormal(3, 1.5, 5_000) * 2.20462, "length", wide) is None


def test_a_changed_sign_is_named() -> None:
    change = found(-np.random.default_rng(1).normal(20.0, 4.0, 500), "gap", SIGNED)
    assert change is not None
    assert change.factor == -1.0


@pytest.mark.parametrize("change", [lambda age: age + 15, lambda age: age * 1.3, lambda age: 40 + (age - 40) * 2])
def test_a_shift_a_growth_and_a_wider_spread_are_no_unit(change: Callable[[Any], Any]) -> None:
    assert found(change(AGE), "age") is None


def test_rows_like_the_reference_have_not_moved_far_enough() -> None:
    assert found(AMOUNT) is None
    change = found(AMOUNT * 100)
    assert change is not None
    assert change.moved >= FAR


def test_few_rows_tell_a_large_factor_but_not_a_mild_one() -> None:
    assert found(AMOUNT[: MIN_ROWS - 1] * 1_000) is None
    assert found(AMOUNT[:MIN_ROWS] * 1_000) is not None
    # Inches and centimetres look like drift on as few as 299 rows; a unit is said from 300 on.
    assert found(AMOUNT[:299] * 2.54) is None
    assert found(AMOUNT[:300] * 2.54) is not None


def test_missing_rows_tell_no_unit() -> None:
    values = np.append(AMOUNT[: MIN_ROWS - 1] * 1_000, np.full(5, np.nan))
    assert found(values) is None


def test_a_category_and_a_feature_of_a_handful_of_values_have_no_unit() -> None:
    few = reference_of({"stars": np.arange(1_000) % 3 + 1.0})
    assert found((np.arange(500) % 3 + 1.0) * 100, "stars", few) is None
    place, method = REFERENCE.layout["method"], REFERENCE.by_name["method"]
    counts = REFERENCE.layout.zeros()[place.histogram]
    assert unit_change(method, counts + 100, np.zeros(64, np.int64)) is None


@given(st.sampled_from([factor for factor in FACTORS.values() if factor >= 100]), st.integers(0, 5))
def test_every_large_factor_is_found_both_ways_on_any_rows(factor: float, seed: int) -> None:
    rows = bank(400, seed + 10)["amount"]
    for k in (factor, 1 / factor):
        change = found(rows * k)
        assert change is not None
        # 1000 and 1024 are a fortieth of an octave apart, which cells that wide cannot tell.
        assert change.factor == pytest.approx(k, rel=0.05)
