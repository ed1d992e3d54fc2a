"""Faults of what is sent: clocks that are wrong, disorder, duplicates, a schema that changes, too many keys."""

import time
from dataclasses import replace
from typing import Any

import pytest

from stationkeeper.contracts.codes import DeadLetterCode, Outcome
from stationkeeper.streams.loop import wall_ms
from tests.reliability.conftest import MakeBank
from tests.reliability.drill import hold, only_long
from tests.reliability.events import NEVER, Stream, draw
from tests.reliability.ledger import Ledger, rounds
from tests.reliability.oracle import Audit, records_behind, states_of, values_of, wait_caught_up
from tests.reliability.workers import Setup

pytestmark = [pytest.mark.broker, pytest.mark.slow]

HOUR_MS = 3_600_000
COUNT = 2_400


def skewed(number: int, row: dict[str, Any]) -> None:
    """One producer in fifty is an hour ahead, one in fifty an hour behind."""
    row["time"] += {0: HOUR_MS, 1: -HOUR_MS}.get(draw(number, "skew") % 50, 0)


def disordered(number: int, row: dict[str, Any]) -> None:
    """Ten events in a hundred come up to the bound late, two come beyond it."""
    lot = draw(number, "order") % 100
    if lot < 10:
        row["time"] -= draw(number, "by") % 85_000
    elif lot < 12:
        row["time"] -= 10 * 60_000


def drifted_schema(number: int, row: dict[str, Any]) -> None:
    """From the 1200th event on every second event has a new field, none of one, and a third as text."""
    if number >= COUNT // 2 and draw(number, "v2") % 2:
        features = row["features"]
        del features["age"]
        features["amount"] = str(features["amount"])
        features["channel"] = "app"


def test_clocks_are_an_hour_wrong(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((9,), "2 % of the events an hour ahead of the clock, 2 % an hour behind, by the wall clock")
    stream = Stream(poison=0, shift_at=NEVER, change=skewed, start=wall_ms() - 20 * 60_000)
    bank = make_bank(setup=Setup("wall"), stream=stream)
    bank.both()
    bank.send(COUNT)
    bank.settle()
    wait_caught_up(bank)
    found = hold(bank, row)
    row.effect("events quarantined as future", found.future_seen)
    row.effect("events counted late", found.outcomes[Outcome.LATE])
    codes = sum(state.codes.get(DeadLetterCode.FUTURE_TIME.value, 0) for state in states_of(bank).values())
    assert codes == found.future_seen > 0
    assert found.outcomes[Outcome.LATE] > 0
    # No clock was moved by an event of the future, so no minute was closed by one.
    assert all(state.clock.now <= wall_ms() + 5 * 60_000 for state in states_of(bank).values())
    row.figure("drift verdicts", drift(found), "", bar=1)
    assert drift(found) == 0


def drift(found: Audit) -> int:
    """Return how many verdicts said drift."""
    return sum(count for kind, count in found.kinds.items() if kind.endswith("drift"))


@only_long
def test_events_come_out_of_order(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((10,), "10 % of the events out of order up to the bound, 2 % beyond it; panes as of sorted events")
    bank = make_bank(stream=Stream(poison=0, change=disordered))
    bank.both()
    bank.send(COUNT)
    bank.settle()
    found = hold(bank, row)
    row.effect("events older than their partition's clock", found.disorder_seen)
    row.effect("events counted late", found.outcomes[Outcome.LATE])
    assert found.outcomes[Outcome.LATE] > 0


def test_duplicates_inside_and_beyond_the_horizon(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((11,), "5 % duplicates, some again past the horizon of 100 offsets, where they count as new")
    bank = make_bank(setup=Setup(model={"dedupe": 100}))
    bank.both()
    bank.send(600)
    bank.settle()
    for number in range(0, 300, 3):
        bank.send_raw([bank.stream.event(number)])
    found = hold(bank, row)
    row.effect("duplicates left out", found.duplicates_seen)
    row.effect("repeats past the horizon counted", found.again_counted)
    assert found.again_counted > 0


@only_long
def test_the_schema_changes_in_flight(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((13,), "half of the events from one minute on: a new feature, one missing, one as text")
    bank = make_bank(stream=Stream(poison=0, shift_at=NEVER, change=drifted_schema))
    bank.both()
    bank.send(2 * COUNT)
    bank.settle()
    found = hold(bank, row)
    row.effect("events of the second schema", sum(draw(n, "v2") % 2 for n in range(COUNT // 2, bank.sent)))
    row.effect("verdicts of data quality", found.kinds["data_quality"])
    assert found.kinds["data_quality"] > 0
    row.figure("drift verdicts", drift(found), "", bar=1)
    row.figure("retrain requests", len(values_of(bank.reader, bank.topics.requests.name)), "", bar=1)
    assert drift(found) == 0
    assert values_of(bank.reader, bank.topics.requests.name) == []


@only_long
def test_categories_and_keys_explode(make_bank: MakeBank, ledger: Ledger) -> None:
    keys = 1_000_000 if rounds() >= 3 else 50_000
    row = ledger.row((14,), f"{keys} keys, each with a category of its own")

    def exploded(number: int, event: dict[str, Any]) -> None:
        event["features"]["country"] = f"k{number}"

    bank = make_bank(stream=Stream(poison=0))
    workers = bank.both()
    bank.send(10_000)
    bank.settle()
    wait_caught_up(bank)
    before = [worker.memory_mb() for worker in workers]
    bank.stream = replace(bank.stream, change=exploded)
    began = time.monotonic()
    for _ in range(0, keys, 10_000):
        bank.send(10_000)
    bank.settle()
    wait_caught_up(bank, 900)
    row.figure("seconds for 1 000 records, sent and counted", (time.monotonic() - began) * 1_000 / keys)
    for worker, was in zip(workers, before, strict=True):
        row.figure(f"{worker.role}: memory before", was, "MB")
        row.figure(f"{worker.role}: most memory", worker.memory_mb("VmHWM"), "MB", bar=1_024)
    hold(bank, row)
    row.effect("different categories", keys)


@only_long
def test_a_burst_of_five_times_the_load(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((22,), "a burst as fast as one producer can, while the workers read")
    bank = make_bank()
    workers = bank.both()
    for _ in range(rounds()):
        began = time.monotonic()
        bank.send(15_000)
        bank.settle()
        sent = time.monotonic() - began
        row.effect("records behind when the burst ended", records_behind(bank))
        wait_caught_up(bank)
        row.figure("burst sent in", sent)
        row.figure("counted after", time.monotonic() - began)
        hours = 15_000 * bank.stream.step_ms / HOUR_MS
        row.figure("wall seconds for an hour of the stream", (time.monotonic() - began) / hours)
    for worker in workers:
        row.figure(f"{worker.role}: most memory", worker.memory_mb("VmHWM"), "MB", bar=1_024)
    hold(bank, row)
