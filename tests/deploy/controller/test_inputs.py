"""What the controller is told: strangers, unreadable records, people, verdicts, labels; and what it shows."""

import numpy as np
import pytest
from structlog.testing import capture_logs

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import (
    Approval,
    DeploymentAction,
    Level,
    RolloutPhase,
    Subject,
    SubjectState,
    SubjectType,
    Verdict,
    VerdictKind,
)
from stationkeeper.contracts.metrics import BY_NAME
from stationkeeper.contracts.status import check
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.wire import SCORE_BINS, OutcomeDelta, encode, pack
from stationkeeper.deploy.adoption import adoption
from stationkeeper.deploy.settings import RolloutSettings
from stationkeeper.streams.ports import Partition, Restored
from tests.deploy.core.ramp import word
from tests.deploy.world import MINUTE, SETTINGS, START, TOPICS, World, candidate


def test_a_candidate_before_the_first_closed_minute_waits_in_the_log():
    world = World()
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    world.start()
    assert world.last.phase is RolloutPhase.STEADY
    world.minutes(3)
    assert world.last.canary == "2"


def test_strangers_are_refused_with_what_to_do():
    world = World()
    world.send(TOPICS.candidates.name, candidate(model="other"))
    world.flush()
    assert world.deployments[-1].evidence["code"] == "not_configured"
    world.rollouts.clear()
    world.start()
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    assert "stationkeeper deployments adopt fraud" in world.deployments[-1].reason


def test_a_model_adopted_while_running_is_learnt_from_the_topic():
    world = World()
    record = adoption(TOPICS, "fraud", "1", START, by="test")[0]
    world.rollouts.clear()
    world.start()
    assert world.stage.status()["rollouts"] == []
    world.stage.table(TOPICS.rollouts.name, b"fraud", record.value)
    assert world.stage.status()["rollouts"][0]["champion"] == "1"
    world.rollouts[b"fraud"] = record.value or b""
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    # The echo of an older record of ours does not take anything back.
    world.stage.table(TOPICS.rollouts.name, b"fraud", record.value)
    assert world.stage.status()["rollouts"][0]["weight_bp"] == 100


def test_unreadable_records_are_counted_and_stop_nothing():
    world = World()
    world.minutes(2)
    world.send(TOPICS.candidates.name, b"not json", b"{}")
    world.send(TOPICS.history.name, b"\xff", b"")
    world.send(TOPICS.verdicts.name, b"[]")
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    assert world.stage.status()["detail"]["unreadable_records"] == 5
    assert world.last.canary == "2"


def test_a_candidate_in_a_newer_schema_is_logged_as_left_out_with_where_it_lies_and_what_to_do():
    world = World()
    world.minutes(2)
    with capture_logs() as logs:
        world.send(TOPICS.candidates.name, candidate().encode().replace(b'"schema_version":1', b'"schema_version":2'))
    (line,) = [one for one in logs if one["log_level"] == "error"]
    assert (line["event"], line["role"]) == (LogEvent.RECORD_LEFT_OUT, "deploy")
    assert line["record"].startswith("t.candidates/0@")
    assert "upgrade this role to the version that wrote the message, then send it again" in line["error"]


def test_a_rollout_record_that_cannot_be_read_leaves_its_model_alone_and_the_others_go_on():
    world = World()
    world.rollouts[b"loans"] = b'{"model": "loans"}'
    world.start()
    detail = world.stage.status()["detail"]
    assert "the rollout record of loans in t.rollouts cannot be read" in detail["refused loans"]
    assert detail["unreadable_records"] == 1
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    assert world.last.canary == "2"
    # What is not understood is never written over.
    assert world.rollouts[b"loans"] == b'{"model": "loans"}'


def test_an_approval_starts_a_rollout_and_a_rollback_ends_it():
    world = World(settings=SETTINGS.model_copy(update={"approval": True}))
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    assert world.last.phase is RolloutPhase.AWAITING_APPROVAL

    def say(decision: str, target: str = "rollout") -> Approval:
        return Approval.model_validate(
            {
                "time": to_datetime(0),
                "target": target,
                "id": "cand-2",
                "model": "fraud",
                "decision": decision,
                "by": "ana",
            }
        )

    world.send(TOPICS.approvals.name, say("approve", "request"))
    assert world.last.phase is RolloutPhase.AWAITING_APPROVAL
    world.send(TOPICS.approvals.name, say("approve"))
    world.flush()
    assert world.last.weight_bp == 100
    world.send(TOPICS.approvals.name, say("roll_back"))
    world.flush()
    assert world.last.weight_bp == 0


def test_a_data_quality_page_holds_the_rollout():
    world = World()
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    page = Verdict(
        id="ver",
        time=to_datetime(START),
        model="fraud",
        version="1",
        subject=Subject(type=SubjectType.FEATURE, name="amount"),
        kind=VerdictKind.DATA_QUALITY,
        level=Level.PAGE,
        state=SubjectState.BROKEN,
        cause="nulls",
        reason="nulls",
        rows=10,
        incident="inc-9",
    )
    world.send(TOPICS.verdicts.name, page)
    world.minutes(30)
    assert world.last.phase is RolloutPhase.HOLD
    assert "inc-9" in world.last.reason


