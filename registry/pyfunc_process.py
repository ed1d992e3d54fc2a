"""The process in which a model of any MLflow flavour is loaded and asked; usage: ``pyfunc_process job.json PARENT``.

Loading such a model runs code of whoever wrote it, so nothing else happens in this process: it reads a job and rows,
and writes answers as numbers and JSON.
"""

import contextlib
import json
import math
import os
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from stationkeeper.streams.parent import end_with

JOB_FILE: Final = "job.json"
ROWS_FILE: Final = "rows.parquet"
SCORES_FILE: Final = "scores.npy"
ANSWER_FILE: Final = "answer.json"
ONNX_FILES: Final = {"tensor": "tensor.onnx", "columns": "columns.onnx"}
PROBES: Final = 200
"""Rows made up from the signature, chosen: a tree or a category that is converted wrongly shows on a few of them."""
OPSET: Final = {"": 18, "ai.onnx.ml": 3}
"""What onnxruntime reads since 1.14, so that a router may be older than the model."""


def main(arguments: list[str]) -> int:
    """Answer one job; exit code 0 with an answer, 1 with ``{"error": …}``."""
    path = Path(arguments[0])
    # Before the model is loaded: its code may hang, and a parent that was killed ends nobody.
    end_with(int(arguments[1]))
    try:
        answer, code = _answer(json.loads(path.read_text()), path.parent), 0
    except Exception as error:  # noqa: BLE001 - the model is foreign code; its error is the answer
        traceback.print_exc()
        answer, code = {"error": f"{type(error).__name__}: {error}"}, 1
    (path.parent / ANSWER_FILE).write_text(json.dumps(answer))
    return code


