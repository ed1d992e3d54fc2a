"""Which kind a column has, and which columns a profile leaves out and why."""

from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.column import Categories, Numbers
from stationkeeper.monitor.core.reference import Kind
from stationkeeper.monitor.core.reference.schema import infer_schema

ROWS = 100


def mixed(*values: object) -> Any:
    return np.array([*values], object)


@pytest.mark.parametrize(
    ("values", "kind", "json_type"),
    [
        (np.arange(10) / 3, Kind.NUMERIC, "number"),
        (np.arange(10) % 2 == 0, Kind.BOOLEAN, "boolean"),
        (np.array(["a", "b"] * 5), Kind.CATEGORICAL, "string"),
        (mixed(*["a", "b"] * 5), Kind.CATEGORICAL, "string"),
        # Nine of ten are numbers, so the tenth is a value of the wrong type; of eight of ten it is a category.
        (mixed(*range(9), "n/a"), Kind.NUMERIC, "number"),
        (mixed(*range(8), "n/a", "-"), Kind.CATEGORICAL, "number"),
        (mixed(*[True, False] * 4, True, "n/a"), Kind.BOOLEAN, "boolean"),
        # A hole says nothing of the type.
        (mixed(1, 2, None, None, None, None), Kind.NUMERIC, "number"),
    ],
)
def test_the_kind_of_a_column_by_hand(values: Any, kind: Kind, json_type: str) -> None:
    schema = infer_schema({"x": values})
    assert (schema.kinds, schema.json_types, schema.notes) == ({"x": kind}, {"x": json_type}, ())


def test_a_number_named_as_a_category_is_one_and_counted_so() -> None:
    schema = infer_schema({"zip": np.arange(10), "age": np.arange(10)}, categorical=["zip"])
    assert schema.kinds == {"zip": Kind.CATEGORICAL, "age": Kind.NUMERIC}
    assert isinstance(schema.column("zip", np.arange(10)), Categories)
    assert isinstance(schema.column("age", np.arange(10)), Numbers)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.arange(ROWS).astype("datetime64[s]"), "holds times"),
        (np.full(ROWS, np.nan), "has no value in the reference rows"),
        (mixed(*[None] * ROWS), "has no value in the reference rows"),
        (mixed(*(f"u{row}" for row in range(ROWS))), "has another text in every row, like an identifier"),
        (np.arange(ROWS), "never falls, like a counter or a clock"),
    ],
)
def test_an_odd_column_is_left_out_with_its_reason(values: Any, reason: str) -> None:
    schema = infer_schema({"x": values, "age": np.arange(ROWS) % 7}, ordered=True)
    assert list(schema.kinds) == ["age"]
    assert schema.notes == (f"x: {reason}; not watched",)


@pytest.mark.parametrize(
    "values",
    [
        # One repeat: a code of which most are rare.
        mixed("u0", *(f"u{row}" for row in range(ROWS - 1))),
        # One row fewer than tell an identifier or a clock.
        mixed(*(f"u{row}" for row in range(ROWS - 1))),
        np.arange(ROWS - 1),
        # A version number rises a handful of times.
        np.arange(ROWS) // 3,
        # It falls once.
        np.append(np.arange(ROWS), 0),
    ],
)
def test_what_only_looks_odd_is_watched(values: Any) -> None:
    assert infer_schema({"x": values}, ordered=True).notes == ()


def test_a_counter_is_one_only_in_order_of_time_and_never_where_the_user_names_it() -> None:
    assert infer_schema({"x": np.arange(ROWS)}).notes == ()
    assert infer_schema({"x": np.arange(ROWS)}, named=True, ordered=True).notes == ()
    # A name cannot make a column of times or one without values countable.
    assert infer_schema({"x": np.full(ROWS, np.nan)}, named=True).kinds == {}
