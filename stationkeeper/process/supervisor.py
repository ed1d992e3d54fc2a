"""``up``: every role as a supervised child process; one that dies comes back, and all leave together."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from stationkeeper.contracts.log_events import LogEvent

# A role that had run well comes back after it; one that ended at once waits twice as long, and doubles. Chosen: half
# restarts a role that fails at once too busily, double leaves a healthy one away for longer.
FIRST_BACKOFF_S: Final = 0.5
# A role whose broker is down starts at most twice a minute: few lines of log, and half a minute to notice its return.
LONGEST_BACKOFF_S: Final = 30.0
# Whoever lived this long did its work: its next death is a new one, and the pause begins anew.
HEALTHY_AFTER_S: Final = 60.0
# Above the 20 s of `drain` (config.py) in which a role leaves by itself; SIGKILL before that would cut off its commit.
DRAIN_S: Final = 25.0
# The variable in which a child finds who started it (`run.leave_with_parent`).
PARENT: Final = "STATIONKEEPER_PARENT"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Child:
    """One role to keep alive: its name in logs, arguments after ``stationkeeper``, environment, and why it runs.

    ``reloads`` says that it reads its configuration again at SIGHUP, which would end another.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    reloads: bool = False


@dataclass(slots=True)
class _Running:
    child: Child
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    backoff: float = FIRST_BACKOFF_S
    next_start: float = 0.0
    restarts: int = 0


class Supervisor:
    """Keeps children alive until told to stop; one that keeps dying waits longer each time, up to half a minute.

    ``drain_s`` is how long a child may take to leave after SIGTERM: longer than its own ``drain``, which it observes
    by itself.
    """

    def __init__(
        self, children: Sequence[Child], *, log_directory: Path | None = None, drain_s: float = DRAIN_S
    ) -> None:
        self._drain_s = drain_s
        self._running = [_Running(child) for child in children]
        self._log_directory = log_directory
        self._stop = threading.Event()
        self._reload_asked = False

    def run(self, stop: threading.Event | None = None) -> None:
        """Start all, watch them until ``stop`` (or ``stop()``), then drain: SIGTERM, and after ``drain_s`` SIGKILL."""
        stop = stop or self._stop
        try:
            while not stop.is_set():
                self.turn(time.monotonic())
                if self._reload_asked:
                    self._reload_asked = False
                    self._pass_on()
                # How long a dead child stays unnoticed at most.
                stop.wait(0.2)
        finally:
            self.drain()

    def turn(self, now: float) -> None:
        """Start what is not running and due; notice what died."""
        for running in self._running:
            process = running.process
            if process is not None and process.poll() is not None:
                lived = now - running.started
                if lived > HEALTHY_AFTER_S:
                    # Doubled below, as each pause is.
                    running.backoff = FIRST_BACKOFF_S / 2
                _put_off(running, now)
                running.process = None
                log.error(
                    LogEvent.CHILD_DIED,
                    role=running.child.name,
                    code=process.returncode,
                    lived_s=round(lived, 1),
                    again_in_s=running.backoff,
                )
            if running.process is None and now >= running.next_start:
                try:
                    self._start(running, now)
                except OSError as error:
                    # A machine without a process or memory to spare at this moment: the others go on meanwhile.
                    _put_off(running, now)
                    log.error(
                        LogEvent.CHILD_DIED, role=running.child.name, error=str(error), again_in_s=running.backoff
                    )

    def pids(self) -> dict[str, int]:
        """Return the process id of each running child."""
        return {r.child.name: r.process.pid for r in self._running if r.process is not None}

    def restarts(self) -> dict[str, int]:
        """Return how often each child came back."""
        return {running.child.name: running.restarts for running in self._running}

    def stop(self) -> None:
        """Ask ``run`` to end."""
        self._stop.set()

    def reload(self) -> None:
        """Ask the children that can to read their configuration again, at the next turn of ``run``."""
        self._reload_asked = True

    def drain(self) -> None:
        """End every child: SIGTERM in parallel, wait, then SIGKILL what is left."""
        alive = [r.process for r in self._running if r.process is not None and r.process.poll() is None]
        for process in alive:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._drain_s
        for process in alive:
            try:
                # At least a moment for each: one that left while another was waited for must not be killed.
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _pass_on(self) -> None:
        reloading = [r for r in self._running if r.child.reloads and r.process is not None and r.process.poll() is None]
        for running in reloading:
            if running.process is not None:
                running.process.send_signal(signal.SIGHUP)
        log.info(LogEvent.RELOAD_PASSED_ON, roles=[running.child.name for running in reloading])

    def _start(self, running: _Running, now: float) -> None:
        command = [sys.executable, "-P", "-m", "stationkeeper", *running.child.arguments]
        environment = {**os.environ, PARENT: str(os.getpid()), **running.child.environment}
        output = None
        if self._log_directory is not None:
            self._log_directory.mkdir(parents=True, exist_ok=True)
            output = (self._log_directory / f"{running.child.name}.log").open("ab")
        # A child takes the mask over: SIGHUP waits until it listens, for at its start it would end it.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP] if running.child.reloads else [])
        try:
            running.process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT if output else None
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            if output is not None:
                output.close()
        running.started = now
        log.info(LogEvent.CHILD_STARTED, role=running.child.name, pid=running.process.pid, why=running.child.why)


def _put_off(running: _Running, now: float) -> None:
    """Start it later, each time twice as late as the last, up to ``LONGEST_BACKOFF_S``."""
    running.backoff = min(running.backoff * 2, LONGEST_BACKOFF_S)
    running.next_start = now + running.backoff
    running.restarts += 1
