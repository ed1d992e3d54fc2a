"""Faults of the whole monitor as a person starts it: what its probes and its page say while something is missing."""

import json
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from stationkeeper.monitor.settings import DAY_MS
from tests.reliability.bank import Bank
from tests.reliability.conftest import MakeBank
from tests.reliability.daemon import Daemon
from tests.reliability.drill import hold, only_long
from tests.reliability.events import START, Stream
from tests.reliability.ledger import Ledger, Row, rounds
from tests.reliability.oracle import wait_caught_up, wait_read
from tests.reliability.test_labels import hold_outcomes, label
from tests.reliability.workers import Setup
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

AWAY_S = 20.0
WAITING = 1_000
JOINS_PARTITIONS = 6
COUNT = 3_000


def model(daemon: Daemon) -> dict[str, Any]:
    """Return what the page of the model is made of."""
    status, body, _ = daemon.get("/api/v1/models/fraud")
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found


def join_detail(daemon: Daemon) -> dict[str, Any]:
    """Return what the join says of itself."""
    roles = json.loads(daemon.get("/api/v1/status")[1])["roles"]
    return next(dict(role["detail"]) for role in roles if role["role"] == "join")


def hold_unknown(said: dict[str, Any], row: Row) -> None:
    """Hold that nothing is said of performance but that it is unknown."""
    known = [entry for entry in said["performance"] if entry["state"] != "unknown"]
    row.figure("measures of performance that are not unknown", len(known), "", bar=1)
    assert known == []


@only_long
def test_probes_while_all_brokers_are_down(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((5, 12), f"`stationkeeper monitor`: every broker down for {AWAY_S:.0f} s, probes asked meanwhile")
    bank = make_bank()
    daemon = bank.monitor()
    until(daemon.ready, "the monitor is ready")
    for _ in range(rounds()):
        bank.flow(300)
        bank.after(1.0, 2.0)
        bank.broker.kill()
        gone = time.monotonic()
        until(lambda: daemon.get("/readyz")[0] == 503, "it says that it is not ready")
        row.figure("until it says that it is not ready", time.monotonic() - gone, bar=30)
        answers: Counter[tuple[str, int]] = Counter()
        while time.monotonic() < gone + AWAY_S:
            for path in ("/livez", "/readyz", "/metrics", "/"):
                answers[path, daemon.get(path)[0]] += 1
            time.sleep(0.2)
        assert {(path, status) for path, status in answers if path != "/readyz"} == {
            ("/livez", 200),
            ("/metrics", 200),
            ("/", 200),
        }
        assert not answers["/readyz", 200], answers
        row.effect("/readyz said no", answers["/readyz", 503])
        row.effect("/livez, /metrics and the page answered meanwhile", sum(answers.values()) - answers["/readyz", 503])
        bank.broker.restart()
        back = time.monotonic()
        until(daemon.ready, "it is ready again", 90)
        row.figure("ready after the return", time.monotonic() - back, bar=30)
        bank.still()
    hold(bank, row)
    assert daemon.close() == 0


@only_long
def test_no_label_ever_comes(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((14, 15), f"labels 0 %: predictions wait, at most {WAITING} in each of {JOINS_PARTITIONS} parts")
    bank = make_bank(setup=Setup(model={"labels": True, "label_maturity": "10m"}), stream=Stream(poison=0))
    daemon = bank.monitor(join={"rows": WAITING})
    until(daemon.ready, "the monitor is ready")
    bank.send(30_000)
    all_joined(bank)
    until(lambda: model(daemon)["labels"]["due"] > 10_000, "predictions are due")
    said, waiting = model(daemon), join_detail(daemon)
    assert said["labels"]["arrived"] == 0
    assert waiting["waiting predictions"] <= WAITING * JOINS_PARTITIONS
    row.effect("predictions due without a label", said["labels"]["due"])
    row.effect("predictions let go, counted", waiting["crowded out"])
    assert waiting["crowded out"] > 0
    assert b'stationkeeper_limits_refused_total{limit="waiting"' in daemon.get("/metrics")[1]
    row.figure("predictions that wait", waiting["waiting predictions"], "", bar=WAITING * JOINS_PARTITIONS + 1)
    hold_unknown(said, row)
    row.figure("most memory", daemon.memory_mb("VmHWM"), "MB", bar=1_024)
    found = hold(bank, row, crowded=True)
    row.figure("performance verdicts", found.kinds["performance"] + found.kinds["concept_drift"], "", bar=1)
    assert not found.kinds["performance"] + found.kinds["concept_drift"]


@only_long
def test_labels_come_a_month_late(make_bank: MakeBank, ledger: Ledger) -> None:
    row = ledger.row((15,), "labels 29 and 31 days late, with a horizon of 30 days")
    bank = make_bank(setup=Setup(model={"labels": True}), stream=Stream(poison=0))
    daemon = bank.monitor()
    until(daemon.ready, "the monitor is ready")
    bank.send(COUNT)
    bank.settle()
    wait_caught_up(bank)
    bank.stream = replace(bank.stream, start=START + 29 * DAY_MS)
    bank.send(600)
    all_joined(bank)
    for late, first in ((29, 0), (31, 1)):
        numbers = range(first, COUNT, 2)
        row.effect(f"labels {late} days late", len(numbers))
        bank.send_labels([(n % bank.stream.partitions, label(n, delay=late * DAY_MS)) for n in numbers])
        all_joined(bank)
    said = model(daemon)
    hold_unknown(said, row)
    hold_outcomes(bank, row, horizon=30 * DAY_MS)
    assert row.effects["predictions that met their first label"] == COUNT // 2
    hold(bank, row)


def all_joined(bank: Bank) -> None:
    """Wait until everything that was sent has passed the tally and the join."""
    bank.settle()
    wait_caught_up(bank)
    wait_read(bank, "tally", bank.labels)
    wait_read(bank, "join", bank.topics.joins.name)
    wait_read(bank, "judge", bank.topics.panes.name)
