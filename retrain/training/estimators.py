"""The shipped trainers on encoded features: gradient boosting by two libraries, logistic or ridge regression."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.registry import InputMode, ModelTask
from stationkeeper.retrain.training.encoding import Encoding
from stationkeeper.retrain.training.trainer import FittedModel, OnnxModel, TrainerError, TrainingData
from stationkeeper.retrain.training.tree_ensemble import float32_below, tree_nodes

# What registered models ask of a server: onnxruntime reads these since 1.14 (opset 18) and 1.15 (IR 9), so that a
# router may be older than the trainer. A newer opset would gain nothing that the nodes below use.
OPSET = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 9
PREFIX = "stationkeeper."
"""Inner names start with it, so that no feature's name meets one."""
_PROBABILITIES = "stationkeeper.probabilities"
OUTPUTS = {
    ModelTask.BINARY: _PROBABILITIES,
    ModelTask.MULTICLASS: _PROBABILITIES,
    ModelTask.REGRESSION: "stationkeeper.value",
}


@dataclass(frozen=True, slots=True)
class EncodedModel:
    """A scikit-learn estimator behind an encoding; a user's own trainer may return one too.

    ``classes`` is how many there are where there are several: an estimator that saw no row of one gives it 0.
    """

    encoding: Encoding
    estimator: Any
    task: ModelTask
    classes: int = 2

    def score(self, features: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Return the positive probability or the value of each row, of several classes float64[n, classes]."""
        matrix = self.encoding.transform(features)
        if self.task is ModelTask.REGRESSION:
            return np.asarray(self.estimator.predict(matrix), dtype=np.float64)
        found = np.asarray(self.estimator.predict_proba(matrix), dtype=np.float64)
        return found @ self._places() if self.task is ModelTask.MULTICLASS else found[:, 1]

    def _places(self) -> npt.NDArray[np.float32]:
        """Return which class each of the estimator's columns is, float32[columns, classes] of 0 and 1."""
        return np.eye(self.classes, dtype=np.float32)[np.asarray(self.estimator.classes_, np.int64)]

    def to_onnx(self) -> OnnxModel:
        """Return encoding and estimator as one graph with an input for each feature."""
        from onnx import TensorProto, checker, helper, numpy_helper

        regression, several = self.task is ModelTask.REGRESSION, self.task is ModelTask.MULTICLASS
        matrix, output = PREFIX + "matrix", OUTPUTS[self.task]
        nodes, inputs, constants = self.encoding.onnx_nodes(matrix, PREFIX)
        seen = PREFIX + "seen" if several else output
        # Only histogram gradient boosting has it; the converter of skl2onnx fails on that one (tree_ensemble).
        if hasattr(self.estimator, "_predictors"):
            more, values = tree_nodes(self.estimator, matrix, seen, classifier=not regression)
        elif isinstance(self.estimator, Boosted):
            more, values = self.estimator.onnx_nodes(matrix, seen)
        else:
            more, values = self._converted(matrix, seen)
        if several:
            # A product with 0 and 1 is exact, and the graph has one form whether a class was missing or not.
            places = PREFIX + "places"
            more = [*more, helper.make_node("MatMul", [seen, places], [output])]
            values = [*values, numpy_helper.from_array(self._places(), places)]
        width = 1 if regression else self.classes
        graph = helper.make_graph(
            [*nodes, *more],
            "stationkeeper",
            inputs,
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, width])],
            initializer=[*constants, *values],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSET.items()],
            producer_name="stationkeeper",
            ir_version=IR_VERSION,
        )
        checker.check_model(model)
        # Deterministic: the digest in the card names the bytes, and a training that is repeated must give the same
        # ones.
        return OnnxModel(model.SerializeToString(deterministic=True), output, InputMode.COLUMNS)

    def _converted(self, matrix: str, output: str) -> tuple[list[Any], list[Any]]:
        """Return nodes and initializers of the estimator alone, converted by skl2onnx."""
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType

        regression = self.task is ModelTask.REGRESSION
        converted = convert_sklearn(
            self.estimator,
            initial_types=[("x", FloatTensorType([None, self.encoding.width]))],
            target_opset=OPSET,
            # Without it the probabilities come as a list of maps, which no server of tensors reads.
            options=None if regression else {id(self.estimator): {"zipmap": False}},
        )
        return _bridged(converted, matrix, output)

    def to_skops(self) -> bytes | None:
        """Return the estimator (without its encoding) as a skops file."""
        from skops import io

        return bytes(io.dumps(self.estimator))


