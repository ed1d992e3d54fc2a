"""Both models' scores on every row of a training's table, and the files that tell gate, reference and shadow."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.contracts.messages import Shadow
from stationkeeper.registry import ModelTask
from stationkeeper.retrain.core.measures import Floats
from stationkeeper.retrain.core.selection import Selected, Selection
from stationkeeper.retrain.core.shadow import flips
from stationkeeper.retrain.core.split import Split
from stationkeeper.retrain.snapshot import EVENT_ID, TIME, TrainingTable
from stationkeeper.retrain.training.job import (
    AMOUNT,
    GROUP,
    HELD_OUT_FILE,
    SCORED_FILE,
    SHADOW_FILE,
    WEIGHT,
    TrainingJob,
)
from stationkeeper.retrain.training.shadow import shadow_of


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Scores of labelled rows by models that have not seen them (NaN where there is none), float64[n] or [n, classes].

    ``beside`` are the folds' scores, float64[folds, m], of the rows of the table at ``fresh``, which neither they nor
    the final model have learnt from; m is 0 where no scale is asked for.
    """

    scores: Floats
    fresh: npt.NDArray[np.int64]
    beside: Floats


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """The champion's (None without one) and the challenger's ``scores`` of all rows of ``table``.

    ``rows`` are the positions of those with a label, ``split`` who of them may be learnt from, ``weights`` for how many
    each stands.
    """

    job: TrainingJob
    directory: Path
    table: TrainingTable
    rows: npt.NDArray[np.int64]
    split: Split
    scores: tuple[Floats | None, Floats]
    weights: Floats

    def write_held_out(self) -> pl.DataFrame:
        """Write and return what the gate judges: both scores and the label of each row that neither learnt from."""
        judged, table = self.rows[self.split.judged], self.table
        champion, challenger = self.scores
        held_out = pl.DataFrame(
            {
                EVENT_ID: table.ids[judged],
                TIME: table.times[judged],
                "label": table.labels[judged],
                "challenger": challenger[judged],
                "champion": np.full(challenger[judged].shape, np.nan) if champion is None else champion[judged],
                "after": self.split.after[self.split.judged],
                WEIGHT: self.weights[self.split.judged],
                **({} if self.job.amount is None else {AMOUNT: table.amounts(self.job.amount)[judged]}),
                **{GROUP + name: texts for name, texts in table.groups_at(judged).items()},
            }
        )
        held_out.write_parquet(self.directory / HELD_OUT_FILE)
        return held_out

    def write_honest(self, folds: OutOfFold) -> None:
        """Write scores as they will be on rows not learnt from: out of fold where the final model has seen the row."""
        honest, table = self.scores[1].copy(), self.table
        seen = ~np.isnan(folds.scores).reshape(len(self.rows), -1).any(axis=1)
        told = folds.scores[seen]
        if folds.beside.size:
            told = on_scale(told, folds.beside.reshape(-1), self.scores[1][folds.fresh])
        honest[self.rows[seen]] = told
        sure = np.full(len(honest), np.nan)
        if self.job.task is ModelTask.MULTICLASS:
            # The answer and its own probability: of several classes a reference counts the one and bins the other.
            sure = honest.max(axis=1)
            honest = honest.argmax(axis=1).astype(np.float64)
        columns = {EVENT_ID: table.ids, TIME: table.times, "score": honest, "confidence": sure, "known": table.labels}
        pl.DataFrame(columns).write_parquet(self.directory / SCORED_FILE)

    def write_shadow(self, thresholds: tuple[float, float]) -> Shadow | None:
        """Write the disagreements since the change, with a label or without; returns None without a champion."""
        job, champion = self.job, self.scores[0]
        # A first champion answers beside nobody, and knows of no change.
        if champion is None or job.onset_ms is None:
            return None
        fresh = np.zeros(len(self.table.times), bool)
        fresh[self.rows[self.split.judged]] = True
        # A champion that was trained after the change began has learnt from some of it; of one that was adopted, or
        # whose snapshot is gone, nobody knows, and any label might flatter it.
        fresh &= job.champion_until_ms is not None and self.table.times > job.champion_until_ms
        pair = (champion, self.scores[1])
        hidden = {*job.sensitive, *job.protected}
        found = shadow_of(self.table, job.task, job.onset_ms, pair, thresholds, fresh, hidden)
        if found is None:
            return None
        found[1].write_parquet(self.directory / SHADOW_FILE)
        return found[0]


def decided(
    selected: Selected | None, task: ModelTask, scores: tuple[Floats | None, Floats], thresholds: tuple[float, float]
) -> Selection | None:
    """Return a selection with how many of the rows that nobody stands for the two models decide differently."""
    if selected is None or scores[0] is None or task is ModelTask.REGRESSION:
        return None if selected is None else selected.selection
    unseen = (scores[0][selected.unseen], scores[1][selected.unseen])
    return replace(selected.selection, flipped=int(flips(task.value, unseen, thresholds).sum()))


# Rows below which the scale of scores is known no better than by the folds: of a thousand the tenths are known
# to a point.
MIN_UNSEEN = 1_000


def on_scale(scores: Floats, beside: Floats, final: Floats) -> Floats:
    """Return ``scores`` of the folds as the model that will serve would say them; all float64[n].

    Models of the folds learn from two thirds of the rows (half, where ``max_rows`` caps them) and are less sure: mixed
    with the final one's, their scores were a reference from which the served ones soon moved away. ``beside`` (the
    folds') and ``final`` are of the same rows, which none has learnt from, so that the share of positives among them
    moves nothing: a score takes the place in ``final`` that it has in ``beside``, and alike models change none. By
    hand: where ``beside`` is .1 and .2 and ``final`` 1 and 2, a score of .15, half way, becomes 1.5. What lies beyond
    all of ``beside`` stays, beyond all of ``final``.
    """
    if len(final) < MIN_UNSEEN:
        return scores
    values, counts = np.unique(beside, return_counts=True)
    places = (np.cumsum(counts) - counts / 2) / len(beside)
    # Hazen's quantiles, as the places are: with others a model would move its own scores.
    found = np.quantile(final, np.interp(scores, values, places), method="hazen")
    above, below = np.maximum(scores, final.max()), np.minimum(scores, final.min())
    return np.asarray(np.where(scores > values[-1], above, np.where(scores < values[0], below, found)))
