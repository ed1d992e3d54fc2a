"""The judge: late deltas, canaries, plug-ins, cooldown, silence, and state that may stop anywhere."""

from typing import Any

import msgspec
import numpy as np
import pytest

from contracts.identity import partition_of
from contracts.messages import Level, RetrainRequest, Verdict
from contracts.status import check
from contracts.topics import PANES_PARTITIONS
from contracts.wire import ArmDelta, OutcomeDelta, PaneDelta, Progress, Record, decode, encode, pack
from monitor import judge as judge_module
from monitor.core.column import Column, categories, numbers
from monitor.core.reference_json import dump
from monitor.judge import Judge
from monitor.packing import freeze, gather, parts, thaw
from monitor.pending import Pending, WatchKey
from monitor.plugins.rules import RULES
from streams.errors import Fatal
from streams.ports import Batch, Outgoing, Partition, Restored
from tests.monitor.rig import MINUTE, START, TOPICS, fraud, reference, rollout, table

ALL = frozenset(Partition(TOPICS.panes.name, index) for index in range(6))
REFERENCE = reference()


class Bench:
    """A judge fed by hand with the records of its one model's partition."""

    def __init__(self, before: "Bench | None" = None, **settings: Any) -> None:
        self.partition = Partition(TOPICS.panes.name, partition_of("fraud", PANES_PARTITIONS))
        self.settings = settings
        self.judge = Judge({"fraud": fraud(**settings)}, TOPICS, clock="stream")
        self.judge.table(TOPICS.references.name, b"fraud/1", dump(REFERENCE).encode())
        self.state: dict[bytes, bytes] = dict(before.state) if before else {}
        self.judge.assigned(ALL, Restored(self.state))
        self.out: list[Outgoing] = []
        self.log: list[bytes] = list(before.log[: before.committed]) if before else []
        self.committed: int = len(self.log)
        self.now: int = before.now if before else 0
        if before:
            first = self.judge.start_offsets(ALL).get(self.partition, before.committed)
            self.replayed = before.committed - first
            for offset in range(first, before.committed):
                self.replay(offset)

    def feed(self, *records: Record, flush: bool = True) -> None:
        """Give it one value with these records."""
        self.log.append(encode(list(records)))
        self.replay(len(self.log) - 1)
        if flush:
            self.flush()

    def replay(self, offset: int) -> None:
        """Absorb a record of the log, again or for the first time."""
        at = np.array([offset], np.int64)
        self.judge.absorb(Batch(self.partition, at, at, (None,), (self.log[offset],), offset + 1))

    def flush(self) -> None:
        """Flush and commit."""
        self.now += 1_000
        out = self.judge.flush(self.now)
        self.judge.committed()
        self.committed = len(self.log)
        self.out += out
        self.state |= {o.key: o.value for o in out if o.topic == TOPICS.judge_state.name and o.key and o.value}

    def said(self, topic: str) -> list[bytes]:
        """Values sent to a topic."""
        return [one.value for one in self.out if one.topic == topic and one.value]

    def verdicts(self) -> list[Verdict]:
        """Published verdicts."""
        return [Verdict.decode(value) for value in self.said(TOPICS.verdicts.name)]

    def requests(self) -> list[RetrainRequest]:
        """Published requests."""
        return [RetrainRequest.decode(value) for value in self.said(TOPICS.requests.name)]

    def history(self) -> list[Record]:
        """Records written to history."""
        return [record for value in self.said(TOPICS.history.name) for record in decode(value)]


def pane(minute: int, *, rows: int = 100, shift: float = 0.0, version: str = "1", seed: int = 0) -> PaneDelta:
    """A pane of the table's rows."""
    columns = table(rows, seed=1_000 * seed + minute + 1, shift=shift)
    named: dict[str, Column] = {
        "amount": numbers(columns["amount"]),
        "age": numbers(columns["age"]),
        "country": categories(columns["country"]),
        "prediction": numbers(columns["score"]),
    }
    counts = REFERENCE.layout.tally(named, np.zeros(rows, np.int64), np.array([rows]))[0]
    start = START + minute * MINUTE
    width = len(counts)
    return PaneDelta("fraud", version, REFERENCE.digest, "prediction", "", start, MINUTE, rows, 0, width, pack(counts))


def arm(minute: int, rows: int = 100, version: str = "1") -> ArmDelta:
    scores = np.zeros(32, np.int64)
    scores[3] = rows
    return ArmDelta("fraud", version, "", START + minute * MINUTE, MINUTE, rows, 0, 0, 0, 0, pack(scores))


