"""Roles come back when they die, and leave together."""

from pathlib import Path

import pytest

from stationkeeper.process.supervisor import Child, Supervisor
from tests.waiting import until


def all_ended(supervisor: Supervisor, clock: float) -> bool:
    supervisor.turn(clock)
    return not supervisor.pids()


def test_a_child_that_dies_is_started_again_with_growing_patience() -> None:
    supervisor = Supervisor([Child("broken", ("no-such-verb",))])
    clock = 0.0
    supervisor.turn(clock)
    first = supervisor.pids()["broken"]
    until(lambda: all_ended(supervisor, clock), "all have ended")
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
    until(lambda: all_ended(supervisor, 0.0), "all have ended")


@pytest.mark.parametrize("name", ["monitor", "deploy", "stationkeeper"])
def test_a_users_own_module_in_the_working_directory_shadows_no_role(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{name}.py").write_text('raise SystemExit("the user\'s own file ran")\n')
    monkeypatch.chdir(tmp_path)
    supervisor = Supervisor([Child("monitor", ("monitor", "--help"))], log_directory=tmp_path / "log")
    supervisor.turn(0.0)
    until(lambda: all_ended(supervisor, 0.0), "the child has ended")
    said = (tmp_path / "log" / "monitor.log").read_text()
    assert "Usage" in said
    assert "own file" not in said
