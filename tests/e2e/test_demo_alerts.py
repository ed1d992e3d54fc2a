"""A quiet morning, told to a person on call: nothing."""

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.alerting import Alerting, demo_ports
from tests.waiting import until

pytestmark = [pytest.mark.prometheus, pytest.mark.broker, pytest.mark.slow]


def test_without_a_shift_nobody_is_paged(tool: Callable[[str], str], tmp_path: Path) -> None:
    stage, errors = tmp_path / "demo", tmp_path / "demo.log"
    command = [sys.executable, "-m", "stationkeeper", "demo", "fraud", "--no-shift", "--hours", "6"]
    with ExitStack() as stack:
        log = stack.enter_context(errors.open("wb"))
        demo = subprocess.Popen([*command, "--json", "--keep", str(stage)], stdout=subprocess.DEVNULL, stderr=log)
        stack.callback(_interrupt, demo)
        ports = demo_ports(stage, lambda: demo.poll() is not None)
        assert ports, errors.read_text()[-3_000:]
        watching = Alerting(tool, tmp_path, ports)
        stack.callback(watching.close)
        looked: list[int] = []

        def ended() -> bool:
            # Asked while the roles run, so that an empty answer is known to come from a Prometheus that saw them.
            looked.append(len(watching.query('up{job="stationkeeper"} == 1')))
            return demo.poll() is not None

        until(ended, "the end of the demo", 1_800)
        assert demo.returncode == 0, errors.read_text()[-3_000:]
        assert max(looked) == len(ports)
        assert watching.receiver.got("page") == []


def _interrupt(demo: subprocess.Popen[bytes]) -> None:
    """End a demo that still runs as a person would, so that it takes its broker and roles with it."""
    if demo.poll() is None:
        demo.send_signal(signal.SIGINT)
        demo.wait(90)
