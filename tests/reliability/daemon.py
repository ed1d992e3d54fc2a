"""The whole ``stationkeeper monitor`` as a person starts it: a configuration file, a port, probes and metrics."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stationkeeper.streams.broker.local import free_ports
from stationkeeper.streams.settings import KafkaSettings
from tests.reliability.workers import ROOT, Setup, lines_of, memory_of


class Daemon:
    """Tally, join and judge in one process with its HTTP side, over a bank's topics; ``verb`` may start more."""

    def __init__(
        self,
        settings: KafkaSettings,
        setup: Setup,
        directory: Path,
        more: dict[str, Any],
        verb: Sequence[str] = ("monitor",),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log, self.port = directory / f"daemon-{settings.prefix}.log", free_ports(1)[0]
        model = {"predictions": f"{settings.prefix}.scores", "adoption": "0d", "quality": {"learn_traffic": "0d"}}
        given = dict(setup.model)
        if given.get("labels"):
            given["labels"] = f"{settings.prefix}.labels"
        config: dict[str, Any] = {
            "clock": setup.clock,
            "kafka": settings.model_dump(mode="json", exclude={"security"}, exclude_unset=True),
            "models": {"fraud": model | given},
        } | more
        config["http"] = {"monitor": self.port, "peers": {}} | more.get("http", {})
        path = directory / f"daemon-{settings.prefix}.yaml"
        # JSON is YAML.
        path.write_text(json.dumps(config))
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stationkeeper", *verb, "--config", str(path)],
                cwd=directory,
                stdout=output,
                stderr=output,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)} | dict(environment or {}),
            )

    def get(self, path: str, port: int = 0) -> tuple[int, bytes, float]:
        """Return status, body and seconds of a GET (of its own port, or another); status 0 where nothing answers."""
        began = time.monotonic()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}{path}", timeout=30) as answer:
                return answer.status, answer.read(), time.monotonic() - began
        except urllib.error.HTTPError as error:
            return error.code, error.read(), time.monotonic() - began
        except OSError:
            return 0, b"", time.monotonic() - began

    def ready(self) -> bool:
        """Return whether it says that it is ready; fails with its log once it has ended."""
        assert self.alive, self.log.read_text()[-3_000:]
        return self.get("/readyz")[0] == 200

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def logged(self, event_name: str) -> int:
        """Return how often it has logged an event."""
        return sum(line["event"] == event_name for line in lines_of(self.log))

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Return its resident memory in MB."""
        return memory_of(self.process.pid, what)

    def children(self) -> dict[int, str]:
        """Return the command line of each child process by its id."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found: dict[int, str] = {}
        for pid in pids:
            # One that ends between the two looks is no child any more.
            with suppress(FileNotFoundError, ProcessLookupError):
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        return found

    def processor_s(self) -> float:
        """Return the processor time it has used, which other work on the machine does not lengthen."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        """Return how many files and sockets it holds open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def close(self) -> int:
        """Ask it to leave and return its exit code."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
