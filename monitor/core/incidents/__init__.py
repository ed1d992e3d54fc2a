"""From findings to incidents and verdicts: one cause, one incident, one page, until every member has recovered.

In: findings of each closed pane, and the panes. Out: verdicts, and the incidents that opened, changed or closed.
State: open and latest closed incidents, panes since their onsets, recovery tests, and what was warned of.
Invariant: a subject is in at most one open incident, with one verdict in it. Read `incident` (with `hysteresis` for
what stays below a page), `explanation` (with `new_value_shares`), `recovery`, `verdict`, then `lifecycle`, which ties
them together; `request_policy` decides in the judge which incident asks for a retraining.
"""

from stationkeeper.monitor.core.incidents.hysteresis import REARM_MS, WarnedSubject
from stationkeeper.monitor.core.incidents.incident import CO_ONSET_PANES, Incident, Member, merge
from stationkeeper.monitor.core.incidents.lifecycle import (
    DecisionTime,
    IncidentChanges,
    IncidentLifecycle,
    LifecycleState,
)
from stationkeeper.monitor.core.incidents.request_policy import (
    RequestAnswer,
    RequestPolicy,
    RequestPolicyState,
    RequestRules,
)
from stationkeeper.monitor.core.incidents.verdict import WatchIdentity, onset_of, recovered_verdict, verdict_of

__all__ = [
    "CO_ONSET_PANES",
    "REARM_MS",
    "DecisionTime",
    "Incident",
    "IncidentChanges",
    "IncidentLifecycle",
    "LifecycleState",
    "Member",
    "RequestAnswer",
    "RequestPolicy",
    "RequestPolicyState",
    "RequestRules",
    "WarnedSubject",
    "WatchIdentity",
    "merge",
    "onset_of",
    "recovered_verdict",
    "verdict_of",
]
