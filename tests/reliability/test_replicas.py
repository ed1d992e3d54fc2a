"""Replicas that come and go: a storm of joins and leaves, a rolling restart, and a backlog shared by two."""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from stationkeeper.streams.broker.local import free_ports
from stationkeeper.streams.loop import wall_ms
from tests.reliability.bank import Bank
from tests.reliability.conftest import MakeBank
from tests.reliability.daemon import Daemon
from tests.reliability.drill import hold, longest_pause_s, only_long
from tests.reliability.events import PARTITIONS
from tests.reliability.ledger import Ledger, long_form, rounds
from tests.reliability.oracle import states_of, wait_caught_up
from tests.reliability.workers import source_of
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

SLOTS = ("0", "1", "2")
PANE_S = 60
LAST_RELEASE = "482c562c80ce56ee5ff47cb7822d6ef3eb591632"
"""The last version that was released before this one: what is on the machines when this one comes."""
STEPS = 50 if rounds() >= 3 else 15
"""One every two seconds, so that three rounds are five minutes of storm."""


def storm(bank: Bank, steps: int, seconds: float) -> int:
    """Let a random slot leave (or be killed) or join again, each time after some seconds; one that starts is let be.

    Returns how many were killed.
    """
    chance, moves, kills = random.Random(5), 0, 0
    while moves < steps:
        began = time.monotonic()
        role, slot = chance.choice(("tally", "judge")), chance.choice(SLOTS)
        worker = bank.workers.get(f"{role}-{slot}")
        if worker is None or not worker.alive:
            bank.start(role, slot)
        elif not worker.logged("partitions_assigned"):
            time.sleep(0.1)
            continue
        elif chance.random() < 0.5:
            worker.kill()
            kills += 1
        else:
            worker.leave()
        moves += 1
        time.sleep(max(seconds - (time.monotonic() - began), 0))
    return kills


def given(bank: Bank) -> int:
    """Return how often partitions were given to a worker."""
    return sum(worker.logged("partitions_assigned") for worker in bank.ever)


