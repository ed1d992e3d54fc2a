"""The fraud story, told to a person on call: exactly one page, which the cure ends; and a quiet day, which is quiet."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.alerting import Alerting, wait_for

pytestmark = [pytest.mark.prometheus, pytest.mark.broker, pytest.mark.slow]


@dataclass(frozen=True, slots=True)
class Told:
    """What reached the person on call, and how much of it while the roles still ran."""

    pages: list[dict[str, Any]]
    firing: int
    resolved: int


def played(tool: Callable[[str], str], folder: Path, *options: str) -> Told:
    """Play the demo with Prometheus and Alertmanager watching."""
    stage, errors = folder / "demo", folder / "demo.log"
    command = [sys.executable, "-m", "stationkeeper", "demo", "fraud", "--json", "--keep", str(stage), *options]
    with ExitStack() as stack:
        log = stack.enter_context(errors.open("wb"))
        demo = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        stack.callback(_interrupt, demo)
        path = stage / "stationkeeper.yaml"
        wait_for("the demo's configuration", lambda: path.exists() or demo.poll() is not None, 300)
        assert demo.poll() is None, errors.read_text()[-3_000:]
        wait_for("a whole configuration", lambda: "models" in (yaml.safe_load(path.read_text()) or {}), 10)
        ports = yaml.safe_load(path.read_text())["http"]
        watching = Alerting(tool, folder, {name: ports[name] for name in ("monitor", "retrain", "deploy")})
        stack.callback(watching.close)
        last = {"firing": 0, "resolved": 0}

        def ended() -> bool:
            done = demo.poll() is not None
            if not done:
                # Counted while the roles run: when they stop, every alert about them ends too.
                last.update({status: len(watching.receiver.got("page", status)) for status in last})
            return done

        wait_for("the end of the demo", ended, 1_800)
        assert demo.returncode == 0, errors.read_text()[-3_000:]
        return Told(watching.receiver.got("page", "firing"), **last)


def _interrupt(demo: subprocess.Popen[bytes]) -> None:
    """End a demo that still runs as a person would, so that it takes its broker and roles with it."""
    if demo.poll() is None:
        demo.send_signal(signal.SIGINT)
        demo.wait(90)


def test_the_story_pages_once_and_the_cure_ends_the_page(tool: Callable[[str], str], tmp_path: Path) -> None:
    told = played(tool, tmp_path)
    assert told.firing == len(told.pages) == 1
    (alert,) = told.pages[0]["alerts"]
    assert alert["labels"]["model"] == "fraud"
    assert re.match(r"Incident inc-[0-9a-f]+: [a-z_]+, [a-z_]+ \(version 1\)", alert["annotations"]["description"])
    assert told.resolved == 1, "the page was not resolved while the roles still ran"


def test_a_day_without_a_shift_pages_nobody(tool: Callable[[str], str], tmp_path: Path) -> None:
    assert played(tool, tmp_path, "--no-shift").pages == []
