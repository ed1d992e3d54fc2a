"""The tally: batches of events in, deltas of panes and rows for the label join out, each record counted in one way.

In come the input topics (read by ``stationkeeper.events``) and the references and rollouts. Out go pane and arm deltas,
progress, joins, dead letters, and the state of each input partition: its clock, the ids of the dedupe horizon,
cumulative outcomes, segment values and the references in force. Invariants: received = tallied + late + duplicate +
rejected + dropped; all of it is a function of each partition's log prefix, whatever the batches and restarts.

Read in this order: stage (a batch from reading to counting), clock, dedupe and timeliness (what is counted at all),
cardinality and segments (under which version and segment), accumulator and open_panes (the sums), join_rows,
unknown_fields, partition with id_chunks (the state), stops (which topics are not read, and why), progress (how far it
is, for judge and join), totals (what is shown).
"""

from stationkeeper.monitor.tally.cardinality import MOST_ACTIONS
from stationkeeper.monitor.tally.clock import UNSET
from stationkeeper.monitor.tally.join_rows import apart
from stationkeeper.monitor.tally.partition import MAX_DIGESTS, PartitionState
from stationkeeper.monitor.tally.segments import LONGEST, OTHER, planned_segments
from stationkeeper.monitor.tally.stage import Tally

__all__ = [
    "LONGEST",
    "MAX_DIGESTS",
    "MOST_ACTIONS",
    "OTHER",
    "UNSET",
    "PartitionState",
    "Tally",
    "apart",
    "planned_segments",
]
