"""How right the model is, from predictions that met their label, and what the reference teaches of it.

In: `OutcomePane` (counts of labelled predictions by score bin), in order of the labels' arrival. Out: findings on the
error rate and on P(positive | score), rates with intervals, and the confusion expected without labels. State: the
detectors' evidence and the latest labelled panes. Invariant: a finding of kind ``concept_drift`` never comes from new
inputs alone. Read `performance`, then `recent_outcomes` and `label_order`.
"""

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
    "LabelledPaneState",
    "OutcomePane",
    "Performance",
    "PerformanceState",
    "RecentOutcomes",
    "estimated_confusion",
    "explain_errors",
    "labels_in_order",
    "measures",
    "wilson",
]
