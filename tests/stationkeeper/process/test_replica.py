"""A second process with the name of a first: the newcomer leaves, whoever works goes on."""

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stationkeeper.process import replica
from stationkeeper.streams.errors import Fenced
from stationkeeper.streams.settings import KafkaSettings
from tests.waiting import until

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


def test_a_replica_is_named_by_its_host_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "monitor-1.shop (new)")
    assert KafkaSettings().member("tally") == "stationkeeper.tally.monitor-1.shop--new-"
    assert KafkaSettings(instance="7").member("tally") == "stationkeeper.tally.7"


@pytest.mark.parametrize(
    ("hosts", "own", "refused"),
    [
        ([None], None, False),
        (["10.0.0.7", "10.0.0.7", None], "10.0.0.8", False),  # dropped by the broker while we look: it was dead
        (["10.0.0.7"] * 99, "10.0.0.8", True),
        (["10.0.0.7"] * 99, "10.0.0.7", False),  # of this machine, and nobody here holds the name
    ],
)
def test_a_name_is_taken_over_from_the_dead_and_refused_beside_the_living(
    hosts: list[str | None], own: str | None, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, now = iter(hosts), [0.0]
    monkeypatch.setattr(replica, "_holder", lambda *_: next(answers))
    monkeypatch.setattr(replica, "_own_address", lambda _: own)
    monkeypatch.setattr("stationkeeper.process.replica.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        "stationkeeper.process.replica.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    settings = KafkaSettings(prefix=uuid.uuid4().hex)
    if not refused:
        replica.claim(settings, "tally")
        return
    with pytest.raises(Fenced, match=r"at 10\.0\.0\.7, runs as .* kafka\.instance"):
        replica.claim(settings, "tally")
    assert settings.session_timeout / 1_000 < now[0] < 20


@pytest.fixture
def start(kafka: Any, tmp_path: Path) -> Iterator[Callable[[str], tuple[subprocess.Popen[bytes], Path]]]:
    prefix = f"many-{uuid.uuid4().hex[:8]}"
    (tmp_path / "stationkeeper.yaml").write_text(
        f"kafka: {{bootstrap: '{kafka.bootstrap}', prefix: {prefix}, session_timeout: 6s}}\nhttp: {{monitor: 0}}\n"
        f"models: {{fraud: {{predictions: {prefix}.scores}}}}\n"
    )
    running: list[subprocess.Popen[bytes]] = []

    def run(command: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = tmp_path / f"log-{len(running)}"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec env {command}"],
                stdout=out,
                stderr=out,
                cwd=tmp_path,
                env={**os.environ, "PATH": path},
            )
        running.append(process)
        return process, log

    yield run
    for process in running:
        process.kill()
        process.wait()


def stages(log: Path, event: str) -> int:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return sum(line["event"] == event and "role" in line for line in lines)


@pytest.mark.broker
@pytest.mark.slow
def test_the_way_to_scale_out_that_the_documents_tell(
    start: Callable[[str], tuple[subprocess.Popen[bytes], Path]],
) -> None:
    section = OPERATIONS.read_text().split("## More than one of a role")[1].split("\n## ")[0]
    first, second = re.findall(r"```\n(.*)\n```", section)
    one, log = start(first)
    until(lambda: stages(log, "ready") == 3, "the first is ready")
    two, log = start(second.replace("9111", "0"))
    until(lambda: stages(log, "ready") == 3, "the second is ready")
    again, log = start(first)
    assert again.wait(60) == 1
    assert "runs as" in log.read_text()
    assert (one.poll(), two.poll()) == (None, None)
    one.kill()
    one.wait()
    _, log = start(first)
    until(lambda: stages(log, "ready") == 3, "its successor is ready")
    assert stages(log, "instance_held") == 0
