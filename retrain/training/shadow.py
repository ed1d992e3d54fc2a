"""The shadow of a challenger on a table of logged rows, and its disagreements as rows that a person can look up."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.contracts.messages import Shadow
from stationkeeper.registry import ModelTask
from stationkeeper.retrain.core.measures import Flags, Floats
from stationkeeper.retrain.core.shadow import PairedAnswers, replay
from stationkeeper.retrain.snapshot import EVENT_ID, TIME, TrainingTable
from stationkeeper.retrain.training.job import GROUP


def shadow_of(
    table: TrainingTable,
    task: ModelTask,
    onset_ms: int,
    scores: tuple[Floats, Floats],
    thresholds: tuple[float, float],
    fresh: Flags,
    hidden: Collection[str] = (),
) -> tuple[Shadow, pl.DataFrame] | None:
    """Return the shadow on a table's rows from ``onset_ms`` on and its disagreements; None where there is no such row.

    ``scores`` and ``thresholds`` are the champion's and the challenger's, ``fresh`` marks rows that neither has learnt
    from; each is of all rows. Segments in ``hidden`` are not told of single rows. The frame names rows by their event,
    never by their features: whoever may read those looks them up.
    """
    after: npt.NDArray[np.int64] = np.flatnonzero(table.times >= onset_ms)
    if not len(after):
        return None
    old, new = scores[0][after], scores[1][after]
    answers = PairedAnswers(
        task.value, table.times[after], old, new, thresholds, table.labels[after], fresh[after], table.classes
    )
    # One dimension at a time: as texts a million rows of each take some hundred megabytes.
    groups = ((name, table.groups[name].to_numpy()[after].astype(str)) for name in table.groups.columns)
    shadow, found = replay(answers, groups)
    chosen = after[np.array([one.row for one in found], dtype=np.int64)]
    rows = pl.DataFrame(
        {
            EVENT_ID: table.ids[chosen],
            TIME: table.times[chosen],
            "kind": [one.kind.value for one in found],
            "distance": [one.distance for one in found],
            "champion": [one.champion for one in found],
            "challenger": [one.challenger for one in found],
            "right": [one.right.value for one in found],
            "reason": [one.reason for one in found],
            **{GROUP + name: texts for name, texts in table.groups_at(chosen).items() if name not in hidden},
        }
    )
    return shadow, rows
