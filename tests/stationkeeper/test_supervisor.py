"""Roles come back when they die, and leave together."""

import time
from collections.abc import Callable

from stationkeeper.supervisor import Child, Supervisor


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.02)


def all_ended(supervisor: Supervisor, clock: float) -> bool:
    supervisor.turn(clock)
    return not supervisor.pids()


def test_a_child_that_dies_is_started_again_with_growing_patience() -> None:
    supervisor = Supervisor([Child("broken", ("no-such-verb",))])
    clock = 0.0
    supervisor.turn(clock)
    first = supervisor.pids()["broken"]
    wait_for(lambda: all_ended(supervisor, clock))
    assert supervisor.restarts() == {"broken": 1}
    supervisor.turn(clock + 0.9)
    assert not supervisor.pids(), "the second start waits one second"
    supervisor.turn(clock + 1.1)
    assert supervisor.pids()["broken"] != first
    supervisor.drain()


def test_drain_ends_every_child() -> None:
    supervisor = Supervisor([Child("a", ("--help",)), Child("b", ("--help",))])
    supervisor.turn(0.0)
    assert set(supervisor.pids()) == {"a", "b"}
    supervisor.drain()
    wait_for(lambda: all_ended(supervisor, 0.0))
