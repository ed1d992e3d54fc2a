"""A role's process and what can be seen of it from outside: its log, its end, its memory."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from stationkeeper.streams.settings import KafkaSettings

ROOT = Path(__file__).resolve().parent.parent.parent


def source_of(commit: str, directory: Path) -> Path:
    """Return the source tree of an earlier version, from the repository's history; skips where that is too short."""
    tree = directory / commit[:7]
    tree.mkdir()
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode != 0:
        pytest.skip(f"the repository's history does not go back to {commit[:7]}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tree, filter="data")
    return tree


@dataclass(frozen=True, slots=True)
class Setup:
    """How a role runs: its clock, what its one model's settings say beside the name and the topic, and the join's.

    ``save_rows`` lets the join write its cache after so many rows of a partition, so that faults meet a cache that is
    being written; 0 leaves it at what it is.
    """

    clock: Literal["wall", "stream"] = "stream"
    model: dict[str, Any] = field(default_factory=dict)
    idle_after: int = 30_000
    join: dict[str, Any] = field(default_factory=dict)
    save_rows: int = 0

    def to_json(self) -> str:
        """Return it as the worker reads it."""
        return json.dumps(asdict(self))


class Worker:
    """A role's process; ``build`` is another version's source tree to run."""

    def __init__(
        self,
        role: str,
        settings: KafkaSettings,
        setup: Setup,
        log: Path,
        *,
        die: str = "",
        file_limit: int = 0,
        build: Path | None = None,
    ) -> None:
        self.role, self.log, self.client = role, log, settings.client
        self.began = time.monotonic()
        # An older build brings the worker of its time: ours imports names that it may not have.
        script = (build or ROOT) / "tests" / "reliability" / "worker.py"
        command = [sys.executable, str(script), role]
        command += [settings.model_dump_json(exclude={"security"}, exclude_unset=True)]
        # The oldest took no setup: its model is the one of the bank without one.
        command += [setup.to_json()] if '"setup"' in script.read_text() else []
        command += ["--die", die] if die else []
        command += ["--file-limit", str(file_limit)] if file_limit else []
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=log.parent,
                stderr=output,
                stdout=output,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(build or ROOT)},
            )

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged."""
        return lines_of(self.log)

    def logged(self, event_name: str) -> int:
        """Return how often it has logged an event."""
        return sum(line["event"] == event_name for line in self.lines())

    def partitions(self) -> list[str]:
        """Return the partitions that it was given last."""
        given = [line["partitions"] for line in self.lines() if line["event"] == "partitions_assigned"]
        return list(given[-1]) if given else []

    @property
    def alive(self) -> bool:
        """Whether the process runs, stopped or not."""
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        self.process.send_signal(number)

    def end(self, limit_s: float = 40.0) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(limit_s)

    def leave(self) -> None:
        """End it as a rollout does: SIGTERM, and it drains."""
        self.signal(signal.SIGTERM)
        assert self.end() == 0, self.log.read_text()[-3_000:]

    def kill(self) -> None:
        """Kill it as ``kill -9`` does, and prove it."""
        self.signal(signal.SIGKILL)
        assert self.end() == -signal.SIGKILL

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Return its resident memory (``VmHWM``: the most it ever was) in MB."""
        return memory_of(self.process.pid, what)


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Return the log lines of a process that writes JSON."""
    lines = log.read_text(errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def memory_of(pid: int, what: str) -> float:
    """Return a process's resident memory (``VmHWM``: the most it ever was) in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) / 1_024
    raise LookupError(f"{what} of a process that is gone")
