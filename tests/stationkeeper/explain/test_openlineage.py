"""A training's run events: what the specification requires of each, and one run however often it is told."""

import uuid
from datetime import datetime

import pytest

from stationkeeper.explain.openlineage import run_events
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.state import RetrainState
from tests.retrain.bank import START, a_request


def state(stage: RequestStage, **more: object) -> RetrainState:
    history = [{"stage": "planned", "entered": START}, {"stage": "training", "entered": START + 60_000}]
    history += [{"stage": stage.value, "entered": START + 90_000}] if stage is not RequestStage.TRAINING else []
    facts: dict[str, object] = {"request": a_request(), "stage": stage, "reason": RequestReason.ENOUGH_LABELS}
    return RetrainState.model_validate(facts | {"history": history, "clock_ms": START + 90_000} | more)


def test_before_a_training_there_is_no_run():
    assert run_events(state(RequestStage.PLANNED, snapshot="5a", history=[]), "bank") == []


def test_a_candidate_is_a_complete_run_from_the_snapshot_to_the_version():
    told = run_events(state(RequestStage.CANDIDATE, snapshot="5a" * 32, version="7"), "bank")
    assert [one["eventType"] for one in told] == ["START", "COMPLETE"]
    for one in told:
        # What the specification requires of a run event, in its formats.
        assert {"eventTime", "producer", "schemaURL", "run", "job"} <= one.keys()
        assert datetime.fromisoformat(one["eventTime"]).tzinfo is not None
        assert str(uuid.UUID(one["run"]["runId"])) == one["run"]["runId"]
        assert one["job"] == {"namespace": "bank", "name": "bank.retrain"}
        assert one["inputs"][0]["facets"]["version"]["datasetVersion"] == "5a" * 32
    assert told[0]["run"]["runId"] == told[1]["run"]["runId"]
    assert told[0]["outputs"] == []
    output = told[1]["outputs"][0]
    assert (output["name"], output["facets"]["version"]["datasetVersion"]) == ("bank.model", "7")
    # Every facet names who made it and its schema.
    assert all(facet.keys() >= {"_producer", "_schemaURL"} for facet in output["facets"].values())
    assert run_events(state(RequestStage.CANDIDATE, snapshot="5a" * 32, version="7"), "bank") == told


@pytest.mark.parametrize(
    ("stage", "kind"),
    [
        (RequestStage.FAILED, "FAIL"),
        (RequestStage.NO_EVIDENCE, "FAIL"),
        (RequestStage.REJECTED, "ABORT"),
        (RequestStage.SUPPRESSED, "ABORT"),
    ],
)
def test_what_gave_no_version_says_why(stage: RequestStage, kind: str):
    told = run_events(state(stage, snapshot="5a", detail="the gate said no"), "bank")[-1]
    assert (told["eventType"], told["outputs"]) == (kind, [])
    assert "the gate said no" in told["run"]["facets"]["errorMessage"]["message"]
    assert run_events(state(RequestStage.GATE, snapshot="5a"), "bank")[-1]["eventType"] == "START"


@pytest.mark.parametrize("asked_again", [False, True])
def test_a_training_after_which_the_request_waits_again_or_is_asked_for_again_has_ended(asked_again: bool):
    first = ["planned", "training", "gate"]
    past = [*first, "no_evidence", "planned"] if asked_again else [*first, "waiting"]
    history = [{"stage": one, "entered": START + 1_000 * at, "note": f"note {at}"} for at, one in enumerate(past)]
    # Asked for again, a state is built anew: it names no snapshot until there is one.
    left = RequestStage.PLANNED if asked_again else RequestStage.WAITING
    waits = run_events(state(left, history=history, snapshot=None if asked_again else "5a"), "bank")
    assert [one["eventType"] for one in waits] == ["START", "FAIL"]
    second = [{"stage": one, "entered": START + 90_000} for one in ("snapshot", "training", "gate", "candidate")]
    told = run_events(state(RequestStage.CANDIDATE, history=history + second, snapshot="6b", version="7"), "bank")
    assert [one["eventType"] for one in told] == ["START", "FAIL", "START", "COMPLETE"]
    runs = [one["run"]["runId"] for one in told]
    assert (runs[0], runs[2]) == (runs[1], runs[3])
    assert runs[0] == waits[0]["run"]["runId"] != runs[2]
    assert told[1]["eventTime"] == waits[1]["eventTime"]
    assert "note 3" in told[1]["run"]["facets"]["errorMessage"]["message"]
    # The snapshot is the latest training's: of the one before it is not known any more.
    assert [len(one["inputs"]) for one in told] == [0, 0, 1, 1]