def _answer(job: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.pyfunc
    import pandas as pd

    warnings.simplefilter("ignore")
    model = mlflow.pyfunc.load_model(job["model"])
    # Of a model written in Python its author's own object, which may know its classes.
    raw = model.unwrap_python_model() if "python_model" in str(model.loader_module) else _raw(model)
    types = job["types"]
    if job["probe"]:
        rows, (scores, named) = _probed(model, raw, types)
        answer: dict[str, Any] = {"rows": {name: [_plain(one) for one in rows[name]] for name in types}}
        answer["converted"] = _convert(raw, types, directory)
    else:
        rows = _typed(pd.read_parquet(directory / ROWS_FILE), types)
        answer, (scores, named) = {}, _scored(model, raw, rows)
    # A booster numbers its classes from 0 and keeps no names; two numbers may be anything else.
    if not any(named.values()) and _are_shares(scores, least=3):
        named = {"classes": list(range(scores.shape[1]))}
    if scores.dtype.kind not in "fiu":
        if scores.size != len(rows):
            raise ValueError(f"it answers {scores.size} texts to {len(rows)} rows; one class a row is expected")
        answer["labels"] = [_plain(one) for one in scores.reshape(-1).tolist()]
        # Answers that are texts have no numbers: the labels stand in their place.
        scores = np.empty((0, 1))
    elif scores.ndim == 2:
        answer |= {key: [_plain(one) for one in names] for key, names in named.items() if len(names) == scores.shape[1]}
    # Written without pickle and read so: the parent must run nothing of the model.
    numbers = np.asarray(scores, dtype=np.float64)
    # Not -1, which numpy cannot make out where there is no row.
    numbers = numbers.reshape(len(numbers), math.prod(numbers.shape[1:]))
    np.save(directory / SCORES_FILE, numbers, allow_pickle=False)
    return answer


def _raw(model: Any) -> Any:
    with contextlib.suppress(Exception):
        return model.get_raw_model()
    return None


def _predict(model: Any, raw: Any, rows: Any) -> tuple[Any, dict[str, list[Any]]]:
    """Return class probabilities where the model has them, else what its pyfunc answers; and the names it gives.

    ``classes`` are names of classes; ``columns`` those of two shares, which may be any (``p_legit``, ``p_fraud``).
    """
    if hasattr(raw, "predict_proba"):
        return np.asarray(raw.predict_proba(rows)), {"classes": list(np.asarray(getattr(raw, "classes_", ())))}
    found = model.predict(rows)
    if not hasattr(found, "columns"):
        return np.asarray(found), {}
    answers = found.to_numpy()
    # A frame of several columns names what each is a share of; of amounts, as of several targets, it names no classes.
    if not _are_shares(answers, least=2):
        return answers, {}
    return answers, {"columns" if answers.shape[1] == 2 else "classes": list(map(str, found.columns))}


def _are_shares(scores: Any, *, least: int) -> bool:
    """Return whether each row has a share for each of at least so many classes.

    >>> _are_shares(np.array([[0.2, 0.5, 0.3]]), least=3)
    True
    """
    if scores.dtype.kind != "f" or scores.ndim != 2 or scores.shape[1] < least:
        return False
    known = scores[np.isfinite(scores).all(axis=1)]
    # Shares that are rounded to three digits add up to 1 within a thousandth; amounts that do so in every row are no
    # accident.
    return len(known) > 0 and bool(known.min() >= 0 and np.allclose(known.sum(axis=1), 1.0, atol=1e-3))


def _scored(model: Any, raw: Any, rows: Any) -> tuple[Any, dict[str, list[Any]]]:
    """Return the answers to rows; a row with nulls that the model refuses has NaN, as a served one has none."""
    try:
        return _predict(model, raw, rows)
    except Exception:
        # scikit-learn refuses a whole batch for one null; the rows without are asked again.
        whole = rows.notna().all(axis=1).to_numpy()
        if whole.all() or not whole.any():
            raise
        found, named = _predict(model, raw, rows[whole])
        if found.dtype.kind not in "fiu":
            raise
        scores = np.full((len(rows), *found.shape[1:]), np.nan)
        scores[whole] = found
        return scores, named


def _probed(model: Any, raw: Any, types: Mapping[str, str]) -> tuple[Any, Any]:
    """Return made-up rows and the answers; texts that no encoder knows are tried first, then left out."""
    for strange in (True, False):
        rows = _typed(_probes(model, types, strange=strange), types)
        try:
            return rows, _predict(model, raw, rows)
        except Exception:
            if not strange:
                raise
    raise AssertionError("unreachable")


def _probes(model: Any, types: Mapping[str, str], *, strange: bool) -> Any:
    import pandas as pd

    # A fixed seed: adopting a version twice must find the same.
    rng = np.random.default_rng(1)
    example = None
    with contextlib.suppress(Exception):
        example = model.input_example
    columns = {}
    for name, kind in types.items():
        known = (
            [] if example is None or name not in getattr(example, "columns", ()) else example[name].dropna().tolist()
        )
        if kind == "string":
            texts = [str(one) for one in known] + (["another"] if strange or not known else [])
            columns[name] = rng.choice(np.array(texts, dtype=object), PROBES)
        elif kind == "boolean":
            columns[name] = rng.random(PROBES) < 0.5
        else:
            # Without an example, values over three decades, so that splits of most scales are crossed.
            numbers = np.array([float(one) for one in known] or [0.0, 1.0, 10.0, 100.0])
            spread = numbers.std() or max(abs(numbers.mean()), 1.0)
            # As float32, which is what the served graph takes: a difference is then the model's own.
            columns[name] = (rng.choice(numbers, PROBES) + spread * rng.normal(size=PROBES)).astype(np.float32)
    return pd.DataFrame(columns)


def _typed(rows: Any, types: Mapping[str, str]) -> Any:
    """Return the columns of the signature in its order and types; whole numbers with nulls stay floats."""
    import pandas as pd

    made = {}
    for name, kind in types.items():
        values = rows[name] if name in rows.columns else pd.Series([None] * len(rows), index=rows.index)
        if kind == "string":
            made[name] = values.astype(object).where(values.notna(), None)
        elif kind == "boolean":
            made[name] = values.astype(bool) if values.notna().all() else values.astype("float64")
        else:
            numbers = pd.to_numeric(values, errors="coerce").astype("float64")
            if kind in {"integer", "long"} and numbers.notna().all():
                numbers = numbers.round().astype("int32" if kind == "integer" else "int64")
            made[name] = numbers.astype("float32") if kind == "float" else numbers
    return pd.DataFrame(made, index=rows.index)


def _convert(raw: Any, types: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Write a scikit-learn model as ONNX in each form that its converter takes; returns the output's name by form."""
    written: dict[str, str] = {}
    if not hasattr(raw, "get_params") or not hasattr(raw, "predict"):
        return written
    with contextlib.suppress(ImportError):
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType, StringTensorType

        forms: dict[str, Any] = {
            "columns": [
                (name, (StringTensorType if kind == "string" else FloatTensorType)([None, 1]))
                for name, kind in types.items()
            ]
        }
        if "string" not in types.values():
            forms = {"tensor": [("features", FloatTensorType([None, len(types)]))], **forms}
        # A zipmap answers dictionaries, which neither we nor other servers read as an array.
        options = {id(raw): {"zipmap": False}} if hasattr(raw, "predict_proba") else None
        for form, inputs in forms.items():
            # Every converter raises errors of its own; a form that fails is a form that is not offered.
            with contextlib.suppress(Exception):
                graph = to_onnx(raw, initial_types=inputs, options=options, target_opset=OPSET)
                (directory / ONNX_FILES[form]).write_bytes(graph.SerializeToString())
                # The last output: a classifier has its label first and its probabilities behind.
                written[form] = str(graph.graph.output[-1].name)
    return written


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if value is None or value != value else value  # noqa: PLR0124 - only NaN differs from itself


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
