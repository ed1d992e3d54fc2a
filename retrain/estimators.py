"""The default trainers: scikit-learn gradient boosting and logistic (or ridge) regression on encoded features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.artifact import InputMode, Task
from retrain.encoding import Encoding
from retrain.trainer import FittedModel, OnnxModel, Trainer, TrainingData

OPSET = {"": 18, "ai.onnx.ml": 3}
MATRIX = "encoded"
PREFIX = "encode."


@dataclass(frozen=True, slots=True)
class EncodedModel:
    """A scikit-learn estimator behind an encoding; a user's own trainer may return one too."""

    encoding: Encoding
    estimator: Any
    task: Task

    def score(self, features: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Return the positive probability or the value of each row."""
        matrix = self.encoding.transform(features)
        if self.task is Task.REGRESSION:
            return np.asarray(self.estimator.predict(matrix), dtype=np.float64)
        return np.asarray(self.estimator.predict_proba(matrix)[:, 1], dtype=np.float64)

    def to_onnx(self) -> OnnxModel:
        """Return encoding and estimator as one graph with an input for each feature."""
        from onnx import checker, helper
        from onnx.compose import add_prefix
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType

        regression = self.task is Task.REGRESSION
        converted = convert_sklearn(
            self.estimator,
            initial_types=[(MATRIX, FloatTensorType([None, self.encoding.width]))],
            target_opset=OPSET,
            options=None if regression else {id(self.estimator): {"zipmap": False}},
        )
        prefixed = add_prefix(converted, "model.")
        nodes, inputs, constants = self.encoding.onnx_nodes("model." + MATRIX, PREFIX)
        wanted = prefixed.graph.output[0 if regression else 1]
        graph = helper.make_graph(
            [*nodes, *prefixed.graph.node],
            "stationkeeper",
            inputs,
            [wanted],
            initializer=[*constants, *prefixed.graph.initializer],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSET.items()],
            producer_name="stationkeeper",
            ir_version=converted.ir_version,
        )
        checker.check_model(model)
        return OnnxModel(model.SerializeToString(deterministic=True), wanted.name, InputMode.COLUMNS)

    def to_skops(self) -> bytes | None:
        """Return the estimator (without its encoding) as a skops file."""
        from skops import io

        return bytes(io.dumps(self.estimator))


@dataclass(frozen=True, slots=True)
class GradientBoosting:
    """Stochastic gradient boosting (Friedman 2002): half the rows a tree, the square root of the columns a split."""

    trees: int = 120
    depth: int = 4
    rate: float = 0.1

    def fit(self, data: TrainingData) -> FittedModel:
        """Fit the trees; O(trees * rows * sqrt(columns) * depth)."""
        from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

        kind = GradientBoostingRegressor if data.task is Task.REGRESSION else GradientBoostingClassifier
        estimator = kind(
            n_estimators=self.trees,
            max_depth=self.depth,
            learning_rate=self.rate,
            subsample=0.5,
            max_features="sqrt",
            min_samples_leaf=10,
            random_state=data.seed,
        )
        return _fit(estimator, data)


@dataclass(frozen=True, slots=True)
class LogisticRegression:
    """Logistic regression with an L2 penalty on standardised columns; ridge regression for a regression task."""

    inverse_penalty: float = 1.0

    def fit(self, data: TrainingData) -> FittedModel:
        """Fit the coefficients."""
        from sklearn.linear_model import LogisticRegression as Logistic
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if data.task is Task.REGRESSION:
            last = Ridge(alpha=1.0 / self.inverse_penalty, random_state=data.seed)
        else:
            last = Logistic(C=self.inverse_penalty, max_iter=500, random_state=data.seed)
        return _fit(make_pipeline(StandardScaler(), last), data)


def _fit(estimator: Any, data: TrainingData) -> FittedModel:
    encoding = Encoding.fit(data.features, data.specs)
    matrix = encoding.transform(data.features)
    labels = data.labels if data.task is Task.REGRESSION else data.labels.astype(np.int64)
    # A pipeline passes weights on by the name of its last step.
    steps = getattr(estimator, "steps", None)
    name = "sample_weight" if steps is None else f"{steps[-1][0]}__sample_weight"
    estimator.fit(matrix, labels, **{name: data.weights})
    return EncodedModel(encoding, estimator, data.task)


DEFAULTS: dict[str, Callable[[], Trainer]] = {
    "gradient-boosting": GradientBoosting,
    "logistic-regression": LogisticRegression,
}
