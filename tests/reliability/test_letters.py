"""Faults of the dead-letter topic: gone, or too narrow for what is rejected."""

import random
import time
from collections.abc import Callable

import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ConfigResource,
    ConfigResourceType,
    NewTopic,
    ResourcePattern,
    ResourceType,
)

from stationkeeper.contracts.topics import dead_letter_topic
from stationkeeper.streams.kafka.clients import translated
from stationkeeper.streams.kafka.topics import admin_client, ensure_internal
from tests.reliability.bank import Bank
from tests.reliability.conftest import MakeBank
from tests.reliability.drill import hold, only_long
from tests.reliability.events import Stream
from tests.reliability.ledger import Ledger, Row, rounds
from tests.reliability.oracle import caught_up, wait_caught_up
from tests.reliability.worker import EXIT_FATAL
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

CLEAN = Stream(poison=0)


def limit(bank: Bank, size: int) -> None:
    """Set what the dead-letter topic takes."""
    resource = ConfigResource(
        ConfigResourceType.TOPIC, dead_letter_topic(bank.scores), configs={"max.message.bytes": str(size)}
    )
    with admin_client(bank.settings("admin")) as admin, translated("set max.message.bytes"):
        admin.alter_configs([resource])


def noise(bank: Bank, size: int) -> list[bytes]:
    """Return poison that no compression makes smaller."""
    return [bank.random.randbytes(size) for _ in range(5)]


def stops_at_poison(bank: Bank, row: Row, mend: Callable[[], None], patience_s: float) -> None:
    """Send poison that cannot be put aside: the tally ends uncommitted, and goes on once ``mend`` was called."""
    tally = bank.running("tally")
    bank.ready(tally)
    bank.send_raw([CLEAN.spoilt(bank.sent + number) for number in range(20)])
    bank.send(300)
    bank.settle()
    assert tally.end(patience_s) == EXIT_FATAL
    assert tally.logged("dead_letter_unwritable") == 1
    row.effect("stopped with dead_letter_unwritable")
    assert not caught_up(bank)
    mend()
    bank.ready(bank.start("tally"))
    wait_caught_up(bank)


def test_the_dead_letter_topic_is_gone(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((8,), "the dead-letter topic deleted: the tally says so, waits, and goes on")
    bank = make_bank(stream=CLEAN)
    letters = dead_letter_topic(bank.scores)
    tally, _ = bank.both()
    bank.send(600)
    bank.settle()
    wait_caught_up(bank)
    with admin_client(bank.settings("admin")) as admin, translated("delete the dead-letter topic"):
        admin.delete_topics([letters])
    bank.send_raw([CLEAN.spoilt(number) for number in range(20)])
    bank.send(600)
    bank.settle()
    until(lambda: tally.logged("dead_letter_unwritable") > 0, "the log says it")
    row.effect("dead_letter_unwritable logged", tally.logged("dead_letter_unwritable"))
    assert not caught_up(bank)
    assert tally.alive
    with admin_client(bank.settings("admin")) as admin, translated("create the dead-letter topic"):
        admin.create_topics([NewTopic(letters, 1, -1)])
    wait_caught_up(bank)
    found = hold(bank, row)
    assert found.poison_seen == 20


@only_long
def test_a_topic_of_our_own_is_created_anew(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((25,), "the judge's state deleted and created again: the judge ends, the tally goes on")
    bank = make_bank(stream=CLEAN)
    bank.both()
    for _ in range(rounds()):
        tally, judge = bank.running("tally"), bank.running("judge")
        bank.ready(tally, judge)
        bank.send(600)
        bank.settle()
        wait_caught_up(bank)
        with admin_client(bank.settings("admin")) as admin, translated("delete the judge's state"):
            admin.delete_topics([bank.topics.judge_state.name])
        until(lambda: not bank.reader.partitions(bank.topics.judge_state.name), "the topic is gone")
        began = time.monotonic()
        ensure_internal(bank.settings(), bank.topics)
        assert judge.end(60) == EXIT_FATAL
        row.figure("until the judge ended", time.monotonic() - began, bar=30)
        assert judge.logged("topic_replaced") == 1
        row.effect("judge ended with topic_replaced")
        assert tally.alive
    bank.ready(bank.start("judge"))
    # What the old state knew is lost, and said; not one record of the counts is.
    hold(bank, row, verdicts=False)


@only_long
def test_the_dead_letter_topic_takes_not_even_an_address(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((8,), "the dead-letter topic takes 100 bytes: the tally stops uncommitted")
    bank = make_bank(stream=CLEAN)
    bank.both()
    for _ in range(rounds()):
        limit(bank, 100)
        stops_at_poison(bank, row, lambda: limit(bank, 1_000_000), patience_s=60)
    hold(bank, row)


@only_long
def test_the_dead_letter_topic_is_forbidden(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((8,), "an access list forbids writing dead letters: the tally stops uncommitted")
    bank = make_bank(stream=CLEAN)
    topic = ResourcePattern(ResourceType.TOPIC, dead_letter_topic(bank.scores))
    ban = ACL("User:ANONYMOUS", "*", ACLOperation.WRITE, ACLPermissionType.DENY, topic)
    bank.both()

    def allow() -> None:
        with admin_client(bank.settings("admin")) as admin, translated("allow"):
            admin.delete_acls([ban])

    for _ in range(rounds()):
        with admin_client(bank.settings("admin")) as admin, translated("forbid"):
            admin.create_acls([ban])
        stops_at_poison(bank, row, allow, patience_s=90)
    hold(bank, row)


@only_long
def test_a_letter_too_large_keeps_its_address_and_sum(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((7, 8), "poison of 50 kB for a topic of 10 kB: address and SHA-256 are kept")
    bank = make_bank(stream=CLEAN)
    bank.random = random.Random(3)
    limit(bank, 10_000)
    bank.both()
    for _ in range(rounds()):
        bank.send(100)
        bank.send_raw(noise(bank, 50_000))
        bank.send_raw(noise(bank, 500))
        bank.send(100)
        bank.settle()
        wait_caught_up(bank)
    found = hold(bank, row)
    row.effect("letters without their value", found.oversize_seen)
    assert found.oversize_seen == 5 * rounds()
