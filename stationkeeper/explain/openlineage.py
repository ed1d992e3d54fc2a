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
# What a training passes through on its way to a version; any other stage is its end.
_GOES_ON = (RequestStage.GATE, RequestStage.REGISTERING)


def run_events(state: RetrainState, namespace: str) -> list[dict[str, Any]]:
    """Return START of each training, and once it has ended COMPLETE, FAIL or ABORT; [] before the first.

    The input is the snapshot, its version the SHA-256, told of the latest training alone, as the state keeps no other;
    the output is the registered model. COMPLETE is a candidate; FAIL an error, a gate that says no or has no evidence,
    also where the request then waits for more rows; ABORT what a person or the monitor took back. A run's id follows
    from the request's and the training's place in it, so that the same request told twice is the same runs.
    """
    began = [place for place, entry in enumerate(state.history) if entry.stage is RequestStage.TRAINING]
    return [event for place in began for event in _run(state, namespace, place, latest=place == began[-1])]


def _run(state: RetrainState, namespace: str, place: int, *, latest: bool) -> list[dict[str, Any]]:
    run = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{_PRODUCER}:{state.id}:{place}"))
    job = {"namespace": namespace, "name": f"{state.model}.retrain"}
    read = latest and state.snapshot is not None
    inputs = [_dataset(namespace, f"{state.model}.snapshot", state.snapshot or "")] if read else []

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

    events = [event("START", state.history[place].entered, {}, [])]
    after = (entry for entry in state.history[place + 1 :] if entry.stage not in _GOES_ON)
    end = next(after, None)
    if end is None:
        return events
    if end.stage is RequestStage.CANDIDATE:
        model = _dataset(namespace, f"{state.model}.model", state.version or "")
        return [*events, event("COMPLETE", end.entered, {}, [model])]
    kind = "ABORT" if end.stage in {RequestStage.REJECTED, RequestStage.SUPPRESSED} else "FAIL"
    # The state has the reason of where it stands; of what is past, the history has the words.
    words = state.words() if end is state.history[-1] else end.note
    why = {"message": words, "programmingLanguage": "Python", "_producer": _PRODUCER, "_schemaURL": _ERROR}
    return [*events, event(kind, end.entered, {"errorMessage": why}, [])]


def _dataset(namespace: str, name: str, version: str) -> dict[str, Any]:
    facet = {"datasetVersion": version, "_producer": _PRODUCER, "_schemaURL": _VERSION}
    return {"namespace": namespace, "name": name, "facets": {"version": facet}}
