"""The encoding of features as a float32 matrix, the same in numpy and as an ONNX graph.

Missing numbers become the median with an indicator beside it; categories become indicators of the frequent ones.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.registry import MISSING_CATEGORY, FeatureKind, FeatureSpec

MAX_CATEGORIES = 64
"""Indicators of one feature, chosen: rarer categories share the row of zeros. Twice as many widen the matrix and teach
little, as each is rare; half of them would merge the states of a country."""

RARE = 5
"""A category seen less often than this has no indicator of its own: fewer rows than a leaf of the trees may hold."""

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ColumnEncoding:
    """How one feature becomes columns: a number with its median and perhaps an indicator, or indicators of texts."""

    spec: FeatureSpec
    median: float = 0.0
    indicator: bool = False
    categories: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many matrix columns the feature takes."""
        return len(self.categories) if self.spec.kind is FeatureKind.CATEGORICAL else 1 + self.indicator


@dataclass(frozen=True, slots=True)
class Encoding:
    """The encoding of all features, in the order of the card; ``fit`` learns it from training rows."""

    columns: tuple[ColumnEncoding, ...]

    @classmethod
    def fit(cls, features: pl.DataFrame, specs: tuple[FeatureSpec, ...]) -> Self:
        """Learn medians, indicators and categories; raises ``ValueError`` when no feature tells anything."""
        columns = tuple(_fit_column(features[spec.name], spec) for spec in specs)
        if not any(column.width for column in columns):
            raise ValueError("no feature has a value in the training rows")
        return cls(columns)

    def transform(self, features: pl.DataFrame) -> Matrix:
        """Return the matrix float32[n, width]; unknown categories are all zeros."""
        parts = [_transform_column(features[column.spec.name], column) for column in self.columns if column.width]
        return np.concatenate(parts, axis=1)

    @property
    def width(self) -> int:
        """The number of matrix columns."""
        return sum(column.width for column in self.columns)

    def onnx_nodes(self, output: str, prefix: str) -> tuple[list[Any], list[Any], list[Any]]:
        """Return (nodes, inputs, initializers) of a graph that computes the matrix as ``output``.

        Inputs are named like the features (``registry.InputMode.COLUMNS``); inner names start with ``prefix``.
        """
        from onnx import TensorProto, helper, numpy_helper

        nodes: list[Any] = []
        inputs: list[Any] = []
        constants: list[Any] = []
        parts: list[str] = []
        # Numbered, because a feature's name may hold what no ONNX name may.
        for number, column in enumerate(self.columns):
            name, inner = column.spec.name, f"{prefix}{number}"
            categorical = column.spec.kind is FeatureKind.CATEGORICAL
            kind = TensorProto.STRING if categorical else TensorProto.FLOAT
            inputs.append(helper.make_tensor_value_info(name, kind, [None, 1]))
            if not column.width:
                continue
            if categorical:
                # OneHotEncoder puts an axis behind the one it is given: [n, 1] becomes [n, 1, width].
                shape = f"{inner}.shape"
                constants.append(numpy_helper.from_array(np.array([-1, column.width], dtype=np.int64), shape))
                nodes += [
                    helper.make_node(
                        "OneHotEncoder",
                        [name],
                        [f"{inner}.hot"],
                        domain="ai.onnx.ml",
                        cats_strings=list(column.categories),
                        zeros=1,
                    ),
                    helper.make_node("Reshape", [f"{inner}.hot", shape], [f"{inner}.out"]),
                ]
                parts.append(f"{inner}.out")
                continue
            median = f"{inner}.median"
            constants.append(numpy_helper.from_array(np.array([[column.median]], dtype=np.float32), median))
            nodes += [
                helper.make_node("IsNaN", [name], [f"{inner}.nan"]),
                helper.make_node("Where", [f"{inner}.nan", median, name], [f"{inner}.out"]),
            ]
            parts.append(f"{inner}.out")
            if column.indicator:
                nodes.append(helper.make_node("Cast", [f"{inner}.nan"], [f"{inner}.is"], to=TensorProto.FLOAT))
                parts.append(f"{inner}.is")
        nodes.append(helper.make_node("Concat", parts, [output], axis=1))
        return nodes, inputs, constants


def _numbers(values: pl.Series) -> npt.NDArray[np.float32]:
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float32)


def _texts(values: pl.Series) -> pl.Series:
    return values.cast(pl.String).fill_null(MISSING_CATEGORY)


def _fit_column(values: pl.Series, spec: FeatureSpec) -> ColumnEncoding:
    if spec.kind is FeatureKind.CATEGORICAL:
        # Counted with the missing text among them: null is a category of its own, as the monitor counts it.
        # Under a name of our own: polars refuses to count a feature that is called as the counts are.
        counts = _texts(values).alias("text").value_counts(name="rows").filter(pl.col("rows") >= RARE)
        # By text where counts are equal, and sorted by text below: the same rows give the same matrix on every machine.
        frequent = counts.sort(["rows", "text"], descending=[True, False]).head(MAX_CATEGORIES)
        return ColumnEncoding(spec, categories=tuple(sorted(frequent["text"].to_list())))
    numbers = _numbers(values)
    missing = np.isnan(numbers)
    if missing.all():
        # A number that no training row has: its indicator still tells when it comes.
        return ColumnEncoding(spec, indicator=True)
    return ColumnEncoding(spec, median=float(np.median(numbers[~missing])), indicator=bool(missing.any()))


def _transform_column(values: pl.Series, column: ColumnEncoding) -> Matrix:
    if column.spec.kind is FeatureKind.CATEGORICAL:
        texts = _texts(values).to_numpy()
        return np.stack([texts == category for category in column.categories], axis=1).astype(np.float32)
    numbers = _numbers(values)
    missing = np.isnan(numbers)
    filled = np.where(missing, np.float32(column.median), numbers)
    parts = [filled, missing.astype(np.float32)] if column.indicator else [filled]
    return np.stack(parts, axis=1)
