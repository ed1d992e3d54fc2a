"""Faults of what is kept: records that retention took, state of another version, and the start from nothing."""

import time
from functools import partial

import pytest
from kafka import KafkaProducer
from kafka.structs import TopicPartition

from contracts.codes import Outcome
from streams.clients import translated
from streams.topics import admin_client
from tests.conformance.worlds import until
from tests.reliability.bank import Bank
from tests.reliability.conftest import MakeBank
from tests.reliability.drill import CLIENTS, hold, only_long
from tests.reliability.ledger import Ledger, rounds
from tests.reliability.oracle import fresh_event_passes, latest_state, states_of, wait_caught_up
from tests.reliability.worker import EXIT_FATAL

pytestmark = [pytest.mark.broker, pytest.mark.slow]

NEWER = 250


def write_state(bank: Bank, key: bytes, value: bytes) -> None:
    """Write a state record as another version of the tally would."""
    producer = KafkaProducer(bootstrap_servers=bank.broker.bootstrap.split(","), acks="all")
    producer.send(bank.topics.tally_state.name, value=value, key=key, partition=0).get(timeout=20)
    producer.close(timeout=5)


@pytest.mark.parametrize("client", CLIENTS)
def test_retention_takes_records_before_they_are_read(make_bank: MakeBank, ledger: Ledger, client: str) -> None:
    row = ledger.row((5,), "retention takes 100 records of one partition while the tally is down", client)
    bank = make_bank(client=client)
    bank.both()
    bank.send(600)
    hold(bank, row)
    bank.dismiss("tally")
    before = states_of(bank)
    bank.send(900)
    bank.settle()
    read = before[0].next_offset or 0
    with admin_client(bank.settings("admin")) as admin, translated("trim"):
        admin.delete_records({TopicPartition(bank.scores, 0): read + 100})
    tally = bank.running("tally")
    wait_caught_up(bank)
    expired = [line["records"] for line in tally.lines() if line["event"] == "records_expired"]
    assert expired == [100]
    row.effect("records counted as expired", sum(expired))
    after, ends = states_of(bank), bank.reader.bounds(bank.reader.partitions(bank.scores))
    for partition, (_, end) in ends.items():
        was, now = before[partition.index], after[partition.index]
        gone = 100 if partition.index == 0 else 0
        assert now.received - was.received == end - (was.next_offset or 0) - gone
        assert now.received == sum(now.outcomes[outcome] for outcome in Outcome)
    row.figure("fresh event after", fresh_event_passes(bank))


def test_state_of_a_newer_version_is_refused(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((23,), "state of a newer version: refused with a message; the tally goes on when it is gone")
    bank = make_bank()
    bank.both()
    bank.send(600)
    bank.settle()
    wait_caught_up(bank)
    for _ in range(rounds()):
        bank.dismiss("tally")
        key = f"{bank.scores}/0".encode()
        mine = latest_state(bank)[key]
        write_state(bank, key, bytes((NEWER,)) + mine[1:])
        refused = bank.start("tally")
        assert refused.end() == EXIT_FATAL
        (line,) = [one for one in refused.lines() if one["event"] == "fatal"]
        assert str(NEWER) in line["reason"]
        row.effect("refused with a message")
        write_state(bank, key, mine)
        bank.ready(bank.start("tally"))
        bank.send(300)
        bank.settle()
        wait_caught_up(bank)
    hold(bank, row)


@only_long
@pytest.mark.parametrize("client", CLIENTS)
def test_a_cold_start(make_bank: MakeBank, ledger: Ledger, client: str) -> None:
    row = ledger.row((24,), "a tally started from nothing: process, import, group, state, first transaction", client)
    bank = make_bank(client=client)
    for _ in range(max(rounds(), 3)):
        began = time.monotonic()
        tally = bank.start("tally")
        until(partial(tally.logged, "ready"), "ready", 60)
        row.figure("start to ready", time.monotonic() - began, bar=2)
        row.figure("memory when ready", tally.memory_mb(), "MB")
        row.effect("processes started")
        bank.dismiss("tally")
