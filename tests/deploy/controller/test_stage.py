"""The controller over the log: every weight is written before it is applied, and killed anywhere it resumes."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.contracts.times import to_datetime, to_ms
from stationkeeper.contracts.wire import SCORE_BINS, OutcomeDelta, encode, pack
from stationkeeper.deploy.controller.effects import Effects
from stationkeeper.deploy.core.state import memory
from stationkeeper.streams.ports import Batch, Restored
from tests.deploy.core.ramp import word
from tests.deploy.world import ASSIGNED, MINUTE, SETTINGS, START, TOPICS, World, arms, candidate


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
    world = World(registry)
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    registry.reachable = False
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
            world.proofs()
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


def again(world: World, *sent: Batch) -> None:
    """The group's offsets are those of before: what was committed since comes once more."""
    world.start()
    for one in sent:
        world.stage.absorb(one)
    # Long enough that the lease is renewed, and the record written.
    world.flush(seconds=15)


def test_minutes_that_come_again_though_they_were_committed_count_once():
    world = World()
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(2)
    rows, known = arms(world.index, {"1": (990, 0), "2": (10, 0)}), START + world.index * MINUTE
    empty, confusion = pack(np.zeros(SCORE_BINS, np.int64)), pack(np.array([1, 2, 3, 4], np.int64))
    labels = encode([OutcomeDelta("fraud", "2", "", known - MINUTE, MINUTE, 10, known, confusion, empty, 0, 0)])
    sent = [world.send(TOPICS.history.name, rows, labels)]
    world.flush()
    sent.append(world.send(TOPICS.history.name, rows))
    world.flush()
    once = memory(world.last).open
    assert once is not None
    assert (once.arms["2"].rows, len(once.outcomes)) == (20, 1)
    # Again in pieces, each of them committed, and once more by a third process.
    assert world.stage.status()["detail"]["records_taken_before"] == 0
    again(world, sent[0])
    with capture_logs() as logs:
        again(world, *sent)
    assert memory(world.last).open == once
    # A record counts once, however many models it speaks of; it is told once, however often they come.
    assert world.stage.status()["detail"]["records_taken_before"] == 3
    told = [(one["record"], one["log_level"]) for one in logs if one["event"] == LogEvent.RECORDS_TAKEN_BEFORE]
    assert told == [("t.history/0@4", "warning")]
    # What is new counts, and so does what a new topic holds at offsets that are known.
    world.send(TOPICS.history.name, rows)
    world.flush()
    world.now += MINUTE
    world.ends.clear()
    world.start()
    world.send(TOPICS.history.name, rows)
    world.flush()
    after = memory(world.last).open
    assert after is not None
    assert after.arms["2"].rows == 40


def test_a_word_that_comes_again_takes_nothing_else_back():
    world = World()
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(60)
    assert world.last.champion == "2"
    world.send(TOPICS.candidates.name, candidate("3").model_copy(update={"id": "cand-3", "champion": "2"}))
    world.minutes(3)
    assert world.last.canary == "3"
    sent = world.send(TOPICS.approvals.name, word("roll_back", world.last))
    world.flush()
    assert world.last.phase is RolloutPhase.STEADY
    again(world, sent)
    assert world.last.champion == "2"


def test_no_weight_is_applied_that_was_not_written_before(monkeypatch):
    """Effects see only committed records: what an aborted flush decided never reaches them."""
    world = World()
    seen: list[int] = []
    follow = Effects.follow

    def watched(self: Effects, rollout: Rollout) -> None:
        seen.append(rollout.weight_bp)
        follow(self, rollout)

    monkeypatch.setattr(Effects, "follow", watched)
    world.minutes(2)
    world.send(TOPICS.candidates.name, candidate())
    world.flush(commit=False)
    assert seen == []
    world.stage.revoked(ASSIGNED)
    world.stage.assigned(ASSIGNED, Restored(dict(world.rollouts)))
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(40)
    written = [one.weight_bp for one in world.written]
    assert seen
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
    # The host's clock was set back: a lease of an hour would leave the canary in traffic with nobody who watches it.
    world.flush(seconds=-3_600)
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


def test_a_canary_does_not_start_before_its_gate_was_passed():
    world = World()
    world.minutes(2)
    gate = candidate().model_copy(update={"time": to_datetime(START + 4 * MINUTE)})
    world.send(TOPICS.candidates.name, gate)
    world.flush()
    assert world.deployments[-1].time == gate.time
    world.minutes(60)
    assert world.last.champion == "2"


def test_a_candidate_before_the_first_minute_waits_for_that_and_for_no_rollout():
    """It was told to wait for the rollout of the champion to end, where none was under way."""
    world = World(clock="stream")
    world.flush()
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    assert world.last.canary is None
    assert world.deployments[-1].evidence["code"] == "awaiting_minute"
    assert "first closed minute" in world.deployments[-1].reason
    world.minutes(3)
    assert world.last.canary == "2"


def test_on_the_wall_clock_a_rollout_without_any_minute_ends():
    world = World(clock="wall")
    world.flush()
    world.send(TOPICS.candidates.name, candidate())
    world.flush()
    assert world.last.weight_bp == 100
    world.flush(seconds=SETTINGS.max_duration // 1_000)
    assert world.last.weight_bp == 0
    assert world.deployments[-1].evidence["code"] == "timeout"
