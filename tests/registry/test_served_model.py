"""What a model in memory answers, and what a broken artifact is refused for."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from stationkeeper.registry import CARD_FILE, MODEL_FILE, ArtifactError, Column, ServedModel


def changed(source: Path, target: Path, **card: Any) -> Path:
    target.mkdir()
    (target / MODEL_FILE).write_bytes((source / MODEL_FILE).read_bytes())
    whole = json.loads((source / CARD_FILE).read_bytes())
    (target / CARD_FILE).write_text(json.dumps({**whole, **card}))
    return target


def test_a_frame_is_scored_as_its_rows_are_answered(models: Path):
    served = ServedModel.load(models / "fraud" / "1", "fraud", "1")
    frame = pl.DataFrame({"amount": ["2.0", "0.5", "x"], "method": ["card", "wallet", None], "unused": [1, 2, 3]})
    scores = served.score(frame)
    rows: dict[str, Column] = {"amount": [2.0, 0.5, None], "method": ["card", "wallet", None]}
    assert scores[:2].tolist() == served.answer(rows).predictions[:2]
    assert np.isnan(scores[2])
    assert served.score(frame.head(0)).shape == (0,)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ({"onnx_sha256": "0" * 64}, "SHA-256"),
        ({"threshold": 2.0}, "threshold"),
        ({"surprise": 1}, "surprise"),
        ({"model": "other"}, "card of 'other'"),
        ({"output": "nothing"}, "no output 'nothing'"),
        ({"features": [{"name": "amount", "kind": "numeric"}]}, "disagree on the inputs"),
        ({"task": "regression", "classes": [], "positive": None}, None),
        ({"classes": ["a", "b", "c"], "task": "multiclass", "positive": None}, "cannot answer a row of nulls"),
    ],
)
def test_a_card_that_does_not_fit_its_model_is_refused(models, tmp_path, card, says):
    directory = changed(models / "fraud" / "1", tmp_path / "model", **card)
    if says is None:
        served = ServedModel.load(directory, "fraud", "1")
        assert served.answer({"amount": [1.0], "method": ["card"]}).actions[0] is None
        return
    with pytest.raises(ArtifactError, match=says):
        ServedModel.load(directory, "fraud", "1")


def test_bytes_that_are_no_model_are_refused(models, tmp_path):
    junk = b"not a model"
    directory = changed(models / "fraud" / "1", tmp_path / "model", onnx_sha256=hashlib.sha256(junk).hexdigest())
    (directory / MODEL_FILE).write_bytes(junk)
    with pytest.raises(ArtifactError, match="not a model onnxruntime can load"):
        ServedModel.load(directory, "fraud", "1")
    with pytest.raises(ArtifactError, match=r"has no card\.json"):
        ServedModel.load(tmp_path)
