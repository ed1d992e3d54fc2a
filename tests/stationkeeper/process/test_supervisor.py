"""Roles come back when they die, and leave together."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stationkeeper.process.supervisor import Child, Supervisor
from stationkeeper.streams.broker.local import free_ports
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


def test_a_child_that_cannot_be_started_is_tried_again_and_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = Supervisor([Child("first", ("--help",)), Child("second", ("--help",))])
    start, refused = subprocess.Popen, [True]

    def busy(*given: Any, **more: Any) -> Any:
        if refused:
            refused.pop()
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return start(*given, **more)

    monkeypatch.setattr(subprocess, "Popen", busy)
    supervisor.turn(0.0)
    assert set(supervisor.pids()) == {"second"}
    supervisor.turn(0.9)
    assert set(supervisor.pids()) == {"second"}, "the second start waits one second"
    supervisor.turn(1.1)
    assert set(supervisor.pids()) == {"first", "second"}
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


def up_without_broker(tmp_path: Path) -> tuple["subprocess.Popen[bytes]", Path, int]:
    """The process of `up`, the file of its log, and the port of serve."""
    nobody, port = free_ports(2)
    config = tmp_path / "stationkeeper.yaml"
    config.write_text(
        f"kafka: {{bootstrap: '127.0.0.1:{nobody}', connect_timeout: 100ms}}\n"
        f"http: {{monitor: 0, deploy: 0}}\nserve: {{port: {port}}}\n"
        f"registry: {{tracking_uri: 'sqlite:///{tmp_path}/mlflow.db'}}\ndrain: 1s\n"
        "models: {fraud: {predictions: scores}}\n"
    )
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "stationkeeper", "up", "--config", str(config)]
        # Without a terminal, as a daemon is: one that closes ends what runs in it.
        up = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path, start_new_session=True)
    return up, log, port


def logged(log: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def test_up_waits_for_a_broker_that_is_away_and_leaves_no_child_behind_when_it_is_killed(tmp_path: Path) -> None:
    up, log, port = up_without_broker(tmp_path)
    children: list[int] = []
    try:
        until(lambda: _listens(port) or up.poll() is not None, "serve listens")
        assert up.poll() is None, log.read_text()
        assert any(line["role"] == "up" for line in logged(log, "broker_unreachable"))
        children = [line["pid"] for line in logged(log, "child_started")]
        assert len(children) == 3
        assert all(Path(f"/proc/{pid}").exists() for pid in children)
    finally:
        up.kill()
        up.wait()
    until(lambda: not any(_runs(pid) for pid in children), "every child has ended")
    assert not _listens(port)


def test_up_passes_sighup_on_to_the_roles_that_reload_also_while_they_start(tmp_path: Path) -> None:
    up, log, _ = up_without_broker(tmp_path)
    try:
        until(lambda: len(logged(log, "child_started")) == 3 or up.poll() is not None, "all have begun")
        up.send_signal(signal.SIGHUP)
        until(lambda: len(logged(log, "config_reloaded")) == 2 or up.poll() is not None, "both have read")
        assert up.poll() is None, log.read_text()
        assert [line["roles"] for line in logged(log, "reload_passed_on")] == [["monitor-0", "deploy"]]
        assert not logged(log, "child_died")
    finally:
        up.terminate()
        up.wait(60)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
