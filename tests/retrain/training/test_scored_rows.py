"""The files of a training's scores, by hand: of whom nobody knows what he learnt from, no label says he was right."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from stationkeeper.registry import ModelTask
from stationkeeper.retrain.training.scored_rows import ScoredRows


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
