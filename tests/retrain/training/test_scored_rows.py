"""The files of a training's scores, by hand: of whom nobody knows what he learnt from, no label says he was right."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from stationkeeper.registry import ModelTask
from stationkeeper.retrain.training.job import SCORED_FILE
from stationkeeper.retrain.training.scored_rows import ScoredRows, on_scale


@pytest.mark.parametrize(("until", "labelled"), [(None, 0), (90_000, 10), (0, 100)])
def test_who_was_right_is_told_only_of_rows_that_the_champion_is_known_not_to_have_learnt_from(
    until: int | None, labelled: int, tmp_path: Path
):
    labels = np.repeat([0.0, 1.0], 50)
    table: Any = SimpleNamespace(
        times=np.arange(100, dtype=np.int64) * 1_000 + 1,
        labels=labels,
        classes=("no", "yes"),
        ids=pl.Series([f"e{row}" for row in range(100)]),
        groups=pl.DataFrame(),
        groups_at=lambda _: {},
    )
    job: Any = SimpleNamespace(onset_ms=0, champion_until_ms=until, sensitive=(), protected=(), task=ModelTask.BINARY)
    split: Any = SimpleNamespace(judged=np.ones(100, bool))
    scores = (np.where(labels == 1.0, 0.9, 0.1), np.where(labels == 1.0, 0.1, 0.9))
    shadow = ScoredRows(job, tmp_path, table, np.arange(100), split, scores).write_shadow((0.5, 0.5))
    assert shadow is not None
    assert (shadow.flipped, shadow.labelled, shadow.champion_right) == (100, labelled, labelled)


def test_scores_out_of_fold_keep_their_order_and_take_the_scale_of_the_model_that_serves(tmp_path: Path):
    rng = np.random.default_rng(1)
    rows, onset = 6_000, 2_000
    final, folds = rng.beta(1, 4, rows), rng.beta(1, 2, rows)
    since, learnt = np.arange(rows) >= onset, np.arange(rows) < 4_000
    table: Any = SimpleNamespace(
        times=np.arange(rows, dtype=np.int64),
        labels=(rng.random(rows) < folds).astype(np.float64),
        ids=pl.Series([f"e{row}" for row in range(rows)]),
    )
    job: Any = SimpleNamespace(onset_ms=onset, task=ModelTask.BINARY)
    split: Any = SimpleNamespace(learn=learnt, validation=np.zeros(rows, bool))
    out_of_fold = np.where(since & learnt, folds, np.nan)
    ScoredRows(job, tmp_path, table, np.arange(rows), split, (None, final)).write_honest(out_of_fold)
    told = pl.read_parquet(tmp_path / SCORED_FILE)["score"].to_numpy()
    assert np.array_equal(told[~(since & learnt)], final[~(since & learnt)])
    mapped = told[since & learnt]
    assert np.array_equal(np.argsort(mapped, kind="stable"), np.argsort(folds[since & learnt], kind="stable"))
    tenths = np.linspace(0.1, 0.9, 9)
    assert np.quantile(mapped, tenths) == pytest.approx(np.quantile(final[~learnt], tenths), abs=0.002)
    # Too few to know a scale by.
    few = rng.random(999)
    assert np.array_equal(on_scale(folds, few), folds)
