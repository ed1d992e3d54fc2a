"""From findings to incidents and verdicts: one cause, one incident, one page, until every member has recovered.

In: findings of each closed pane, and the panes. Out: verdicts, and the incidents that opened, changed or closed.
State: open and latest closed incidents, panes since their onsets, recovery tests, and what was warned of.
Invariant: a subject is in at most one open incident, with one verdict in it. Read `incident` (with `hysteresis` for
what stays below a page), `explanation` (with `new_value_shares`), `recovery`, `verdict`, then `lifecycle`, which ties
them together; `held` keeps what drifts out of the detectors' bags, `harm` tells what an incident costs,
`request_policy` which one asks for a retraining, in the judge, and `cure` whether that helped.
"""

from stationkeeper.monitor.core.incidents.cure import (
    PATIENCE_MS,
    STEADY_PANES,
    STEADY_ROWS,
    Before,
    Cure,
    CureRules,
    Trial,
    after_labels,
    after_pane,
    before_change,
    cure_verdict,
    cure_words,
    judge_cure,
    overtaken,
)
from stationkeeper.monitor.core.incidents.harm import (
    ACCURACY,
    NEW_VALUES,
    Harm,
    HarmRules,
    does_harm,
    harm_by_labels,
    harm_by_scores,
    harm_words,
    void_share,
)
from stationkeeper.monitor.core.incidents.hysteresis import REARM_MS, WarnedSubject
from stationkeeper.monitor.core.incidents.incident import CO_ONSET_PANES, Incident, Member, merge
from stationkeeper.monitor.core.incidents.lifecycle import IncidentChanges, IncidentLifecycle, LifecycleState
from stationkeeper.monitor.core.incidents.request_policy import (
    NOVELTY,
    RETRY_PANES,
    UNWEIGHED,
    IncidentHarm,
    RequestAnswer,
    RequestPolicy,
    RequestPolicyState,
    RequestRules,
)
from stationkeeper.monitor.core.incidents.verdict import (
    DecisionTime,
    WatchIdentity,
    fault_in,
    onset_of,
    recovered_verdict,
    verdict_of,
)

__all__ = [
    "ACCURACY",
    "CO_ONSET_PANES",
    "NEW_VALUES",
    "NOVELTY",
    "PATIENCE_MS",
    "REARM_MS",
    "RETRY_PANES",
    "STEADY_PANES",
    "STEADY_ROWS",
    "UNWEIGHED",
    "Before",
    "Cure",
    "CureRules",
    "DecisionTime",
    "Harm",
    "HarmRules",
    "Incident",
    "IncidentChanges",
    "IncidentHarm",
    "IncidentLifecycle",
    "LifecycleState",
    "Member",
    "RequestAnswer",
    "RequestPolicy",
    "RequestPolicyState",
    "RequestRules",
    "Trial",
    "WarnedSubject",
    "WatchIdentity",
    "after_labels",
    "after_pane",
    "before_change",
    "cure_verdict",
    "cure_words",
    "does_harm",
    "fault_in",
    "harm_by_labels",
    "harm_by_scores",
    "harm_words",
    "judge_cure",
    "merge",
    "onset_of",
    "overtaken",
    "recovered_verdict",
    "verdict_of",
    "void_share",
]
