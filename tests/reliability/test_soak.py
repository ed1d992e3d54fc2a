"""Half the load for a while: nothing grows, nothing is lost."""

import time
from pathlib import Path

import numpy as np
import pytest

from tests.reliability.conftest import MakeBank
from tests.reliability.drill import hold, only_long
from tests.reliability.ledger import Ledger, soak_minutes

pytestmark = [pytest.mark.broker, pytest.mark.slow]

EVERY_S = 1.0
PER_SECOND = 500


def slope(seconds: list[float], values: list[float]) -> float:
    """Return the least-squares slope of values over their last half, per hour."""
    half = len(values) // 2
    return float(np.polyfit(np.array(seconds[half:]), np.array(values[half:]), 1)[0]) * 3_600


@only_long
def test_a_soak_at_half_load(make_bank: MakeBank, ledger: Ledger) -> None:
    minutes = soak_minutes()
    row = ledger.row((21,), f"{minutes:g} minutes of {PER_SECOND} events/s")
    bank = make_bank()
    workers = bank.both()
    bank.flow(PER_SECOND)
    clock: list[float] = []
    memory: dict[str, list[float]] = {worker.role: [] for worker in workers}
    files: dict[str, list[int]] = {worker.role: [] for worker in workers}
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        time.sleep(EVERY_S)
        clock.append(time.monotonic())
        for worker in workers:
            memory[worker.role].append(worker.memory_mb())
            files[worker.role].append(len(list(Path(f"/proc/{worker.process.pid}/fd").iterdir())))
    bank.still()
    row.effect("events sent", bank.sent)
    for role, used in memory.items():
        row.figure(f"{role}: memory at the end", used[-1], "MB")
        row.figure(f"{role}: slope over the last half", slope(clock, used), "MB/h")
        row.figure(f"{role}: open files gained", files[role][-1] - files[role][len(files[role]) // 2], "")
    hold(bank, row)
    assert not any(worker.logged("transaction_aborted") for worker in workers)
