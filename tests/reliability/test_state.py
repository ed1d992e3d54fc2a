"""Faults of what is kept: records that retention took, state of another version, and the start from nothing."""

import time
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.structs import TopicPartition

from stationkeeper.contracts.codes import Outcome
from stationkeeper.monitor.state_codec import PLAIN
from stationkeeper.streams.kafka.clients import translated
from stationkeeper.streams.kafka.topics import admin_client
from tests.reliability.bank import Bank
from tests.reliability.conftest import MakeBank
from tests.reliability.drill import hold, only_long
from tests.reliability.events import Stream
from tests.reliability.ledger import Ledger, rounds
from tests.reliability.oracle import fresh_event_passes, latest_state, states_of, wait_caught_up
from tests.reliability.worker import EXIT_FATAL
from tests.reliability.workers import source_of
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

NEWER = 250
OLD_BUILD = "7717570bded343b2c32a1d3eb0ddba920d9ea424"
"""The last version that wrote the judge's state in format 1."""


def write_state(bank: Bank, key: bytes, value: bytes) -> None:
    """Write a state record as another version of the tally would."""
    producer = KafkaProducer(bootstrap_servers=bank.broker.bootstrap.split(","), acks="all")
    producer.send(bank.topics.tally_state.name, value=value, key=key, partition=0).get(timeout=20)
    producer.close(timeout=5)


@only_long
def test_retention_takes_records_before_they_are_read(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((5,), "retention takes 100 records of one partition while the tally is down")
    bank = make_bank()
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


@only_long
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
def test_two_builds_one_after_the_other(make_bank: MakeBank, ledger: Ledger, tmp_path: Path) -> None:
    row = ledger.row((23,), "an older build's state taken over by this one; this one's refused by the older")
    # Of the poison of today one kind, an integer of 5 000 digits, ends the older build.
    bank = make_bank(stream=Stream(poison=0), pairs=False)
    old_build = source_of(OLD_BUILD, tmp_path)
    old = [bank.start(role, build=old_build) for role in ("tally", "judge")]
    bank.ready(*old)
    bank.flow()
    until(lambda: format_of(bank), "the older build has written state", 90)
    bank.after(2.0, 3.0)
    for role in ("tally", "judge"):
        bank.dismiss(role)
    assert format_of(bank) == {1}
    for worker in bank.both():
        row.effect("older state read back by this build")
        (restored,) = [line["keys"] for line in worker.lines() if line["event"] == "state_restored"]
        assert restored > 0
    bank.after(4.0, 5.0)
    # The detectors of two versions need not say the same; what they count must be.
    hold(bank, row, verdicts=False)
    assert PLAIN in format_of(bank)
    bank.dismiss("judge")
    back = bank.start("judge", build=old_build)
    assert back.end() == EXIT_FATAL
    assert back.logged("fatal") == 1
    row.effect("newer state refused by the older build")
    bank.ready(bank.start("judge"))


def format_of(bank: Bank) -> set[int]:
    """Return the formats in which the judge's state is written."""
    latest: dict[bytes, bytes] = {}
    for batch in bank.reader.read(bank.reader.partitions(bank.topics.judge_state.name)):
        latest |= {key: value for key, value in zip(batch.keys, batch.values, strict=True) if key and value}
    return {value[0] for value in latest.values()}


@only_long
def test_a_cold_start(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row(
        (24,), "`stationkeeper monitor` started: process, import, groups, state, first transactions, /readyz"
    )
    bank = make_bank()
    for _ in range(max(rounds(), 3)):
        began = time.monotonic()
        daemon = bank.monitor()
        until(daemon.ready, "ready")
        row.figure("start to ready", time.monotonic() - began, bar=2)
        row.figure("processor time until ready", daemon.processor_s())
        row.figure("memory when ready", daemon.memory_mb(), "MB")
        row.effect("processes started")
        assert daemon.close() == 0
