"""The reference: what a model version was trained on, as frozen cells and counts, in kilobytes and without rows.

In: columns of training data (`profile`), or the JSON of a reference (`load`). Out: a `Reference`, its `Layout` (where
each counter of a pane stands in one flat vector) and the counts of a batch in it. State: none; all is frozen.
Invariant: cells never change under one digest, so any two panes of one digest add.
Read `cells`, then `pairs` (features that go together), `layout`, `reference`, `profile` (with `schema`,
`outcomes`, `outcome_sums`, `assigned_sums` and `weighting`), `reference_json` (with `json_fields`) and `new_values`
(what it never saw, by name).
"""

from stationkeeper.monitor.core.reference.assigned_sums import (
    CHANCE_OCTAVES,
    UNSAID,
    AssignedRows,
    added_actions,
    assigned_by_group,
    counts_alone,
    drawn_by_group,
    labelled_by_action,
    predicted_by_action,
)
from stationkeeper.monitor.core.reference.cells import (
    LOWEST_OCTAVE,
    OCTAVES,
    QUALITY,
    CategoricalCells,
    Cells,
    Counts,
    NumericCells,
    cell_of,
    octave,
    rank_grid,
)
from stationkeeper.monitor.core.reference.json_fields import InvalidReference
from stationkeeper.monitor.core.reference.layout import WEIGHT_OCTAVES, CellRows, Marked, Place, weight_octave
from stationkeeper.monitor.core.reference.new_values import NewValues, added, count_new, new_rows, plain_new
from stationkeeper.monitor.core.reference.outcome_sums import (
    OutcomeSums,
    class_code,
    classes_by_group,
    error_cell,
    error_middles,
    error_tops,
    errors_by_group,
    scores_by_group,
    total,
)
from stationkeeper.monitor.core.reference.outcomes import (
    by_confidence,
    check_positive,
    class_codes,
    infer_task,
    is_score,
    labels_of,
    outcome_counts,
    outcomes,
    positive_class,
)
from stationkeeper.monitor.core.reference.pairs import GROUPS, MOST_PAIRS, Pair, choose_pairs
from stationkeeper.monitor.core.reference.profile import PREDICTION, profile
from stationkeeper.monitor.core.reference.reference import (
    HOURS_OF_WEEK,
    Kind,
    Labels,
    Reference,
    ReferenceSubject,
    Task,
    TrafficProfile,
    cut_grids,
    in_season,
    isotonic,
)
from stationkeeper.monitor.core.reference.reference_json import dump, load
from stationkeeper.monitor.core.reference.schema import Array

__all__ = [
    "CHANCE_OCTAVES",
    "GROUPS",
    "HOURS_OF_WEEK",
    "LOWEST_OCTAVE",
    "MOST_PAIRS",
    "OCTAVES",
    "PREDICTION",
    "QUALITY",
    "UNSAID",
    "WEIGHT_OCTAVES",
    "Array",
    "AssignedRows",
    "CategoricalCells",
    "CellRows",
    "Cells",
    "Counts",
    "InvalidReference",
    "Kind",
    "Labels",
    "Marked",
    "NewValues",
    "NumericCells",
    "OutcomeSums",
    "Pair",
    "Place",
    "Reference",
    "ReferenceSubject",
    "Task",
    "TrafficProfile",
    "added",
    "added_actions",
    "assigned_by_group",
    "by_confidence",
    "cell_of",
    "check_positive",
    "choose_pairs",
    "class_code",
    "class_codes",
    "classes_by_group",
    "count_new",
    "counts_alone",
    "cut_grids",
    "drawn_by_group",
    "dump",
    "error_cell",
    "error_middles",
    "error_tops",
    "errors_by_group",
    "in_season",
    "infer_task",
    "is_score",
    "isotonic",
    "labelled_by_action",
    "labels_of",
    "load",
    "new_rows",
    "octave",
    "outcome_counts",
    "outcomes",
    "plain_new",
    "positive_class",
    "predicted_by_action",
    "profile",
    "rank_grid",
    "scores_by_group",
    "total",
    "weight_octave",
]
