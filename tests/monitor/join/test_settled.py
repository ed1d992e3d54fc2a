"""Corrections: the first label of a prediction counts for good, what says something else later is told beside it."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.contracts.wire import (
    JOIN_ROW,
    OF_CLASSES,
    PROGRESS_MS,
    JoinBatch,
    OutcomeDelta,
    Progress,
    decode,
    encode,
)
from stationkeeper.monitor.hashtable import Hashes, HashTable, Integers
from stationkeeper.monitor.join.stage import Join
from stationkeeper.monitor.settings import JoinSettings
from stationkeeper.monitor.verify.outcomes import PlainJoin
from stationkeeper.streams.ports import Outgoing, Restored
from tests.monitor.join.kills import PARTITION, feed, through
from tests.monitor.rig import MINUTE, START, TOPICS, fraud

Event = tuple[int, int, float]
Log = list[tuple[str, list[Event]]]


def batch(side: str, events: list[Event], *, classes: bool = False) -> JoinBatch:
    """One side of some events (id, minute, what it says): a score or a label."""
    made = np.zeros(len(events), JOIN_ROW)
    made["id"] = [one for one, _, _ in events]
    made["time"] = [START + minute * MINUTE for _, minute, _ in events]
    said = [value for _, _, value in events]
    made["score"], made["label"] = (said, np.nan) if side == "prediction" else (np.nan, said)
    made["decision"] = [side == "prediction" and value >= 0.5 for value in said] if not classes else OF_CLASSES
    return JoinBatch(side, "fraud", "1" if side == "prediction" else "", ("", "shop=a"), made.tobytes())


def stage(state: dict[bytes, bytes] | None = None, *, pairs: int = 1_000, horizon: str = "30d") -> Join:
    made = Join({"fraud": fraud(label_horizon=horizon)}, TOPICS, JoinSettings(cache=None, corrections=pairs))
    made.assigned(frozenset({PARTITION}), Restored(state or {}))
    return made


def outcomes(out: list[Outgoing]) -> list[OutcomeDelta]:
    records = [record for one in out if one.topic == TOPICS.panes.name for record in decode(one.value or b"")]
    return [record for record in records if isinstance(record, OutcomeDelta)]


def told(records: list[OutcomeDelta], *, corrected: bool) -> dict[Any, dict[str, int]]:
    """The sums by pane and by when they were known, of the first labels or of corrections."""
    found: dict[Any, Counter[str]] = {}
    for one in records:
        if bool(one.corrected) != corrected:
            continue
        sums = found.setdefault((one.start, one.known_at), Counter())
        sums.update({"rows": one.rows, "corrected": one.corrected, "age_ms": one.age_ms, "loss": one.loss})
        names = ("true positive", "false positive", "false negative", "true negative")
        sums.update(dict(zip(names, np.frombuffer(one.confusion, "<i8").tolist(), strict=True)))
    return {
        key: {name: count for name, count in sums.items() if count} for key, sums in found.items() if any(sums.values())
    }


def plainly(log: Log, horizon: str, *, corrected: bool) -> dict[Any, dict[str, int]]:
    plain = PlainJoin({"fraud": fraud(label_horizon=horizon)})
    for side, events in log:
        plain.take(batch(side, events))
    sums = plain.corrections if corrected else plain.sums
    kept = {(key.start, key.known_at): value for key, value in sums.items()}
    short = {
        key: {n: c for n, c in value.items() if c and not n.startswith("score bin")} for key, value in kept.items()
    }
    return {key: value for key, value in short.items() if value}


labels = st.tuples(st.integers(1, 6), st.integers(0, 20), st.sampled_from([0.0, 1.0]))
predictions = st.tuples(st.integers(1, 6), st.integers(0, 20), st.sampled_from([0.0, 0.25, 0.75]))
logs = st.lists(
    st.one_of(
        st.tuples(st.just("prediction"), st.lists(predictions, min_size=1, max_size=5)),
        st.tuples(st.just("label"), st.lists(labels, min_size=1, max_size=8)),
    ),
    max_size=16,
)


@settings(max_examples=150)
@given(logs, st.sets(st.integers(0, 16)), st.sets(st.integers(0, 16)), st.sampled_from(["30d", "6h", "8m"]))
def test_corrections_are_those_of_the_plain_join_through_flushes_and_restarts(
    log: Log, flushes: set[int], restarts: set[int], horizon: str
) -> None:
    values = [encode([batch(side, events)]) for side, events in log]
    found = outcomes(through(lambda state: stage(state, horizon=horizon), values, flushes, restarts))
    assert told(found, corrected=False) == plainly(log, horizon, corrected=False)
    assert told(found, corrected=True) == plainly(log, horizon, corrected=True)


@settings(max_examples=60)
@given(logs, st.sets(st.integers(0, 16)))
def test_any_batching_gives_the_same_sums(log: Log, flushes: set[int]) -> None:
    single = [(side, [event]) for side, events in log for event in events]
    found = []
    for parts in (log, single):
        join, out = stage(), list[Outgoing]()
        for at, (side, events) in enumerate(parts):
            feed(join, [encode([batch(side, events)])], at)
            out += join.flush(at) if at in flushes else []
        records = outcomes([*out, *join.flush(99)])
        found.append((told(records, corrected=False), told(records, corrected=True), join._partitions[0].counts))
    assert found[0] == found[1]


def test_a_correction_has_no_rows_and_moves_one_prediction_between_the_cells() -> None:
    join = stage()
    feed(join, [encode([batch("prediction", [(1, 0, 0.75)])]), encode([batch("label", [(1, 5, 0.0)])])], 0)
    (first,) = outcomes(join.flush(0))
    feed(join, [encode([batch("label", [(1, 9, 1.0)])])], 2)
    (second,) = outcomes(join.flush(2_000))
    assert (first.rows, first.corrected, np.frombuffer(first.confusion, "<i8").tolist()) == (1, 0, [0, 1, 0, 0])
    assert (second.rows, second.corrected, np.frombuffer(second.confusion, "<i8").tolist()) == (0, 1, [1, -1, 0, 0])
    # .75 less 1 squared instead of .75 less 0 squared; delays of labels are those of the first.
    assert (second.loss, second.age_ms) == (62_500 - 562_500, 0)
    assert (second.start, second.known_at) == (first.start, START + 9 * MINUTE)


def test_rows_of_labels_are_counted_as_pair_repeat_or_correction() -> None:
    join = stage()
    feed(join, [encode([batch("prediction", [(1, 0, 0.75)])])], 0)
    said = [0.0, 0.0, 1.0, 1.0, 0.0]
    feed(join, [encode([batch("label", [(1, 5 + at, value) for at, value in enumerate(said)])])], 1)
    # Before its prediction: the second contradicts the first, which then counts all the same.
    feed(join, [encode([batch("label", [(2, 5, 1.0), (2, 6, 0.0)])]), encode([batch("prediction", [(2, 5, 0.75)])])], 2)
    records = outcomes(join.flush(0))
    join.committed()
    detail = join.status()["detail"]
    assert (detail["paired"], detail["repeated"], detail["corrected"]) == (2, 2, 3)
    assert sum(record.rows for record in records) == 2
    totals = np.sum([np.frombuffer(record.confusion, "<i8") for record in records], axis=0)
    assert totals.tolist() == [0, 2, 0, 0]


def test_a_prediction_that_comes_again_behind_its_label_counts_once() -> None:
    join = stage()
    again = encode([batch("prediction", [(1, 0, 0.75)])])
    first, second = (encode([batch("label", [(1, minute, value)])]) for minute, value in ((1, 0.0), (2, 1.0)))
    feed(join, [again, first, again, second], 0)
    records = outcomes(join.flush(0))
    join.committed()
    detail = join.status()["detail"]
    assert (detail["paired"], detail["repeated"], detail["corrected"]) == (1, 1, 1)
    assert (sum(one.rows for one in records), sum(one.corrected for one in records)) == (1, 1)
    # The same id at another time is another prediction.
    feed(join, [encode([batch("prediction", [(1, 3, 0.75)])]), encode([batch("label", [(1, 4, 0.0)])])], 4)
    join.flush(2_000)
    join.committed()
    assert join.status()["detail"]["paired"] == 2


def test_a_batch_of_one_id_is_looked_up_as_often_as_one_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    find = HashTable.find

    def counted(self: HashTable, keys: Hashes) -> Integers:
        asked.append(len(keys))
        return find(self, keys)

    monkeypatch.setattr(HashTable, "find", counted)
    for ids in ([1] * 4_000, list(range(1, 4_001))):
        join = stage()
        feed(join, [encode([batch("prediction", [(1, 0, 0.75)])])], 0)
        asked.clear()
        feed(join, [encode([batch("label", [(one, 1, float(at % 2)) for at, one in enumerate(ids)])])], 1)
        # The other side, pairs that are made, pairs that were, this side twice; turns would ask for each row of an id.
        assert len(asked) <= 5
        join.flush(0)
        join.committed()
        assert join.status()["detail"]["corrected"] == (3_999 if ids[1] == 1 else 0)


def test_a_class_that_is_corrected_to_another_moves_in_the_table_of_classes() -> None:
    join = stage()
    feed(join, [encode([batch("prediction", [(1, 0, 7.0)], classes=True)])], 0)
    feed(join, [encode([batch("label", [(1, at, value)], classes=True)]) for at, value in ((1, 7.0), (2, 9.0))], 1)
    right, correction = outcomes(join.flush(0))
    assert np.frombuffer(right.confusion, "<i8").tolist() == [0, 0, 0, 1]
    assert np.frombuffer(correction.confusion, "<i8").tolist() == [0, 1, 0, -1]


def test_pairs_beyond_the_limit_are_forgotten_oldest_first_and_counted() -> None:
    join = stage(pairs=1_000)
    many = [(one, 0, 0.75) for one in range(1, 1_102)]
    feed(join, [encode([batch("prediction", many)]), encode([batch("label", [(i, 1, 0.0) for i, _, _ in many])])], 0)
    feed(join, [encode([batch("label", [(1, 2, 1.0), (1_100, 2, 1.0)])])], 2)
    records = outcomes(join.flush(0))
    join.committed()
    detail = join.status()["detail"]
    assert sum(record.corrected for record in records) == 1
    assert (detail["corrected"], detail["forgotten"], detail["waiting labels"]) == (1, 1_101 - 938, 1)


@pytest.mark.parametrize(
    ("first", "later", "probe"),
    [
        # A correction of a pair from before where the rebuild begins is no label that waits.
        ([("prediction", [(1, 0, 0.75)]), ("label", [(1, 1, 0.0)])], ("label", [(1, 29, 1.0)]), "prediction"),
        # Of two predictions in a batch the first met a label from before it, and the second waits all the same.
        ([("label", [(1, 0, 0.0)])], ("prediction", [(1, 29, 0.75), (1, 29, 0.75)]), "label"),
    ],
)
def test_a_rebuild_that_begins_between_two_sides_knows_what_still_waits(first: Log, later: Any, probe: str) -> None:
    fill: Log = [("prediction", [(1_000 + at, 31, 0.75)]) for at in range(70)]
    log: Log = [*first, ("prediction", [(500, 28, 0.75)]), later, *fill]
    values = [encode([batch(side, events)]) for side, events in log]
    join = stage(horizon="30m")
    for at, value in enumerate(values):
        feed(join, [value], at)
    out = join.flush(0)
    join.committed()
    state = {o.key: o.value for o in out if o.topic == TOPICS.join_state.name and o.key and o.value}
    again = stage(state, horizon="30m")
    begin = again.start_offsets(frozenset({PARTITION}))[PARTITION]
    # Behind the first side, before the later one.
    assert 0 < begin <= len(first) + 1
    feed(again, values[begin:], begin)
    asked = encode([batch(probe, [(1, 32, 1.0 if probe == "label" else 0.75)])])
    told_by = []
    for one in (join, again):
        feed(one, [asked], len(values))
        told_by.append(told(outcomes(one.flush(9_000)), corrected=False))
    assert told_by[0] == told_by[1]
    assert len(told_by[0]) == (probe == "label")


def test_a_clock_that_is_set_back_does_not_silence_the_join():
    join = stage()
    feed(join, [encode([batch("prediction", [(1, 0, 0.75)])])], 0)

    def progress(now: int) -> list[Progress]:
        written = [one.value for one in join.flush(now) if one.topic == TOPICS.panes.name]
        return [record for value in written for record in decode(value or b"") if isinstance(record, Progress)]

    assert progress(0)
    assert not progress(PROGRESS_MS - 1)
    assert progress(-3_600_000)
    assert not progress(-3_600_000 + PROGRESS_MS - 1)
