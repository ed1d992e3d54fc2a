"""The unit for machines without containers is one that systemd takes, and gives a role the time that it may use."""

import re
import subprocess
from pathlib import Path

from stationkeeper.config import Config

UNIT = Path(__file__).resolve().parents[2] / "ops" / "systemd" / "stationkeeper@.service"


def test_systemd_finds_nothing_wrong_with_it(tool, tmp_path):
    # A unit whose program is not there is refused; what is checked here is everything else.
    unit = tmp_path / "stationkeeper@monitor.service"
    unit.write_text(UNIT.read_text().replace("/opt/stationkeeper/bin/stationkeeper", "/bin/true"))
    done = subprocess.run([tool("systemd-analyze"), "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_role_is_not_killed_while_it_may_still_write():
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert int(seconds) * 1_000 > Config().drain


def test_a_reload_that_comes_before_the_role_listens_does_not_leave_it_down():
    assert "\nRestartForceExitStatus=SIGHUP\n" in UNIT.read_text()
