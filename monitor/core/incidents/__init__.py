"""From findings to incidents and verdicts: one cause, one incident, one page, until every member has recovered.

In: findings of each closed pane, and the panes. Out: verdicts, and the incidents that opened, changed or closed.
State: open and latest closed incidents, panes since their onsets, recovery tests, and what was warned of.
Invariant: a subject is in at most one open incident, and speaks once in it. Read `incident` (with `hysteresis` for what
stays below a page), `explanation`, `recovery`, `verdict`, then `lifecycle`, which ties them together; `request_policy`
decides in the judge which incident asks for a retraining.
"""

from stationkeeper.monitor.core.incidents.hysteresis import REARM_NATS, REARM_PANES, WarnedSubject, WarningHysteresis
from stationkeeper.monitor.core.incidents.incident import (
    CO_ONSET_PANES,
    Incident,
    OpenIncidents,
    choose_leader,
    co_onset,
    merge,
)
from stationkeeper.monitor.core.incidents.lifecycle import (
    DecisionTime,
    IncidentChanges,
    IncidentLifecycle,
    LifecycleState,
)
from stationkeeper.monitor.core.incidents.recovery import Recovery
from stationkeeper.monitor.core.incidents.request_policy import (
    LOST_AFTER_MS,
    RETRY_PANES,
    Answer,
    RequestPolicy,
    RequestRules,
    RequestState,
)
from stationkeeper.monitor.core.incidents.verdict import (
    WatchIdentity,
    recovered_verdict,
    refusal_of,
    verdict_of,
)

__all__ = [
    "CO_ONSET_PANES",
    "LOST_AFTER_MS",
    "REARM_NATS",
    "REARM_PANES",
    "RETRY_PANES",
    "Answer",
    "DecisionTime",
    "Incident",
    "IncidentChanges",
    "IncidentLifecycle",
    "LifecycleState",
    "OpenIncidents",
    "Recovery",
    "RequestPolicy",
    "RequestRules",
    "RequestState",
    "WarnedSubject",
    "WarningHysteresis",
    "WatchIdentity",
    "choose_leader",
    "co_onset",
    "merge",
    "recovered_verdict",
    "refusal_of",
    "verdict_of",
]
