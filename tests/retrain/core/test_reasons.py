"""Stages and reasons of a retrain request: which stages end it, and that stored words never change."""

import pytest

from stationkeeper.retrain.core.reasons import RequestReason, RequestStage

WORK = ["planned", "waiting", "snapshot", "training", "gate", "registering"]
ENDS = ["candidate", "no_evidence", "failed", "suppressed", "rejected"]


@pytest.mark.parametrize("stage", RequestStage)
def test_a_request_is_at_work_or_has_ended(stage: RequestStage) -> None:
    assert stage.final is (stage.value in ENDS)
    assert stage.final is (stage.value not in WORK)


def test_what_older_builds_wrote_is_still_read() -> None:
    # These reasons are in stored state and in `requests` of older builds, though nothing says them today.
    for word in ("cooldown", "budget"):
        assert RequestReason(word).value == word