def test_labels_reach_the_evidence_through_the_wire():
    world = World()
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(5)
    settled = world.last.controller["steps"][0]["settled"]
    empty = pack(np.zeros(2 * SCORE_BINS, np.int64))
    confusion = {"1": pack(np.array([30, 0, 0, 30])), "2": pack(np.array([10, 20, 0, 30]))}
    for _ in range(3):
        known = START + world.index * MINUTE
        labels = [
            OutcomeDelta("fraud", version, "", settled, MINUTE, 60, known, confusion[version], empty, 0, 0)
            for version in ("1", "2")
        ]
        world.send(TOPICS.history.name, encode(list(labels)))
        world.minutes(1)
    assert world.deployments[-1].evidence["guardrail"] == "precision"


def test_status_and_samples_have_the_agreed_shape():
    world = World()
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(12)
    check(world.stage.status())
    steps = world.stage.status()["rollouts"][0]["steps"]
    assert [one["state"] for one in steps] == ["done", "current", "planned", "planned"]
    samples = world.stage.samples()
    for sample in samples:
        assert len(sample.labels) == len(BY_NAME[sample.metric].labels)
    shown = {one.labels[-1]: one.value for one in samples if one.metric == "stationkeeper_canary_evidence"}
    guardrails = {one["name"]: one["evidence"] for one in steps[1]["guardrails"]}
    assert shown == guardrails


def test_a_second_member_of_the_group_is_shown():
    world = World()
    world.stage.assigned(frozenset({Partition(TOPICS.history.name, 0)}), Restored())
    assert "run one deploy" in world.stage.status()["detail"]["not_assigned"]


@pytest.mark.parametrize("value", ["0s", "500ms", "x"])
def test_a_lease_that_cannot_be_renewed_is_refused(value):
    with pytest.raises(ValueError, match=r"lease|duration|greater"):
        RolloutSettings.model_validate({"lease": value})


def test_a_candidate_of_a_model_whose_entry_is_refused_waits_until_it_is_right():
    world = World(refused=["fraud"], clock="wall")
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    assert world.deployments[-1].action is DeploymentAction.HELD
    assert world.deployments[-1].evidence["code"] == "entry_refused"
    assert world.last.canary is None
    world.more = {"clock": "wall"}
    world.now = START + 60 * MINUTE
    world.start()
    world.flush()
    world.flush()
    assert world.last.canary == "2"


@pytest.mark.parametrize("decision", ["roll_back", "reject"])
def test_a_person_takes_back_the_canary_of_a_model_whose_entry_is_refused(decision):
    """The word was dropped: no move, and nothing in the audit log."""
    world = World(clock="wall")
    world.now = START
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    world.send(TOPICS.candidates.name, candidate("3"))
    world.flush()
    world.more = {"refused": ["fraud"], "clock": "wall"}
    world.start()
    for other in ("pause", "promote"):
        world.send(TOPICS.approvals.name, word(other, world.last))
        world.flush()
        assert (world.last.canary, world.deployments[-1].action) == ("2", DeploymentAction.REFUSED)
        assert world.deployments[-1].evidence["code"] == "entry_refused"
        assert f"{other} is refused until the entry models.fraud" in world.deployments[-1].reason
    world.send(TOPICS.approvals.name, word(decision, world.last))
    world.flush()
    assert (world.last.canary, world.last.weight_bp, world.actions()[-1]) == (None, 0, "rolled_back")
    # What waited goes on waiting for the entry.
    world.more = {"clock": "wall"}
    world.start()
    world.flush()
    assert world.last.canary == "3"


def test_a_person_takes_back_the_canary_of_a_model_that_is_no_longer_configured():
    world = World(clock="wall")
    world.now = START
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    world.more = {"models": {}, "clock": "wall"}
    world.start()
    world.send(TOPICS.approvals.name, word("pause", world.last), word("roll_back", world.last))
    world.flush()
    assert [one.evidence["code"] for one in world.deployments[-2:]] == ["not_configured", "manual"]
    assert world.last.canary is None


def test_a_candidate_of_a_refused_entry_without_a_champion_is_told_to_adopt_one():
    """It was told to add the model under ``models:``, where it stands; to wait, it needs a record to wait in."""
    world = World(refused=["fraud"])
    world.rollouts.clear()
    world.start()
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    assert world.deployments[-1].evidence["code"] == "no_champion"


def test_the_weight_of_a_model_whose_entry_is_refused_is_not_renewed():
    world = World(clock="wall")
    world.now = START
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    assert world.last.weight_bp > 0
    until = world.last.lease_until
    world.more = {"refused": ["fraud"], "clock": "wall"}
    world.start()
    for _ in range(5):
        world.flush(seconds=600)
    assert (world.last.lease_until, world.last.canary) == (until, "2")
