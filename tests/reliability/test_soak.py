"""Half the load for a while: nothing grows, nothing is lost."""

import re
import sys
import time
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from stationkeeper.streams.errors import Retryable
from tests.reliability.conftest import MakeBank
from tests.reliability.drill import hold, only_long
from tests.reliability.events import NEVER, PARTITIONS, Stream
from tests.reliability.following import Following
from tests.reliability.ledger import Ledger, soak_minutes, soak_rate
from tests.reliability.oracle import committed_behind
from tests.reliability.page import keep_soak
from tests.reliability.workers import Setup
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

EVERY_S = 5.0
MOST_DEDUPE = 1_000_000
"""What a partition remembers of ids unless told otherwise."""
DAY = 864_000
LONG = 60.0
"""Minutes from which a soak is held to its slope."""


def shifted_for_an_hour_a_day(number: int, row: dict[str, Any]) -> None:
    """A feature moves away for the second hour of each day of the stream, and comes back."""
    if number % DAY // 36_000 == 1:
        row["features"]["amount"] += 1.5


def slope(seconds: list[float], values: list[float]) -> float:
    """Return the least-squares slope of values per hour."""
    return float(np.polyfit(np.array(seconds), np.array(values), 1)[0]) * 3_600


def judged_within(page: str, share: float) -> float:
    """Return the bound (s) of the first bucket that holds this share of all closed minutes, by their wait for it."""
    bucket = r'^stationkeeper_decision_delay_seconds_bucket\{(?:.*,)?le="([^"]+)".*\} (\S+)'
    counts = [(float(bound), float(count)) for bound, count in re.findall(bucket, page, re.MULTILINE)]
    return next(bound for bound, count in counts if count >= share * counts[-1][1])


@only_long
def test_a_soak_at_half_load(make_bank: MakeBank, ledger: Ledger) -> None:
    minutes, rate = soak_minutes(), soak_rate()
    # What grows until it is full must be full well before the half that is judged.
    dedupe = min(MOST_DEDUPE, int(minutes * 60 * rate / PARTITIONS / 5))
    row = ledger.row((21,), f"{minutes:g} minutes of {rate} events/s into `stationkeeper monitor`")
    bank = make_bank(
        setup=Setup(model={"dedupe": dedupe}),
        stream=Stream(shift_at=NEVER, change=shifted_for_an_hour_a_day),
        # Flushes as by default; patient with a machine that does other work in these hours.
        kafka={
            "flush_interval": "1s",
            "session_timeout": "45s",
            "transaction_timeout": "90s",
            "request_timeout": "60s",
            "metadata_max_age": "30s",
        },
    )
    daemon = bank.monitor()
    until(daemon.ready, "the monitor is ready", 120)
    following = Following(bank)
    samples: list[tuple[float, float, int, float, int]] = []
    full_s, unanswered, page = 0.0, 0, b""
    bank.flow(rate)
    began = time.monotonic()
    while (now := time.monotonic() - began) < 60 * minutes:
        status, page, scrape_s = daemon.get("/metrics")
        assert daemon.alive, daemon.log.read_text()[-3_000:]
        unanswered += status != 200
        with suppress(Retryable):
            samples.append((now, daemon.memory_mb(), daemon.open_files(), scrape_s, committed_behind(bank)))
            following.follow()
        if not full_s and bank.sent >= 1.5 * dedupe * PARTITIONS:
            full_s = now
        if minutes >= LONG and len(samples) % 60 == 1:
            sys.stdout.write(f"soak: {now / 60:.0f} min, {bank.sent} events, {samples[-1]}\n")
        time.sleep(max(began + now + EVERY_S - time.monotonic(), 0))
    sent, seconds = bank.sent, time.monotonic() - began
    half = [sample for sample in samples if sample[0] >= max(30 * minutes, full_s)]
    clock, memory = [sample[0] for sample in half], [sample[1] for sample in half]
    scrapes = sorted(sample[3] for sample in samples)
    row.effect("events sent", sent)
    row.effect("samples", len(samples))
    row.figure("events a second", sent / seconds, "")
    row.figure(f"tables of {PARTITIONS} x {dedupe} ids full and rebuilt after", full_s / 60, "min")
    row.figure("memory: plateau (median of the last half)", float(np.median(memory)), "MB")
    row.figure("memory: most", daemon.memory_mb("VmHWM"), "MB", bar=1_024)
    row.figure("memory: slope over the last half", slope(clock, memory), "MB/h", bar=5 if minutes >= LONG else None)
    row.figure("open files gained", half[-1][2] - half[0][2], "", bar=5)
    row.figure("scrape, 99th percentile", scrapes[int(0.99 * len(scrapes))] * 1_000, "ms")
    row.figure("a closed minute is judged within (bucket of the 99th percentile)", judged_within(page.decode(), 0.99))
    row.figure("scrapes without an answer", unanswered, "", bar=1)
    row.figure("records behind, median", float(np.median([sample[4] for sample in samples])), "")
    row.figure("records behind, most", max(sample[4] for sample in samples), "")
    row.figure("transactions given up", daemon.logged("transaction_aborted"), "")
    if minutes >= LONG:
        keep_soak(row, [(seconds, mb) for seconds, mb, *_ in samples])
    assert full_s, f"the tables were not full: {sent} events"
    hold(bank, row, verdicts=minutes < LONG, following=following)
    following.close()
    if minutes >= LONG:
        keep_soak(row, [(seconds, mb) for seconds, mb, *_ in samples])
    # The last word: it leaves in order, with nothing open.
    assert daemon.close() == 0
