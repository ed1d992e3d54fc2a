"""Faults of the network between workers and broker, made by a proxy: slow, narrow, cut, and half open."""

import time

import pytest

from tests.reliability.bank import Bank
from tests.reliability.drill import a_minute_is_closed, a_worker_noticed, hold, in_trouble, minutes_closed, only_long
from tests.reliability.ledger import Ledger, Row, rounds
from tests.reliability.oracle import wait_caught_up
from tests.reliability.proxy import Proxy
from tests.reliability.workers import Worker

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def behind(bank: Bank, proxy: Proxy) -> list[Worker]:
    """Start tally and judge behind the proxy."""
    for role in ("tally", "judge"):
        bank.dismiss(role)
    workers = [bank.start(role, bootstrap=f"127.0.0.1:{proxy.port}") for role in ("tally", "judge")]
    bank.ready(*workers)
    return workers


def rebalances(workers: list[Worker]) -> int:
    """Return how often partitions were taken from a worker."""
    return sum(worker.logged("partitions_revoked") for worker in workers)


def backlog(bank: Bank, row: Row, count: int) -> None:
    """Let the workers read a backlog and note the pace."""
    bank.send(count)
    bank.settle()
    row.figure("seconds for 1 000 records", wait_caught_up(bank) * 1_000 / count)


@only_long
def test_a_slow_network_evicts_nobody(bank: Bank, ledger: Ledger, proxy: Proxy) -> None:
    row = ledger.row((6,), "every answer of the broker 300 ms late, 1 MB/s")
    workers = behind(bank, proxy)
    for _ in range(rounds()):
        held = proxy.held
        proxy.delay_s, proxy.bytes_per_s = 0.3, 1_000_000.0
        backlog(bank, row, 2_000)
        proxy.heal()
        row.effect("answers held back", proxy.held - held)
        assert proxy.held > held
    hold(bank, row)
    row.figure("rebalances", rebalances(workers), "", bar=1)
    assert rebalances(workers) == 0


@only_long
def test_connections_are_cut_at_random(bank: Bank, ledger: Ledger, proxy: Proxy) -> None:
    row = ledger.row((6,), "every answer 100 ms late, and 5 % of the connections cut every second")
    workers = behind(bank, proxy)
    for _ in range(rounds()):
        cuts = proxy.cuts
        proxy.delay_s, proxy.cut_share = 0.1, 0.05
        bank.flow()
        bank.after(8.0, 10.0)
        proxy.heal()
        row.effect("connections cut", proxy.cuts - cuts)
        assert proxy.cuts > cuts
        bank.still()
        wait_caught_up(bank)
        assert all(worker.alive for worker in workers)
    row.figure("rebalances", rebalances(workers), "")
    hold(bank, row)


@only_long
@pytest.mark.parametrize("how", ["cut", "half open"])
def test_the_network_is_away(bank: Bank, ledger: Ledger, proxy: Proxy, how: str) -> None:
    words = {"cut": "every connection cut and refused", "half open": "connections open, and nothing passes"}
    row = ledger.row((6,), f"{words[how]} for 12 s")
    workers = behind(bank, proxy)
    for _ in range(rounds()):
        bank.flow()
        bank.after(0.5, 1.5)
        troubles, held, cuts = in_trouble(bank), proxy.held, proxy.cuts
        proxy.closed, proxy.silent = how == "cut", how != "cut"
        began = time.monotonic()
        a_worker_noticed(bank, troubles)
        time.sleep(max(12 - (time.monotonic() - began), 0))
        closed = minutes_closed(bank)
        proxy.heal()
        back = time.monotonic()
        row.effect("connections cut" if how == "cut" else "chunks held", proxy.cuts - cuts + proxy.held - held)
        assert proxy.cuts + proxy.held > cuts + held
        a_minute_is_closed(bank, closed)
        row.figure("first closed minute after the return", time.monotonic() - back, bar=30)
        bank.still()
        wait_caught_up(bank)
        assert all(worker.alive for worker in workers)
    hold(bank, row)
