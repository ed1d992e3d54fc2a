"""A program for `trainer: command`: logistic regression of the rows in the exchange folder, written as ONNX.

usage: python train.py [FOLDER]   (without FOLDER, the one that $STATIONKEEPER_EXCHANGE names)
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import polars as pl
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

# Exit code 3 tells Stationkeeper that no second try would help.
UNFIT = 3
# The text by which a served model is asked about a missing category.
MISSING = "__missing__"


def main(folder: Path) -> int:
    """Train once; the files of the folder are described in docs/retraining.md."""
    job = json.loads((folder / "job.json").read_text())
    if job["task"] != "binary":
        (folder / "error.txt").write_text(f"this program trains binary models, the task is {job['task']}")
        return UNFIT
    rows = pl.read_parquet(folder / "data.parquet")
    # Plain names while the graph is made: the converter changes those that are no identifiers.
    names = {f"input{number}": one["name"] for number, one in enumerate(job["features"])}
    texts = [f"input{number}" for number, one in enumerate(job["features"]) if one["kind"] == "categorical"]
    numbers = [name for name in names if name not in texts]
    features = rows.select(pl.col(given).alias(name) for name, given in names.items()).with_columns(
        pl.col(texts).fill_null(MISSING), pl.col(numbers).cast(pl.Float32).fill_null(float("nan"))
    )
    scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    steps: list[tuple[str, Any, list[str]]] = [
        ("numbers", scaled, numbers),
        ("texts", OneHotEncoder(handle_unknown="ignore", min_frequency=5), texts),
    ]
    model = make_pipeline(
        ColumnTransformer([step for step in steps if step[2]]),
        LogisticRegression(C=job["parameters"].get("inverse_penalty", 1.0), max_iter=500, random_state=job["seed"]),
    )
    labels = rows["@label"].to_numpy().astype(int)
    model.fit(features, labels, logisticregression__sample_weight=rows["@weight"].to_numpy())
    (folder / "progress.json").write_text(json.dumps({"share": 0.9, "text": "fitted, exporting"}))
    inputs = [(name, StringTensorType([None, 1])) for name in texts]
    inputs += [(name, FloatTensorType([None, 1])) for name in numbers]
    graph = convert_sklearn(model, initial_types=inputs, options={id(model): {"zipmap": False}}, target_opset=18)
    for one in graph.graph.input:
        one.name = names[one.name]
    for node in graph.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    (folder / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    (folder / "model.json").write_text(json.dumps({"input_mode": "columns", "output": "probabilities"}))
    metrics = {"accuracy": float(model.score(features, labels)), "rows": len(rows)}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["STATIONKEEPER_EXCHANGE"])))
