"""The score of a model of another flavour, from what its process answers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stationkeeper.registry import AdoptionRules, ArtifactError, ModelTask
from stationkeeper.registry.adoption import _task
from stationkeeper.registry.foreign import ForeignModel, binary_scores
from stationkeeper.registry.pyfunc_process import _predict


@pytest.mark.parametrize(
    ("columns", "positive", "classes", "told"),
    [
        (["p_legit", "p_fraud"], "1", ("false", "1"), [0.1, 0.8]),
        (["legit", "fraud"], "fraud", ("legit", "fraud"), [0.1, 0.8]),
        (["fraud", "legit"], "fraud", ("fraud", "legit"), [0.9, 0.2]),
    ],
)
def test_of_a_frame_of_two_shares_the_positive_class_is_that_of_its_name_else_the_second(
    columns: list[str], positive: str, classes: tuple[str, ...], told: list[float]
):
    frame = pd.DataFrame([[0.9, 0.1], [0.2, 0.8]], columns=columns)
    model: Any = SimpleNamespace(predict=lambda _: frame)
    scores, answer = _predict(model, None, None)
    assert _task(answer, scores, AdoptionRules(positive), "version 1") == (classes, ModelTask.BINARY)
    assert binary_scores(answer, scores, positive, "version 1").tolist() == told


def test_classes_without_the_positive_one_are_told():
    with pytest.raises(ArtifactError, match="version 7 answers the classes 'no', 'yes', and its card says '1'"):
        binary_scores({"classes": ["no", "yes"]}, np.array([[0.9, 0.1]]), "1", "version 7")


@pytest.mark.parametrize(
    "inputs", ["'[{'", "'[1]'", "7", "'{}x'"], ids=["cut", "no columns", "no text", "more than JSON"]
)
def test_a_signature_that_cannot_be_read_is_told(inputs: str, tmp_path: Path):
    described = f"flavors: {{python_function: {{loader_module: m}}}}\nsignature: {{inputs: {inputs}}}\n"
    (tmp_path / "MLmodel").write_text(described)
    with pytest.raises(ArtifactError, match="a signature that cannot be read"):
        ForeignModel.inspect(tmp_path, "version 3 of m")
