"""The wall clock of the monitor's host moved while it runs, the brokers' clocks right."""

import json
import shutil
import struct
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from stationkeeper.streams.loop import wall_ms
from tests.reliability.conftest import MakeBank
from tests.reliability.daemon import Daemon
from tests.reliability.drill import a_minute_is_closed, hold, minutes_closed, only_long
from tests.reliability.events import NEVER, Stream
from tests.reliability.ledger import Ledger, rounds
from tests.reliability.workers import Setup
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

HOUR_MS = 3_600_000


class HostClock:
    """A process's wall clock, moved by a shim that is preloaded into it; the monotonic clock stays as on a host."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("moving a process's clock needs a C compiler (cc)")
        library, self._file = directory / "host_clock.so", directory / "moved"
        source = Path(__file__).with_name("host_clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "HOST_CLOCK": str(self._file)}
        self._file.write_bytes(struct.pack("q", 0))

    def move(self, ms: int) -> None:
        """Set the clock so far from the truth."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", ms * 1_000_000))


def is_off_by(daemon: Daemon, ms: int) -> bool:
    """Return whether the daemon's clock is so far from ours, as its status tells."""
    off = int(json.loads(daemon.get("/api/v1/status")[1])["generated"]) - wall_ms()
    return abs(off - ms) < HOUR_MS / 2


@only_long
@pytest.mark.parametrize("hours", [-1, 1])
def test_the_clock_of_the_host_is_moved(make_bank: MakeBank, ledger: Ledger, tmp_path: Path, hours: int) -> None:
    to = "back" if hours < 0 else "forward"
    row = ledger.row((9,), f"`stationkeeper monitor`: its host's clock set {to} an hour under load, then right again")
    clock = HostClock(tmp_path)
    stream = Stream(poison=0, shift_at=NEVER, start=wall_ms() - HOUR_MS)
    bank = make_bank(setup=Setup("wall", model={"labels": True}), stream=stream, environment=clock.environment)
    daemon = bank.monitor()
    until(daemon.ready, "the monitor is ready")
    bank.flow(200)
    a_minute_is_closed(bank, minutes_closed(bank))
    for _ in range(rounds()):
        for moved in (hours * HOUR_MS, 0):
            clock.move(moved)
            then, closed = time.monotonic(), minutes_closed(bank)
            until(partial(is_off_by, daemon, moved), "the daemon's clock has moved")
            row.effect("clock moved, as the daemon's status tells")
            a_minute_is_closed(bank, closed)
            row.figure("first closed minute after the move", time.monotonic() - then, bar=30)
    hold(bank, row)
    assert daemon.close() == 0
