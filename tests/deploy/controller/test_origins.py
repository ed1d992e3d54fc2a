"""A candidate goes out only where registry and log name the same maker of its version."""

import threading

import pytest

from stationkeeper.contracts.messages import DeploymentAction, RolloutPhase
from stationkeeper.deploy.controller.origins import Lookup, Origins
from stationkeeper.deploy.core.admission import Origin
from tests.deploy.world import TOPICS, World, candidate


@pytest.mark.parametrize(
    ("version", "tags", "found"),
    [
        ("2", {}, ("none", "none")),
        ("2", {"request": "req-9", "candidate": "cand-2"}, ("req-9", "cand-2")),
        ("2", {"request": "req-1", "candidate": "cand-7"}, ("req-1", "cand-7")),
        ("99", None, ("none", "none")),
    ],
)
@pytest.mark.parametrize("minutes", [0, 2])
def test_a_version_that_the_registry_ascribes_to_another_maker_is_refused_with_both(
    registry, version, tags, found, minutes
):
    if tags is not None:
        registry.made[version] = tags
    world = World(registry)
    world.minutes(minutes)
    world.send(TOPICS.candidates.name, candidate(version))
    world.minutes(3)
    assert world.last.phase is RolloutPhase.STEADY
    refused = world.deployments[-1]
    assert refused.action is DeploymentAction.REFUSED
    assert refused.evidence["code"] == "unknown_origin"
    assert (refused.evidence["request"], refused.evidence["candidate"]) == ("req-1", f"cand-{version}")
    assert (refused.evidence["found_request"], refused.evidence["found_candidate"]) == found
    world.stage.close()


def test_a_stranger_does_not_replace_the_candidate_that_waits(registry):
    registry.made["3"] = {}
    world = World(registry)
    world.send(TOPICS.candidates.name, candidate())
    world.send(TOPICS.candidates.name, candidate("3"))
    world.minutes(3)
    assert world.last.canary == "2"
    world.stage.close()


def test_a_candidate_waits_in_the_log_while_the_registry_is_away_also_over_a_restart(registry, eventually):
    world = World(registry)
    world.minutes(2)
    registry.reachable = False
    world.send(TOPICS.candidates.name, candidate())
    world.minutes(3)
    assert (world.last.phase, world.last.canary) == (RolloutPhase.STEADY, None)
    assert world.deployments[-1].evidence["code"] == "awaiting_registry"
    world.stage.close()
    world.start()
    registry.reachable = True

    def started() -> bool:
        world.minutes(1)
        return world.last.canary == "2"

    eventually(started)
    assert world.deployments[-1].action is DeploymentAction.STARTED
    world.stage.close()


def test_a_silent_registry_is_waited_for_once_and_a_failing_one_is_left_in_peace(registry):
    asked: list[str] = []
    registry.reachable = False
    tags = registry.tags

    def counted(model: str, version: str) -> dict[str, str]:
        asked.append(version)
        found: dict[str, str] = tags(model, version)
        return found

    registry.tags = counted
    origins = Origins(registry, retry_s=60.0)
    assert origins.of(candidate()) == Lookup(known=False)
    assert origins.of(candidate("3")) == Lookup(known=False)
    assert asked == ["2"]
    origins.close()
    patient = Origins(registry, retry_s=0.0)
    assert not patient.of(candidate()).known
    registry.reachable = True
    assert patient.of(candidate()) == Lookup(known=True, origin=Origin("req-1", "cand-2"))
    patient.close()


def test_without_a_registry_the_log_alone_decides():
    assert Origins(None).of(candidate()) == Lookup(known=True)


def test_another_version_under_the_same_id_does_not_get_the_answer_of_the_first(registry):
    """The first question is still open when the second comes: each is answered about its own version."""
    registry.made["3"] = {}
    hold, tags = threading.Event(), registry.tags

    def slow(model: str, version: str) -> dict[str, str]:
        hold.wait(30)
        found: dict[str, str] = tags(model, version)
        return found

    registry.tags = slow
    origins = Origins(registry)
    forged = candidate("3").model_copy(update={"id": "cand-2"})
    assert not origins.of(candidate()).known
    hold.set()
    answer = origins.of(forged)
    while not answer.known:
        answer = origins.of(forged)
    assert answer.origin == Origin(None, None)
    origins.close()
