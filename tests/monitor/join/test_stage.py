"""The join: the order of the joins partition defines the pairs, and a rebuilt store says nothing twice."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.contracts.wire import JOIN_ROW, JoinBatch, OutcomeDelta, Progress, decode, encode
from stationkeeper.monitor.join.rebuild import STEPS
from stationkeeper.monitor.join.stage import Join
from stationkeeper.monitor.join.store import WAITING_ROW, Waiting
from stationkeeper.streams.ports import Outgoing, Restored
from tests.monitor.join.kills import PARTITION, feed, through
from tests.monitor.rig import MINUTE, START, TOPICS, fraud


def rows(side: str, events: list[tuple[int, int]]) -> bytes:
    """A value with one side of some events, (id, minute); scores and labels follow from the id."""
    made = np.zeros(len(events), JOIN_ROW)
    made["id"] = [one for one, _ in events]
    made["time"] = [START + minute * MINUTE for _, minute in events]
    prediction = side == "prediction"
    made["score"] = [(one % 10) / 10 if prediction else np.nan for one, _ in events]
    made["label"] = [np.nan if prediction else one % 2 for one, _ in events]
    made["decision"] = [prediction and one % 10 >= 5 for one, _ in events]
    made["bin"] = [one % 32 for one, _ in events]
    return encode([JoinBatch(side, "fraud", "1" if prediction else "", ("",), made.tobytes())])


def stage(state: dict[bytes, bytes] | None = None, **more: Any) -> Join:
    made = Join({"fraud": fraud(**more)}, TOPICS)
    made.assigned(frozenset({PARTITION}), Restored(state or {}))
    return made


def told(out: list[Outgoing]) -> dict[Any, tuple[int, list[int], int, int]]:
    """Sums of outcomes by pane and the pane they became known in."""
    found: dict[Any, Any] = {}
    for one in out:
        for record in decode(one.value or b"") if one.topic == TOPICS.panes.name else ():
            if isinstance(record, OutcomeDelta):
                mine = found.setdefault((record.start, record.known_at), [0, np.zeros(4, np.int64), 0, 0])
                mine[0] += record.rows
                mine[1] += np.frombuffer(record.confusion, "<i8")
                mine[2] += record.loss
                mine[3] += record.age_ms
    return {key: (total, cells.tolist(), loss, age) for key, (total, cells, loss, age) in found.items()}


def plainly(log: list[tuple[str, list[tuple[int, int]]]]) -> dict[Any, tuple[int, list[int], int, int]]:
    """The definition, one row at a time: the first of each side waits, a pair is out and takes its later labels."""
    waiting: dict[str, dict[int, int]] = {"prediction": {}, "label": {}}
    settled: dict[int, int] = {}
    found: dict[Any, Any] = {}
    for side, events in log:
        for one, minute in events:
            other = waiting["label" if side == "prediction" else "prediction"]
            if one not in other:
                if settled.get(one) != minute if side == "prediction" else one not in settled:
                    waiting[side].setdefault(one, minute)
                continue
            before = other.pop(one)
            predicted = minute if side == "prediction" else before
            known = max(minute, before)
            if known != predicted or minute == before:
                settled[one] = predicted
            key = (START + predicted * MINUTE, START + known * MINUTE)
            mine = found.setdefault(key, [0, [0, 0, 0, 0], 0, 0])
            said, true = one % 10 >= 5, one % 2 == 1
            mine[0] += 1
            mine[1][(0 if true else 1) if said else (2 if true else 3)] += 1
            mine[2] += round(float(np.float64(np.float32((one % 10) / 10)) - (one % 2)) ** 2 * 1_000_000)
            mine[3] += (known - predicted) * MINUTE
    return {key: (total, cells, loss, age) for key, (total, cells, loss, age) in found.items()}


logs = st.lists(
    st.tuples(
        st.sampled_from(["prediction", "label"]),
        st.lists(st.tuples(st.integers(1, 40), st.integers(0, 20)), min_size=1, max_size=12),
    ),
    max_size=14,
)


@settings(max_examples=40)
@given(logs, st.sets(st.integers(0, 14)), st.sets(st.integers(0, 14)))
def test_pairs_are_those_of_the_definition_through_flushes_and_restarts(
    log: list[tuple[str, list[tuple[int, int]]]], flushes: set[int], restarts: set[int]
) -> None:
    values = [rows(side, events) for side, events in log]
    assert told(through(stage, values, flushes, restarts)) == plainly(log)


def test_rows_older_than_the_horizon_are_let_go_and_counted() -> None:
    join = stage(label_horizon="1h")
    feed(join, [rows("prediction", [(i, 0) for i in range(10)])], 0)
    for at in range(1, 130):
        feed(join, [rows("prediction", [(1_000 + at, at * 2)])], at)
    join.flush(0)
    join.committed()
    detail = join.status()["detail"]
    assert detail["expired"] >= 10
    assert detail["waiting predictions"] < 130
    assert join.start_offsets(frozenset({PARTITION}))[PARTITION] > 0


def test_a_label_that_is_no_number_is_counted_as_unusable() -> None:
    join = stage()
    made = np.zeros(1, JOIN_ROW)
    made["label"] = np.nan
    feed(join, [encode([JoinBatch("label", "fraud", "", ("",), made.tobytes())])], 0)
    join.flush(0)
    join.committed()
    assert join.status()["detail"]["unusable"] == 1


def test_waiting_rows_stay_in_bounded_memory() -> None:
    waiting = Waiting()
    for turn in range(200):
        made = np.zeros(500, WAITING_ROW)
        made["key"] = np.arange(turn * 500, turn * 500 + 500)
        made["time"] = turn
        known, _ = waiting.put(made)
        assert not known.any()
        hit, _ = waiting.take(made["key"][:450])
        assert hit.all()
        waiting.expire(turn - 10)
    assert len(waiting) == 11 * 50
    assert len(waiting._rows) <= 8_192


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9)), max_size=12), st.integers(0, 9), st.integers(0, 12))
def test_rows_of_one_key_at_once_wait_as_if_they_came_one_by_one(
    events: list[tuple[int, int]], before: int, cut: int
) -> None:
    made = np.zeros(len(events), WAITING_ROW)
    made["key"], made["time"] = [one for one, _ in events], [time for _, time in events]
    made["offset"] = np.arange(len(events))
    one_by_one, at_once = Waiting(), Waiting()
    each = [one_by_one.put(made[at : at + 1], before) for at in range(len(made))]
    parts = [at_once.put(part, before, distinct=False) for part in (made[:cut], made[cut:])]
    for one, other in zip(zip(*each, strict=True) if each else ((), ()), zip(*parts, strict=True), strict=True):
        assert [row for part in one for row in part.tolist()] == [row for part in other for row in part.tolist()]
    assert sorted(at_once.rows().tolist()) == sorted(one_by_one.rows().tolist())


def test_what_a_restart_has_to_know_does_not_grow_with_the_records() -> None:
    join = stage(label_horizon="10d")
    for at in range(5_000):
        feed(join, [rows("label", [(at + 1, at)])], at)
    assert 10 <= len(join._partitions[0].marks) <= 5_000 * STEPS // 14_400 + 1


def test_a_join_that_rebuilds_tells_the_judge_so_until_it_is_done() -> None:
    def idle(out: list[Outgoing]) -> set[tuple[int, bool]]:
        records = [record for one in out if one.topic == TOPICS.panes.name for record in decode(one.value or b"")]
        return {(one.next_offset, one.idle) for one in records if isinstance(one, Progress)}

    join, values = stage(), [rows("prediction", [(at, at)]) for at in range(4)]
    feed(join, values, 0)
    out = join.flush(0)
    assert idle(out) == {(4, False)}
    again = stage({one.key: one.value for one in out if one.topic == TOPICS.join_state.name and one.key and one.value})
    assert idle(again.flush(0)) == {(4, True)}
    feed(again, values[:3], 0)
    assert idle(again.flush(2_000)) == {(4, True)}
    feed(again, values[3:], 3)
    assert idle(again.flush(4_000)) == {(4, False)}


def test_metrics_say_what_became_of_the_rows_and_what_waits() -> None:
    join = stage()
    feed(join, [rows("prediction", [(1, 0), (2, 0), (3, 0)]), rows("label", [(1, 5), (7, 5), (8, 5), (7, 6)])], 0)
    join.flush(0)
    join.committed()
    found = {(s.metric, *s.labels): s.value for s in join.samples()}
    results = {
        "paired": 1,
        "repeated": 1,
        "corrected": 0,
        "expired": 0,
        "unusable": 0,
        "crowded_out": 0,
        "forgotten": 0,
    }
    waits = {"prediction": 2, "label": 2}
    assert found == {
        **{("stationkeeper_join_rows_total", name): count for name, count in results.items()},
        **{("stationkeeper_join_waiting_rows", side): count for side, count in waits.items()},
    }
