"""How right the model is, from predictions that met their label, and what the reference teaches of it.

In: `OutcomePane` (counts of labelled predictions by score bin), in order of the labels' arrival. Out: findings on the
error rate and on P(positive | score), rates with intervals, and the confusion expected without labels. State: the
detectors' evidence, the latest labelled panes and the delays of labels. Invariant: a finding of kind ``concept_drift``
never comes from new inputs alone. Read `performance`, then `label_delay`, `recent_outcomes` and `label_order`.
"""

from stationkeeper.monitor.core.performance.label_delay import (
    LabelDelays,
    LabelDelaysState,
    LateGate,
    Maturity,
    late_labels,
)
from stationkeeper.monitor.core.performance.label_order import labels_in_order
from stationkeeper.monitor.core.performance.performance import (
    MIN_LABELS,
    OutcomePane,
    Performance,
    PerformanceState,
    estimated_confusion,
    measures,
    wilson,
)
from stationkeeper.monitor.core.performance.recent_outcomes import LabelledPaneState, RecentOutcomes, explain_errors

__all__ = [
    "MIN_LABELS",
    "LabelDelays",
    "LabelDelaysState",
    "LabelledPaneState",
    "LateGate",
    "Maturity",
    "OutcomePane",
    "Performance",
    "PerformanceState",
    "RecentOutcomes",
    "estimated_confusion",
    "explain_errors",
    "labels_in_order",
    "late_labels",
    "measures",
    "wilson",
]
