"""What a demo runs on: roles that it starts itself on free ports, or the roles of a configuration that are there."""

import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import yaml

from stationkeeper.config import Config, load
from stationkeeper.demo.scenario import Scenario
from stationkeeper.process.supervisor import Child, Supervisor
from stationkeeper.process.wiring import peer_addresses, target_settings

# For roles that somebody else runs. Chosen: half fails where they start just now on a laptop that is busy, double keeps
# a person waiting for a role that never comes.
READY_S: Final = 120.0
# For our own, of which one that dies is seen at once. Chosen: on two cores with a load of 17 they took longer than two
# minutes, and ten end a wait for what will never come.
STARTED_S: Final = 600.0
# Lines of each log that are shown when a role is not ready: an error with its trace fits, four logs fit a terminal.
_TAIL_LINES: Final = 12


class StageError(RuntimeError):
    """The demo's programs did not come up; the message names the role and its log."""


@dataclass(frozen=True, slots=True)
class Ports:
    """One free port for each role."""

    serve: int
    monitor: int
    retrain: int
    deploy: int

    @classmethod
    def free(cls) -> Self:
        """Take four free ports."""
        # All four held at once, or the system may give one port twice.
        holders = [socket.socket() for _ in range(4)]
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        ports = [holder.getsockname()[1] for holder in holders]
        for holder in holders:
            holder.close()
        return cls(*ports)

    @property
    def addresses(self) -> "Addresses":
        """Return where the roles of these ports are dialled."""
        ports = (self.serve, self.monitor, self.retrain, self.deploy)
        return Addresses(*(f"http://127.0.0.1:{port}" for port in ports))


@dataclass(frozen=True, slots=True)
class Addresses:
    """The base URL of each role, as the demo dials it."""

    serve: str
    monitor: str
    retrain: str
    deploy: str

    @classmethod
    def of(cls, config: Config) -> Self:
        """Return where a configuration says that its roles are; raises ``StageError`` without a router of ours."""
        routers = [target.url for target in target_settings(config) if target.kind == "router" and target.url]
        if not routers:
            raise StageError("targets: names no router; the demo asks a router for its predictions")
        peers = peer_addresses(config, "demo")
        missing = [role for role in ("monitor", "retrain", "deploy") if role not in peers]
        if missing:
            raise StageError(f"http.peers names no {' and no '.join(missing)}; the demo follows every role")
        return cls(routers[0], peers["monitor"], peers["retrain"], peers["deploy"])


def existing_config(path: Path, scenario: Scenario) -> Config:
    """Read the configuration of roles that run already; raises ``StageError`` where the story cannot be told on it."""
    config = load(path, os.environ)
    if scenario.name not in config.models:
        named = ", ".join(config.models) or "none"
        raise StageError(f"{path} has no model {scenario.name!r} (it has: {named}); the story is told on that name")
    if config.clock != "stream":
        # Roles that run by the wall clock would take days for the story, and the labels would be from the future.
        raise StageError(
            f"clock is {config.clock!r}; a story is replayed faster than it happened, so every role must run with "
            "clock: stream (STATIONKEEPER__CLOCK=stream in the environment of each does it)"
        )
    if config.http.callers:
        raise StageError("http.callers: the demo shows no token; tell the story on an installation without callers")
    return config


def demo_config(scenario: Scenario, bootstrap: str, ports: Ports, directory: Path, run: str) -> dict[str, Any]:
    """Return the configuration of a demo: every detector, gate and rollout setting is left at its default."""
    name = scenario.name
    return {
        "clock": "stream",
        # A second of the clock is minutes of the stream: by default each flush would be as many late.
        "kafka": {"bootstrap": bootstrap, "prefix": f"stationkeeper-{run}", "flush_interval": "100ms"},
        "registry": {
            "tracking_uri": f"sqlite:///{directory / 'mlflow.db'}",
            "artifact_root": str(directory / "artifacts"),
        },
        "snapshots": {"directory": str(directory / "snapshots")},
        "serve": {"port": ports.serve, "cache_dir": str(directory / "served")},
        "http": {"monitor": ports.monitor, "retrain": ports.retrain, "deploy": ports.deploy},
        "models": {
            name: {
                "predictions": f"{name}-{run}.predictions",
                "labels": f"{name}-{run}.labels",
                "retrain": {},
                **scenario.settings,
            }
        },
    }


def write_config(data: Mapping[str, Any], directory: Path) -> tuple[Path, Config]:
    """Write the configuration as a user would have it and read it back as the roles will."""
    path = directory / "stationkeeper.yaml"
    path.write_text(yaml.safe_dump(dict(data), sort_keys=False))
    # Without this process's environment: a STATIONKEEPER_… of the person's own set-up must not change the demo.
    return path, load(path, {})


@contextmanager
def running_roles(config_path: Path, ports: Ports, directory: Path) -> Iterator[Supervisor]:
    """Run monitor, retrain, deploy and serve as supervised children until the block ends."""
    # Separate processes and not threads: what a person runs in production is what is shown.
    base = ("--config", str(config_path))
    children = [Child(role, (role, *base)) for role in ("monitor", "retrain", "deploy", "serve")]
    supervisor = Supervisor(children, log_directory=directory / "logs")
    stop = threading.Event()
    thread = threading.Thread(target=supervisor.run, args=(stop,), name="supervisor")
    thread.start()
    try:
        _wait_children(ports, directory, supervisor)
        yield supervisor
    finally:
        stop.set()
        thread.join()


def _wait_children(ports: Ports, directory: Path, supervisor: Supervisor) -> None:
    waiting = wait_ready(ports.addresses, STARTED_S, lambda: any(n > 2 for n in supervisor.restarts().values()))
    if waiting:
        logs = "\n".join(_tail(directory / "logs" / f"{role}.log") for role in waiting)
        raise StageError(f"not ready after {STARTED_S:.0f} s: {', '.join(waiting)}\n{logs}")


def wait_ready(
    addresses: Addresses, within_s: float = READY_S, hopeless: Callable[[], bool] = lambda: False
) -> list[str]:
    """Wait until every role is ready, or one is hopeless; returns those that are not."""
    # Until a first champion is adopted a router has nothing to serve, so the router is asked as a load balancer does.
    waiting = {role: getattr(addresses, role) for role in ("monitor", "retrain", "deploy", "serve")}
    deadline = time.monotonic() + within_s
    # A role that has died three times will not come up: its log says more than the rest of the wait.
    while waiting and time.monotonic() < deadline and not hopeless():
        for role, url in list(waiting.items()):
            if get(url, "/v2/health/ready" if role == "serve" else "/readyz") is not None:
                del waiting[role]
        time.sleep(0.1)
    return list(waiting)


def _tail(path: Path) -> str:
    if not path.exists():
        return f"{path}: no log"
    text = path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join([f"--- {path}", *text])


def connect(url: str, timeout_s: float) -> http.client.HTTPConnection:
    """Return a connection to the host of a base URL, by TLS where it says https."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout_s)


def get(url: str, path: str) -> bytes | None:
    """Return the body of a GET below a base URL, or None unless it is answered with 200."""
    connection = connect(url, 5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if response.status == http.HTTPStatus.OK else None


class Poll:
    """A value that a thread refreshes every ``every_s`` seconds, so that no reader waits for an answer."""

    def __init__(self, ask: Callable[[], Any], every_s: float) -> None:
        self._ask = ask
        self._every_s = every_s
        self._stop = threading.Event()
        self.value: Any = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            answer = self._ask()
            if answer is not None:
                self.value = answer
