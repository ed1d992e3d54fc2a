"""Faults on real processes and a real broker, each with its proof and the same oracle; order matters: the log grows."""

import signal
import time
from collections.abc import Sequence
from functools import partial

import pytest

from tests.conformance.worlds import until
from tests.reliability.bank import Bank, Worker
from tests.reliability.ledger import Ledger, Row, rounds
from tests.reliability.oracle import audit, caught_up, fresh_event_passes, wait_caught_up
from tests.reliability.worker import EXIT_FATAL

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def hold(bank: Bank, row: Row) -> None:
    """Let the stream end, see a fresh event pass, and hold that nothing was lost, doubled or said twice."""
    bank.still()
    wait_caught_up(bank)
    fresh = fresh_event_passes(bank)
    found = audit(bank)
    row.audited(found, fresh)
    assert found.differences == []
    assert (found.lost, found.twice, found.repeated_ids) == (0, 0, 0)
    # The stream was as dirty as it says, and the judge had something to say.
    assert min(found.duplicates_seen, found.disorder_seen, found.poison_seen) > 0


def running(bank: Bank, role: str) -> Worker:
    """Return the role's worker of slot 0, started if none runs."""
    worker = bank.workers.get(f"{role}-0")
    if worker is None or worker.process.poll() is not None:
        worker = bank.start(role)
    return worker


def killed(worker: Worker) -> None:
    """Kill as ``kill -9`` does, and prove it."""
    worker.signal(signal.SIGKILL)
    assert worker.end() == -signal.SIGKILL


def test_kill_9_at_random_times(bank: Bank, ledger: Ledger) -> None:
    row = ledger.row("kill -9 of tally and judge at random times under load, 1 % poison, 5 % duplicates, disorder")
    bank.ready(running(bank, "tally"))
    bank.ready(running(bank, "judge"))
    bank.flow()
    for round_ in range(rounds()):
        for role in ("tally", "judge", "tally") if rounds() == 1 else ("tally", "judge", "tally", "tally", "tally"):
            bank.after(0.2, 1.5)
            killed(bank.workers[f"{role}-0"])
            row.effect(f"{role} killed")
            bank.ready(bank.start(role))
        if round_ % 5 == 4:
            hold(bank, row)
            bank.flow()
    hold(bank, row)


@pytest.mark.parametrize("when", ["before-commit", "after-commit"])
def test_kill_9_inside_the_commit(bank: Bank, ledger: Ledger, when: str) -> None:
    row = ledger.row(f"kill -9 inside the transaction, {when.replace('-', ' the ')}")
    for round_ in range(rounds()):
        for role in ("tally",) if round_ % 2 == 0 else ("judge", "tally"):
            running(bank, role).signal(signal.SIGTERM)
            assert running(bank, role).end() == 0
            bank.flow()
            dying = bank.start(role, die=f"{when}:{3 + round_ % 7}")
            assert dying.end() == -signal.SIGKILL
            row.effect(f"{role} died in its commit")
            bank.ready(bank.start(role))
            bank.still()
    bank.flow()
    hold(bank, row)


def test_a_zombie_is_fenced_when_it_wakes(bank: Bank, ledger: Ledger) -> None:
    row = ledger.row("SIGSTOP, another process in its slot, SIGCONT: the zombie")
    for _ in range(rounds()):
        zombie = running(bank, "tally")
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
        assert owner.process.poll() is None
    hold(bank, row)


def test_a_broker_is_killed_and_comes_back(bank: Bank, ledger: Ledger) -> None:
    row = ledger.row("the only broker killed with -9 and started again")
    for _ in range(rounds()):
        workers = [running(bank, "tally"), running(bank, "judge")]
        for worker in workers:
            bank.ready(worker)
        bank.flow()
        bank.after(0.5, 1.5)
        before = sum(trouble(worker) for worker in workers)
        bank.broker.kill()
        until(partial(troubled, workers, before), "a worker noticed")
        row.effect("broker killed and missed by a worker")
        bank.broker.restart()
        back = time.monotonic()
        bank.still()
        wait_caught_up(bank)
        assert all(worker.process.poll() is None for worker in workers)
        row.effect("worst whole seconds until the backlog was counted", 0)
        key = "worst whole seconds until the backlog was counted"
        row.effects[key] = max(row.effects[key], round(time.monotonic() - back))
    hold(bank, row)


def troubled(workers: Sequence[Worker], before: int) -> bool:
    """Return whether a worker has had more trouble than before."""
    return sum(trouble(worker) for worker in workers) > before


def trouble(worker: Worker) -> int:
    """Return how often a worker had to give up a transaction."""
    return worker.logged("transaction_aborted") + worker.logged("broker_unreachable")


def test_nothing_but_poison_stops_the_tally_uncommitted(bank: Bank, ledger: Ledger) -> None:
    row = ledger.row("poison 100 % on one partition: the tally stops uncommitted, and goes on with a raised limit")
    for _ in range(rounds()):
        running(bank, "tally").signal(signal.SIGTERM)
        assert running(bank, "tally").process.wait(40) == 0
        bank.send_poison(400)
        strict = bank.start("tally", dead_letters={"run": 200})
        assert strict.end() == EXIT_FATAL
        assert strict.logged("dead_letter_limit") == 1
        row.effect("stopped at the limit")
        assert not caught_up(bank)
        bank.ready(bank.start("tally", dead_letters={"run": 100_000, "share": 1.0}))
        wait_caught_up(bank)
    bank.flow()
    bank.after(1.0, 2.0)
    hold(bank, row)
    assert row.verdicts > 0
