"""Rows that are negative for want of a label: what an earlier snapshot's were, and labels that are gone."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import polars as pl
import pytest

from stationkeeper.contracts.labels.delay import Absence
from stationkeeper.retrain.core.labels import NegativeRule
from stationkeeper.retrain.core.plan import LabelStatistics
from stationkeeper.retrain.snapshot.events import ACTION, EVENT_ID, LABEL, TIME, EventColumns
from stationkeeper.retrain.snapshot.label_counts import LabelTimes
from stationkeeper.retrain.snapshot.rows import LabelledRows
from stationkeeper.retrain.snapshot.snapshot import SnapshotStore
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from stationkeeper.streams.ports import Partition
from tests.retrain.bank import HOUR, LABELS, PREDICTIONS, START, TOPICS
from tests.retrain.snapshot.test_rows import FRAUDS_ONLY, MINUTE, label, prediction

NOW = START + 480 * MINUTE


def topics(partitions: int = 1) -> MemoryLog:
    log = MemoryLog()
    log.create(PREDICTIONS)
    log.create(LABELS, partitions)
    return log


def payments(log: MemoryLog, done: Callable[[int], str] | None = None, minutes: range = range(480)) -> None:
    """One a minute, with what was done upon its answer."""
    acted = [{} if done is None else {"action": done(m)} for m in minutes]
    sent = [
        prediction(f"p{m:04d}", START + m * MINUTE, {"x": m}, **more) for m, more in zip(minutes, acted, strict=True)
    ]
    log.produce(PREDICTIONS, sent, partition=0)


def frauds(log: MemoryLog, minutes: list[int], late: int = 60, partition: int = 0) -> None:
    told = [label(f"p{m:04d}", START + (m + late) * MINUTE, value=True) for m in minutes]
    log.produce(LABELS, told, partition=partition)


def read(
    log: MemoryLog,
    *,
    absence: Absence | None = FRAUDS_ONLY,
    kept_since: Callable[[str], tuple[int, int] | None] = lambda _: None,
) -> LabelledRows:
    rows = LabelledRows(TOPICS, EventColumns("bank"), 0, 10_000, absence=absence, told=LabelTimes(kept_since))
    rows.advance(MemoryReader(log))
    return rows


def told(rows: LabelledRows, maturity: int | None = 64 * MINUTE) -> LabelStatistics:
    return rows.statistics(START, NOW, maturity, "true")


def cut_to(log: MemoryLog, partition: int, minutes: list[int], until: int, late: int = 60) -> None:
    """Let retention take a partition's labels that were told before a minute."""
    log.trim(LABELS, partition, sum(1 for m in minutes if m + late < until))


def snapshot(path: Path, texts: list[tuple[str, str | None, int | None]]) -> Path:
    """A snapshot of a day earlier: an action, a label and when it was told, of a row a minute."""
    times = [START - 24 * HOUR + at * MINUTE for at in range(len(texts))]
    actions, labels, known = zip(*texts, strict=True)
    frame = pl.DataFrame(
        {EVENT_ID: [f"old{at:03d}" for at in range(len(texts))], TIME: times, "@version": ["1"] * len(texts)}
        | {LABEL: labels, "@label_time": pl.Series(known, dtype=pl.Int64), ACTION: actions}
        | {"@assignment_prob": pl.Series([None] * len(texts), dtype=pl.Float64), "x": [0.0] * len(texts)}
    )
    return SnapshotStore(path).write(frame, {}).path


OLDER: list[tuple[str, str | None, int | None]] = [
    ("approve", "legit", START - 23 * HOUR),
    ("approve", "false", None),
    ("block", "false", None),
    ("block", "true", START - 22 * HOUR),
    ("approve", "true", START - 22 * HOUR),
]


def test_an_earlier_snapshots_negatives_of_an_action_that_is_shut_by_now_are_left_out(tmp_path: Path) -> None:
    log = topics()
    payments(log, lambda m: "block" if m % 3 == 1 else "approve")
    frauds(log, [m for m in range(0, 420, 10) if m % 3 != 1])
    base = snapshot(tmp_path, OLDER)
    frame = pl.concat(list(read(log).pieces(NOW, 70 * MINUTE, base)))
    old = frame.filter(pl.col(EVENT_ID).str.starts_with("old"))
    # What was told of a blocked one stays; an approved one has the word of the labels of now.
    assert old.select(EVENT_ID, LABEL).rows() == [
        ("old000", "legit"), ("old001", "legit"), ("old003", "true"), ("old004", "true"),
    ]  # fmt: skip


