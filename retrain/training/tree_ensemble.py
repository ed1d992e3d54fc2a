"""Histogram gradient boosting as an ONNX tree ensemble; the converter of skl2onnx fails on it.

skl2onnx 1.20 passes numpy integers and booleans of scikit-learn 1.9 on to onnx, which refuses them.

scikit-learn's older gradient boosting, which skl2onnx does convert, has no penalty on leaf values: on classes that
are nearly separable one leaf can throw its rows to the far end (measured on the fraud demo: average precision 0.52 to
0.99 for the same rows under small changes of settings; 0.99 always with histograms and a penalty).
"""

from typing import Any

import numpy as np
import numpy.typing as npt


def tree_nodes(estimator: Any, matrix: str, output: str, *, classifier: bool) -> tuple[list[Any], list[Any]]:
    """Return (nodes, initializers) that compute ``output`` from a float32 matrix without missing values.

    ``output`` is probabilities ``(n, classes)`` of a classifier, or values ``(n, 1)``. Raises ``ValueError`` for
    what this form cannot hold: categorical splits.
    """
    from onnx import helper, numpy_helper

    # Of several classes each round has a tree a class, whose sum is that class's logit.
    trees = [tree for round_ in estimator._predictors for tree in round_]  # noqa: SLF001 - they have no public name
    baseline = np.asarray(estimator._baseline_prediction, np.float64).reshape(-1)  # noqa: SLF001
    raw = output if not classifier else f"{output}.raw"
    nodes = [
        helper.make_node(
            "TreeEnsembleRegressor",
            [matrix],
            [raw],
            domain="ai.onnx.ml",
            n_targets=len(baseline),
            aggregate_function="SUM",
            base_values=baseline.tolist(),
            **_attributes([tree.nodes for tree in trees], len(baseline)),
        )
    ]
    if not classifier:
        return nodes, []
    if len(baseline) > 1:
        return [*nodes, helper.make_node("Softmax", [raw], [output], axis=1)], []
    one = f"{output}.one"
    nodes += [
        helper.make_node("Sigmoid", [raw], [f"{output}.positive"]),
        helper.make_node("Sub", [one, f"{output}.positive"], [f"{output}.negative"]),
        helper.make_node("Concat", [f"{output}.negative", f"{output}.positive"], [output], axis=1),
    ]
    return nodes, [numpy_helper.from_array(np.ones((1, 1), dtype=np.float32), one)]


def _attributes(trees: list[npt.NDArray[Any]], targets: int) -> dict[str, Any]:
    nodes = np.concatenate(trees)
    if nodes["is_categorical"].any():
        raise ValueError("categorical splits; encode categories as columns")
    sizes = [len(tree) for tree in trees]
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    leaf = nodes["is_leaf"].astype(bool)
    return {
        "nodes_treeids": tree_ids.tolist(),
        "nodes_nodeids": node_ids.tolist(),
        "nodes_featureids": np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64).tolist(),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        # Thresholds are float64 and the graph compares float32: rounded up, a row at the threshold would change its
        # side.
        "nodes_values": np.where(leaf, 0.0, float32_below(nodes["num_threshold"])).astype(np.float32).tolist(),
        "nodes_truenodeids": np.where(leaf, 0, nodes["left"]).astype(np.int64).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, nodes["right"]).astype(np.int64).tolist(),
        "target_treeids": tree_ids[leaf].tolist(),
        "target_nodeids": node_ids[leaf].tolist(),
        "target_ids": (tree_ids[leaf] % targets).tolist(),
        "target_weights": nodes["value"][leaf].astype(np.float32).tolist(),
    }


def float32_below(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the largest float32 not above each threshold: for float32 x, ``x <= t`` is then the same question."""
    near = thresholds.astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    return np.where(near.astype(np.float64) > thresholds, below, near).astype(np.float32)