def progress(minute: float, offset: int = 1) -> Progress:
    """The clock of the only input partition, so that panes before ``minute`` close."""
    return Progress("scores", 0, "prediction", offset, int(START + minute * MINUTE) + 2 * MINUTE, idle=False)


def run(bench: Bench, minutes: range, *, flush: bool = True, **more: Any) -> None:
    for minute in minutes:
        bench.feed(pane(minute, **more), arm(minute), progress(minute + 1, minute + 1), flush=flush)


def test_a_restart_after_any_flush_says_the_same() -> None:
    whole = Bench()
    run(whole, range(40))
    run(whole, range(40, 60), shift=0.8)
    assert len(whole.requests()) == 1
    for stop in (1, 25, 41, 43, 55):
        first = Bench()
        run(first, range(min(stop, 40)))
        run(first, range(40, max(stop, 40)), shift=0.8)
        second = Bench(first)
        run(second, range(stop, 40))
        run(second, range(max(stop, 40), 60), shift=0.8)
        joined = [*first.said(TOPICS.verdicts.name), *second.said(TOPICS.verdicts.name)]
        assert joined == whole.said(TOPICS.verdicts.name)
        assert first.requests() + second.requests() == whole.requests()
        assert [*first.history(), *second.history()] == whole.history()


def stir(bench: Bench, step: int) -> None:
    """A minute in several values: parts of panes, of the next minute too, late ones, outcomes, sometimes a flush."""
    minute, part = divmod(step, 3)
    known = START + (minute + 2) * MINUTE
    counts = pack(np.array([1, 0, 1, 1])), pack(np.arange(64))
    outcome = OutcomeDelta("fraud", "1", "", START + minute * MINUTE, MINUTE, 3, known, *counts, 5, 6)
    ahead = pane(minute + part, rows=30, seed=part, shift=0.9 if minute > 8 else 0.0)
    late = [pane(minute - 5, rows=3, seed=9)] if minute > 6 and part == 1 else []
    closing = [progress(minute + 1, minute + 1)] if part == 2 else []
    bench.feed(ahead, arm(minute, 30), outcome, *late, *closing, flush=step % 4 != 1)


