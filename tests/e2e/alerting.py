"""The real Prometheus and Alertmanager with our own files, made impatient, and a receiver that remembers."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import yaml

from tests.json_server import JsonServer
from tests.listening import free_port
from tests.waiting import until

OPS = Path(__file__).resolve().parents[2] / "ops"
# Waits of the rules count seconds instead of minutes, so that five minutes of silence are five seconds.
_MINUTES = re.compile(r"^(\s*(?:for|keep_firing_for): \d+)m$", re.MULTILINE)


def demo_ports(stage: Path, over: Callable[[], bool]) -> dict[str, int]:
    """Wait for the configuration of a demo kept in ``stage`` and return its ports; nothing once it is ``over``."""
    path = stage / "stationkeeper.yaml"
    found: dict[str, int] = {}

    def written() -> bool:
        # The demo writes its file in place: half of it is no mapping, or one without models.
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
        if isinstance(config, dict) and "models" in config:
            found.update({name: config["http"][name] for name in ("monitor", "retrain", "deploy")})
        return bool(found) or over()

    until(written, "the demo's configuration", 300)
    return found


class Receiver(JsonServer):
    """A webhook that keeps what Alertmanager sends, by the path of its receiver."""

    def __init__(self) -> None:
        self._notifications: list[tuple[str, dict[str, Any]]] = []
        super().__init__()

    def respond(self, method: str, path: str, headers: Message, body: Any) -> tuple[int, Any]:
        self._notifications.append((path.strip("/"), body))
        return 200, None

    def got(self, receiver: str, status: str | None = None) -> list[dict[str, Any]]:
        """Return the notifications of a receiver, of one status (firing, resolved) if asked for."""
        return [n for path, n in list(self._notifications) if path == receiver and status in {None, n["status"]}]


def hurried(rules: str) -> str:
    """Return rules whose minutes are seconds, but for the one that leaves roles the time to start."""
    parts = re.split(r"^(?=\s*- alert: )", rules, flags=re.MULTILINE)
    return "".join(part if "alert: StationkeeperAbsent" in part else _MINUTES.sub(r"\1s", part) for part in parts)


class Alerting:
    """Prometheus scraping ``targets`` (process name: port), sending to Alertmanager, sending to ``receiver``."""

    def __init__(self, tool: Callable[[str], str], folder: Path, targets: dict[str, int]) -> None:
        self.receiver = Receiver()
        self._folder = folder
        self._children: list[subprocess.Popen[bytes]] = []
        manager_port, self._port = free_port(), free_port()
        manager = yaml.safe_load((OPS / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8"))
        manager["route"] |= {"group_wait": "1s", "group_interval": "1s"}
        for receiver in manager["receivers"]:
            if receiver["name"] != "nobody":
                receiver["webhook_configs"] = [{"url": f"{self.receiver.url}/{receiver['name']}"}]
        scrape = yaml.safe_load((OPS / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
        scrape["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
        (job,) = (job for job in scrape["scrape_configs"] if job["job_name"] == "stationkeeper")
        job["static_configs"] = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"process": name}} for name, port in targets.items()
        ]
        scrape["scrape_configs"] = [job]
        scrape["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"127.0.0.1:{manager_port}"]}]}]
        rules = folder / "rules"
        rules.mkdir()
        for source in (OPS / "prometheus" / "rules").glob("*.yml"):
            (rules / source.name).write_text(hurried(source.read_text(encoding="utf-8")))
        self._write("alertmanager.yml", manager)
        self._write("prometheus.yml", scrape)
        self._start(
            "alertmanager",
            tool("prometheus-alertmanager"),
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{manager_port}",
            "--cluster.listen-address=",
        )
        self._start(
            "prometheus",
            tool("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--enable-feature=exemplar-storage",
            "--rules.alert.resend-delay=1s",
        )
        try:
            until(lambda: _answers(f"http://127.0.0.1:{manager_port}/-/ready"), "Alertmanager")
            until(lambda: _answers(f"http://127.0.0.1:{self._port}/-/ready"), "Prometheus")
        except AssertionError as error:
            self.close()
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def _write(self, name: str, content: Any) -> None:
        (self._folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")

    def _start(self, name: str, *command: str) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._children.append(subprocess.Popen(command, stdout=log, stderr=log))

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        address = f"http://127.0.0.1:{self._port}/api/v1/query?query={urllib.parse.quote(expression)}"
        with urllib.request.urlopen(address, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def exemplars(self, selector: str) -> list[dict[str, Any]]:
        """Return the exemplars that Prometheus stored of the last hour."""
        now = time.time()
        query = urllib.parse.urlencode({"query": selector, "start": now - 3_600, "end": now + 60})
        address = f"http://127.0.0.1:{self._port}/api/v1/query_exemplars?{query}"
        with urllib.request.urlopen(address, timeout=5) as answer:
            data = json.load(answer)["data"]
        return [exemplar for series in data for exemplar in series["exemplars"]]

    def wait_evaluations(self, more: int) -> None:
        """Wait until the rules were evaluated ``more`` times more."""
        query = f"http://127.0.0.1:{self._port}/api/v1/rules"
        seen: set[str] = set()

        def enough() -> bool:
            with urllib.request.urlopen(query, timeout=5) as answer:
                groups = json.load(answer)["data"]["groups"]
            seen.add(next(g["lastEvaluation"] for g in groups if g["name"] == "stationkeeper-models"))
            return len(seen) > more

        until(enough, f"{more} evaluations")

    def logs(self) -> str:
        """Return what the programs said, for a failing test."""
        return "\n".join(path.read_text(errors="replace")[-4_000:] for path in sorted(self._folder.glob("*.log")))

    def close(self) -> None:
        for child in self._children:
            child.terminate()
        for child in self._children:
            child.wait(timeout=10)
        self.receiver.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
