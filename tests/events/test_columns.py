"""Columns: one value counts the same whether its neighbours make the column one of numbers or of categories."""

from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.column import Categories, Numbers, Status
from stationkeeper.events.columns import CategoryColumn, category_column, number_column
from stationkeeper.events.row_types import ABSENT

VALUES: list[Any] = [1.5, 2, True, "1.5", "true", None, ABSENT, [1], float("inf")]


@pytest.mark.parametrize("make", [number_column, category_column])
def test_as_numbers_text_is_a_wrong_type_and_a_boolean_is_0_or_1(make: Any) -> None:
    column = make(VALUES, ABSENT).core("number", numeric=True)
    assert isinstance(column, Numbers)
    assert column.status is not None
    wrong = Status.WRONG_TYPE
    assert column.status.tolist() == [0, 0, 0, wrong, wrong, Status.NULL, Status.ABSENT, wrong, Status.NOT_FINITE]
    assert column.values[:3].tolist() == [1.5, 2.0, 1.0]


def test_as_categories_other_types_than_the_references_are_mistyped() -> None:
    column = category_column(VALUES[:5], ABSENT).core("string", numeric=False)
    assert isinstance(column, Categories)
    assert column.mistyped is not None
    assert column.mistyped.tolist() == [True, True, True, False, False]
    assert [column.keys[code] for code in column.codes.tolist()] == ["1.5", "2", "true", "1.5", "true"]


def test_numbers_can_be_counted_as_categories() -> None:
    column = number_column([1.0, 0.5, None], ABSENT).core("number", numeric=False)
    assert isinstance(column, Categories)
    assert column.mistyped is None
    assert [column.keys[code] if code >= 0 else code for code in column.codes.tolist()] == ["1", "0.5", Status.NULL]
    assert np.array_equal(column.codes < 0, [False, False, True])


@pytest.mark.parametrize("value", VALUES)
def test_a_value_counts_the_same_before_and_after_a_text(value: Any) -> None:
    before, after = category_column([value, "x"], ABSENT), category_column(["x", value], ABSENT)

    def told(column: CategoryColumn, row: int) -> tuple[object, bool]:
        code = int(column.codes[row])
        return column.keys[code] if code >= 0 else code, bool(column.of_type("number")[row]) and code >= 0

    assert told(before, 0) == told(after, 1)
    assert told(before, 1) == told(after, 0) == ("x", False)


@pytest.mark.parametrize("values", [[True], [False, False], [True, False, True], [False, True, True]])
def test_booleans_alone_are_the_column_that_they_are_among_others(values: list[bool]):
    alone, among = category_column(values, ABSENT), category_column([*values, None], ABSENT)
    assert (alone.codes.dtype, alone.codes.tolist()) == (among.codes.dtype, among.codes.tolist()[:-1])
    assert (alone.keys, alone.types, alone.each) == (among.keys, among.types, among.each)
