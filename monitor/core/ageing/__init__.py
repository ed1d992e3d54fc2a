"""When a retraining pays: what the champion's age costs in wrong answers, against what a retraining costs.

In: labelled rows and wrong answers of each version, by week. Out: a `Timing` with its numbers, and the request's
verdict. State: the weeks of the latest versions (`AgeRecord`), since when the calendar counts (`Calendar`), and the
labelled rows since the champion's training (`FollowUp`).
Invariant: only weeks that are over are weighed, so any batching of the labels gives the same answer.
Read `curve` (how age and loss go together), then `timing`, `calendar`, `follow_up`, and `proposal` (with what each
asks).
"""

from stationkeeper.monitor.core.ageing.calendar import Calendar, CalendarState
from stationkeeper.monitor.core.ageing.curve import AgeingCurve, ServedVersion, SuddenChange, Week, sudden_change
from stationkeeper.monitor.core.ageing.follow_up import FollowUp, FollowUpState
from stationkeeper.monitor.core.ageing.timing import AgeRecord, AgeState, Timing, timing

__all__ = [
    "AgeRecord",
    "AgeState",
    "AgeingCurve",
    "Calendar",
    "CalendarState",
    "FollowUp",
    "FollowUpState",
    "ServedVersion",
    "SuddenChange",
    "Timing",
    "Week",
    "sudden_change",
    "timing",
]
