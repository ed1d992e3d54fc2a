"""Panes: the additive counts of stretches of event time, and how the latest of them are remembered.

In: closed panes in order of time. Out: sums over the chart window, and over what came since an onset; the stratum (hour
of the week) of a pane. State: the slots of the window and the remembered panes, packed.
Invariant: sums are exact and depend on the panes alone, not on how they came; the layout's width bounds memory.
Read `pane`, `packed` (counts in few bytes), `window`, `recent`, `recent_sums` (what labels said of them).
"""

from stationkeeper.monitor.core.panes.packed import PackedRows, SparseCounts
from stationkeeper.monitor.core.panes.pane import Pane, stratum_of
from stationkeeper.monitor.core.panes.recent import Recent, RecentState
from stationkeeper.monitor.core.panes.recent_sums import RecentSums
from stationkeeper.monitor.core.panes.window import ChartWindow, WindowState

__all__ = [
    "ChartWindow",
    "PackedRows",
    "Pane",
    "Recent",
    "RecentState",
    "RecentSums",
    "SparseCounts",
    "WindowState",
    "stratum_of",
]
