"""Pictures of a training: their numbers by hand, and which are drawn of what is there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from stationkeeper.retrain.service.plots import precision_recall, reliability, write_plots
from stationkeeper.retrain.snapshot import TIME
from stationkeeper.retrain.training.job import HELD_OUT_FILE

LABELS = np.array([True, False, True])


def test_the_curves_by_hand() -> None:
    mean, share = reliability(np.array([False, False, True]), np.array([0.11, 0.13, 0.91]))
    assert mean == pytest.approx([0.12, 0.91])
    assert share.tolist() == [0.0, 1.0]
    precision, recall = precision_recall(LABELS, np.array([0.9, 0.8, 0.8]))
    assert precision == pytest.approx([1.0, 2 / 3])
    assert recall == pytest.approx([0.5, 1.0])


def test_what_is_drawn_and_what_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(500)
    pl.DataFrame({"label": (rng.random(500) < scores).astype(float), "challenger": scores}).write_parquet(
        tmp_path / HELD_OUT_FILE
    )
    job: Any = SimpleNamespace(onset_ms=500, sensitive=("secret",), protected=())
    result: Any = SimpleNamespace(threshold=SimpleNamespace(value=0.5))
    rows = pl.DataFrame(
        {
            TIME: np.arange(1_000),
            "amount": rng.normal(size=1_000),
            "method": rng.choice(["card", "wallet"], 1_000),
            "secret": rng.normal(size=1_000),
            "holes": np.where(np.arange(1_000) % 2, np.nan, 1.0),
            "none": pl.Series([None] * 1_000, dtype=pl.Float64),
            "$a_$": rng.choice(["$x_$", "\\"], 1_000),
            "count": rng.choice(["one", "two"], 1_000),
        }
    ).with_columns(pl.when(pl.col("amount") > 1).then(None).otherwise(pl.col("method")).alias("method"))

    def drawn(subject: str) -> list[str]:
        return [path.name for path in write_plots(job, result, tmp_path, rows, subject)]

    of_scores = ["reliability.png", "precision-recall.png", "confusion.png"]
    for subject in ("amount", "method", "holes", "none", "$a_$", "count"):
        assert drawn(subject) == [*of_scores, "drift.png"]
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert drawn("secret") == of_scores
    assert drawn("score") == of_scores
    # A regression has no threshold, and files that are gone are no fault.
    assert write_plots(job, cast("Any", SimpleNamespace(threshold=None)), tmp_path, None, "") == []
