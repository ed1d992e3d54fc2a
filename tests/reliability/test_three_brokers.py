"""Faults of a cluster of three: a leader lost, a broker that stands still, all of them down."""

import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial

import pytest
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from stationkeeper.streams.broker import LocalBroker
from stationkeeper.streams.connect import reader_for
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.kafka.clients import translated
from stationkeeper.streams.kafka.topics import admin_client
from stationkeeper.streams.ports import Partition, Reader
from tests.reliability.bank import Bank
from tests.reliability.drill import (
    a_minute_is_closed,
    a_worker_noticed,
    hold,
    in_trouble,
    minutes_closed,
    only_long,
)
from tests.reliability.ledger import Ledger, long_form, outage_s, rounds
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

    until(moved, "another leader")


def in_step(bank: Bank) -> bool:
    """Return whether every replica of the partitions that a row hurts follows its leader."""
    topics = (bank.scores, bank.topics.panes.name, bank.topics.tally_state.name)
    return all(leadership(bank, topic)[1] == len(NODES) for topic in topics)


def elect_there_and_back(bank: Bank, topics: tuple[str, ...]) -> None:
    """Let every partition of topics be led by another node and then by the first again: twice a new epoch."""
    with admin_client(bank.settings("admin")) as admin, translated("elect leaders"):
        orders = {
            TopicPartition(found["name"], one["partition_index"]): list(one["replica_nodes"])
            for found in admin.describe_topics(list(topics))
            for one in found["partitions"]
        }
        for turn in (1, 0):
            wanted = {partition: nodes[turn:] + nodes[:turn] for partition, nodes in orders.items()}
            admin.alter_partition_reassignments(wanted)
            until(partial(led_by_the_first, bank, topics), "every leader is the first replica")


def led_by_the_first(bank: Bank, topics: tuple[str, ...]) -> bool:
    """Ask for preferred leaders and return whether every partition has its own."""
    with admin_client(bank.settings("admin")) as admin, translated("elect leaders"):
        partitions = [one for found in admin.describe_topics(list(topics)) for one in found["partitions"]]
        if all(one["leader_id"] == one["replica_nodes"][0] for one in partitions):
            return True
        with suppress(KafkaError):
            admin.elect_leaders(0, list(topics))
    return False


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_leaders_change_and_change_back(spread: Bank, ledger: Ledger, client: str) -> None:
    row = ledger.row((5,), "three brokers: every leader of a topic elected anew, there and back, its bounds asked")
    topics = (spread.scores, spread.topics.panes.name)
    # The age of metadata that is the default: with less, a client that never asks who leads would be healed by it.
    more = {"client": client, "metadata_max_age": 30_000}
    reader = reader_for(spread.settings("admin").model_copy(update=more), "bounds")
    with closing(reader):
        partitions = [partition for topic in topics for partition in reader.partitions(topic)]
        for _ in range(rounds()):
            until(lambda: in_step(spread), "every replica is in step")
            reader.bounds(partitions)
            elect_there_and_back(spread, topics)
            row.effect("leaders elected twice")
            elected = time.monotonic()
            until(partial(answered, reader, partitions), "the bounds are told")
            row.figure("bounds told after the elections", time.monotonic() - elected, bar=30)


def answered(reader: Reader, partitions: list[Partition]) -> bool:
    """Return whether the bounds of all partitions are told now."""
    try:
        return reader.bounds(partitions).keys() == set(partitions)
    except Retryable:
        return False


@pytest.mark.parametrize("of", ["input", "panes"])
def test_a_leader_is_lost(spread: Bank, ledger: Ledger, of: str) -> None:
    if of == "panes" and not long_form():
        pytest.skip("runs in make reliability")
    row = ledger.row((5,), f"three brokers: the leader of a partition of the {of} topic killed with -9 under load")
    topic = spread.scores if of == "input" else spread.topics.panes.name
    spread.both()
    for _ in range(rounds()):
        until(lambda: in_step(spread), "every replica is in step")
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
        until(lambda: in_step(spread), "every replica is in step")
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
    away = f"down for {'a minute' if outage_s() == 60 else f'{outage_s()} s'} (rounds after the first: 10 s)"
    row = ledger.row((5,), f"three brokers: all killed with -9 and {away}")
    for round_ in range(rounds()):
        workers = spread.both()
        until(lambda: in_step(spread), "every replica is in step")
        spread.flow(200)
        spread.after(0.5, 1.5)
        troubles, closed = in_trouble(spread), minutes_closed(spread)
        for node in NODES:
            spread.broker.kill(node)
        down = time.monotonic()
        a_worker_noticed(spread, troubles)
        row.effect("all brokers gone and missed by a worker")
        spread.still_without_waiting()
        time.sleep(max((outage_s() if round_ == 0 else 10) - (time.monotonic() - down), 0))
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