@pytest.mark.parametrize("stop", [2, 13, 40, 43, 52, 60])
def test_open_panes_come_from_a_checkpoint_and_the_log(stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # So often that what came since is of panes that are still open.
    monkeypatch.setattr(judge_module, "CHECKPOINT_MS", 3_000)
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
    assert second.judge.judges["fraud"].pending.state().keys() == whole.judge.judges["fraud"].pending.state().keys()
    assert second.replayed <= 5


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


def test_flushes_do_not_change_what_is_said() -> None:
    often, once = Bench(), Bench()
    run(often, range(30), shift=0.8)
    run(once, range(30), shift=0.8, flush=False)
    once.flush()
    assert once.said(TOPICS.verdicts.name) == often.said(TOPICS.verdicts.name)
    assert once.history() == often.history()


def test_a_delta_for_a_closed_pane_changes_history_and_no_decision() -> None:
    bench = Bench()
    run(bench, range(10))
    before = len(bench.verdicts())
    late = pane(3, rows=50, shift=9.0, seed=5)
    bench.feed(late, progress(11, 20))
    assert late in bench.history()
    assert len(bench.verdicts()) == before
    assert bench.judge.judges["fraud"].watches[WatchKey("1", REFERENCE.digest, "")].rows == 1_000


def test_partials_of_one_pane_add_up_before_it_closes() -> None:
    apart, together = Bench(), Bench()
    for minute in range(5):
        apart.feed(pane(minute, rows=40, seed=1), flush=False)
        apart.feed(pane(minute, rows=60, seed=2), progress(minute + 1, minute + 1))
        one, two = pane(minute, rows=40, seed=1), pane(minute, rows=60, seed=2)
        whole = msgspec.structs.replace(one, rows=100, counts=pack(one.vector() + two.vector()))
        together.feed(whole, progress(minute + 1, minute + 1))
    assert [r for r in apart.history() if isinstance(r, PaneDelta)] == together.history()


def test_a_version_that_is_not_champion_informs_and_never_asks() -> None:
    bench = Bench()
    bench.judge.table(TOPICS.rollouts.name, b"fraud", rollout("1", canary="2").encode())
    for minute in range(40):
        canary = pane(minute, shift=0.9, version="2", seed=3)
        bench.feed(pane(minute), canary, progress(minute + 1, minute + 1))
    assert bench.verdicts()
    assert {(v.version, v.level) for v in bench.verdicts()} == {("2", Level.INFORM)}
    assert bench.requests() == []
    (model,) = bench.judge.status()["models"]
    assert model["canary"] == "2"
    assert {(v["version"], v["role"]) for v in model["versions"]} == {("1", "champion"), ("2", "canary")}


def test_a_rollout_in_flight_puts_a_request_off_and_says_so() -> None:
    bench = Bench()
    bench.judge.table(TOPICS.rollouts.name, b"fraud", rollout("1", canary="2").encode())
    run(bench, range(20), shift=0.9)
    assert bench.requests() == []
    (incident,) = bench.judge.status()["models"][0]["incidents"]
    assert incident["request_outcome"] == "suppressed"
    assert "rollout of version 2" in incident["request_reason"]
    bench.judge.table(TOPICS.rollouts.name, b"fraud", rollout("1", epoch=2).encode())
    run(bench, range(20, 60), shift=0.9)
    assert len(bench.requests()) == 1


def test_requests_can_be_switched_off() -> None:
    bench = Bench(requests={"enabled": False})
    run(bench, range(20), shift=0.9)
    assert bench.requests() == []
    assert bench.verdicts()[0].level is Level.PAGE


def test_plug_ins_warn_once_and_ask_for_nothing() -> None:
    bench = Bench(detectors=["psi"] if "psi" in _names() else [_names()[0]])
    run(bench, range(30))
    run(bench, range(30, 60), shift=0.05)
    warnings = [v for v in bench.verdicts() if "detector" in v.evidence]
    assert all(v.level is Level.WARN and not v.budgeted for v in warnings)
    assert bench.requests() == []
    check(bench.judge.status())


def _names() -> list[str]:
    return sorted(RULES)


def test_a_long_silence_is_passed_over() -> None:
    bench = Bench()
    run(bench, range(5))
    days = 60 * 24 * 30
    bench.feed(pane(days), progress(days + 1, 99))
    assert bench.judge.judges["fraud"].next == START + (days + 1) * MINUTE
    assert [r.start for r in bench.history() if isinstance(r, PaneDelta)][-1] == START + days * MINUTE


def test_outcomes_wait_for_the_minute_they_became_known_in() -> None:
    bench = Bench()
    known = OutcomeDelta(
        "fraud",
        "1",
        "",
        START,
        MINUTE,
        3,
        START + 4 * MINUTE,
        pack(np.array([1, 1, 1, 0])),
        pack(np.zeros(64, np.int64)),
        0,
        0,
    )
    bench.feed(known, known)
    run(bench, range(4))
    assert not [r for r in bench.history() if isinstance(r, OutcomeDelta)]
    run(bench, range(4, 6))
    (told,) = [r for r in bench.history() if isinstance(r, OutcomeDelta)]
    assert (told.rows, np.frombuffer(told.confusion, "<i8").tolist()) == (6, [2, 2, 2, 0])


def test_a_model_without_a_reference_is_unknown_with_the_reason() -> None:
    judge = Judge({"fraud": fraud()}, TOPICS, clock="stream")
    judge.assigned(ALL, Restored())
    check(judge.status())
    (model,) = judge.status()["models"]
    assert model["state"] == "unknown"
    assert "reference" in model["reason"]


def test_a_record_of_another_format_stops_it_with_its_address() -> None:
    bench = Bench()
    at = np.array([7], np.int64)
    with pytest.raises(Fatal, match=r"rig.panes/\d offset 7: binary record has format 9"):
        bench.judge.absorb(Batch(bench.partition, at, at, (None,), (b"\x09x",), 8))


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


def test_open_panes_beyond_the_room_wait_packed_and_add_up_the_same() -> None:
    width = len(REFERENCE.layout)
    roomy, tight = Pending("fraud", MINUTE), Pending("fraud", MINUTE, most_cells=3 * width)
    for seed in range(3):
        for minute in range(12):
            for pending in (roomy, tight):
                pending.add(pane(minute, rows=5, seed=seed))
    assert sum(found.counts is not None for found in tight._panes.values()) == 3
    tight.restore(thaw(freeze(tight.state())))
    assert sum(found.counts is not None for found in tight._panes.values()) == 3
    tight.drop_before(START + MINUTE)
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
    again.restore(thaw(freeze(pending.state())))
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
