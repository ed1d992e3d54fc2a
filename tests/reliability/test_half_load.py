"""Half of what this machine can take, for hours: nothing grows, nothing is lost."""

import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from stationkeeper.contracts.codes import Outcome
from stationkeeper.contracts.topics import dead_letter_topic
from stationkeeper.streams.errors import Retryable
from tests.reliability.bank import Bank
from tests.reliability.conftest import MakeBank
from tests.reliability.daemon import Daemon
from tests.reliability.drill import only_long
from tests.reliability.events import START
from tests.reliability.flood import SPEED, poisoned, repeated
from tests.reliability.ledger import Ledger, soak_minutes
from tests.reliability.oracle import Audit, committed_behind, compare_verdicts, states_of, wait_read
from tests.reliability.page import keep_soak
from tests.reliability.sampled import EVERY, Sampled
from tests.reliability.test_soak import LONG, judged_within, slope
from tests.reliability.workers import ROOT, Setup
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

EVERY_S = 5.0
BACKLOG = 3_000_000
"""Events that wait at the start: the monitor reads them as fast as it can, in twenty seconds or more."""
ASSUMED = 50_000
"""Events a second of the backlog's times; how fast they are read does not follow from it."""
DEDUPE = 200_000
"""Ids that a partition remembers: full before the backlog is read."""
KEPT_BYTES, SEGMENT_BYTES = 1 << 30, 128 << 20
"""Of each input partition: some minutes. Two hours of it would be some hundred GB."""


class Sending:
    """A flood in a process of its own, from a number on."""

    def __init__(self, bank: Bank, first: int, count: int, per_second: int, since: int, pace: str) -> None:
        self.first = first
        words = [bank.broker.bootstrap, bank.scores, str(first), str(count), str(per_second), str(since), pace]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.flood", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )

    def ended(self) -> int:
        """Wait until all is on the broker; returns the number after the last."""
        said, _ = self._process.communicate()
        told = json.loads(said)
        assert told["left"] == 0, told
        return int(told["next"])

    def stop(self) -> int:
        """End it in order; returns the number after the last."""
        assert self._process.poll() is None, "the flood ended by itself"
        self._process.terminate()
        return self.ended()


class Watched:
    """What is seen of a daemon every five seconds, by a thread: seconds, memory, files, scrape, records behind."""

    def __init__(self, bank: Bank, daemon: Daemon) -> None:
        self._bank, self._daemon = bank, daemon
        self.samples: list[tuple[float, float, int, float, int]] = []
        self.unanswered, self.page = 0, ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._end.wait(EVERY_S):
            status, page, scrape_s = self._daemon.get("/metrics")
            self.unanswered += status != 200
            self.page = page.decode() if status == 200 else self.page
            with suppress(Retryable):
                behind, now = committed_behind(self._bank), time.monotonic() - began
                self.samples.append((now, self._daemon.memory_mb(), self._daemon.open_files(), scrape_s, behind))

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join()


def full_load(bank: Bank) -> float:
    """Return the events a second at which the monitor reads a backlog, from a tenth of it to nine tenths."""
    tenth = BACKLOG // 10
    until(lambda: committed_behind(bank) < 9 * tenth, "a tenth of the backlog is read", 600)
    began, left = time.monotonic(), committed_behind(bank)
    until(lambda: committed_behind(bank) < tenth, "nine tenths of the backlog are read", 600)
    return (left - committed_behind(bank)) / (time.monotonic() - began)


def counted(bank: Bank, parts: list[tuple[int, int]]) -> Audit:
    """Hold the tally's own outcomes to what was sent, the dead letters and the ids of what was said."""
    found = Audit()
    sent = sum(last - first for first, last in parts)
    again, cut = sum(repeated(*part) for part in parts), sum(poisoned(*part) for part in parts)
    states = states_of(bank).values()
    true = {Outcome.TALLIED: sent - cut, Outcome.DUPLICATE: again, Outcome.REJECTED: cut}
    for outcome in Outcome:
        found.compare(str(outcome), sum(state.outcomes[outcome] for state in states), true.get(outcome, 0))
    found.records = sent + again
    letters = bank.reader.bounds(bank.reader.partitions(dead_letter_topic(bank.scores)))
    read = sum(len(batch) for batch in bank.reader.read(list(letters)))
    found.compare("dead letters", read, cut)
    compare_verdicts(bank, found, replayed=False)
    return found


