"""A store that is rebuilt from the topic alone is the store, whatever lies before where the rebuild begins."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stationkeeper.monitor.join import rebuild as spent_module
from stationkeeper.monitor.join import stage as join_module
from stationkeeper.monitor.join.partition import JoinPartition
from stationkeeper.monitor.join.rebuild import NoteKind, RebuildNotes, Spent, SpentNotes
from stationkeeper.monitor.join.stage import Join
from stationkeeper.monitor.settings import JoinSettings
from stationkeeper.streams.ports import Outgoing, Restored
from tests.monitor.join.kills import PARTITION, feed
from tests.monitor.join.test_stage import rows, told
from tests.monitor.rig import TOPICS, fraud

Log = list[tuple[str, list[tuple[int, int]]]]


def fresh(state: dict[bytes, bytes], most: int, pairs: int = 500_000) -> Join:
    join = Join({"fraud": fraud(label_horizon="1h")}, TOPICS, JoinSettings(cache=None))
    # Below what settings allow, so that a short log crowds the store.
    join._settings = JoinSettings.model_construct(**{**dict(join._settings), "rows": most, "corrections": pairs})
    join.assigned(frozenset({PARTITION}), Restored(state))
    return join


def waiting(join: Join) -> Any:
    """What can still meet its other side, in order."""
    side = join._partitions[0]
    before = side.clock - join._horizon
    return [
        [(row[0], row[1]) for row in store.rows().tolist() if row[1] >= before]
        for store in (side.predictions, side.labels, side.settled.rows)
    ]


def run(
    values: list[bytes], restarts: set[int], most: int, pairs: int = 500_000
) -> tuple[Any, list[Any], list[int], dict[str, Any]]:
    """All outcomes, the stores after each record, where rebuilds began, and the join's own counts."""
    state: dict[bytes, bytes] = {}
    join, out, stores, bases = fresh(state, most, pairs), list[Outgoing](), [], []
    for at, value in enumerate(values):
        feed(join, [value], at)
        if at in restarts or at % 5 == 0:
            mine = join.flush(at)
            join.committed()
            out += mine
            state |= {o.key: o.value for o in mine if o.topic == TOPICS.join_state.name and o.key and o.value}
        if at in restarts:
            join = fresh(state, most, pairs)
            first = join.start_offsets(frozenset({PARTITION})).get(PARTITION, 0)
            bases.append(first)
            feed(join, values[first : at + 1], first)
        stores.append(waiting(join))
    out += join.flush(9_999)
    join.committed()
    detail = join.status()["detail"]
    counts = {name: detail.get(name, 0) for name in ("paired", "repeated", "corrected", "crowded out", "forgotten")}
    return told(out), stores, bases, counts


