"""Moves and commits of requests, without a loop."""

import pytest

from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.requests import RequestStates
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.streams.errors import Fatal
from tests.retrain.bank import a_request


def planned() -> RetrainState:
    request = a_request()
    start = RetrainState(
        request=request, stage=RequestStage.PLANNED, reason=RequestReason.ACCEPTED, champion="1", clock_ms=0
    )
    return start.enter(RequestStage.PLANNED, RequestReason.ACCEPTED)


def test_a_move_counts_at_once_for_admission_and_for_a_step_only_once_committed() -> None:
    states, state = RequestStates("state"), planned()
    record = states.move(state)
    assert (record.topic, record.key, record.value) == ("state", state.id.encode(), state.encode())
    assert states.get(state.id) == state
    assert states.of_model(state.model) == [state]
    assert (list(states.committed()), list(states.unmoved()), states.at_rest(state.id)) == ([], [], None)
    assert states.commit() == [state]
    assert list(states.unmoved()) == [state]
    moved = state.enter(RequestStage.WAITING, RequestReason.TOO_FEW_ROWS)
    states.move(moved)
    assert (states.get(state.id), states.at_rest(state.id), list(states.unmoved())) == (moved, state, [])
    assert states.commit() == [moved]
    assert states.commit() == []


def test_what_was_committed_is_restored_and_a_record_that_cannot_be_read_names_its_request() -> None:
    state = planned()
    assert list(RequestStates("state").restore({state.id.encode(): state.encode()})) == [state]
    with pytest.raises(Fatal, match=r"request r-1 in state cannot be read(?s:.*)tombstone"):
        RequestStates("state").restore({b"r-1": b"{"})
