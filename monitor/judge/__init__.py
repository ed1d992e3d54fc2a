"""The judge: deltas of panes in, verdicts, incidents and retrain requests out, and the state that a restart needs.

In come the panes topic, references and rollouts. Out go history (closed panes), verdicts, requests and the judge's
state: per panes partition its progress, per model the open panes, its watches in pieces, label cohorts and requests.
Invariant: what is decided is a function of the panes log; batches, flushes and restarts change nothing.

Read in this order: stage (the topics, and which model a record is for), watermark (when a pane closes), pending (what
is still open), model (what a closed pane means), watches with segment_reference and plugin_watch, the room labels (when
they are in, and what they say), succession (versions and references that end), escalation (which verdict pages and
which incident asks for a retraining), decisions; checkpoints and state (what is kept); views (what is shown),
replay (the same over history).
"""

from stationkeeper.monitor.judge.decisions import Decisions
from stationkeeper.monitor.judge.labels import CohortRules, Cohorts
from stationkeeper.monitor.judge.model import MAX_GAP_PANES, ModelJudge
from stationkeeper.monitor.judge.pending import WatchKey
from stationkeeper.monitor.judge.replay import FROM_INPUTS, Kept, PastReferences, Rejudge
from stationkeeper.monitor.judge.stage import Judge
from stationkeeper.monitor.judge.watermark import Progresses

__all__ = [
    "FROM_INPUTS",
    "MAX_GAP_PANES",
    "CohortRules",
    "Cohorts",
    "Decisions",
    "Judge",
    "Kept",
    "ModelJudge",
    "PastReferences",
    "Progresses",
    "Rejudge",
    "WatchKey",
]
