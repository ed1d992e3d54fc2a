"""The fraud story, told to a person on call: exactly one page, which the cure ends; and a quiet day, which is quiet."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.alerting import Alerting, wait_for

pytestmark = [pytest.mark.prometheus, pytest.mark.broker, pytest.mark.slow]


def played(tool: Callable[[str], str], folder: Path, *options: str) -> tuple[dict[str, Any], Alerting, dict[str, int]]:
    """Play the demo with Prometheus and Alertmanager watching; return its summary, them, and the counts at its end."""
    stage = folder / "demo"
    output, errors = folder / "summary.json", folder / "demo.log"
    command = [sys.executable, "-m", "stationkeeper", "demo", "fraud", "--json", "--keep", str(stage), *options]
    with output.open("wb") as out, errors.open("wb") as err:
        demo = subprocess.Popen(command, stdout=out, stderr=err)
    path = stage / "stationkeeper.yaml"
    try:
        wait_for("the demo's configuration", lambda: path.exists() or demo.poll() is not None, 180)
        assert demo.poll() is None, errors.read_text()[-3_000:]
        wait_for("a whole configuration", lambda: "models" in (yaml.safe_load(path.read_text()) or {}), 10)
        ports = yaml.safe_load(path.read_text())["http"]
        watching = Alerting(tool, folder, {name: ports[name] for name in ("monitor", "retrain", "deploy")})
        last = {"firing": 0, "resolved": 0}

        def ended() -> bool:
            done = demo.poll() is not None
            if not done:
                # Counted while the roles run: when they stop, every alert about them ends too.
                last.update({status: len(watching.receiver.got("page", status)) for status in last})
            return done

        wait_for("the end of the demo", ended, 1_500)
    finally:
        if demo.poll() is None:
            demo.terminate()
            demo.wait(60)
    assert demo.returncode == 0, errors.read_text()[-3_000:]
    return json.loads(output.read_text()), watching, last


def test_the_story_pages_once_and_the_cure_ends_the_page(tool: Callable[[str], str], tmp_path: Path) -> None:
    _, watching, last = played(tool, tmp_path)
    try:
        firing = watching.receiver.got("page", "firing")
        assert last["firing"] == len(firing) == 1
        (alert,) = firing[0]["alerts"]
        assert alert["labels"]["model"] == "fraud"
        assert re.match(r"Incident inc-[0-9a-f]+: [a-z_]+, [a-z_]+ \(version 1\)", alert["annotations"]["description"])
        assert last["resolved"] == 1, "the page was not resolved while the roles still ran"
    finally:
        watching.close()


def test_a_day_without_a_shift_pages_nobody(tool: Callable[[str], str], tmp_path: Path) -> None:
    _, watching, _ = played(tool, tmp_path, "--no-shift")
    try:
        assert watching.receiver.got("page") == []
    finally:
        watching.close()
