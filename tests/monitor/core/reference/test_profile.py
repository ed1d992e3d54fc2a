from typing import Any

import numpy as np
import polars as pl
import pytest

from stationkeeper.monitor import profile
from stationkeeper.monitor.core.reference import Kind, Task, infer_task, outcomes
from tests.monitor.core.streams import bank


def test_kinds_are_inferred_and_odd_columns_left_out_with_a_note():
    rows = 200
    made = profile(
        {
            "age": np.arange(rows) % 7.0,
            "flag": np.arange(rows) % 2 == 0,
            "city": np.array(["x", "y"] * 100, object),
            "mixed": np.array([1, "1", None, 2.0] * 50, object),
            "id": np.array([f"u{i}" for i in range(rows)], object),
            "counter": np.arange(rows),
            "empty": np.full(rows, np.nan),
            "when": np.arange(rows).astype("datetime64[s]"),
        },
        ordered=True,
    )
    assert {s.name: s.kind for s in made.subjects} == {
        "age": Kind.NUMERIC,
        "flag": Kind.BOOLEAN,
        "city": Kind.CATEGORICAL,
        "mixed": Kind.CATEGORICAL,
    }
    for name in ("id", "counter", "empty", "when"):
        assert any(note.startswith(f"{name}: ") for note in made.notes)


def test_a_named_column_is_watched_even_if_it_looks_like_a_counter():
    made = profile({"counter": np.arange(200)}, features=["counter"], ordered=True)
    assert [s.name for s in made.subjects] == ["counter"]


def test_frames_of_polars_and_arrays_give_the_same_reference():
    data = bank(1_000)
    data["method"][::10] = None
    made = profile(pl.DataFrame({name: values.tolist() for name, values in data.items()}), ordered=True)
    assert made.digest == profile(data, ordered=True).digest


def test_a_rebalanced_training_set_is_profiled_as_production_looks():
    rng = np.random.default_rng(0)
    fraud = np.repeat([1, 0], 2_000)
    amount = np.where(fraud == 1, rng.normal(10, 1, 4_000), rng.normal(0, 1, 4_000))
    made = profile({"amount": amount, "fraud": fraud}, label="fraud", prior={"1": 0.02}).by_name["amount"]
    high = made.counts[:-1][np.searchsorted(made.cells.edges, 5.0) + 1 :].sum() / made.rows  # type: ignore[union-attr]
    assert high == pytest.approx(0.02, abs=0.005)


@pytest.mark.parametrize(
    ("prediction", "task"),
    [
        ([0.1, 0.9], Task.BINARY),
        ([0, 1], Task.BINARY),
        ([0, 1, 2], Task.MULTICLASS),
        ([1.5, -3.2], Task.REGRESSION),
        (["a", "b", "c"], Task.MULTICLASS),
        ([True, False], Task.BINARY),
    ],
)
def test_the_task_follows_from_the_predictions(prediction: list[Any], task: Task):
    assert infer_task(np.array(prediction)) is task


def test_outcomes_by_hand():
    right, up, down, *_, usable = outcomes(
        np.array([0.9, 0.8, 0.1, 0.2, 0.7]), np.array([1, 0, 1, 0, None], object), Task.BINARY, 0.5, "1"
    )
    assert right.tolist() == [True, False, False, True, False]
    assert up.tolist() == [False, True, False, False, False]
    assert down.tolist() == [False, False, True, False, False]
    assert usable.tolist() == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction": "score"}, "'score' is not in the data"),
        ({"features": ["nope"]}, "'nope' is not in the data"),
        ({"sensitive": ["nope"]}, "'nope' is not in the data"),
        ({"time": "at"}, "'at' is not in the data"),
        ({"prior": {"1": 0.5}}, "prior needs the label"),
        ({"weight": "age", "prior": {"1": 0.5}}, "either a weight column or a prior"),
    ],
)
def test_bad_options_name_the_column(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        profile(bank(50), **options)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="same number of rows"):
        profile({"a": [1.0, 2.0], "b": [1.0]})
