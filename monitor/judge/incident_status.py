"""An incident as people see it: what moved, since when, how sure, and what was done about it."""

from stationkeeper.contracts.model_status import IncidentStatus
from stationkeeper.monitor.core.incidents import Answer, Incident


def incident_status(incident: Incident, answer: Answer | None, *, pages: bool) -> IncidentStatus:
    """Return the status of an incident; it pages where it is the champion's and no other incident has its cause."""
    status: IncidentStatus = {
        "id": incident.id,
        "model": incident.model,
        "version": incident.version,
        "segment": incident.segment,
        "kind": incident.kind.value,
        "cause": incident.cause.value,
        "level": "page" if pages and not (answer and answer.same_cause) else "inform",
        "reason": incident.reason,
        "onset": incident.onset.time,
        "onset_low": incident.onset.low,
        "onset_high": incident.onset.high,
        "opened": incident.opened,
        "leader": incident.leader.split(":")[1],
        "subjects": list(incident.subjects),
    }
    if incident.closed is not None:
        status["closed"] = incident.closed
    if incident.verdict:
        status["verdicts"] = [incident.verdict]
    if answer is not None:
        status["request_outcome"], status["request_reason"] = answer.outcome, answer.reason
        if answer.request:
            status["request"] = answer.request
    return status
