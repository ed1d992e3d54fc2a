"""Faults of the label join: killed, its cache deleted or its disk full, labels absent, early, late or contradictory."""

import json
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.wire import OutcomeDelta, decode
from stationkeeper.monitor.join.disk_cache import thaw
from stationkeeper.monitor.settings import DAY_MS
from stationkeeper.monitor.state_codec import gather
from tests.reliability.bank import Bank
from tests.reliability.conftest import MakeBank
from tests.reliability.drill import hold, only_long
from tests.reliability.events import Stream, draw
from tests.reliability.ledger import Ledger, Row, rounds
from tests.reliability.oracle import PANE_MS, values_of, wait_caught_up, wait_read
from tests.reliability.workers import Setup, Worker
from tests.small_disk import small_disk
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

STREAM = Stream(poison=0)
COUNT = 3_000
FILE_LIMIT = 16_384
SAVE_ROWS = 50


def label(number: int, *, contrary: bool = False, delay: int | None = None) -> bytes:
    """Return the label of an event: minutes later, or hours for one in ten; or one that says the contrary."""
    row = STREAM.row(number)
    if delay is None:
        delay = 3 * 3_600_000 if draw(number, "late") % 10 == 0 else 120_000
    value = (draw(number, "y") + contrary) % 2
    told = {"kind": "label", "event_id": row["event_id"], "time": row["time"] + delay, "model": "fraud", "label": value}
    return json.dumps(told).encode()


def labels(first: int, count: int) -> list[tuple[int, bytes]]:
    """Return (partition, label) of half of the events; one in twenty gets a second label that contradicts the first."""
    out = []
    for number in range(first, first + count):
        if draw(number, "known") % 2:
            out.append((number % STREAM.partitions, label(number)))
            if draw(number, "contrary") % 20 == 0:
                out.append((number % STREAM.partitions, label(number, contrary=True)))
    return out


def send(bank: Bank, count: int) -> None:
    """Send events, with the labels of every second hundred before them and of the others behind them."""
    for _ in range(0, count, 100):
        first = bank.sent
        early = first // 100 % 2 == 0
        if early:
            bank.send_labels(labels(first, 100))
        bank.send(100)
        if not early:
            bank.send_labels(labels(first, 100))
    bank.settle()


