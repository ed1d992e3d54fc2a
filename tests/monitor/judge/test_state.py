"""The judge's state: open panes from a checkpoint and the log, watches in pieces, and how both are stored."""

from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from msgspec import structs

from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.wire import OutcomeDelta, PaneDelta, Record, decode, pack
from stationkeeper.monitor.core.adoption.slow_season import waves_of
from stationkeeper.monitor.judge import checkpoints
from stationkeeper.monitor.judge.pending import Pending, PendingState
from stationkeeper.monitor.judge.watches import FORGET_MS
from stationkeeper.monitor.state_codec import FORMAT, PLAIN, ZONED, freeze, gather, parts, thaw
from stationkeeper.streams.errors import Fatal
from tests.monitor.judge.labels.test_cohorts import inside
from tests.monitor.judge.test_stage import ALL, REFERENCE, Bench, arm, pane, progress, run
from tests.monitor.rig import MINUTE, START, TOPICS, reference, rollout


def stir(bench: Bench, step: int) -> None:
    """A minute in several values: parts of panes, of the next minute too, late ones, outcomes, sometimes a flush."""
    minute, part = divmod(step, 3)
    known = START + (minute + 2) * MINUTE
    counts = pack(np.array([1, 0, 1, 1])), pack(np.arange(64))
    outcome = OutcomeDelta("fraud", "1", "", START + minute * MINUTE, MINUTE, 3, known, *counts, 5, 6)
    ahead = pane(minute + part, rows=30, seed=part, shift=0.9 if minute > 8 else 0.0)
    late: list[Record] = [pane(minute - 5, rows=3, seed=9)] if minute > 6 and part == 1 else []
    late += [structs.replace(outcome, start=outcome.start - 4 * MINUTE, known_at=known - 4 * MINUTE)]
    closing = [progress(minute + 1, minute + 1)] if part == 2 else []
    bench.feed(ahead, arm(minute, 30), outcome, *late, *closing, flush=step % 4 != 1)


