"""The daemon as a user runs it: the installed command, its configuration and its probes, as a child process."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from benchmarks.measure.environment import child_environment
from stationkeeper.streams.broker.local import free_ports

READY_S = 90.0
STOP_S = 30.0


class Daemon:
    """``stationkeeper monitor`` with a configuration; ready on entry, stopped by SIGTERM on exit.

    ``started`` is the wall seconds from the start of the process to the first 200 of ``/readyz``.
    """

    def __init__(self, home: Path, config: Mapping[str, Any], *, core: int | None = None) -> None:
        self._home = home
        self.port = free_ports(1)[0]
        self._config = {**config, "http": {"monitor": self.port}}
        self._core = core
        self.started = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the process id."""
        if self._process is None:
            raise RuntimeError("the daemon is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        path = self._home / "stationkeeper.yaml"
        path.write_text(yaml.safe_dump(self._config), encoding="utf-8")
        log = self._home / "monitor.log"
        began = time.perf_counter()
        with log.open("wb") as output:
            command = [sys.executable, "-m", "stationkeeper", "monitor", "--config", str(path)]
            self._process = subprocess.Popen(command, stdout=output, stderr=output, env=child_environment())
        if self._core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self.pid, {self._core})
        while not self._answers("/readyz"):
            if self._process.poll() is not None or time.perf_counter() - began > READY_S:
                said = log.read_text(encoding="utf-8", errors="replace")[-800:]
                self.__exit__(None, None, None)
                raise RuntimeError(f"the daemon did not get ready: {said}")
            time.sleep(0.01)
        self.started = time.perf_counter() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def get(self, path: str) -> bytes:
        """Return what the daemon's HTTP side answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            found: bytes = answer.read()
        return found

    def status(self) -> Any:
        """Return its own status."""
        return json.loads(self.get("/api/v1/status?scope=own"))

    def processor_seconds(self) -> float:
        """Return what the process has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _answers(self, path: str) -> bool:
        try:
            self.get(path)
        except (urllib.error.URLError, OSError):
            return False
        return True
