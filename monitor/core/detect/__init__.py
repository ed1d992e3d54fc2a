"""Detection: is this stretch of traffic still drawn from the reference? Evidence as e-values, at a stated budget.

In: a `DetectorPlan` (reference counts, floors, dependence, thresholds) and closed panes of counts. Out: `Scores` and
the findings of `Drift`; rates page through `RateDetector` and `RunningRate`. State: log evidence, the restarts of its
e-CUSUM, moving averages, and what the conformal bags grew by.
Invariant: between resets M - t is a supermartingale in units of the budget clock, so that false pages keep the budget
whatever depends on what (Shin, Ramdas and Rinaldo, arXiv 2203.03532); the same panes give the same scores bit for bit.
Read `plan`, `alternatives` and `evalue` (the bets), `conformal` (the bag and its growth), `fixed_reference`,
`shiryaev_roberts`, `evidence` (an e-detector), `detector`, `drift`, `change_point`, `label_shift`; `rate` and
`running_rate`; `quantile` is numerics.
"""

from stationkeeper.monitor.core.detect.alternatives import AlternativeTable, ReferenceCells, exact_alternatives
from stationkeeper.monitor.core.detect.change_point import change_point_log_ratios, locate_change_point
from stationkeeper.monitor.core.detect.conformal import PART_SHARE, RANK_CELLS, BagGrowth, GrownStratum, mark_of
from stationkeeper.monitor.core.detect.detector import DetectorState, DriftDetector, Scores
from stationkeeper.monitor.core.detect.drift import Drift, effect_floor, plan_subject
from stationkeeper.monitor.core.detect.evidence import ADAPTIVE_WEIGHT, place_bets
from stationkeeper.monitor.core.detect.fixed_reference import Grouping, subject_cells
from stationkeeper.monitor.core.detect.label_shift import LABEL_SHIFT_FLOOR, LabelShift, tells_label_shift
from stationkeeper.monitor.core.detect.plan import DENSE_ALTERNATIVES, ETA, DetectorPlan, PlannedSubject
from stationkeeper.monitor.core.detect.quantile import clopper_pearson, gamma_tail, normal_cdf, normal_ppf
from stationkeeper.monitor.core.detect.rate import (
    FACTOR_WEIGHTS,
    FACTORS,
    Flags,
    OneSided,
    RateDetector,
    RateScores,
    level_of_score,
)
from stationkeeper.monitor.core.detect.running_rate import RunningRate, RunningRateState
from stationkeeper.monitor.core.detect.shiryaev_roberts import EvidenceState

__all__ = [
    "ADAPTIVE_WEIGHT",
    "DENSE_ALTERNATIVES",
    "ETA",
    "FACTORS",
    "FACTOR_WEIGHTS",
    "LABEL_SHIFT_FLOOR",
    "PART_SHARE",
    "RANK_CELLS",
    "AlternativeTable",
    "BagGrowth",
    "DetectorPlan",
    "DetectorState",
    "Drift",
    "DriftDetector",
    "EvidenceState",
    "Flags",
    "Grouping",
    "GrownStratum",
    "LabelShift",
    "OneSided",
    "PlannedSubject",
    "RateDetector",
    "RateScores",
    "ReferenceCells",
    "RunningRate",
    "RunningRateState",
    "Scores",
    "change_point_log_ratios",
    "clopper_pearson",
    "effect_floor",
    "exact_alternatives",
    "gamma_tail",
    "level_of_score",
    "locate_change_point",
    "mark_of",
    "normal_cdf",
    "normal_ppf",
    "place_bets",
    "plan_subject",
    "subject_cells",
    "tells_label_shift",
]