def hold_outcomes(bank: Bank, row: Row, *, horizon: int = 30 * DAY_MS) -> None:
    """Hold the join to a dictionary: the first label of each event that was counted, by the event's minute.

    A label that comes more than ``horizon`` after its event is none.
    """
    all_read(bank)
    seen: dict[str, int] = {}
    first: dict[str, int] = {}
    for value in values_of(bank.reader, bank.scores):
        event = json.loads(value)
        seen.setdefault(event["event_id"], event["time"])
    for value in values_of(bank.reader, bank.labels):
        event = json.loads(value)
        if event["time"] - seen.get(event["event_id"], event["time"]) <= horizon:
            first.setdefault(event["event_id"], event["label"])
    known: Counter[int] = Counter()
    positive: Counter[int] = Counter()
    for identity, answer in first.items():
        if identity in seen:
            known[seen[identity] // PANE_MS * PANE_MS] += 1
            positive[seen[identity] // PANE_MS * PANE_MS] += answer
    rows: Counter[int] = Counter()
    told: Counter[int] = Counter()
    for value in values_of(bank.reader, bank.topics.panes.name):
        for record in decode(value):
            # Corrections stand apart: the first label decides.
            if isinstance(record, OutcomeDelta) and not (record.segment or record.corrected):
                rows[record.start] += record.rows
                told[record.start] += int(np.frombuffer(record.scored, "<i8").reshape(-1, 2)[:, 1].sum())
    assert rows == known
    assert +told == +positive
    row.effect("predictions that met their first label", sum(rows.values()))
    row.effect("predictions without one", len(seen) - sum(rows.values()))


@pytest.fixture
def labelled(make_bank: MakeBank) -> Bank:
    """Return a bank whose events get labels."""
    return make_bank(setup=Setup(model={"labels": True}, save_rows=SAVE_ROWS), stream=STREAM)


def all_three(bank: Bank) -> None:
    """Let tally, join and judge run."""
    bank.both()
    bank.ready(bank.running("join"))


@only_long
@pytest.mark.parametrize("cache", ["kept", "deleted"])
def test_the_join_is_killed(labelled: Bank, ledger: Ledger, cache: str) -> None:
    row = ledger.row((1, 15), f"join killed under load, cache {cache}; half of the labels absent, some contradict")
    all_three(labelled)
    for _ in range(rounds()):
        send(labelled, COUNT // 2)
        until(lambda: files(labelled.cache), "the join writes its cache")
        labelled.after(0.0, 0.5)
        labelled.workers["join-0"].kill()
        row.effect("join ended by kill -9")
        if cache == "deleted":
            row.effect("cache files deleted", len(files(labelled.cache)))
            shutil.rmtree(labelled.cache)
        else:
            row.effect("cache files that the next one begins with", len(usable(labelled)))
        labelled.running("join")
        send(labelled, COUNT // 2)
    assert all(row.effects.values()), row.effects
    hold_outcomes(labelled, row)
    hold(labelled, row)


@only_long
def test_the_disk_is_full_for_the_cache(labelled: Bank, ledger: Ledger) -> None:
    row = ledger.row((12,), f"no file of the join may pass {FILE_LIMIT // 1024} kB (RLIMIT_FSIZE)")
    labelled.both()
    for _ in range(rounds()):
        shutil.rmtree(labelled.cache, ignore_errors=True)
        full = labelled.start("join", file_limit=FILE_LIMIT)
        labelled.ready(full)
        send(labelled, 4 * COUNT)
        all_read(labelled)
        full.leave()
        row.effect("cache_dropped logged", full.logged("cache_dropped"))
        assert full.logged("cache_dropped") > 0
        assert all(path.stat().st_size <= FILE_LIMIT for path in files(labelled.cache))
        labelled.ready(labelled.start("join"))
        send(labelled, COUNT)
        wait_read(labelled, "tally", labelled.labels)
        wait_read(labelled, "join", labelled.topics.joins.name)
        labelled.dismiss("join")
        row.effect("cache written after it", len(files(labelled.cache)))
        assert files(labelled.cache)
    labelled.running("join")
    hold_outcomes(labelled, row)
    hold(labelled, row)


@only_long
def test_the_cache_has_no_place(labelled: Bank, ledger: Ledger) -> None:
    row = ledger.row((12,), "a file stands where the directory of the join's cache should be made, then goes")
    labelled.both()
    for _ in range(rounds()):
        shutil.rmtree(labelled.cache.parent, ignore_errors=True)
        labelled.cache.parent.write_text("not a directory")
        blocked = labelled.start("join")
        labelled.ready(blocked)
        send(labelled, COUNT)
        all_read(labelled)
        assert blocked.logged("cache_dropped") > 0
        row.effect("cache_dropped logged", blocked.logged("cache_dropped"))
        labelled.cache.parent.unlink()
        send(labelled, COUNT)
        until(lambda: files(labelled.cache), "the cache is written again")
        row.effect("cache written again by the same process", len(files(labelled.cache)))
        labelled.dismiss("join")
    labelled.running("join")
    hold_outcomes(labelled, row)
    hold(labelled, row)


@only_long
def test_the_disk_of_the_cache_is_read_only_and_full(labelled: Bank, ledger: Ledger) -> None:
    row = ledger.row((12,), "the join's disk read-only as it starts, then full while it runs, then with room again")
    labelled.both()
    labelled.dismiss("join")
    shutil.rmtree(labelled.cache.parent, ignore_errors=True)
    with small_disk(labelled.cache.parent, 8) as disk:
        for _ in range(rounds()):
            disk.read_only(on=True)
            join = labelled.start("join")
            labelled.ready(join)
            for what, give_room in (("read-only", lambda: disk.read_only(on=False)), ("full", disk.free)):
                if what == "full":
                    shutil.rmtree(labelled.cache)
                    disk.fill()
                dropped = join.logged("cache_dropped")
                send(labelled, COUNT)
                all_read(labelled)
                until(partial(says_more, join, dropped), "the join says so")
                row.effect(f"cache_dropped logged while it was {what}", join.logged("cache_dropped") - dropped)
                assert not files(labelled.cache)
                give_room()
                send(labelled, COUNT)
                until(lambda: files(labelled.cache), "the cache is written again")
                row.effect("cache written again by the same process")
            labelled.dismiss("join")
            shutil.rmtree(labelled.cache)
    labelled.running("join")
    hold_outcomes(labelled, row)
    hold(labelled, row)


def says_more(join: Worker, dropped: int) -> bool:
    """Return whether the join has dropped its cache more often than that."""
    return join.logged("cache_dropped") > dropped


def all_read(bank: Bank) -> None:
    """Wait until tally and join have read all that was sent."""
    wait_caught_up(bank)
    wait_read(bank, "tally", bank.labels)
    wait_read(bank, "join", bank.topics.joins.name)


def usable(bank: Bank) -> list[Path]:
    """Return the cache files that are whole, of this join's state, and not ahead of what is committed."""
    found = []
    for index, saved in join_state(bank).items():
        path = bank.cache / f"{bank.prefix}.{index}.join"
        if path.exists():
            snapshot = thaw(path.read_bytes())
            if snapshot.store == saved["store"] and saved["base"] <= snapshot.offset <= saved["emitted"]:
                found.append(path)
    return found


def join_state(bank: Bank) -> dict[int, dict[str, Any]]:
    """Return the join's committed state by partition."""
    latest: dict[bytes, bytes] = {}
    for batch in bank.reader.read(bank.reader.partitions(bank.topics.join_state.name)):
        latest |= {key: value for key, value in zip(batch.keys, batch.values, strict=True) if key and value}
    states = gather(latest).items()
    return {int(key.partition("/")[2]): value for key, value in states if key.count("/") == 1}


def files(directory: Path) -> list[Path]:
    """Return the files of a directory that may not be there."""
    return [path for path in directory.glob("*") if path.is_file()]
