"""Adoption: what rows in order of time teach a reference: dependence, daily movement, seasons and traffic.

In: a reference with its rows in order (`adopt`), live panes (`AdoptionPeriod`) or panes of the past (`rebase`).
Out: a `Reference` that knows phi, day floors, strata and traffic, and how serving differs from training, once; what a
slow season has moved since, week by week (`SlowSeason`).
State: of an adoption period, its counts by day, hour of the day and of the week, and its latest panes in coarse cells.
Invariant: a reference that is not adopted pages nothing but data quality; cells never change, so the digest stays.
Read `dependence` (phi, floors), `season` (strata), `traffic`, `adopt`, `period`, `rebase`, `slow_season`.
"""

from stationkeeper.monitor.core.adoption.adopt import (
    FEW_DAYS,
    MIN_PANES,
    Timeline,
    adopt,
    error_phi,
    inherit,
    may_take_over,
    pane_phi,
)
from stationkeeper.monitor.core.adoption.dependence import BLOCKS, MIN_BLOCKS, learned_phi, natural_floor
from stationkeeper.monitor.core.adoption.period import AdoptionPeriod, AdoptionState
from stationkeeper.monitor.core.adoption.rebase import PaneLabels, rebase
from stationkeeper.monitor.core.adoption.season import HOURS_OF_DAY
from stationkeeper.monitor.core.adoption.slow_season import SlowSeason, SlowSeasonState
from stationkeeper.monitor.core.adoption.traffic import DAY_MS, HOUR_MS, STEADY, VolumeModel

__all__ = [
    "BLOCKS",
    "DAY_MS",
    "FEW_DAYS",
    "HOURS_OF_DAY",
    "HOUR_MS",
    "MIN_BLOCKS",
    "MIN_PANES",
    "STEADY",
    "AdoptionPeriod",
    "AdoptionState",
    "PaneLabels",
    "SlowSeason",
    "SlowSeasonState",
    "Timeline",
    "VolumeModel",
    "adopt",
    "error_phi",
    "inherit",
    "learned_phi",
    "may_take_over",
    "natural_floor",
    "pane_phi",
    "rebase",
]