def _bridged(converted: Any, matrix: str, output: str) -> tuple[list[Any], list[Any]]:
    """Return nodes and initializers of a converted model whose one input is ``x``, between two names of a graph."""
    from onnx import helper
    from onnx.compose import add_prefix

    inner = PREFIX + "estimator."
    graph = add_prefix(converted, inner).graph
    bridge_in = helper.make_node("Identity", [matrix], [inner + "x"])
    # A converted classifier answers with label and probabilities, in this order; a regression with its value alone.
    bridge_out = helper.make_node("Identity", [graph.output[-1].name], [output])
    return [bridge_in, *graph.node, bridge_out], list(graph.initializer)


@dataclass(frozen=True, slots=True)
class GradientBoosting:
    """Histogram gradient boosting with a penalty on leaf values (Ke et al. 2017; Chen & Guestrin 2016, eq. 5)."""

    # scikit-learn's own default. Half as many stop while the loss still falls, twice as many cost as much again.
    trees: int = 100
    # Half of scikit-learn's 31, chosen: just after a change a leaf of a larger tree would hold a handful of new rows.
    leaves: int = 15
    # scikit-learn's own default, for as many trees.
    rate: float = 0.1
    # Chosen: at 0 one leaf of nearly separable classes throws its rows to the far end (tree_ensemble); ten times as
    # much flattens leaves of few rows, which after a change are those that matter.
    penalty: float = 2.0

    def fit(self, data: TrainingData) -> FittedModel:
        """Fit the trees; O(trees * rows * columns / 2)."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingRegressor if data.task is ModelTask.REGRESSION else HistGradientBoostingClassifier
        estimator = kind(
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            learning_rate=self.rate,
            l2_regularization=self.penalty,
            min_samples_leaf=5,  # new rows are few just after a change; the penalty guards what small leaves risk
            # Half of the columns at each split, chosen: trees of one strong column alone would repeat each other.
            max_features=0.5,
            # It would hold a tenth of the rows back at random, neighbours of rows that are learnt: the backtest judges
            # by time.
            early_stopping=False,
            random_state=data.seed,
        )
        return _fit(estimator, data)


@dataclass(frozen=True, slots=True)
class Boosted:
    """A LightGBM booster with the face of a scikit-learn estimator; ``classes_`` int64[k] are the classes it knows.

    Its thresholds are float32 numbers, which is what the graph compares: as LightGBM chose them, between two of the
    float64 line, a row at a threshold would go the other way in the graph.
    """

    booster: Any
    classes_: npt.NDArray[np.int64]

    @classmethod
    def of(cls, booster: Any, classes: npt.NDArray[np.int64]) -> "Boosted":
        """Return a trained booster whose thresholds ask float32 rows the same questions."""
        from lightgbm import Booster

        def lowered(found: re.Match[str]) -> str:
            values = np.array(found[1].split(), dtype=np.float64)
            return "threshold=" + " ".join(repr(float(value)) for value in float32_below(values))

        text = re.sub(r"(?m)^threshold=(.*)$", lowered, booster.model_to_string())
        # Sizes in bytes of the trees as they were; without the line they are read one after another.
        return cls(Booster(model_str=re.sub(r"(?m)^tree_sizes=.*\n", "", text)), classes)

    def predict(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return what the booster answers: values, the positive class's probability, or those of several classes."""
        return np.asarray(self.booster.predict(matrix, num_threads=1), dtype=np.float64)

    def predict_proba(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return a probability for each class, float64[n, classes]."""
        found = self.predict(matrix)
        return found if found.ndim > 1 else np.stack([1.0 - found, found], axis=1)

    def onnx_nodes(self, matrix: str, output: str) -> tuple[list[Any], list[Any]]:
        """Return nodes and initializers that compute ``output`` from a float32 matrix, converted by onnxmltools."""
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        width = self.booster.num_feature()
        # Below what OPSET names: what it writes for it means the same there, and it knows none newer than its own.
        converted = convert_lightgbm(
            self.booster, initial_types=[("x", FloatTensorType([None, width]))], zipmap=False, target_opset=15
        )
        return _bridged(converted, matrix, output)


@dataclass(frozen=True, slots=True)
class LightGBM:
    """LightGBM's gradient boosting (Ke et al. 2017), of the extra ``lightgbm``; numbers as for ``GradientBoosting``."""

    trees: int = 100
    leaves: int = 15
    rate: float = 0.1
    penalty: float = 2.0

    def fit(self, data: TrainingData) -> FittedModel:
        """Fit the trees; O(trees * rows * columns / 2). Raises ``TrainerError`` where the extra is missing."""
        try:
            import lightgbm
            import onnxmltools  # noqa: F401 - asked for before the fit, which its absence would waste
        except (ImportError, OSError) as error:
            # The second where the system lacks the library of threads that it is linked to, as slim images do.
            text = f"{error}; pip install 'stationkeeper[lightgbm]' where retrain runs (Debian also: libgomp1)"
            raise TrainerError(f"trainer lightgbm cannot begin: {text}") from error
        regression = data.task is ModelTask.REGRESSION
        # Those that these rows have: one without a row would get the next to nothing that its logarithm needs.
        found, places = np.unique(data.labels.astype(np.int64), return_inverse=True)
        parameters = {
            "objective": {ModelTask.REGRESSION: "regression", ModelTask.BINARY: "binary"}.get(data.task, "multiclass"),
            "num_class": len(found) if data.task is ModelTask.MULTICLASS else 1,
            "num_leaves": self.leaves,
            "learning_rate": self.rate,
            "lambda_l2": self.penalty,
            # Both as for GradientBoosting, and for its reasons.
            "min_data_in_leaf": 5,
            "feature_fraction_bynode": 0.5,
            # The encoding leaves none missing.
            "use_missing": False,
            "num_threads": data.threads,
            "seed": data.seed,
            # Else the sums of a histogram, and so the model, depend on which way of making it was quicker.
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        encoding = Encoding.fit(data.features, data.specs)
        targets = data.labels if regression else places
        rows = lightgbm.Dataset(encoding.transform(data.features), targets, weight=data.weights)
        booster = Boosted.of(lightgbm.train(parameters, rows, self.trees), found)
        return EncodedModel(encoding, booster, data.task, max(len(data.classes), 2))


@dataclass(frozen=True, slots=True)
class LogisticRegression:
    """Logistic regression with an L2 penalty on standardised columns; ridge regression for a regression task."""

    # scikit-learn's own default, on standardised columns.
    inverse_penalty: float = 1.0

    def fit(self, data: TrainingData) -> FittedModel:
        """Fit the coefficients."""
        from sklearn.linear_model import LogisticRegression as Logistic
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if data.task is ModelTask.REGRESSION:
            last = Ridge(alpha=1.0 / self.inverse_penalty, random_state=data.seed)
        else:
            # scikit-learn's 100 stops some fits before they have converged; those that converge end before 500.
            last = Logistic(C=self.inverse_penalty, max_iter=500, random_state=data.seed)
        return _fit(make_pipeline(StandardScaler(), last), data)


def _fit(estimator: Any, data: TrainingData) -> FittedModel:
    encoding = Encoding.fit(data.features, data.specs)
    matrix = encoding.transform(data.features)
    labels = data.labels if data.task is ModelTask.REGRESSION else data.labels.astype(np.int64)
    # A pipeline passes weights on by the name of its last step.
    steps = getattr(estimator, "steps", None)
    name = "sample_weight" if steps is None else f"{steps[-1][0]}__sample_weight"
    # With weights scikit-learn bins by weighted quantiles, which takes longer than the trees: none where all are 1.
    weighted = {} if (data.weights == 1.0).all() else {name: data.weights}
    estimator.fit(matrix, labels, **weighted)
    return EncodedModel(encoding, estimator, data.task, max(len(data.classes), 2))
