"""The controller under the loop that drives every role, over the in-memory log, with people's words beside it."""

from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.messages import Approval, Deployment, RolloutPhase
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.topics import PANES_PARTITIONS, Topics
from stationkeeper.contracts.wire import SCORE_BINS, ArmDelta, encode, pack
from stationkeeper.deploy.adoption import DeploymentError, adopt, commit, read_deployments
from stationkeeper.deploy.controller.effects import Effects
from stationkeeper.deploy.controller.stage import Deploy
from stationkeeper.deploy.settings import RolloutSettings
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader, MemorySink, MemorySource
from stationkeeper.streams.ports import Outgoing
from stationkeeper.streams.settings import KafkaSettings
from tests.deploy.world import SETTINGS, ProvingTarget
from tests.messages import candidate

TOPICS = Topics("stationkeeper")
KAFKA = KafkaSettings(flush_interval=0, poll_timeout=0)
MINUTE = 60_000


class Running:
    """One controller on one in-memory log."""

    def __init__(self, settings: RolloutSettings) -> None:
        self.log = MemoryLog()
        for topic in TOPICS.all():
            self.log.create(topic)
        self.settings = settings
        self.now = 0
        self.minute = 1_000
        self.start()

    def start(self) -> None:
        stage = Deploy(TOPICS, {"fraud": self.settings}, Effects(None, (ProvingTarget(),)), "stream")
        self.loop = Loop(
            stage,
            MemorySource(self.log, KAFKA, "deploy"),
            MemorySink(self.log, KAFKA, "deploy"),
            MemoryReader(self.log),
            KAFKA,
            now_ms=lambda: self.now,
        )

    def turn(self, times: int = 4) -> None:
        for _ in range(times):
            self.now += 1_000
            self.loop.turn()

    def reader(self) -> MemoryReader:
        return MemoryReader(self.log)

    def sink(self) -> MemorySink:
        return MemorySink(self.log, KAFKA, "people")

    def play(self, minutes: int) -> None:
        scores = pack(np.zeros(SCORE_BINS, np.int64))
        for _ in range(minutes):
            rollout = read_deployments(self.reader(), TOPICS).rollout("fraud")
            b = rollout.weight_bp // 10
            split = {rollout.champion: 1_000 - b, **({rollout.canary: b} if rollout.canary and b else {})}
            arms = [
                ArmDelta("fraud", version, "", self.minute * MINUTE, MINUTE, rows, 0, 0, 0, 0, scores)
                for version, rows in split.items()
            ]
            where = partition_of("fraud", PANES_PARTITIONS)
            self.log.produce(TOPICS.history.name, [encode(list(arms))], keys=[b"fraud"], partition=where)
            self.minute += 1
            self.turn(2)

    def say(self, **word: Any) -> None:
        said = Approval(time=to_datetime(MINUTE), target="rollout", id="cand-2", model="fraud", **word)
        commit(self.sink(), [Outgoing(TOPICS.approvals.name, said.encode(), said.id.encode())])

    def audit(self) -> list[Deployment]:
        return list(read_deployments(self.reader(), TOPICS).audit)


@pytest.fixture
def running() -> Running:
    return Running(
        RolloutSettings(
            step_duration=3 * MINUTE,
            min_rows=20,
            max_duration=240 * MINUTE,
            probation_rows=2_000,
            probation=5 * MINUTE,
            approval=True,
            guardrails=SETTINGS.guardrails,
        )
    )


def test_adoption_approval_promotion_and_a_late_rollback_go_through_the_log(running):
    running.turn()
    adopt(running.sink(), running.reader(), TOPICS, "fraud", "1", MINUTE, by="ana", reference=b"{}")
    running.play(3)
    offered = candidate(MINUTE).encode()
    running.log.produce(TOPICS.candidates.name, [offered], keys=[b"fraud"])
    running.turn()
    held = read_deployments(running.reader(), TOPICS)
    assert held.rollout("fraud").phase is RolloutPhase.AWAITING_APPROVAL
    running.say(decision="approve", by="ana")
    running.turn()
    running.play(10)
    running.loop.close()
    running.start()
    running.play(30)
    now = read_deployments(running.reader(), TOPICS)
    assert now.rollout("fraud").champion == "2"
    assert [one.action.value for one in now.audit] == [
        *("adopted", "held", "started", "step", "step", "step", "promoted", "confirmed")
    ]
    running.say(decision="roll_back", by="ben", note="customers complain")
    running.turn()
    last = read_deployments(running.reader(), TOPICS)
    assert last.rollout("fraud").champion == "1"
    assert "ben rolled back to version 1: customers complain" in last.audit[-1].reason


def test_adoption_is_idempotent_and_refuses_another_champion(running):
    first = adopt(running.sink(), running.reader(), TOPICS, "fraud", "1", MINUTE, by="ana")
    again = adopt(running.sink(), running.reader(), TOPICS, "fraud", "1", 2 * MINUTE, by="ana")
    assert first == again
    assert len(running.audit()) == 1
    with pytest.raises(DeploymentError, match="has champion 1 already"):
        adopt(running.sink(), running.reader(), TOPICS, "fraud", "2", MINUTE, by="ana")


def test_a_rollout_of_a_newer_version_is_refused_with_what_to_do_and_for_its_model_alone(running):
    held = adopt(running.sink(), running.reader(), TOPICS, "fraud", "1", MINUTE, by="ana")
    newer = held.encode().replace(b'"schema_version":1', b'"schema_version":2')
    running.log.produce(TOPICS.rollouts.name, [newer, b"nonsense", b"nonsense"], keys=[b"fraud", b"credit", b"\xff"])
    found = read_deployments(running.reader(), TOPICS)
    with pytest.raises(DeploymentError, match=r"'fraud'.*rollout\.schema_version: schema_version is 2.*upgrade this"):
        found.rollout("fraud")
    with pytest.raises(
        DeploymentError, match=r"a record of production of 'credit' cannot be read: rollout: Invalid JSON"
    ):
        adopt(running.sink(), running.reader(), TOPICS, "credit", "1", MINUTE, by="ana")
    assert adopt(running.sink(), running.reader(), TOPICS, "churn", "4", MINUTE, by="ana").champion == "4"


def test_records_of_the_audit_log_that_cannot_be_read_are_counted_and_take_no_verb_away(running):
    held = adopt(running.sink(), running.reader(), TOPICS, "fraud", "1", MINUTE, by="ana")
    newer = running.audit()[0].encode().replace(b'"schema_version":1', b'"schema_version":2')
    running.log.produce(TOPICS.deployments.name, [newer, b"nonsense"], keys=[b"fraud", b"fraud"])
    found = read_deployments(running.reader(), TOPICS)
    assert (found.rollout("fraud"), len(found.audit), found.unreadable) == (held, 1, {"fraud": 2})
    assert adopt(running.sink(), running.reader(), TOPICS, "fraud", "1", MINUTE, by="ana") == held


def test_a_model_without_a_champion_is_refused_with_those_there_are(running):
    with pytest.raises(DeploymentError, match="known: none"):
        read_deployments(running.reader(), TOPICS).rollout("fraud")
