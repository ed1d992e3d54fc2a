"""The controller over the log: every weight is written before it is applied, and killed anywhere it resumes."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.messages import (
    Approval,
    Candidate,
    Deployment,
    GateOutcome,
    Level,
    Message,
    Rollout,
    RolloutPhase,
    State,
    Subject,
    SubjectType,
    Verdict,
    VerdictKind,
)
from contracts.metrics import BY_NAME
from contracts.status import check
from contracts.times import to_datetime, to_ms
from contracts.topics import Topics
from contracts.wire import SCORE_BINS, ArmDelta, OutcomeDelta, encode, pack
from deploy.adoption import adoption
from deploy.controller import Deploy
from deploy.effects import Effects
from deploy.settings import RolloutSettings
from streams.errors import Fatal
from streams.ports import Batch, Outgoing, Partition, Restored

TOPICS = Topics("t")
MINUTE = 60_000
START = 1_000 * MINUTE
SETTINGS = RolloutSettings(
    step_duration=5 * MINUTE,
    min_rows=20,
    max_duration=240 * MINUTE,
    probation_rows=2_000,
    probation=5 * MINUTE,
    lease=30_000,
)
ASSIGNED = frozenset(
    {Partition(TOPICS.candidates.name, 0), Partition(TOPICS.verdicts.name, 0), Partition(TOPICS.approvals.name, 0)}
    | {Partition(TOPICS.history.name, i) for i in range(6)}
)


def batch(topic: str, values: Iterable[bytes]) -> Batch:
    values = tuple(values)
    n = len(values)
    return Batch(Partition(topic, 0), np.arange(n), np.zeros(n, np.int64), (b"fraud",) * n, values, n)


def arms(index: int, by_version: dict[str, tuple[int, int]]) -> bytes:
    """Encode one closed minute: rows and errors by version."""
    scores = pack(np.zeros(SCORE_BINS, np.int64))
    return encode(
        [
            ArmDelta("fraud", version, "", START + index * MINUTE, MINUTE, rows, errors, 0, 0, 0, scores)
            for version, (rows, errors) in by_version.items()
        ]
    )


def candidate(version: str = "2", gate: GateOutcome = GateOutcome.PASS, model: str = "fraud") -> Candidate:
    return Candidate(
        id=f"cand-{version}",
        time=to_datetime(START),
        request="req-1",
        model=model,
        version=version,
        champion="1",
        run_id="run",
        snapshot="snap",
        reference="ref",
        artifact="uri",
        gate=gate,
        gate_reason="because",
    )


class World:
    """A log with one controller on it, a router that follows the log, and a way to kill the controller."""

    def __init__(self, registry: Any = None, **more: Any) -> None:
        self.rollouts: dict[bytes, bytes] = {}
        self.written: list[Rollout] = []
        self.deployments: list[Deployment] = []
        self.now = 0
        self.index = 0
        self.rng = np.random.default_rng(0)
        self.more = more
        self.registry = registry
        self.put(adoption(TOPICS, "fraud", "1", START, by="test"))
        self.start()

    def start(self) -> None:
        self.stage = Deploy(
            TOPICS,
            {"fraud": self.more.get("settings", SETTINGS)},
            Effects(self.registry, ()),
            self.more.get("clock", "stream"),
        )
        self.stage.assigned(ASSIGNED, Restored(dict(self.rollouts)))

    def put(self, records: list[Outgoing]) -> None:
        for one in records:
            assert one.value is not None
            if one.topic == TOPICS.rollouts.name:
                assert one.key is not None
                self.rollouts[one.key] = one.value
                self.written.append(Rollout.decode(one.value))
            elif one.topic == TOPICS.deployments.name:
                self.deployments.append(Deployment.decode(one.value))

    def send(self, topic: str, *values: bytes | Message) -> None:
        self.stage.absorb(batch(topic, [v.encode() if isinstance(v, Message) else v for v in values]))

    def flush(self, *, commit: bool = True, seconds: int = 1) -> list[Outgoing]:
        self.now += seconds * 1_000
        records = self.stage.flush(self.now)
        if commit:
            self.put(records)
            self.stage.committed()
        return records

    @property
    def last(self) -> Rollout:
        return Rollout.decode(self.rollouts[b"fraud"])

    def traffic(self, *, bad: float = 0.0, rows: int = 1_000) -> dict[str, tuple[int, int]]:
        """Return one minute of rows as a router would split them that only knows the log."""
        rollout = self.last
        b = int(self.rng.binomial(rows, rollout.weight_bp / 10_000))
        split = {rollout.champion: (rows - b, 0)}
        if rollout.canary and b:
            split[rollout.canary] = (b, int(self.rng.binomial(b, bad)))
        return split

    def minutes(self, count: int, **traffic: Any) -> None:
        for _ in range(count):
            self.send(TOPICS.history.name, arms(self.index, self.traffic(**traffic)))
            self.index += 1
            self.flush()

    def actions(self) -> list[str]:
        return [one.action.value for one in self.deployments]


def test_a_candidate_goes_to_production_and_everything_is_in_the_log(registry):
    world = World(registry)
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    assert world.last.weight_bp == 100
    world.minutes(60)
    assert world.actions() == ["adopted", "started", "step", "step", "step", "promoted", "confirmed"]
    assert (world.last.champion, world.last.canary, world.last.phase) == ("2", None, RolloutPhase.STEADY)
    times = [one.time for one in world.deployments]
    assert times == sorted(times)


def test_the_alias_follows_the_log_and_a_hand_that_moves_it_is_reported(registry, eventually):
    world = World(registry)
    eventually(lambda: registry.aliases == {"fraud": "1"})
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(60)
    eventually(lambda: registry.aliases == {"fraud": "2"})
    world.stage.close()
    registry.aliases["fraud"] = "7"
    world.start()
    eventually(lambda: "alias fraud" in world.stage.status()["detail"])
    assert registry.aliases == {"fraud": "7"}
    assert "by hand to 7" in world.stage.status()["detail"]["alias fraud"]
    world.stage.close()
    # What a crash between the log and the alias leaves behind is mended at the next start.
    registry.aliases["fraud"] = "1"
    world.start()
    eventually(lambda: registry.aliases == {"fraud": "2"})
    world.stage.close()


def test_an_unreachable_registry_does_not_stop_a_rollout(registry, eventually):
    registry.reachable = False
    world = World(registry)
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(60)
    assert world.last.champion == "2"
    eventually(lambda: "effect fraud" in world.stage.status()["detail"])
    registry.reachable = True
    eventually(lambda: registry.aliases == {"fraud": "2"})
    world.stage.close()


def test_a_harmful_canary_is_rolled_back():
    world = World()
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(40, bad=0.2)
    assert world.actions()[-1] == "rolled_back"
    assert (world.last.champion, world.last.canary, world.last.weight_bp) == ("1", None, 0)


@settings(max_examples=25)
@given(kills=st.sets(st.integers(0, 59), max_size=12), aborts=st.sets(st.integers(0, 59), max_size=12))
def test_killed_or_aborted_anywhere_it_ends_as_if_nothing_had_happened(kills, aborts):
    """The router reads only the log, so the traffic is the same; so must be every record but for leases."""

    def play(kills: set[int], aborts: set[int]) -> list[tuple[Any, ...]]:
        world = World()
        world.minutes(2)
        world.send(TOPICS.candidates.name, candidate())
        world.flush()
        for minute in range(60):
            value = arms(world.index, world.traffic(bad=0.001))
            world.index += 1
            for lost in (minute in kills, minute in aborts):
                if not lost:
                    continue
                world.send(TOPICS.history.name, value)
                world.flush(commit=False)
                if minute in kills:
                    world.start()
                else:
                    world.stage.revoked(ASSIGNED)
                    world.stage.assigned(ASSIGNED, Restored(dict(world.rollouts)))
            world.send(TOPICS.history.name, value)
            world.flush(seconds=0)
            world.now += 1_000
        return [(one.id, one.action, one.reason) for one in world.deployments]

    assert play(kills, aborts) == play(set(), set())


def test_no_weight_is_applied_that_was_not_written_before(monkeypatch):
    """Effects see only committed records: what an aborted flush decided never reaches them."""
    world = World()
    seen: list[int] = []
    monkeypatch.setattr(Effects, "follow", lambda _self, rollout: seen.append(rollout.weight_bp))
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.flush(commit=False)
    assert seen == []
    world.stage.revoked(ASSIGNED)
    world.stage.assigned(ASSIGNED, Restored(dict(world.rollouts)))
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(40)
    written = [one.weight_bp for one in world.written]
    assert set(seen) <= set(written)


def test_a_lease_is_renewed_while_the_controller_lives_and_not_by_a_steady_model():
    world = World()
    assert world.flush() == []
    world.minutes(2)
    assert len(world.written) == 1
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    lease = world.last.lease_until
    assert lease is not None
    assert to_ms(lease) == world.now + 30_000
    assert world.flush(seconds=5) == []
    renewed = world.flush(seconds=6)
    assert [one.topic for one in renewed] == [TOPICS.rollouts.name]
    assert world.last.lease_until == to_datetime(world.now + 30_000)


def test_a_weight_whose_lease_lapsed_must_be_seen_in_traffic_again():
    world = World()
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(4)
    assert world.last.controller["steps"][-1]["settled"]
    world.start()
    world.flush(seconds=60)
    assert "settled" not in world.last.controller["steps"][-1] or world.last.controller["steps"][-1]["settled"] is None


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


def test_a_rollout_record_that_cannot_be_read_stops_the_controller_loudly():
    world = World()
    world.rollouts[b"fraud"] = b'{"model": "fraud"}'
    with pytest.raises(Fatal, match=r"the rollout record of fraud in t\.rollouts cannot be read"):
        world.start()


def test_a_canary_does_not_start_before_its_gate_was_passed():
    world = World()
    world.minutes(2)
    gate = candidate().model_copy(update={"time": to_datetime(START + 4 * MINUTE)})
    world.send(TOPICS.candidates.name, gate)
    world.flush()
    assert world.deployments[-1].time == gate.time
    world.minutes(60)
    assert world.last.champion == "2"


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
        state=State.BROKEN,
        cause="nulls",
        reason="nulls",
        rows=10,
        incident="inc-9",
    )
    world.send(TOPICS.verdicts.name, page)
    world.minutes(30)
    assert world.last.phase is RolloutPhase.HOLD
    assert "inc-9" in world.last.reason


def test_on_the_wall_clock_a_rollout_without_any_minute_ends():
    world = World(clock="wall")
    world.flush()
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    assert world.last.weight_bp == 100
    world.flush(seconds=SETTINGS.max_duration // 1_000)
    assert world.last.weight_bp == 0
    assert world.deployments[-1].evidence["code"] == "timeout"


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
