"""How values become a model's input, by hand, and which cards are refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from stationkeeper.registry import (
    ArtifactError,
    CardError,
    Column,
    FeatureKind,
    FeatureSpec,
    InputMode,
    ModelCard,
    category_text,
    pyfunc_graph,
)
from stationkeeper.registry.artifact import TENSOR_INPUT, column_input, model_inputs, read_card

NUMBER = FeatureSpec(name="n", kind=FeatureKind.NUMERIC)
TEXT = FeatureSpec(name="t", kind=FeatureKind.CATEGORICAL)
FLAG = FeatureSpec(name="b", kind=FeatureKind.BOOLEAN)


def card(**changes: Any) -> ModelCard:
    facts = {"model": "m", "task": "regression", "features": (NUMBER, FLAG), "onnx_sha256": "0" * 64}
    return ModelCard.model_validate(facts | changes)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (None, "__missing__"),
        (math.nan, "__missing__"),
        (-math.inf, "__missing__"),
        (True, "true"),
        (7.0, "7"),
        (7, "7"),
        (0.5, "0.5"),
    ],
)
def test_a_category_has_one_text(value: Any, text: str):
    assert category_text(value) == text
    # What travels with a model into MLflow's own tools cannot import ours, and must spell it alike.
    assert pyfunc_graph._text(value) == text


def test_numbers_and_booleans_are_float32_with_nan_for_null():
    np.testing.assert_array_equal(column_input(NUMBER, [1, None, 2.5]), np.array([[1], [np.nan], [2.5]], np.float32))
    np.testing.assert_array_equal(column_input(FLAG, [True, None]), np.array([[1], [np.nan]], np.float32))
    assert column_input(TEXT, ["x", None, 3.0]).ravel().tolist() == ["x", "__missing__", "3"]


@pytest.mark.parametrize(
    ("spec", "column", "says"),
    [
        (NUMBER, [1.0, "x"], "'x' is not numeric; send a number or null"),
        (NUMBER, ["2"], "'2' is not numeric"),
        (FLAG, ["yes"], "send true, false or null"),
        (NUMBER, [1.0, math.inf], "inf is infinite"),
        (NUMBER, [1e300], "beyond float32"),
        (NUMBER, [10**400], "beyond float32"),
    ],
)
def test_what_is_no_input_is_named(spec: FeatureSpec, column: list[Any], says: str):
    with pytest.raises(CardError, match=says) as caught:
        column_input(spec, column)
    assert caught.value.feature == spec.name


def test_inputs_are_columns_or_one_tensor_in_the_order_of_the_card():
    columns: dict[str, Column] = {"b": [True], "n": [4.0]}
    assert list(model_inputs(card(), columns)) == ["n", "b"]
    tensor = model_inputs(card(input_mode=InputMode.TENSOR), columns)
    assert {name: value.tolist() for name, value in tensor.items()} == {"features": [[4.0, 1.0]]}
    with pytest.raises(CardError, match="missing; the model takes n, b"):
        model_inputs(card(), {"n": [1.0]})


@pytest.mark.parametrize(
    "bad", [[1.0, "5"], [1.0, 1e39], [1.0, float("inf")], [10**400, 1.0]], ids=["text", "float32", "infinite", "int"]
)
def test_a_tensor_s_columns_are_converted_at_once_and_refused_by_name(bad: list[Any]) -> None:
    tensor = card(input_mode=InputMode.TENSOR)
    columns: dict[str, list[Any]] = {"n": [1, None], "b": [True, None]}
    whole = model_inputs(tensor, columns)[TENSOR_INPUT]
    # The same numbers as column by column, which is what training and the other mode do.
    alone = np.hstack([column_input(one, columns[one.name]) for one in tensor.features])
    assert (str(whole.dtype), whole.shape, whole.flags.c_contiguous) == ("float32", (2, 2), True)
    np.testing.assert_array_equal(whole, alone)
    with pytest.raises(CardError) as refused:
        model_inputs(tensor, columns | {"n": bad})
    assert refused.value.feature == "n"
    with pytest.raises(CardError, match="missing"):
        model_inputs(tensor, {"n": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"features": (NUMBER, NUMBER)}, "appear twice"),
        ({"classes": ("a", "b")}, "a regression has none"),
        ({"task": "multiclass", "classes": ("a", "a")}, "two or more different"),
        ({"task": "binary", "classes": ("a", "b"), "positive": "c"}, "must be one of exactly two"),
        ({"features": (TEXT,), "input_mode": "tensor"}, "a tensor holds no text"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(changes: dict[str, Any], says: str):
    with pytest.raises(ValidationError, match=says):
        card(**changes)


def test_a_directory_without_its_files_is_no_artifact(tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"version 1 of m has no card\.json"):
        read_card(tmp_path, "version 1 of m")