def test_where_absence_is_no_negative_any_more_no_class_counts_from_the_first_that_was_one(tmp_path: Path) -> None:
    """The frauds of those days alone are left, which would teach that such days are fraud."""
    log = topics()
    payments(log)
    base = snapshot(tmp_path, OLDER)
    frame = pl.concat(list(read(log, absence=None).pieces(NOW, 0, base)))
    assert frame.filter(pl.col(EVENT_ID).str.starts_with("old"))[EVENT_ID].to_list() == ["old000"]
    # A snapshot of labels that were all told is whole.
    whole = snapshot(tmp_path, [("approve", "true", START - HOUR), ("approve", "false", START - HOUR)])
    frame = pl.concat(list(read(log, absence=None).pieces(NOW, 0, whole)))
    assert frame.filter(pl.col(EVENT_ID).str.starts_with("old")).height == 2


def test_the_snapshot_shuts_the_actions_that_the_plan_shut(monkeypatch: pytest.MonkeyPatch) -> None:
    log = topics()
    payments(log, lambda m: "block" if m % 3 == 1 else "approve")
    frauds(log, [m for m in range(0, 420, 10) if m % 3 != 1])
    plan = told(read(log))
    assert plan.rule == NegativeRule(START + 60 * MINUTE, ("block",))
    # By all rows, whenever the onset was: of the twenty blocked ones since then two labels were due.
    late = read(log).statistics(NOW - 130 * MINUTE, NOW, 64 * MINUTE, "true")
    assert [one.action for one in late.shut] == ["block"]
    by_plan = pl.concat(list(read(log).pieces(NOW, plan.maturity_ms, rule=plan.rule)))
    assert plan.absent is not None
    assert (by_plan[LABEL] == "false").sum() == plan.absent.rows
    # Not counted again, over whatever rows.
    monkeypatch.setattr("stationkeeper.retrain.snapshot.rows.rule_from", lambda *_: pytest.fail("again"))
    by_hand = pl.concat(list(read(log).pieces(NOW, plan.maturity_ms, rule=NegativeRule(0, ("approve",)))))
    assert set(by_hand.filter(pl.col(LABEL) == "false")[ACTION]) == {"block"}
    assert by_hand.filter(pl.col(LABEL) == "false")[TIME].min() > START + 60 * MINUTE, "not before the first label"


def test_a_partition_that_lost_all_its_labels_leaves_nothing_that_wants_one() -> None:
    """Its labels may have been of any row; where the topic says how long it keeps them, of none since then."""
    log, minutes = topics(2), list(range(0, 420, 10))
    payments(log)
    frauds(log, [m for m in minutes if m % 20], partition=0)
    frauds(log, [m for m in minutes if m % 20 == 0 and m < 100], partition=1)
    cut_to(log, 0, [m for m in minutes if m % 20], 200)
    cut_to(log, 1, [m for m in minutes if m % 20 == 0], 480)
    unknown = told(read(log), None)
    assert unknown.absent is not None
    assert (unknown.rows_after, unknown.absent.rows, unknown.absent.age_ms) == (0, 0, None)
    assert unknown.absent.kept_short
    # Segments of a minute: the oldest label that is left bounds it no later.
    known = told(read(log, kept_since=lambda _: (START + 230 * MINUTE, MINUTE)))
    assert known.rule is not None
    assert known.rule.since_ms == START + 230 * MINUTE
    assert known.absent is not None
    assert known.absent.rows > 150
    assert "labels of before 2026-01-05T03:50Z are gone from their topic" in known.absent.words()


def rare_labels_cut() -> MemoryLog:
    """Payments, and their frauds one each half hour over eight partitions, without those told before minute 150."""
    log, minutes = topics(8), list(range(0, 420, 30))
    payments(log)
    for partition in range(8):
        mine = minutes[partition::8]
        frauds(log, mine, partition=partition)
        cut_to(log, partition, mine, 150)
    return log


def test_many_partitions_of_rare_labels_cut_off_what_the_topic_no_longer_keeps_and_no_more() -> None:
    log = rare_labels_cut()

    def since(kept: int | None, segment: int = MINUTE) -> int:
        rule = told(read(log, kept_since=lambda _: None if kept is None else (kept, segment))).rule
        assert rule is not None
        return rule.since_ms

    last, oldest = START + 360 * MINUTE, START + 150 * MINUTE
    assert since(None) == last
    assert since(START + 200 * MINUTE) == START + 200 * MINUTE
    # The topic keeps a day since an hour ago: what is gone was lost under what it kept before, and no partition had
    # lost anything younger than a segment after the oldest label that is left.
    assert since(START - 24 * HOUR, segment=HOUR) == oldest + HOUR
    assert since(START + 200 * MINUTE, segment=2 * HOUR) == oldest + 2 * HOUR
    # No later than the first labels that are left.
    assert since(NOW) == last
    assert since(START + 200 * MINUTE, segment=24 * HOUR) == last