@only_long
def test_a_rebalance_storm(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((4,), "three tallies and three judges leave, are killed and join, one every 2 s")
    bank = make_bank()
    bank.both()
    bank.flow(300)
    since = wall_ms()
    for _ in range(rounds()):
        before = given(bank)
        row.effect("replica ended by kill -9", storm(bank, STEPS, 2.0))
        row.effect("joins and leaves", STEPS)
        row.effect("assignments", given(bank) - before)
        assert given(bank) > before
    bank.both()
    bank.still()
    wait_caught_up(bank, 180)
    row.figure("longest pause of closed minutes", longest_pause_s(bank, since), bar=2 * PANE_S)
    hold(bank, row)


@only_long
def test_a_rolling_restart_pauses_verdicts_for_less_than_two_panes(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((4,), "rolling restart of two tallies and two judges, one after the other, under load")
    bank = make_bank()
    workers = [bank.start(role, slot) for role in ("tally", "judge") for slot in SLOTS[:2]]
    bank.ready(*workers)
    bank.flow(300)
    bank.after(2.0, 3.0)
    since = wall_ms()
    for _ in range(rounds()):
        for role in ("tally", "judge"):
            for slot in SLOTS[:2]:
                bank.workers[f"{role}-{slot}"].leave()
                bank.ready(bank.start(role, slot))
                row.effect("replica restarted")
    bank.after(3.0, 4.0)
    bank.still()
    wait_caught_up(bank)
    row.figure("longest pause of closed minutes", longest_pause_s(bank, since), bar=2 * PANE_S)
    hold(bank, row)


@only_long
def test_a_rolling_upgrade_of_three_replicas(make_bank: MakeBank, ledger: Ledger, tmp_path: Path) -> None:
    row = ledger.row((4, 23), "three tallies and three judges of the last release upgraded one by one under load")
    bank, release = make_bank(pairs=False), source_of(LAST_RELEASE, tmp_path)
    bank.ready(*[bank.start(role, slot, build=release) for role in ("tally", "judge") for slot in SLOTS])
    bank.flow(300)
    since = wall_ms()
    for role in ("tally", "judge"):
        for slot in SLOTS:
            bank.after(1.0, 2.0)
            bank.workers[f"{role}-{slot}"].leave()
            # Beside the two that are still old, or new by now: what it was given it goes on with.
            bank.ready(bank.start(role, slot))
            row.effect("replica of the last release replaced")
    bank.after(3.0, 4.0)
    bank.still()
    wait_caught_up(bank, 180)
    row.figure("longest pause of closed minutes", longest_pause_s(bank, since), bar=2 * PANE_S)
    # The detectors of two versions need not say the same; what they count must be.
    hold(bank, row, verdicts=False)
    assert not [one.log for one in bank.ever if one.logged("fatal") or one.logged("table_record_refused")]


def test_two_tallies_finish_a_backlog_with_the_panes_of_one(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((4, 22), "a backlog, and two tallies that share its partitions; counted again by one program")
    bank = make_bank()
    bank.send(20_000 if long_form() else 4_000)
    bank.settle()
    began = time.monotonic()
    pair = [bank.start("tally", slot) for slot in SLOTS[:2]]
    bank.ready(*pair)
    bank.start("judge")
    wait_caught_up(bank)
    row.figure(
        "seconds for 1 000 records, with the start of the processes", (time.monotonic() - began) * 1_000 / bank.sent
    )
    shares = [set(worker.partitions()) for worker in pair]
    assert all(shares), shares
    assert not shares[0] & shares[1]
    row.effect("partitions of the first", len(shares[0]))
    row.effect("partitions of the second", len(shares[1]))
    hold(bank, row)


@only_long
def test_partitions_are_added_while_records_flow(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((4,), "the input topic grows from 3 to 4 partitions under load")
    bank = make_bank()
    workers = bank.both()
    bank.flow()
    bank.after(0.5, 1.0)
    bank.still()
    bank.enlarge(4)
    bank.flow()
    bank.after(1.0, 2.0)
    bank.still()
    wait_caught_up(bank)
    assert f"{bank.scores}/3" in workers[0].partitions()
    row.effect("partition given to the tally")
    hold(bank, row)


def shared_out(daemon: Daemon, port: int) -> dict[str, Any] | None:
    """Return what a monitor's page says of all monitors, None until it says it of every input partition."""
    status, body, _ = daemon.get("/api/v1/status", port)
    told: dict[str, Any] = json.loads(body) if status == 200 else {}
    return told if len(told.get("conservation", ())) == PARTITIONS else None


def test_up_with_two_workers_outlives_one_of_them(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((1, 4), "`stationkeeper up --workers 2`: a monitor killed with -9, and started again by `up`")
    bank = make_bank()
    retrain, deploy, serve = free_ports(3)
    http = {"retrain": retrain, "deploy": deploy, "peers": None}
    daemon = bank.monitor(("up", "--workers", "2"), http=http, serve={"port": serve})
    ports = (daemon.port, daemon.port + 10)
    until(lambda: all(daemon.get("/readyz", port)[0] == 200 for port in ports), "both monitors are ready")
    bank.flow(200)
    for _ in range(rounds()):
        bank.after(1.0, 2.0)
        victim = min(pid for pid, command in daemon.children().items() if " monitor " in command)
        os.kill(victim, signal.SIGKILL)
        row.effect("monitor ended by kill -9")
        until(lambda gone=victim: gone not in daemon.children(), "the killed one is gone")  # type: ignore[misc]
        until(lambda: all(daemon.get("/readyz", port)[0] == 200 for port in ports), "both are ready again")
    hold(bank, row)
    for port in ports:
        told = until(lambda at=port: shared_out(daemon, at), "the page shows every partition")  # type: ignore[misc]
        assert told is not None
        received = sum(one["received"] for one in told["conservation"])
        assert received == sum(state.received for state in states_of(bank).values())
    assert daemon.logged("child_died") >= rounds()
    assert daemon.close() == 0