@pytest.mark.parametrize("stop", [2, 13, 40, 43, 52, 60])
def test_open_panes_come_from_a_checkpoint_and_the_log(stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # So often that what came since is of panes that are still open.
    monkeypatch.setattr(checkpoints, "CHECKPOINT_MS", 3_000)
    whole, first = Bench(), Bench()
    for step in range(66):
        stir(whole, step)
    for step in range(stop):
        stir(first, step)
    second = Bench(first)
    # What was absorbed without a flush died with the process and comes again.
    for value in first.log[first.committed :]:
        second.feed(*decode(value), flush=False)
    for step in range(stop, 66):
        stir(second, step)
    joined = [*first.said(TOPICS.verdicts.name), *second.said(TOPICS.verdicts.name)]
    assert joined == whole.said(TOPICS.verdicts.name)
    assert [*first.history(), *second.history()] == whole.history()
    one, two = (bench.judge.judges["fraud"].cohorts for bench in (whole, second))
    assert inside(one) == inside(two)
    assert len(second.judge.judges["fraud"].pending) == len(whole.judge.judges["fraud"].pending)
    assert second.replayed <= 5


def test_a_model_that_falls_silent_is_soon_in_a_checkpoint_whole() -> None:
    bench = Bench()
    run(bench, range(3))
    bench.feed(pane(3), arm(3))
    assert bench.judge.start_offsets(ALL)[bench.partition] < bench.committed
    # Nothing of the model comes any more, only the clocks of its inputs.
    for offset in range(40):
        bench.feed(progress(3, 3 + offset))
    assert bench.judge.start_offsets(ALL) == {bench.partition: bench.committed}
    again = Bench(bench)
    assert again.replayed == 0
    assert len(again.judge.judges["fraud"].pending) == 1


def test_a_flush_writes_what_changed_and_not_the_open_panes() -> None:
    bench = Bench()
    run(bench, range(40))
    before = len(bench.out)
    bench.feed(pane(40), arm(40))
    names = {one.key for one in bench.out[before:] if one.topic == TOPICS.judge_state.name and one.key}
    assert {name for name in names if not name.startswith(b"progress/")} <= {b"fraud/at/0", b"fraud/open/0"}
    before = len(bench.out)
    bench.feed(progress(41, 41))
    written = [one.key.decode() for one in bench.out[before:] if one.topic == TOPICS.judge_state.name and one.key]
    pieces = [name.partition("\x1e")[2] for name in written if "\x1e" in name]
    assert sorted(piece.split("/")[0] for piece in pieces) == ["bag", "bag", "recent", "window"]


def test_state_goes_through_parts_and_back() -> None:
    value = {"a": [1, None, "x"], "n": np.arange(5, dtype=np.int64), "f": np.array([[0.5, np.inf]])}
    back = thaw(freeze(value))
    assert back["a"] == value["a"]
    assert back["n"].dtype == np.int64
    assert (back["f"] == value["f"]).all()
    noise = np.random.default_rng(0).integers(0, 2**60, 200_000)
    records = dict(parts("m/head", {"noise": noise}, 1))
    assert len(records) > 1
    assert (gather(records)["m/head"]["noise"] == noise).all()
    shorter = records | dict(parts("m/head", {"noise": noise[:5]}, 2))
    assert gather(shorter)["m/head"]["noise"].tolist() == noise[:5].tolist()
    del records[b"m/head/1"]
    with pytest.raises(Fatal, match="lost records"):
        gather(records)


def test_counts_are_read_as_narrow_as_they_were_stored_where_that_is_asked_for() -> None:
    data = freeze({"few": np.array([1, 255]), "more": np.array([[300]]), "any": np.array([-1, 2]), "share": np.ones(2)})
    found = thaw(data, narrow=True)
    assert {name: array.dtype.itemsize for name, array in found.items()} == {"few": 1, "more": 2, "any": 8, "share": 8}
    for name, array in thaw(data).items():
        assert array.dtype.itemsize == 8
        np.testing.assert_array_equal(array, found[name])


def test_state_of_a_model_that_is_not_asked_for_is_not_unpacked() -> None:
    bench = Bench()
    run(bench, range(3))
    (name, record), *_ = dict(parts("gone/head", {}, 1)).items()
    # The last bytes are the packed state: no zstd frame reads so.
    bench.state[name] = record[:-4] + b"none"
    again = Bench(bench)
    assert set(again.judge.judges) == {"fraud"}
    bench.state[b"fraud/head/0"] = record[:-4] + b"none"
    with pytest.raises(zstandard.ZstdError):
        Bench(bench).flush()


def formats(bench: Bench) -> dict[str, int]:
    """The format of each model record, pieces left out."""
    return {key.decode(): value[0] for key, value in bench.state.items() if b"\x1e" not in key}


@pytest.mark.parametrize(
    "settings",
    [{"timezone": "Asia/Tokyo"}, {"segments": ["country"], "fairness": {"segments": ["country"], "tolerance": 0.05}}],
)
def test_state_that_an_older_build_would_misread_is_of_a_format_that_it_refuses(settings: dict[str, Any]) -> None:
    plain = Bench()
    run(plain, range(3))
    assert set(formats(plain).values()) == {PLAIN}
    bench = Bench(plain, **settings)
    run(bench, range(3, 5))
    heads = {name for name in formats(bench) if "/watch/" in name or name == "fraud/head/0"}
    assert len(heads) == 2
    assert {name for name, written in formats(bench).items() if written == ZONED} == heads
    # Both are read here, and who takes the setting back can go back himself.
    again = Bench(bench)
    run(again, range(5, 7))
    assert set(formats(again).values()) == {PLAIN}
    assert {value[0] for value in again.state.values()} == {PLAIN}


def test_a_reference_that_followed_a_season_is_of_a_format_that_builds_before_refuse() -> None:
    bench = Bench()
    run(bench, range(3))
    (watch,) = bench.judge.judges["fraud"].watches.values()
    assert watch.season is not None
    subject = watch.season.base.watched[0]
    watch.season.withdraw({}, 0)
    assert FORMAT not in formats(bench).values()
    watch.season._go(1, {subject.name: np.full(len(waves_of(subject)), 0.001, np.float32)})
    run(bench, range(3, 4))
    assert FORMAT in formats(bench).values()
    again = Bench(bench)
    run(again, range(4, 5))
    (read,) = again.judge.judges["fraud"].watches.values()
    assert read.season is not None
    assert list(read.season.followed) == [subject.name]


def test_an_adoption_period_by_a_clock_keeps_the_format_that_knows_it() -> None:
    bench = Bench(timezone="Asia/Tokyo", adoption="14d")
    run(bench, range(3))
    again = Bench(bench, adoption="14d")
    run(again, range(3, 5))
    assert ZONED in formats(again).values()


def test_open_panes_beyond_the_room_wait_packed_and_add_up_the_same() -> None:
    width = len(REFERENCE.layout)
    roomy, tight = Pending("fraud", MINUTE), Pending("fraud", MINUTE, most_cells=3 * width)
    for seed in range(3):
        for minute in range(12):
            for pending in (roomy, tight):
                pending.add(pane(minute, rows=5, seed=seed))
    assert sum(found.counts is not None for found in tight._panes.values()) == 3
    tight.restore(state_of(thaw(freeze(tight.state())), PendingState))
    assert sum(found.counts is not None for found in tight._panes.values()) == 3
    tight.drop_before(START + MINUTE, -1)
    for minute in range(1, 12):
        ((_, one),) = roomy.close(START + minute * MINUTE).panes.items()
        ((_, other),) = tight.close(START + minute * MINUTE).panes.items()
        assert one["prediction"][0] == other["prediction"][0] == 15
        assert (one["prediction"][1] == other["prediction"][1]).all()
    assert (len(tight), tight._cells) == (0, 0)


def test_pending_survives_its_state() -> None:
    pending = Pending("fraud", MINUTE)
    for record in (pane(1), arm(1), arm(1)):
        pending.add(record)
    again = Pending("fraud", MINUTE)
    again.restore(state_of(thaw(freeze(pending.state())), PendingState))
    one, two = pending.close(START + MINUTE), again.close(START + MINUTE)
    assert one.arms == two.arms
    assert one.arms[0].rows == 200
    ((key, sources),) = one.panes.items()
    assert (sources["prediction"][1] == two.panes[key]["prediction"][1]).all()


def test_a_pane_in_two_blocks_counts_its_rows_once() -> None:
    whole = pane(1)
    counts, half = whole.vector(), whole.width // 2
    pending = Pending("fraud", MINUTE)
    for first, part in ((half, counts[half:]), (0, counts[:half])):
        pending.add(msgspec.structs.replace(whole, first=first, counts=pack(part)))
    ((_, sources),) = pending.close(START + MINUTE).panes.items()
    rows, merged = sources["prediction"]
    assert rows == 100
    assert (merged == counts).all()


def test_a_pane_of_a_reference_that_a_restart_forgot_keeps_its_cells_in_history() -> None:
    bench = Bench()
    run(bench, range(3))
    bench.feed(pane(3), pane(4))
    # The reference was replaced and its topic compacted: a restart knows the new one only.
    again = Bench(bench, references=(reference(shift=0.5),))
    again.feed(arm(3), progress(5, 5))
    told = [one for one in again.history() if isinstance(one, PaneDelta)]
    assert [(one.start, one.rows, one.digest) for one in told] == [
        (START + minute * MINUTE, 100, REFERENCE.digest) for minute in (3, 4)
    ]
    for one in told:
        minute = (one.start - START) // MINUTE
        assert one.vector().tolist() == pane(minute).vector().tolist()


def test_a_watch_that_was_forgotten_stays_forgotten_through_a_restart() -> None:
    days = range(0, FORGET_MS // MINUTE + 2 * 1_440, 1_440)
    bench = Bench()
    bench.judge.table(TOPICS.rollouts.name, b"fraud", rollout("1").encode())
    bench.feed(pane(0), pane(0, version="0"), arm(0), progress(1, 1))
    for minute in days[1:]:
        bench.feed(pane(minute), arm(minute), progress(minute + 1, minute + 1))
    bench.judge.table(TOPICS.rollouts.name, b"fraud", rollout("2", epoch=2).encode())
    for minute in (days[-1] + 1, days[-1] + 2):
        bench.feed(pane(minute, version="2"), arm(minute), progress(minute + 1, minute + 1))
    again = Bench(bench)
    again.judge.table(TOPICS.rollouts.name, b"fraud", rollout("2", epoch=2).encode())
    again.flush()
    live, restarted = (set(one.judge.judges["fraud"].watches) for one in (bench, again))
    assert {key.version for key in live} == {"1", "2"}
    assert restarted == live


def test_what_limits_refused_is_a_total_through_restarts() -> None:
    limits = {"segments": 1, "versions": 1}
    bench = Bench(limits=limits)
    for minute in range(5):
        bench.feed(*[pane(minute, version=str(v)) for v in range(1, 6)], arm(minute), progress(minute + 1, minute + 1))

    def told(one: Bench) -> list[float]:
        return [s.value for s in one.judge.samples() if s.metric == "stationkeeper_limits_refused_total"]

    again = Bench(bench, limits=limits)
    assert told(bench) == told(again) == [15]
    assert again.judge.status()["detail"] == bench.judge.status()["detail"]
    again.feed(pane(5), pane(5, version="5"), arm(5), progress(6, 6))
    assert told(again) == told(Bench(again, limits=limits)) == [16]
