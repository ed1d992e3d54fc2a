"""The files of a training's scores, by hand: of whom nobody knows what he learnt from, no label says he was right."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from stationkeeper.registry import ModelTask
from stationkeeper.retrain.core.measures import Flags, Floats
from stationkeeper.retrain.training.job import SCORED_FILE
from stationkeeper.retrain.training.scored_rows import OutOfFold, ScoredRows, on_scale


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
    shadow = ScoredRows(job, tmp_path, table, np.arange(100), split, scores, np.ones(100)).write_shadow((0.5, 0.5))
    assert shadow is not None
    assert (shadow.flipped, shadow.labelled, shadow.champion_right) == (100, labelled, labelled)


def told_of(tmp_path: Path, labels: Floats, final: Floats, folds: Floats, held: Flags) -> Floats:
    """Return the scores that a reference is built of; what is not ``held`` is scored by ``folds``."""
    table: Any = SimpleNamespace(
        times=np.arange(len(labels)), labels=labels, ids=pl.Series([f"e{row}" for row in range(len(labels))])
    )
    job: Any = SimpleNamespace(task=ModelTask.BINARY)
    rows, fresh = np.flatnonzero(~np.isnan(labels)), np.flatnonzero(held | np.isnan(labels))
    out_of_fold = OutOfFold(np.where(held, np.nan, folds)[rows], fresh, np.array([folds[fresh]] * 3))
    none: Any = None
    ScoredRows(job, tmp_path, table, rows, none, (None, final), np.ones(len(rows))).write_honest(out_of_fold)
    return pl.read_parquet(tmp_path / SCORED_FILE)["score"].to_numpy()


def test_scores_out_of_fold_keep_their_order_and_take_the_scale_of_the_model_that_serves(tmp_path: Path):
    rng = np.random.default_rng(1)
    rows = 6_000
    labels = (rng.random(rows) < 0.2).astype(np.float64)
    # The folds are less sure of both classes.
    final, folds = rng.beta(1 + 3 * labels, 4), rng.beta(1 + labels, 2)
    held = np.arange(rows) >= 4_000
    told = told_of(tmp_path, labels, final, folds, held)
    assert np.array_equal(told[held], final[held])
    assert np.array_equal(np.argsort(told[~held], kind="stable"), np.argsort(folds[~held], kind="stable"))
    tenths = np.linspace(0.1, 0.9, 9)
    assert np.quantile(told[~held], tenths) == pytest.approx(np.quantile(final[held], tenths), abs=0.02)


@pytest.mark.parametrize(("seen", "later", "refused"), [(0.05, 0.005, False), (0.02, 0.08, False), (0.2, 0.2, True)])
def test_a_wave_of_fraud_or_labels_of_the_approved_alone_move_no_precision_and_no_recall(
    seen: float, later: float, refused: bool, tmp_path: Path
):
    rng = np.random.default_rng(0)
    rows, learnt = 6_000, 4_000
    labels = (rng.random(rows) < np.where(np.arange(rows) < learnt, seen, later)).astype(np.float64)
    # One and the same model: the folds are as good as the final one, so nothing is to be moved.
    logits = np.where(labels == 1.0, 2.0, -4.0) + rng.normal(0, 1.5, rows)
    scores = 1 / (1 + np.exp(-logits))
    if refused:
        labels[scores >= 0.3] = np.nan
    told = told_of(tmp_path, labels, scores, scores, np.arange(rows) >= learnt)
    assert told == pytest.approx(scores, abs=1e-6)


def test_scores_beyond_all_that_nobody_learnt_from_stay_and_too_few_of_those_tell_no_scale():
    rng = np.random.default_rng(1)
    scores, approved = rng.random(1_000), 0.3 * rng.random(1_000)
    assert np.array_equal(on_scale(scores, approved, approved / 2)[scores > 0.3], scores[scores > 0.3])
    assert np.array_equal(on_scale(scores, approved[:999], approved[:999] / 2), scores)