@pytest.mark.parametrize("segment", [24 * HOUR, 7 * 24 * HOUR])
def test_of_what_retention_takes_from_a_real_log_nothing_counts_as_kept_and_little_else_as_lost(segment: int) -> None:
    """A topic of twelve partitions and two labels a day, by the broker's own rules; it keeps 30 days since day 60."""
    day, random = 24 * HOUR, Random(segment)
    coming = sorted(random.randrange(200 * day) for _ in range(400))
    logs: list[list[list[int]]] = [[] for _ in range(12)]
    gone: dict[int, int] = {}
    looks, used = 0, 0
    for now in range(0, 200 * day, 6 * HOUR):
        kept = now - (7 if now < 60 * day else 30) * day
        while coming and coming[0] <= now:
            log, told = logs[random.randrange(12)], coming.pop(0)
            if not log or told - log[-1][0] > segment:
                log.append([])
            log[-1].append(told)
        for partition, log in enumerate(logs):
            while log and log[0][-1] < kept:
                gone[partition] = log.pop(0)[-1]
        if not gone or not any(logs):
            continue
        times = LabelTimes(lambda _, kept=kept: (kept, segment))  # type: ignore[misc]
        for partition, log in enumerate(logs):
            if log:
                times.add(Partition(LABELS, partition), np.array([told for part in log for told in part]))
        since, lost = times.since([Partition(LABELS, partition) for partition in gone])
        assert lost
        assert since > max(gone.values()), f"of before {since} a label is gone, which counts as kept"
        looks += 1
        used += since <= max(kept, min(log[0][0] for log in logs if log) + segment)
    assert looks > 500
    # Each time: of two labels a day in twelve partitions one partition or another is always near its end.
    assert used == looks


def test_a_snapshot_that_is_made_again_later_counts_the_same_rows() -> None:
    """How long a topic keeps labels is counted from now: by it alone rows of the minutes between would lose theirs."""
    log = rare_labels_cut()
    plan = told(read(log, kept_since=lambda _: (START + 200 * MINUTE, MINUTE)))

    def made() -> int:
        rows = read(log, kept_since=lambda _: (START + 230 * MINUTE, MINUTE))
        found = pl.concat(list(rows.pieces(NOW, plan.maturity_ms, rule=plan.rule)))
        return int(found.filter(pl.col(LABEL) == "false")[TIME].to_numpy().min())

    assert made() == START + 200 * MINUTE
    # A partition has lost more since: what the topic says now counts.
    log.trim(LABELS, 0, 2)
    assert made() > START + 200 * MINUTE


def test_labels_that_no_row_has_lost_are_not_blamed_for_too_short_a_watch() -> None:
    """Predictions are kept for less than their labels: more of what the labels' topic keeps would help nothing."""
    log, minutes = topics(), list(range(0, 360, 2))
    payments(log)
    frauds(log, minutes, late=120)
    cut_to(log, 0, minutes, 130, late=120)
    log.trim(PREDICTIONS, 0, 330)
    found = told(read(log), None)
    assert found.absent is not None
    assert found.absent.short is not None
    assert not found.absent.kept_short
    assert "gone" not in found.absent.words()


def test_it_is_asked_once_how_long_labels_are_kept_and_only_where_some_are_gone() -> None:
    log, asked = topics(), list[str]()

    def kept_since(topic: str) -> None:
        asked.append(topic)

    payments(log)
    frauds(log, list(range(0, 420, 10)))
    told(read(log, kept_since=kept_since))
    assert asked == []
    log.trim(PREDICTIONS, 0, 10)
    cut_to(log, 0, list(range(0, 420, 10)), 200)
    rows = read(log, kept_since=kept_since)
    told(rows)
    list(rows.pieces(NOW, 64 * MINUTE))
    assert asked == [LABELS]


def test_labels_kept_for_less_than_twice_their_delay_say_so() -> None:
    log, minutes = topics(), list(range(0, 360, 2))
    payments(log)
    frauds(log, minutes, late=120)
    cut_to(log, 0, minutes, 300, late=120)
    found = told(read(log), None)
    assert found.rows_after == 0
    assert found.absent is not None
    # The last label is of minute 478, the first that is left of 300; ages are told apart two an octave.
    assert found.absent.short == (178 * MINUTE, 256 * MINUTE)
    assert found.absent.words() == (
        "how late labels come cannot be told yet, labels have been watched for 178m and must be for 256m, so that none "
        "is negative for want of one; labels of before 2026-01-05T05:00Z are gone from their topic, and no row of "
        "before counts: raise retention.ms of that topic"
    )
    whole = topics()
    payments(whole)
    frauds(whole, minutes, late=120)
    assert told(read(whole), None).rows_after > 0
