"""Labels at the judge: when they are in, which late ones still count, and when a cohort of them is judged.

In come the arms and outcomes of closed panes and the clocks of the label join. Out go the labels of mature cohorts,
oldest first, and the latest panes for charts. State: cohorts that still grow, delays of labels by class, rings for
charts; kept in a small head and in slots of a few panes each, of which a closed pane rewrites few.
Invariant: a label is judged at one age, once, wherever a process stops; what comes later changes charts only.

Read in this order: arrival (when labels are in, and which late ones count), growing (what waits), cohorts (what is
judged, and when), charts (what people see), harm (what an incident costs), cures (whether a retraining helped),
retrainings (with what age and the calendar ask for), slots (how it is stored).
"""

from stationkeeper.monitor.judge.labels.arrival import Delta, LabelClock, LateLabels
from stationkeeper.monitor.judge.labels.cohorts import CohortRules, Cohorts, CohortsState
from stationkeeper.monitor.judge.labels.cures import CuresState
from stationkeeper.monitor.judge.labels.harm import IncidentHarms
from stationkeeper.monitor.judge.labels.retrainings import Retrainings
from stationkeeper.monitor.judge.labels.slots import CohortSlot

__all__ = [
    "CohortRules",
    "CohortSlot",
    "Cohorts",
    "CohortsState",
    "CuresState",
    "Delta",
    "IncidentHarms",
    "LabelClock",
    "LateLabels",
    "Retrainings",
]
