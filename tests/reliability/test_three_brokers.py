"""Faults of a cluster of three: a leader lost, a broker that stands still, all of them down."""

import time
from collections.abc import Iterator

import pytest

from stationkeeper.streams.broker import LocalBroker
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.kafka.clients import translated
from stationkeeper.streams.kafka.topics import admin_client
from tests.reliability.bank import Bank
from tests.reliability.drill import a_minute_is_closed, a_worker_noticed, hold, in_trouble, minutes_closed, only_long
from tests.reliability.ledger import Ledger, long_form, rounds
from tests.reliability.oracle import wait_caught_up
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

NODES = (1, 2, 3)


@pytest.fixture(scope="module")
def spread(cluster: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """Yield a bank on three brokers."""
    found = Bank(cluster, tmp_path_factory.mktemp("spread"))
    try:
        yield found
    finally:
        found.close()


def leadership(bank: Bank, topic: str, partition: int = 0) -> tuple[int, int]:
    """Return the node that leads a partition (-1: none) and how many replicas are in step."""
    with admin_client(bank.settings("admin")) as admin, translated(f"describe {topic}"):
        (described,) = admin.describe_topics([topic])
    (found,) = [one for one in described["partitions"] if one["partition_index"] == partition]
    return int(found["leader_id"]), len(found["isr_nodes"])


def another_leads(bank: Bank, topic: str, than: int) -> None:
    """Wait until a partition has another leader."""

    def moved() -> bool:
        try:
            return leadership(bank, topic)[0] not in {than, -1}
        except Retryable:
            return False

    until(moved, "another leader", 60)


def in_step(bank: Bank) -> bool:
    """Return whether every replica of the partitions that a row hurts follows its leader."""
    topics = (bank.scores, bank.topics.panes.name, bank.topics.tally_state.name)
    return all(leadership(bank, topic)[1] == len(NODES) for topic in topics)


@pytest.mark.parametrize("of", ["input", "panes"])
def test_a_leader_is_lost(spread: Bank, ledger: Ledger, of: str) -> None:
    if of == "panes" and not long_form():
        pytest.skip("runs in make reliability")
    row = ledger.row((5,), f"three brokers: the leader of a partition of the {of} topic killed with -9 under load")
    topic = spread.scores if of == "input" else spread.topics.panes.name
    spread.both()
    for _ in range(rounds()):
        until(lambda: in_step(spread), "every replica is in step", 60)
        spread.flow()
        spread.after(0.5, 1.5)
        before, _ = leadership(spread, topic)
        spread.broker.kill(before)
        lost = time.monotonic()
        another_leads(spread, topic, before)
        row.effect("leader moved")
        closed = minutes_closed(spread)
        a_minute_is_closed(spread, closed)
        row.figure("first closed minute after the loss", time.monotonic() - lost, bar=30)
        spread.still()
        wait_caught_up(spread)
        spread.broker.restart(before)
    hold(spread, row)


@only_long
def test_a_broker_stands_still(spread: Bank, ledger: Ledger) -> None:
    row = ledger.row((5,), "three brokers: the leader of an input partition stopped for 15 s (SIGSTOP), then resumed")
    spread.both()
    for _ in range(rounds()):
        until(lambda: in_step(spread), "every replica is in step", 60)
        spread.flow()
        spread.after(0.5, 1.5)
        before, _ = leadership(spread, spread.scores)
        spread.broker.pause(before)
        paused = time.monotonic()
        another_leads(spread, spread.scores, before)
        row.effect("leader moved")
        time.sleep(max(15 - (time.monotonic() - paused), 0))
        spread.broker.resume(before)
        back, closed = time.monotonic(), minutes_closed(spread)
        a_minute_is_closed(spread, closed)
        row.figure("first closed minute after the return", time.monotonic() - back, bar=30)
        spread.still()
        wait_caught_up(spread)
    hold(spread, row)


@only_long
def test_all_brokers_are_down(spread: Bank, ledger: Ledger) -> None:
    row = ledger.row((5,), "three brokers: all killed with -9 and down for a minute (rounds after the first: 10 s)")
    for round_ in range(rounds()):
        workers = spread.both()
        until(lambda: in_step(spread), "every replica is in step", 60)
        spread.flow(200)
        spread.after(0.5, 1.5)
        troubles, closed = in_trouble(spread), minutes_closed(spread)
        for node in NODES:
            spread.broker.kill(node)
        down = time.monotonic()
        a_worker_noticed(spread, troubles)
        row.effect("all brokers gone and missed by a worker")
        spread.still_without_waiting()
        time.sleep(max((60 if round_ == 0 else 10) - (time.monotonic() - down), 0))
        for node in NODES:
            spread.broker.start_node(spread.broker.nodes[node - 1])
        for node in NODES:
            spread.broker.wait_node(spread.broker.nodes[node - 1])
        back = time.monotonic()
        assert all(worker.alive for worker in workers)
        spread.flow()
        a_minute_is_closed(spread, closed)
        row.figure("first closed minute after the return", time.monotonic() - back, bar=30)
        row.figure("most memory of a worker", max(worker.memory_mb("VmHWM") for worker in workers), "MB")
        spread.still()
        wait_caught_up(spread)
    hold(spread, row)
