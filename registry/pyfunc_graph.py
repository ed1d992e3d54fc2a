"""How MLflow's own tools score a version of ours: travels inside each registered model, and imports nothing of ours.

MLflow's ONNX wrapper feeds one-dimensional columns and flattens every output, so that a graph with a categorical
feature (inputs of shape (n, 1)) answered each request of ``mlflow models serve`` with 400.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

# As `stationkeeper.registry.artifact` has them; copied, because the machine that serves the model need not have us.
MISSING_CATEGORY = "__missing__"
CARD_FILE, MODEL_FILE, TENSOR_INPUT = "card.json", "model.onnx", "features"


class GraphModel:
    """A pyfunc over the graph and its card: a table of raw feature values in, a table of answers out."""

    def __init__(self, directory: Path) -> None:
        self._card = json.loads((directory / CARD_FILE).read_text())
        self._session = onnxruntime.InferenceSession(str(directory / MODEL_FILE), providers=["CPUExecutionProvider"])

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Return a column ``probability`` (of the positive class), one for each of several classes, or ``value``."""
        import pandas as pd

        del params  # MLflow hands them over by this name; the graph takes none.
        card = self._card
        arrays = {one["name"]: _column(data, one, place) for place, one in enumerate(card["features"])}
        if card.get("input_mode") == "tensor":
            arrays = {TENSOR_INPUT: np.concatenate(list(arrays.values()), axis=1)}
        (answer,) = self._session.run([card.get("output", "probabilities")], arrays)
        answer = np.asarray(answer).reshape(len(data), -1)
        if card["task"] == "regression":
            return pd.DataFrame({"value": answer[:, 0]})
        if card["task"] == "binary":
            # One column is the positive class's own probability, two are in the order of the classes.
            place = list(card["classes"]).index(card["positive"]) if answer.shape[1] > 1 else 0
            return pd.DataFrame({"probability": answer[:, place]})
        return pd.DataFrame(answer, columns=list(card["classes"]))


def _column(data: Any, feature: dict[str, str], place: int) -> Any:
    """One feature as the graph takes it, shape (n, 1), from a DataFrame, or an array in the card's order."""
    values = data[feature["name"]].tolist() if hasattr(data, "columns") else np.asarray(data)[:, place].tolist()
    if feature["kind"] == "categorical":
        return np.array([_text(value) for value in values], dtype=object).reshape(-1, 1)
    numbers = [np.nan if value is None or value != value else float(value) for value in values]  # noqa: PLR0124 - NaN
    return np.array(numbers, dtype=np.float32).reshape(-1, 1)


def _text(value: Any) -> str:
    # `artifact.category_text` again, as this file must stand alone (test_artifact holds both to one text): whole
    # numbers have no point, and what is missing has one word.
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING_CATEGORY
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if value == int(value) else repr(float(value))


def _load_pyfunc(path: str) -> GraphModel:
    """Return the model that lies in a directory; MLflow calls a loader by this name."""
    return GraphModel(Path(path))
