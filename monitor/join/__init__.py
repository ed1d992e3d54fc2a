"""The label join: predictions and labels meet, whatever comes first, and become outcomes of the prediction's pane.

In come the records of the joins topic (both sides of each event, 28 bytes, by hash partition); out go outcome deltas
and progress to the panes topic, and ``JoinState`` and ``SpentNotes`` to the state topic. The room keeps what waits for
its other side, in memory and as a cache on disk that may be deleted at any time. Invariant: the outcomes of a joins
partition are a function of its log alone; restarts, batches, evictions and a lost cache change nothing. The first label
of a prediction counts for good: one that says something else later is told as a correction beside it, for charts.

Read in this order: store (rows that wait), settled (pairs that a later label may correct), partition (pairing),
outcomes (pairs as sums), rebuild (what a rebuild cannot know from the log), disk_cache, stage (the loop's side), totals
(what is shown).
"""

from stationkeeper.monitor.join.outcomes import merged_outcomes
from stationkeeper.monitor.join.partition import JoinState
from stationkeeper.monitor.join.stage import Join

__all__ = ["Join", "JoinState", "merged_outcomes"]
