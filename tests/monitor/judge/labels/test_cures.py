"""A retraining followed up by the judge: from its request over the rollout to what it did, through restarts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.messages import (
    CureOutcome,
    LearningCurve,
    RetrainRequest,
    Rollout,
    RolloutPhase,
    VerdictKind,
)
from stationkeeper.contracts.status import check
from stationkeeper.contracts.times import to_datetime
from stationkeeper.contracts.wire import OutcomeDelta
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import Labels, dump
from stationkeeper.page.incident import find_incident, history
from tests.monitor.judge.test_stage import REFERENCE, Bench, arm, outcomes, pane, progress, run
from tests.monitor.judge.test_succession import counted
from tests.monitor.rig import MINUTE, START, TOPICS, reference, rollout
from tests.stationkeeper.test_page import fleet_of

KNOWN = replace(REFERENCE, labels=Labels(np.tile([[45, 5]], (32, 1)), np.array([0, 160, 160, 1_280])))
# What the new version was trained on: the world after the shift.
NEW = reference("2", shift=0.8)


def asked() -> tuple[Bench, RetrainRequest]:
    """A judge whose champion drifted and asked for a retraining."""
    bench = Bench(references=(KNOWN,), label_maturity="5m")
    take_out(bench, "1", "", RolloutPhase.STEADY)
    run(bench, range(40))
    for minute in range(40, 60):
        # Two of three answers are wrong under the shift, one of five was on the reference.
        told = [outcomes(minute - 5, minute, wrong=60)] if minute >= 45 else []
        bench.feed(pane(minute, shift=0.8), arm(minute), *told, progress(minute + 1, minute + 1))
    (request,) = bench.requests()
    return bench, request


def take_out(
    bench: Bench,
    champion: str,
    request: str,
    phase: RolloutPhase,
    epoch: int = 1,
    *,
    time: int = START,
    curve: LearningCurve | None = None,
) -> None:
    record: Rollout = rollout(champion, epoch=epoch, time=time)
    record = record.model_copy(update={"phase": phase, "request": request or None, "curve": curve})
    bench.judge.table(TOPICS.rollouts.name, b"fraud", record.encode())


def serve(bench: Bench, minutes: range, wrong: int) -> None:
    for minute in minutes:
        at = minute - 5
        told = [replaced_version(outcomes(at, minute, wrong=wrong), "2")] if at >= minutes.start else []
        closed = counted(NEW, minute, version="2", shift=0.8)
        bench.feed(closed, arm(minute, version="2"), *told, progress(minute + 1, minute + 1))


def replaced_version(one: OutcomeDelta, version: str) -> OutcomeDelta:
    fields = {name: getattr(one, name) for name in one.__struct_fields__}
    return OutcomeDelta(**{**fields, "version": version})


def promote(bench: Bench, request: RetrainRequest) -> None:
    bench.judge.table(TOPICS.references.name, b"fraud/2", dump(NEW).encode())
    take_out(bench, "2", request.id, RolloutPhase.PROBATION, 2)


def told(bench: Bench) -> list[Any]:
    return [one for one in bench.verdicts() if one.kind is VerdictKind.CURE]


@pytest.mark.parametrize(("wrong", "outcome"), [(10, CureOutcome.CURED), (60, CureOutcome.NOT_CURED)])
def test_a_promoted_version_is_tested_again_after_probation_and_the_request_is_told(wrong: int, outcome: CureOutcome):
    bench, request = asked()
    promote(bench, request)
    serve(bench, range(60, 110), wrong)
    assert told(bench) == []
    take_out(bench, "2", request.id, RolloutPhase.STEADY, 3)
    # From here on by a process that starts anew.
    resumed = Bench(bench, (KNOWN,), label_maturity="5m")
    promote(resumed, request)
    take_out(resumed, "2", request.id, RolloutPhase.STEADY, 3)
    for one in (bench, resumed):
        serve(one, range(110, 112), wrong)
    (found,) = told(bench)
    assert [v.encode() for v in told(resumed)] == [found.encode()]
    assert (found.evidence["cure"], found.incident, found.version) == (outcome.value, request.incident, "2")
    again = bench.requests()[-1]
    assert (again.id, again.cure) == (request.id, outcome)
    assert found.reason.endswith(again.cure_reason)
    # On the page of the incident and as a metric.
    check(bench.judge.status())
    fleet = fleet_of(bench.judge.status()["models"][0])
    shown = find_incident(fleet, request.incident)
    assert shown is not None
    assert shown[0]["cure"]["outcome"] == outcome.value
    assert any(what == "It was tested again" for _, what, _ in history(shown[0], fleet))
    samples = {one.labels: one.value for one in bench.judge.samples() if one.metric.endswith("retrain_cures_total")}
    assert samples == {("fraud", outcome.value): 1}
    # Once.
    serve(bench, range(112, 116), wrong)
    assert len(told(bench)) == 1
    # It is part of what the next retraining is expected to spare.
    cures = bench.judge.judges["fraud"].retrainings.age.cures
    assert cures == ((1, 0) if outcome is CureOutcome.CURED else (0, 1))


def test_a_version_that_is_taken_back_is_not_tested():
    bench, request = asked()
    promote(bench, request)
    serve(bench, range(60, 70), 10)
    take_out(bench, "1", request.id, RolloutPhase.STEADY, 3)
    run(bench, range(70, 80), shift=0.8)
    assert told(bench) == []
    assert bench.judge.judges["fraud"].retrainings.cures.state.trials == ()


def again(bench: Bench, request: RetrainRequest, count: int) -> None:
    """The same incident asks so often anew; none of these gives a version."""
    cures = bench.judge.judges["fraud"].retrainings.cures
    for number in range(count):
        later = request.model_copy(update={"id": f"later-{number}"})
        cures.asked([later], bench.judge.judges["fraud"].watches.of("1"))


def test_requests_that_give_no_version_push_out_each_other_and_not_the_one_that_serves():
    bench, request = asked()
    cures = bench.judge.judges["fraud"].retrainings.cures
    promote(bench, request)
    serve(bench, range(60, 62), 10)
    (mine,) = cures.state.trials
    assert mine.new == "2"
    again(bench, request, 6)
    assert [one.message.id for one in cures.state.trials] == [request.id, "later-3", "later-4", "later-5"]


def test_a_version_that_another_replaces_before_it_is_judged_leaves_unknown():
    bench, request = asked()
    promote(bench, request)
    serve(bench, range(60, 64), 10)
    take_out(bench, "3", "another", RolloutPhase.STEADY, 3)
    serve(bench, range(64, 66), 10)
    (found,) = told(bench)
    assert found.evidence["cure"] == CureOutcome.UNKNOWN.value
    assert "version 3 took the place of version 2" in found.reason
    assert (bench.requests()[-1].id, bench.requests()[-1].cure) == (request.id, CureOutcome.UNKNOWN)
    assert bench.judge.judges["fraud"].retrainings.cures.state.trials == ()


def test_a_judge_that_was_away_tells_what_it_had_told():
    """The table of rollouts is read to its end before missed panes: it told `unknown` of a version that had cured."""
    live, request = asked()
    # The same from here on, with all records or with the one that compaction leaves.
    away, compacted = (Bench(live, (KNOWN,), label_maturity="5m") for _ in range(2))
    benches = (live, away, compacted)
    ended, replacement = START + 110 * MINUTE + 1, START + 112 * MINUTE + 1
    for bench in benches:
        if bench is not live:
            take_out(bench, "1", "", RolloutPhase.STEADY)
        promote(bench, request)
        serve(bench, range(60, 75), 10)
    serve(live, range(75, 110), 10)
    for bench in (live, away):
        take_out(bench, "2", request.id, RolloutPhase.STEADY, 3, time=ended)
    serve(live, range(110, 112), 10)
    for bench in benches:
        take_out(bench, "3", "another", RolloutPhase.PROBATION, 4, time=replacement)
    serve(live, range(112, 116), 10)
    for bench in (away, compacted):
        serve(bench, range(75, 116), 10)
    first, second, third = ([one.encode() for one in told(bench)] for bench in benches)
    assert first == second
    assert len(first) == len(third) == 1
    outcomes_told = [one.evidence["cure"] for bench in benches for one in told(bench)]
    assert outcomes_told == [CureOutcome.CURED.value] * 3


def test_a_withdrawn_request_is_not_followed():
    bench, request = asked()
    cures = bench.judge.judges["fraud"].retrainings.cures
    assert [one.message.id for one in cures.state.trials] == [request.id]
    cures.asked([request.model_copy(update={"withdrawn": "healed"})], [])
    assert cures.state.trials == ()


def test_what_age_asked_for_is_tested_against_its_forecast():
    bench, request = asked()
    cures = bench.judge.judges["fraud"].retrainings.cures
    promised = {"late": 0.3, "forecast": 0.1}
    aged = request.model_copy(update={"id": "req-age", "incident": "age-1", "cause": Cause.AGEING.value})
    watches = bench.judge.judges["fraud"].watches.of("1")
    cures.asked([aged], watches)
    assert "age-1" not in [one.message.incident for one in cures.state.trials], "an older build asked without one"
    cures.asked([aged.model_copy(update={"evidence": promised})], watches)
    promote(bench, aged)
    serve(bench, range(60, 110), 10)
    take_out(bench, "2", aged.id, RolloutPhase.STEADY, 3)
    serve(bench, range(110, 112), 10)
    (trial,) = [one for one in cures.state.trials if one.message.incident == "age-1"]
    assert (trial.before.loss, trial.lost, trial.new) == (0.3, 0.1, "2")
    verdicts, requests = cures.step(trial.confirmed + 8 * 86_400_000, {}, lambda _: [], lambda _: None)
    ((verdict,), (again,)) = (verdicts, requests)
    assert (again.id, again.cure, verdict.incident) == ("req-age", CureOutcome.CURED, "age-1")
    assert "was forecast to spare 10.00 of 30.00 wrong answers in a hundred; it spared 10.00" in again.cure_reason
    assert cures.tried() == (1, 0)


def test_a_follow_up_waits_until_the_cure_is_told_and_is_asked_once_by_whoever_started_anew():
    bench, request = asked()
    when = to_datetime(START + 40 * MINUTE)
    curve = LearningCurve(version="2", onset=when, until=when, rows=500, loss=0.01, quarter=0.015, error=0.001)
    bench.judge.table(TOPICS.references.name, b"fraud/2", dump(NEW).encode())
    take_out(bench, "2", request.id, RolloutPhase.PROBATION, 2, curve=curve)
    serve(bench, range(60, 110), 10)
    take_out(bench, "2", request.id, RolloutPhase.STEADY, 3, curve=curve)
    resumed = Bench(bench, (KNOWN,), label_maturity="5m")
    promote(resumed, request)
    take_out(resumed, "2", request.id, RolloutPhase.STEADY, 3, curve=curve)
    for one in (bench, resumed):
        serve(one, range(110, 130), 10)
    found = [[one for one in judge.requests() if one.cause == Cause.MORE_ROWS] for judge in (bench, resumed)]
    assert [[one.encode() for one in asks] for asks in found] == [[found[0][0].encode()]] * 2
    (follow_up,) = found[0]
    assert (follow_up.version, follow_up.onset.time, follow_up.looks) == ("2", when, 1)
    # Its forecast is tested as that of age is, and the test of the first was not cut short.
    assert bench.judge.judges["fraud"].retrainings.cures.tests(follow_up.id)
    assert [one.evidence["cure"] for one in told(bench)] == [CureOutcome.CURED.value]
    assert follow_up.time > told(bench)[0].time
