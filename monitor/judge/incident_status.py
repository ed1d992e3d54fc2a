"""An incident as people see it: what moved, since when, how sure, and what was done about it."""

from typing import Any

from stationkeeper.monitor.core.incidents.incident import Incident
from stationkeeper.monitor.judge.requests import Asked


def incident_status(incident: Incident, asked: Asked | None, *, pages: bool) -> dict[str, Any]:
    """Return ``contracts.model_status.IncidentStatus`` of an incident; only the champion's incidents page."""
    status: dict[str, Any] = {
        "id": incident.id,
        "model": incident.model,
        "version": incident.version,
        "segment": incident.segment,
        "kind": incident.kind.value,
        "cause": incident.cause.value,
        "level": "page" if pages and not (asked and asked.echo) else "inform",
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
    if asked is not None:
        status["request_outcome"], status["request_reason"] = asked.outcome, asked.reason
        if asked.request:
            status["request"] = asked.request
    return status
