"""Faults of processes and of the one broker; the rows share a log that grows, so their order matters."""

import signal
import time
from functools import partial

import pytest

from tests.reliability.bank import Bank
from tests.reliability.drill import CLIENTS, a_worker_noticed, hold, in_trouble
from tests.reliability.events import SHIFT_AT
from tests.reliability.ledger import Ledger, long_form, rounds
from tests.reliability.oracle import caught_up, wait_caught_up
from tests.reliability.worker import EXIT_FATAL
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

COMMITS = [(client, when) for client in CLIENTS for when in ("before-commit", "after-commit")]
if not long_form():
    COMMITS = [("librdkafka", "before-commit")]
LOAD = 250
RANDOM_KILLS = ("tally", "judge") * 4 if long_form() else ("tally", "judge", "tally")
COMMIT_KILLS = ("tally", "judge", "tally") if long_form() else ("tally",)
"""Who is killed in a round, one after the other: three rounds of every row make a hundred kills."""


def test_kill_9_at_random_times(bank: Bank, ledger: Ledger) -> None:
    row = ledger.row((1, 7, 10, 11), "tally and judge killed at random times under load, and as they start")
    bank.both()
    bank.flow(LOAD)
    for round_ in range(rounds()):
        for number, role in enumerate(RANDOM_KILLS):
            bank.after(0.2, 1.5)
            bank.workers[f"{role}-0"].kill()
            row.effect(f"{role} ended by kill -9")
            if number % 4 == 3:
                newborn = bank.start(role)
                bank.after(0.1, 2.0)
                newborn.kill()
                row.effect(f"{role} ended by kill -9 as it started")
            bank.ready(bank.start(role))
        if round_ % 5 == 4:
            hold(bank, row)
            bank.flow(LOAD)
    hold(bank, row)


@pytest.mark.parametrize(("client", "when"), COMMITS)
def test_kill_9_inside_the_commit(bank: Bank, ledger: Ledger, when: str) -> None:
    row = ledger.row((1,), f"killed inside the transaction, {when.replace('-', ' the ')}")
    # Also where this row is run alone: what follows waits for the other one too.
    bank.both()
    for round_ in range(rounds()):
        for number, role in enumerate(COMMIT_KILLS):
            bank.dismiss(role)
            bank.flow(LOAD)
            dying = bank.start(role, die=f"{when}:{1 + (3 * round_ + 2 * number + 2) % 8}")
            assert dying.end() == -signal.SIGKILL
            row.effect(f"{role} ended by kill -9 in its commit")
            bank.ready(bank.start(role))
            bank.still()
    bank.flow(LOAD)
    hold(bank, row)


def test_a_zombie_is_fenced_when_it_wakes(bank: Bank, ledger: Ledger) -> None:
    row = ledger.row((1,), "SIGSTOP, another process in its slot, SIGCONT: the zombie")
    # Also where this row is run alone: what follows waits for the judge too.
    bank.both()
    for _ in range(rounds()):
        zombie = bank.running("tally")
        bank.ready(zombie)
        bank.flow()
        bank.after(0.5, 1.5)
        zombie.signal(signal.SIGSTOP)
        owner = bank.start("tally")
        bank.ready(owner)
        bank.after(0.5, 1.0)
        zombie.signal(signal.SIGCONT)
        assert zombie.end() == EXIT_FATAL
        assert zombie.logged("producer_fenced") == 1
        row.effect("zombie fenced and ended by itself")
        if not owner.alive:
            # One that slept past its session joins under its name again as it wakes, which ends the newer one: of a
            # static member the group keeps the last. Whoever runs the roles starts one of them, and nothing is lost.
            assert owner.logged("producer_fenced") == 1
            row.effect("the newer one ended with it, as the zombie had slept past its session")
            bank.ready(bank.start("tally"))
    hold(bank, row)


def test_the_only_broker_is_killed_and_comes_back(bank: Bank, ledger: Ledger) -> None:
    row = ledger.row((5,), "the only broker killed with -9 and started again")
    for _ in range(rounds()):
        workers = bank.both()
        bank.flow()
        bank.after(0.5, 1.5)
        before = in_trouble(bank)
        bank.broker.kill()
        a_worker_noticed(bank, before)
        row.effect("broker gone and missed by a worker")
        bank.broker.restart()
        back = time.monotonic()
        bank.still()
        wait_caught_up(bank)
        row.figure("until the backlog was counted", time.monotonic() - back)
        assert all(worker.alive for worker in workers)
    hold(bank, row)


def test_nothing_but_poison_stops_the_tally_uncommitted(bank: Bank, ledger: Ledger) -> None:
    row = ledger.row((7,), "poison 100 % on one partition: stops uncommitted, goes on with a raised limit")
    # Asked for alone, this row is the first that needs it.
    bank.ready(bank.running("judge"))
    for _ in range(rounds()):
        bank.dismiss("tally")
        bank.send_raw([bank.stream.spoilt(bank.sent + number) for number in range(400)])
        strict = bank.start("tally", dead_letters={"run": 200})
        until(partial(strict.logged, "input_stopped"), "the topic stops")
        row.effect("stopped at the limit")
        assert strict.alive
        assert not caught_up(bank)
        bank.dismiss("tally")
        bank.ready(bank.start("tally", dead_letters={"run": 100_000, "share": 1.0}))
        wait_caught_up(bank)
    # The rows before have sent the shift; asked for alone, this one has to.
    bank.send(max(2 * SHIFT_AT - bank.sent, 0))
    bank.flow()
    bank.after(1.0, 2.0)
    hold(bank, row)
    assert row.verdicts > 0
