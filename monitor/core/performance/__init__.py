"""How right the model is, from predictions that met their label, and what the reference teaches of it.

In: `OutcomePane` (counts of labelled predictions by score bin, or by size of the error), in order of the labels'
arrival. Out: findings on the error rate, the size of errors and P(positive | score), measures with intervals that hold
at every look, and the measures expected without labels. State: the detectors' evidence, the latest labelled panes and
the delays of labels. Invariant: a finding of kind ``concept_drift`` never comes from new inputs alone. Read `measures`
and `confidence`, then `performance`, `error_size`, `judged` (which rows), `estimate` and `calibration`, then
`label_delay`, `selection` (whose labels never come), `recent_outcomes`, `label_order`, `segment_gaps` (how far
segments lie apart) and `fairness` (whether that is more than is tolerated).
"""

from stationkeeper.monitor.core.performance.calibration import WEEK_MS, Calibration, refreshed
from stationkeeper.monitor.core.performance.confidence import mean_sequence, share_sequence
from stationkeeper.monitor.core.performance.error_size import ABSOLUTE_ERROR, ErrorSize
from stationkeeper.monitor.core.performance.estimate import ErrorSplit, Estimate, estimate, refuted, split_errors
from stationkeeper.monitor.core.performance.fairness import (
    APPROVAL,
    Fairness,
    FairnessRules,
    FairnessState,
    gap_words,
    rates_of,
)
from stationkeeper.monitor.core.performance.judged import (
    calibrated,
    delayed_counts,
    judged,
    judged_answers,
    judged_counts,
)
from stationkeeper.monitor.core.performance.label_delay import (
    LabelDelays,
    LabelDelaysState,
    LateGate,
    Maturity,
    late_labels,
)
from stationkeeper.monitor.core.performance.label_order import labels_in_order
from stationkeeper.monitor.core.performance.measures import (
    MEASURES,
    SHARES,
    VALUE,
    Measure,
    ValueMatrix,
    class_names,
    every_measure,
    measures,
    reference_classes,
)
from stationkeeper.monitor.core.performance.performance import (
    CALIBRATION,
    MIN_LABELS,
    TOLERANCE,
    OutcomePane,
    Performance,
    PerformanceState,
)
from stationkeeper.monitor.core.performance.recent_outcomes import (
    LabelledPaneState,
    RecentOutcomes,
    explain_calibration,
    explain_errors,
)
from stationkeeper.monitor.core.performance.segment_gaps import RATES, SegmentGap, segment_gaps
from stationkeeper.monitor.core.performance.selection import (
    LabelSelection,
    actions_without_labels,
    label_selection,
)

__all__ = [
    "ABSOLUTE_ERROR",
    "APPROVAL",
    "CALIBRATION",
    "MEASURES",
    "MIN_LABELS",
    "RATES",
    "SHARES",
    "TOLERANCE",
    "VALUE",
    "WEEK_MS",
    "Calibration",
    "ErrorSize",
    "ErrorSplit",
    "Estimate",
    "Fairness",
    "FairnessRules",
    "FairnessState",
    "LabelDelays",
    "LabelDelaysState",
    "LabelSelection",
    "LabelledPaneState",
    "LateGate",
    "Maturity",
    "Measure",
    "OutcomePane",
    "Performance",
    "PerformanceState",
    "RecentOutcomes",
    "SegmentGap",
    "ValueMatrix",
    "actions_without_labels",
    "calibrated",
    "class_names",
    "delayed_counts",
    "estimate",
    "every_measure",
    "explain_calibration",
    "explain_errors",
    "gap_words",
    "judged",
    "judged_answers",
    "judged_counts",
    "label_selection",
    "labels_in_order",
    "late_labels",
    "mean_sequence",
    "measures",
    "rates_of",
    "reference_classes",
    "refreshed",
    "refuted",
    "segment_gaps",
    "share_sequence",
    "split_errors",
]