@only_long
def test_half_of_full_load(make_bank: MakeBank, ledger: Ledger, tmp_path: Path) -> None:
    minutes = soak_minutes()
    row = ledger.row((21,), f"{minutes:g} minutes at half of full load into `stationkeeper monitor`")
    bank = make_bank(
        setup=Setup(model={"dedupe": DEDUPE}),
        # As by default; patient with a machine that does other work in these hours.
        kafka={
            "flush_interval": "1s",
            "session_timeout": "45s",
            "transaction_timeout": "90s",
            "request_timeout": "60s",
            "metadata_max_age": "30s",
        },
    )
    bank.keep_input(KEPT_BYTES, SEGMENT_BYTES)
    first = Sending(bank, 0, BACKLOG, ASSUMED, START, "at-once").ended()
    daemon = bank.monitor()
    until(daemon.ready, "the monitor is ready", 120)
    full = full_load(bank)
    rate = int(full / 2)
    # Behind every time of the backlog, which therefore closes.
    since = START + BACKLOG * 1_000 * SPEED // ASSUMED + 60_000
    wait_read(bank, "tally", bank.scores, 600)
    oracle = Sampled(bank)
    while not oracle.follow(60):
        pass
    flood = Sending(bank, first, 0, rate, since, "paced")
    watched = Watched(bank, daemon)
    began = told = time.monotonic()
    while time.monotonic() - began < 60 * minutes:
        assert daemon.alive, daemon.log.read_text()[-3_000:]
        oracle.follow(EVERY_S)
        if minutes >= LONG and time.monotonic() > told + 300:
            told = time.monotonic()
            sys.stdout.write(f"soak: {(told - began) / 60:.0f} min, {oracle.records} records, {watched.samples[-1]}\n")
        time.sleep(1)
    seconds = time.monotonic() - began
    watched.stop()
    last = flood.stop()
    wait_read(bank, "tally", bank.scores, 900)
    while not oracle.follow(60):
        pass
    wait_read(bank, "judge", bank.topics.panes.name, 900)
    found = counted(bank, [(0, first), (first, last)])
    compared = oracle.compare(found)
    oracle.close()
    half = [sample for sample in watched.samples if sample[0] >= seconds / 2]
    clock, memory = [sample[0] for sample in half], [sample[1] for sample in half]
    scrapes = sorted(sample[3] for sample in watched.samples)
    row.effect("events sent", last)
    row.effect(f"minutes of the stream counted again (one in {EVERY})", compared)
    row.effect("records in them", oracle.counted)
    row.figure("full load, events a second", full, "")
    row.figure("events a second", (last - first) / seconds, "")
    row.figure("memory: plateau (median of the last half)", float(np.median(memory)), "MB")
    row.figure("memory: most", daemon.memory_mb("VmHWM"), "MB", bar=1_024)
    row.figure("memory: slope over the last half", slope(clock, memory), "MB/h", bar=5 if minutes >= LONG else None)
    row.figure("open files gained", half[-1][2] - half[0][2], "", bar=5)
    row.figure("scrape, 99th percentile", scrapes[int(0.99 * len(scrapes))] * 1_000, "ms")
    row.figure("a closed minute is judged within (bucket of the 99th percentile)", judged_within(watched.page, 0.99))
    row.figure("scrapes without an answer", watched.unanswered, "", bar=1)
    row.figure("records behind, median", float(np.median([sample[4] for sample in watched.samples])), "")
    row.figure("records behind, most", max(sample[4] for sample in watched.samples), "")
    row.figure("transactions given up", daemon.logged("transaction_aborted"), "")
    row.audited(found, row.fresh_s or 0.0)
    if minutes >= LONG:
        keep_soak(row, [(at, mb) for at, mb, *_ in watched.samples])
    assert found.differences == [], found.differences[:20]
    assert compared > 0
    # It kept up: half of what it can take never waits for minutes.
    assert watched.samples[-1][4] < 10 * rate, watched.samples[-1]
    assert daemon.close() == 0
