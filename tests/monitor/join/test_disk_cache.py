"""The join's local cache: deleted, torn, ahead, elsewhere or full, it costs a longer start and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stationkeeper.monitor.join import stage as join_module
from stationkeeper.monitor.join.disk_cache import CacheError, JoinCache, StoreSnapshot, freeze, thaw
from stationkeeper.monitor.join.stage import Join
from stationkeeper.monitor.join.store import WAITING_ROW, Owner, Waiting
from stationkeeper.monitor.settings import JoinSettings
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored
from tests.monitor.join.kills import PARTITION, feed
from tests.monitor.join.test_stage import logs, plainly, rows, told
from tests.monitor.rig import TOPICS, fraud

OTHER = Partition(TOPICS.joins.name, 1)


@pytest.fixture(autouse=True)
def every_commit_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_module, "_SAVE_ROWS", 1)


def stage(directory: Path | None, state: dict[bytes, bytes], *partitions: Partition, **more: Any) -> Join:
    made = Join({"fraud": fraud(**more)}, TOPICS, JoinSettings(cache=directory))
    made.assigned(frozenset(partitions or {PARTITION}), Restored(state))
    return made


def commit(join: Join, out: list[Outgoing], state: dict[bytes, bytes]) -> None:
    mine = join.flush(0)
    join.committed()
    join._cache.settle()
    out += mine
    state |= {one.key: one.value for one in mine if one.topic == TOPICS.join_state.name and one.key and one.value}


def harm(path: Path, how: str, ahead: bytes) -> None:
    """What can happen to a file between two starts."""
    data = path.read_bytes() if path.exists() else b""
    match how:
        case "deleted":
            path.unlink(missing_ok=True)
        case "torn":
            path.write_bytes(data[: len(data) * 2 // 3])
        case "flipped" if data:
            path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
        case "ahead":
            path.write_bytes(ahead or data)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    logs,
    st.dictionaries(
        st.integers(0, 13), st.sampled_from(["kept", "deleted", "torn", "flipped", "ahead", "killed"]), max_size=6
    ),
)
def test_whatever_happens_to_the_cache_the_pairs_are_those_of_the_log(
    tmp_path_factory: pytest.TempPathFactory, log: list[tuple[str, list[tuple[int, int]]]], restarts: dict[int, str]
) -> None:
    directory = tmp_path_factory.mktemp("join")
    values = [rows(side, events) for side, events in log]
    path = JoinCache(directory, TOPICS.prefix, 1).path(0)
    assert path is not None
    state: dict[bytes, bytes] = {}
    out: list[Outgoing] = []
    join = stage(directory, state)
    for at, value in enumerate(values):
        feed(join, [value], at)
        how = restarts.get(at)
        if how is None:
            continue
        if how != "killed":
            commit(join, out, state)
        ahead = b""
        if how == "ahead":
            # A file of a store that went on without ever committing that: nothing above the committed offset counts.
            feed(join, [rows("label", [(1, 20), (2, 20), (3, 20)])], at + 1)
            ahead = b"".join(freeze(join._partitions[0].snapshot()))
        harm(path, how, ahead)
        join = stage(directory, state)
        first = join.start_offsets(frozenset({PARTITION})).get(PARTITION, 0)
        feed(join, values[first : at + 1], first)
    commit(join, out, state)
    assert told(out) == plainly(log)


def test_a_start_reads_only_what_came_after_the_cache(tmp_path: Path) -> None:
    state: dict[bytes, bytes] = {}
    out: list[Outgoing] = []
    join = stage(tmp_path, state)
    for at in range(20):
        feed(join, [rows("prediction", [(at * 10 + i, at) for i in range(10)])], at)
    commit(join, out, state)
    again = stage(tmp_path, state)
    assert again.start_offsets(frozenset({PARTITION})) == {PARTITION: 20}
    assert again.status()["detail"]["waiting predictions"] == 200
    assert again.status()["detail"]["rebuilding"] is False
    without = stage(None, state)
    assert without.start_offsets(frozenset({PARTITION})) == {PARTITION: 0}
    assert without.status()["detail"]["rebuilding"] is True


def test_another_assignment_finds_the_files_of_its_partitions(tmp_path: Path) -> None:
    state: dict[bytes, bytes] = {}
    out: list[Outgoing] = []
    join = stage(tmp_path, state, PARTITION, OTHER)
    feed(join, [rows("prediction", [(i, 0) for i in range(10)])], 0)
    value = rows("prediction", [(i, 0) for i in range(100, 107)])
    at = np.array([0, 1], np.int64)
    join.absorb(Batch(OTHER, at, at, (None, None), (value, value), 2))
    commit(join, out, state)
    join.close()
    shared: dict[Partition, dict[str, Any]] = {}
    for mine in (PARTITION, OTHER):
        owner = stage(tmp_path, state, mine)
        shared[mine] = owner.status()["detail"] | {"start": owner.start_offsets(frozenset({mine}))[mine]}
    assert [(shared[p]["waiting predictions"], shared[p]["start"]) for p in (PARTITION, OTHER)] == [(10, 1), (7, 2)]


def test_a_file_of_another_state_is_discarded(tmp_path: Path) -> None:
    first: dict[bytes, bytes] = {}
    join = stage(tmp_path, first)
    feed(join, [rows("prediction", [(1, 0)])], 0)
    commit(join, [], first)
    # The topics were made anew: same names, same offsets, other records.
    second: dict[bytes, bytes] = {}
    anew = stage(None, second)
    feed(anew, [rows("prediction", [(2, 0)])], 0)
    commit(anew, [], second)
    again = stage(tmp_path, second)
    assert again._cache.dropped == 1
    assert again.start_offsets(frozenset({PARTITION})) == {PARTITION: 0}


def test_a_file_ahead_of_the_committed_offset_is_discarded(tmp_path: Path) -> None:
    state: dict[bytes, bytes] = {}
    join = stage(tmp_path, state)
    feed(join, [rows("prediction", [(1, 0)])], 0)
    commit(join, [], state)
    feed(join, [rows("prediction", [(2, 0)])], 1)
    path = join._cache.path(0)
    assert path is not None
    path.write_bytes(b"".join(freeze(join._partitions[0].snapshot())))
    again = stage(tmp_path, state)
    assert again._cache.dropped == 1
    assert not path.exists()
    assert again.start_offsets(frozenset({PARTITION})) == {PARTITION: 0}


def test_what_was_absorbed_and_not_committed_is_never_kept(tmp_path: Path) -> None:
    state: dict[bytes, bytes] = {}
    join = stage(tmp_path, state)
    feed(join, [rows("prediction", [(1, 0)])], 0)
    commit(join, [], state)
    feed(join, [rows("prediction", [(2, 0)])], 1)
    join.close()
    again = stage(tmp_path, state)
    assert again.start_offsets(frozenset({PARTITION})) == {PARTITION: 1}
    assert again.status()["detail"]["waiting predictions"] == 1


@pytest.mark.parametrize("fault", ["full", "no directory", "too large"])
def test_a_disk_that_takes_nothing_costs_a_rebuild_and_is_said(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, most = tmp_path, 1 << 30
    if fault == "full":
        (tmp_path / f"{TOPICS.prefix}.0.new").symlink_to("/dev/full")
    elif fault == "no directory":
        (tmp_path / "file").write_text("")
        directory = tmp_path / "file"
    else:
        most = 100
    state: dict[bytes, bytes] = {}
    join = Join({"fraud": fraud()}, TOPICS, JoinSettings(cache=directory, cache_bytes=most))
    join.assigned(frozenset({PARTITION}), Restored({}))
    feed(join, [rows("prediction", [(i, 0) for i in range(2_000)])], 0)
    commit(join, [], state)
    assert join._cache.dropped == 1
    said = capsys.readouterr()
    # To stdout, or to stderr where a test before it in this process configured the log as a role does.
    assert "cache_dropped" in said.out + said.err
    feed(join, [rows("label", [(i, 1) for i in range(2_000)])], 1)
    commit(join, [], state)
    assert join.status()["detail"]["paired"] == 2_000


def test_a_snapshot_is_read_back_and_no_other_bytes_are() -> None:
    made = np.zeros(3, WAITING_ROW)
    made["key"] = [1, 2, 3]
    owners = [Owner("fraud", "1", ("shop=a", "shop=(other)")), Owner("fraud", "2", ())]
    snapshot = StoreSnapshot("s", 9, 4, 1_000, [(4, 5), (8, 1_000)], owners, made[:1], made[1:2], made[2:])
    data = b"".join(freeze(snapshot))
    back = thaw(data)
    assert (back.store, back.offset, back.base, back.clock) == ("s", 9, 4, 1_000)
    assert (back.marks, back.owners) == (snapshot.marks, owners)
    assert back.predictions.tolist() == made[:1].tolist()
    assert back.labels.tolist() == made[1:2].tolist()
    assert back.settled.tolist() == made[2:].tolist()
    for cut in range(len(data)):
        with pytest.raises(CacheError):
            thaw(data[:cut])
    for at in range(len(data)):
        with pytest.raises(CacheError):
            thaw(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])


@settings(max_examples=40)
@given(logs, st.lists(st.integers(1, 4), min_size=1, max_size=5), st.booleans())
def test_an_expired_row_pairs_with_nothing_whenever_it_is_swept(
    log: list[tuple[str, list[tuple[int, int]]]], sizes: list[int], sweep: bool
) -> None:
    values = [rows(side, events) for side, events in log]

    def run(step: list[int], *, often: bool) -> Any:
        join = stage(None, {}, label_horizon="5m")
        at = turn = 0
        while at < len(values):
            part = values[at : at + step[turn % len(step)]]
            feed(join, part, at)
            if often:
                join._partitions[0].expire()
            at, turn = at + len(part), turn + 1
        return told(join.flush(0)), len(join._partitions[0].predictions.rows())

    whole, _ = run([1_000], often=False)
    assert run(sizes, often=sweep)[0] == whole


def test_rows_beyond_the_limit_make_way_first_come_first_gone() -> None:
    waiting = Waiting(most=1_000)
    made = np.zeros(1_600, WAITING_ROW)
    made["key"] = np.arange(1_600)
    for first in range(0, 1_600, 100):
        waiting.put(made[first : first + 100])
        waiting.evict()
    assert len(waiting) <= 1_000
    assert waiting.crowded == 1_600 - len(waiting)
    hit, _ = waiting.take(made["key"])
    assert hit.tolist() == [False] * waiting.crowded + [True] * (1_600 - waiting.crowded)


@pytest.mark.parametrize("cached", [True, False])
def test_what_made_way_is_a_total_through_restarts(tmp_path: Path, cached: bool) -> None:
    def made(state: dict[bytes, bytes]) -> Join:
        join = Join({"fraud": fraud()}, TOPICS, JoinSettings(cache=tmp_path if cached else None, rows=1_000))
        join.assigned(frozenset({PARTITION}), Restored(state))
        return join

    state: dict[bytes, bytes] = {}
    join, values = made(state), [rows("prediction", [(at * 100 + i, at) for i in range(100)]) for at in range(20)]
    feed(join, values, 0)
    commit(join, [], state)
    before = join.status()["detail"]["crowded out"]
    assert before >= 1_000
    again = made(state)
    assert again.status()["detail"]["crowded out"] == before
    first = again.start_offsets(frozenset({PARTITION}))[PARTITION]
    feed(again, values[first:], first)
    commit(again, [], state)
    assert again.status()["detail"]["crowded out"] == before
    (sample,) = (one for one in again.samples() if one.metric == "stationkeeper_limits_refused_total")
    assert (sample.labels, sample.value) == (("waiting",), before)
