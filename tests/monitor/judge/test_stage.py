"""The judge: late deltas, canaries, plug-ins, cooldown, silence, and state that may stop anywhere."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs

from stationkeeper.contracts.column import Column, categories, numbers
from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.messages import Level, RetrainRequest, SubjectType, Verdict
from stationkeeper.contracts.status import check
from stationkeeper.contracts.times import to_ms
from stationkeeper.contracts.topics import JOINS_PARTITIONS, PANES_PARTITIONS
from stationkeeper.contracts.wire import (
    ArmDelta,
    JoinBatch,
    OutcomeDelta,
    PaneDelta,
    Progress,
    Record,
    decode,
    encode,
    joined_source,
    pack,
)
from stationkeeper.monitor.core.reasons import UNKNOWN_HELP, Unknown
from stationkeeper.monitor.core.reference import Labels, Reference, dump
from stationkeeper.monitor.judge import Judge, PastReferences, Rejudge, WatchKey
from stationkeeper.monitor.plugins.rules import RULES
from stationkeeper.monitor.status.model import ModelView
from stationkeeper.monitor.status.series import GLANCE
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Batch, Outgoing, Partition, Restored
from tests.monitor.rig import MINUTE, START, TOPICS, Rig, fraud, predictions, reference, rollout, table

ALL = frozenset(Partition(TOPICS.panes.name, index) for index in range(6))
REFERENCE = reference()


class Bench:
    """A judge fed by hand with the records of its one model's partition."""

    def __init__(
        self, before: "Bench | None" = None, references: tuple[Reference, ...] = (REFERENCE,), **settings: Any
    ) -> None:
        self.partition = Partition(TOPICS.panes.name, partition_of("fraud", PANES_PARTITIONS))
        self.settings = settings
        self.joins = True
        self.judge = Judge({"fraud": fraud(**settings)}, TOPICS, view=ModelView, clock="stream")
        for one in references:
            self.judge.table(TOPICS.references.name, b"fraud/1", dump(one).encode())
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
        """Give it one value with these records, the predictions' labels being read and joined as far as they are."""
        told = [one for one in records if isinstance(one, Progress) and one.source == "prediction"]
        both = [*told, *(structs.replace(one, topic="outcomes", source="label") for one in told)] if self.joins else []
        sent = [structs.replace(p, source=joined_source(p.source, i)) for p in both for i in range(JOINS_PARTITIONS)]
        self.log.append(encode([*sent, *records]))
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


def outcomes(minute: int, known: int, *, wrong: int = 10) -> OutcomeDelta:
    """A hundred labels of a minute's predictions, known in another minute."""
    counts = pack(np.array([0, wrong, 10, 90 - wrong])), pack(np.concatenate([np.zeros(6), [90, 10], np.zeros(56)]))
    start, at = START + minute * MINUTE, START + known * MINUTE
    return OutcomeDelta("fraud", "1", "", start, MINUTE, 100, at, *counts, 0, 100 * (at - start))


@pytest.mark.parametrize(("minutes", "counted"), [(4, 100), (8, 100), (14, 100), (24, 0)])
def test_labels_joined_late_count_until_their_cohort_is_judged(minutes: int, counted: int) -> None:
    """Their own minute has closed by then; at the age of twenty minutes the cohort is given up without them."""
    bench = Bench(label_maturity="10m")
    for minute in range(40):
        told = [outcomes(0, 1)] if minute == minutes else []
        told += [outcomes(minute - 1, minute)] if minute > 1 else []
        bench.feed(*told, pane(minute), arm(minute), progress(minute + 1, minute + 1))
    judge = bench.judge.judges["fraud"]
    assert judge.cohorts.charts.confusion("1", "", START).sum() == 2_900 + counted
    (late,) = [r for r in bench.history() if isinstance(r, OutcomeDelta) and r.start == START]
    assert late.known_at == (START + minutes * MINUTE if counted else START + MINUTE)


def joined_to(minute: float, offset: int) -> list[Progress]:
    """The labels' clock as all joins partitions have paired them."""
    clock = int(START + minute * MINUTE)
    told = [Progress("outcomes", 0, "label", offset, clock, idle=False), progress(10_000, offset)]
    return [structs.replace(p, source=joined_source(p.source, i)) for p in told for i in range(JOINS_PARTITIONS)]


def caught_up(bench: Bench, first: int, last: int) -> Bench:
    """Panes close two hours before their labels are read, and then those of a batch come at once."""
    bench.joins = False
    for minute in range(first, last):
        if minute < 120:
            bench.feed(pane(minute), arm(minute), progress(minute + 1, minute + 1))
        else:
            # Ten minutes of labels at a time: the tenth minute after each prediction is when it was known.
            at = (minute - 120) * 10
            told = [outcomes(one, one + 10, wrong=60 if one >= 60 else 10) for one in range(at, min(at + 10, 115))]
            bench.feed(*told, *joined_to(at + 20, minute))
    return bench


def counted(judge: Any) -> list[tuple[int, list[int]]]:
    return [(start, cells.tolist()) for start, cells in judge.cohorts.charts.mature["1", ""]]