moves = st.lists(
    st.tuples(
        st.sampled_from(["prediction", "label"]),
        st.lists(st.tuples(st.integers(1, 12), st.integers(-9, 9)), min_size=1, max_size=8),
        st.integers(0, 25),
    ),
    min_size=10,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(moves, st.sets(st.integers(0, 60), max_size=6), st.sampled_from([4, 1_000]), st.sampled_from([3, 1_000]))
def test_a_rebuild_at_any_record_is_the_store(made: Any, restarts: set[int], most: int, pairs: int) -> None:
    values, minute = [], 20
    for side, events, step in made:
        minute += step
        values.append(rows(side, [(one, minute + off) for one, off in events]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join_module, "_EXPIRE_EVERY", 1)
        patch.setattr(spent_module, "_MOST", 3)
        whole, stores, _, counts = run(values, set(), most, pairs)
        again, others, _, told_again = run(values, restarts, most, pairs)
    assert others == stores
    assert again == whole
    assert told_again == counts


def test_a_label_that_met_a_prediction_from_before_the_rebuild_does_not_wait_again() -> None:
    log = [rows("prediction", [(7, 0)])]
    log += [rows("prediction", [(1_000 + at, 1 + at // 4)]) for at in range(100)]
    log += [rows("label", [(7, 50)])]
    log += [rows("prediction", [(2_000 + at, 51 + at // 4)]) for at in range(100)]
    log += [rows("prediction", [(7, 76)]), rows("prediction", [(9_999, 77)])]
    whole, _, _, counts = run(log, set(), 100_000)
    again, _, bases, _ = run(log, {len(log) - 3}, 100_000)
    assert bases[0] > 0
    assert counts["paired"] == 1
    assert again == whole


def test_a_crowded_store_is_rebuilt_as_crowded_as_it_was() -> None:
    log = [rows("prediction", [(at * 17 + i + 1, at // 3) for i in range(17)]) for at in range(400)]
    log += [rows("label", [(x + 1, 130) for x in range(400 * 17 - 1_020, 400 * 17)])]
    whole, _, _, counts = run(log, set(), 1_000)
    for stop in (395, 397, 399):
        again, _, bases, told_again = run(log, {stop}, 1_000)
        assert bases[0] > 0
        assert (again, told_again) == (whole, counts)


def test_pairs_that_were_forgotten_stay_so_in_a_rebuild_that_lacks_the_last_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(join_module, "_EXPIRE_EVERY", 1)
    # The first prediction is paired last of the two that make way, and is too old when the rebuild begins behind it.
    log = [rows("prediction", [(1, 0)]), rows("prediction", [(2, 5)]), rows("label", [(2, 6)]), rows("label", [(1, 7)])]
    for one in range(100, 115):
        log += [rows("prediction", [(one, 8)]), rows("label", [(one, 8)])]
    log += [rows("prediction", [(500, 62)]), rows("label", [(2, 63)])]
    whole, stores, _, counts = run(log, set(), 1_000, 16)
    again, others, bases, told_again = run(log, {len(log) - 2}, 1_000, 16)
    assert bases == [1]
    assert counts["forgotten"] == 2
    assert (again, others, told_again) == (whole, stores, counts)


def test_an_id_that_is_used_again_keeps_the_order_of_the_pairs_beside_it_in_a_rebuild(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(join_module, "_EXPIRE_EVERY", 1)
    # The rebuild begins behind the predictions of the first pair of 1 and does not know that one; that of 2 it knows.
    log = [rows("prediction", [(1, 0)]), rows("label", [(1, 30)]), rows("prediction", [(2, 40)])]
    log += [rows("label", [(2, 40)]), rows("prediction", [(3, 45), (2, 45), (1, 45)])]
    log += [rows("label", [(2, 50), (3, 50), (1, 50)])]
    log += [rows("prediction", [(9, 75)])]
    whole, stores, _, counts = run(log, set(), 1_000)
    again, others, bases, told_again = run(log, {len(log) - 1}, 1_000)
    assert bases[0] > 0
    assert (counts["paired"], len(stores[-1][2])) == (5, 3)
    assert (again, others, told_again) == (whole, stores, counts)


def test_a_row_that_repeated_a_pair_from_before_the_rebuild_lets_its_neighbours_wait() -> None:
    def filled(first: int, minute: int) -> list[bytes]:
        return [rows("prediction", [(first + at, minute + at // 4)]) for at in range(100)]

    # Of one batch: the settled prediction again, then the same id for another one, then the first again.
    mixed = rows("prediction", [(7, 0), (7, 40), (7, 0)])
    log = [rows("prediction", [(7, 0)]), rows("label", [(7, 0)]), *filled(1_000, 1), mixed, *filled(2_000, 51)]
    log += [rows("prediction", [(9_999, 77)]), rows("label", [(7, 78)])]
    whole, stores, _, counts = run(log, set(), 100_000)
    again, others, bases, told_again = run(log, {len(log) - 2}, 100_000)
    assert 1 < bases[0] <= 102
    assert (counts["paired"], counts["repeated"]) == (2, 2)
    assert (again, others, told_again) == (whole, stores, counts)


def test_notes_that_an_older_version_wrote_by_key_are_read() -> None:
    # As many first rows of the key as notes; the other key and the later batch are none of theirs.
    old = SpentNotes(
        offset=np.array([5, 5]),
        batch=np.array([0, 0]),
        what=np.array([NoteKind.SPENT, NoteKind.SPENT]),
        key=np.array([7, 7], np.uint64),
        other=np.array([1, 1]),
    )
    notes = RebuildNotes(Spent().restore({0: old}), 2)
    keys, places = np.array([8, 7, 7, 7], np.uint64), np.array([0, 2, 3, 4])
    assert notes.waiting(keys, places, 5, 0).tolist() == [True, False, False, True]
    assert notes.waiting(keys, places, 5, 1).all()
    assert notes.evictions(5) == []


def test_notes_in_the_state_topic_come_and_go_with_the_horizon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spent_module, "_MOST", 10)
    join, names = fresh({}, 100_000), set[bytes]()
    side: JoinPartition = join._partitions[0]
    for at in range(1_200):
        feed(join, [rows("prediction", [(at + 1, at)]), rows("label", [(abs(at - 29), at)])], 2 * at)
        names |= {one.key for one in join.flush(at) if one.topic == TOPICS.join_state.name and one.key}
    # An hour of notes, a step more, and the minutes until rows are swept out (64 batches).
    assert 5 < len(side.spent._last) <= (60 + 64 + 2) // 10 + 2
    assert len(names) <= (60 + 64 + 2) // 10 + 4
