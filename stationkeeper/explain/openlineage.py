"""A training as run events of OpenLineage, for whoever collects the lineage of all jobs in one place (Marquez).

Pure: a state of a request in, plain data out. Written against the specification 2-0-2 (spec/OpenLineage.json of
OpenLineage/OpenLineage) and its facets of version and error message.
"""

import uuid
from typing import Any

from stationkeeper.contracts.times import to_datetime
from stationkeeper.retrain.core.reasons import RequestStage
from stationkeeper.retrain.service.state import RetrainState

_SPEC = "https://openlineage.io/spec"
_EVENT = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_VERSION = f"{_SPEC}/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"
_ERROR = f"{_SPEC}/facets/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet"
# Whoever reads the events finds by it what wrote them; it need not be an address that answers.
_PRODUCER = "urn:stationkeeper"


def run_events(state: RetrainState, namespace: str) -> list[dict[str, Any]]:
    """Return START, and once the request has ended COMPLETE, FAIL or ABORT, of its latest training; [] before one.

    The input is the snapshot, its version the SHA-256; the output is the registered model. COMPLETE is a candidate;
    FAIL an error, a gate that says no or has no evidence; ABORT what a person or the monitor took back. The run's id
    follows from the request's, so that the same request told twice is one run.
    """
    began = [(place, entry) for place, entry in enumerate(state.history) if entry.stage is RequestStage.TRAINING]
    if not began or state.snapshot is None:
        return []
    place, entry = began[-1]
    run = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{_PRODUCER}:{state.id}:{place}"))
    job = {"namespace": namespace, "name": f"{state.model}.retrain"}
    inputs = [_dataset(namespace, f"{state.model}.snapshot", state.snapshot)]

    def event(kind: str, time_ms: int, facets: dict[str, Any], outputs: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "eventType": kind,
            "eventTime": to_datetime(time_ms).isoformat(),
            "run": {"runId": run, "facets": facets},
            "job": job,
            "inputs": inputs,
            "outputs": outputs,
            "producer": _PRODUCER,
            "schemaURL": _EVENT,
        }

    events = [event("START", entry.entered, {}, [])]
    if state.stage is RequestStage.CANDIDATE:
        model = _dataset(namespace, f"{state.model}.model", state.version or "")
        events.append(event("COMPLETE", state.clock_ms, {}, [model]))
    elif state.stage.final:
        kind = "FAIL" if state.stage in {RequestStage.FAILED, RequestStage.NO_EVIDENCE} else "ABORT"
        why = {"message": state.words(), "programmingLanguage": "Python", "_producer": _PRODUCER, "_schemaURL": _ERROR}
        events.append(event(kind, state.clock_ms, {"errorMessage": why}, []))
    return events


def _dataset(namespace: str, name: str, version: str) -> dict[str, Any]:
    facet = {"datasetVersion": version, "_producer": _PRODUCER, "_schemaURL": _VERSION}
    return {"namespace": namespace, "name": name, "facets": {"version": facet}}