def test_labels_read_after_their_panes_are_judged_at_their_age_through_restarts_and_in_a_replay() -> None:
    settings: dict[str, Any] = {"label_maturity": "15m", "false_pages": "1 per 1 days"}
    known = replace(REFERENCE, labels=Labels(np.tile([[45, 5]], (32, 1)), np.array([0, 160, 160, 1_280])))
    whole = caught_up(Bench(references=(known,), **settings), 0, 132)
    judge = whole.judge.judges["fraud"]
    # The last label is of minute 114; all that are 15 minutes old when the last pane closes are judged, each once.
    assert [start for start, _ in counted(judge)] == [START + m * MINUTE for m in range(105)]
    assert {sum(cells) for _, cells in counted(judge)} == {100}
    assert judge.cohorts.completeness() == (10_500, 10_500)
    said = [v.encode() for v in whole.verdicts()]
    onsets = [v.onset for v in whole.verdicts() if v.subject.type is SubjectType.PERFORMANCE]
    # The time of a verdict on labels is that of their maturity, not that of the catch-up.
    assert onsets
    assert onsets[0] is not None
    assert START + 75 * MINUTE <= to_ms(onsets[0].time) < START + 85 * MINUTE
    for stop in (60, 121, 125, 128):
        before = caught_up(Bench(references=(known,), **settings), 0, stop)
        again = caught_up(Bench(before, (known,), **settings), stop, 132)
        assert counted(again.judge.judges["fraud"]) == counted(judge)
    references = PastReferences({"fraud": fraud(**settings)}, {})
    references.put_reference(b"fraud/1", dump(known).encode())
    past = Rejudge(fraud(**settings), references)
    parts = [past.take(record) for record in whole.history() if not isinstance(record, JoinBatch)]
    decided = [*[part for part in parts if part is not None], past.finish()]
    assert counted(past.judge) == counted(judge)
    assert [v.encode() for part in decided for v in part.verdicts] == said


def test_a_model_without_a_reference_is_unknown_with_the_reason() -> None:
    judge = Judge({"fraud": fraud()}, TOPICS, view=ModelView, clock="stream")
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


def test_a_catch_up_leaves_a_course_behind_and_not_only_its_end() -> None:
    bench = Bench()
    for minute in range(60):
        bench.feed(pane(minute, shift=0.8 if minute >= 40 else 0.0), flush=False)
    bench.feed(progress(60))
    (model,) = bench.judge.status()["models"]
    (amount,) = (one for one in model["subjects"] if one["name"] == "amount")
    series = amount["series"]
    assert len(series["time"]) == 60 // GLANCE
    assert series["time"] == sorted(series["time"])
    assert series["time"][-1] == START + 60 * MINUTE
    psi = [value for value in series["distance"] if value is not None]
    assert max(psi) > 5 * psi[0]


def test_performance_is_unknown_while_the_join_rebuilds_and_drift_goes_on() -> None:
    bench = Bench(label_maturity="10m")
    counts = pack(np.array([600, 0, 0, 600])), pack(np.zeros(64, np.int64))

    def minute(at: int, *, rebuilding: bool, shift: float = 0.0) -> dict[str, Any]:
        known = START + (at + 2) * MINUTE
        labels = OutcomeDelta("fraud", "1", "", START + at * MINUTE, MINUTE, 1_200, known, *counts, 0, 0)
        join = Progress("joins", 0, "join", at, START, idle=rebuilding)
        bench.feed(pane(at, shift=shift), arm(at), *([] if rebuilding else [labels]), join, progress(at + 1, at + 1))
        (model,) = bench.judge.status()["models"]
        check(bench.judge.status())
        return dict(model)

    model = [minute(at, rebuilding=False) for at in range(30)][-1]
    assert {one["state"] for one in model["performance"]} == {"steady"}
    model = [minute(at, rebuilding=True, shift=0.8) for at in range(30, 40)][-1]
    why = UNKNOWN_HELP[Unknown.REBUILDING]
    assert {(one["state"], one["reason"]) for one in model["performance"]} == {("unknown", why)}
    assert model["labels"]["reason"].startswith(why)
    assert model["state"] == "drifting"
    model = minute(40, rebuilding=False)
    assert {one["state"] for one in model["performance"]} == {"steady"}


def test_a_page_says_that_a_backlog_is_judged_and_not_that_nothing_came(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig({"fraud": fraud()}, partitions=1)
    rig.put_reference(reference())
    rig.turn()
    judge = rig.stage("judge")
    assert [one["reason"] for one in judge.status()["models"]] == [UNKNOWN_HELP[Unknown.NO_ROWS]]
    shown = list[str]()
    plain = ModelView.glance

    def seen(view: ModelView, left: int) -> None:
        shown.append(judge.status()["models"][0]["reason"])
        plain(view, left)

    monkeypatch.setattr(ModelView, "glance", seen)
    rig.send("scores", predictions(20, 30))
    rig.turn()
    # The first pane closes before anything of it was told.
    waiting = "What came before the start is being judged. {} panes wait."
    assert len(shown) > 10
    assert shown == [UNKNOWN_HELP[Unknown.NO_ROWS], *(waiting.format(left) for left in range(len(shown), 1, -1))]
    assert "wait" not in judge.status()["models"][0]["reason"]
