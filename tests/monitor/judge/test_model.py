"""One model at the judge: what it asks for when a retraining pays, with its labels and its state."""

from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from msgspec import structs
from pydantic import ValidationError

from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.wire import ArmDelta, JoinBatch, OutcomeDelta, Progress, pack
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import dump
from stationkeeper.monitor.judge.model import ModelJudge, ModelPosition
from stationkeeper.monitor.judge.pending import PendingState
from stationkeeper.monitor.judge.replay import PastReferences, Rejudge
from stationkeeper.monitor.references import References
from tests.monitor.judge.test_stage import REFERENCE, Bench
from tests.monitor.rig import MINUTE, START, fraud

DAY = 86_400_000
PAYS: dict[str, Any] = {
    "pane": "1d",
    "window": "1d",
    "lateness": "0d",
    "label_maturity": "1d",
    "requests": {"when": "pays", "cost": 40},
}


def day(bench: Bench, number: int, *, wrong: int = 20) -> None:
    """A day of two hundred predictions that all get their label a day later."""
    scores = np.zeros(32, np.int64)
    scores[3] = 200
    start, before = START + number * DAY, START + (number - 1) * DAY
    confusion, scored = np.array([0, wrong, 0, 200 - wrong]), np.zeros(64, np.int64)
    scored[6] = 200
    known = OutcomeDelta("fraud", "1", "", before, DAY, 200, start, pack(confusion), pack(scored), 0, 0)
    clock = Progress("scores", 0, "prediction", number + 1, start + DAY, idle=False)
    bench.feed(ArmDelta("fraud", "1", "", start, DAY, 200, 0, 0, 0, 0, pack(scores)), known, clock)


def asked(bench: Bench, days: range, wrong: int = 20) -> list[int]:
    found = []
    for number in days:
        before = len(bench.requests())
        day(bench, number, wrong=wrong)
        found += [number] if len(bench.requests()) > before else []
    return found


def test_corrections_of_labels_are_kept_for_charts_and_change_no_decision() -> None:
    def run(corrected: int) -> tuple[list[str], list[OutcomeDelta], Bench]:
        bench = Bench(**PAYS)
        for number in range(45):
            if corrected and number:
                # Of all that were right it now says that they were wrong.
                scored, confusion = np.zeros(64, np.int64), np.array([0, corrected, 0, -corrected])
                start, before = START + number * DAY, START + (number - 1) * DAY
                fields = ("fraud", "1", "", before, DAY, 0, start, pack(confusion), pack(scored), 0, 0, b"", corrected)
                bench.feed(OutcomeDelta(*fields))
            day(bench, number)
        records = [record for record in bench.history() if isinstance(record, OutcomeDelta)]
        return [verdict.id for verdict in bench.verdicts()], records, bench

    plain, records, _ = run(0)
    said, both, bench = run(180)
    assert plain
    assert said == plain
    corrections = [record for record in both if record.corrected]
    assert len(corrections) == 44
    assert [record for record in both if not record.corrected] == records
    # What history holds is judged again as it was, corrections and all.
    references = PastReferences({"fraud": fraud(**PAYS)}, {})
    references.put_reference(b"fraud/1", dump(REFERENCE).encode())
    again = Rejudge(fraud(**PAYS), references)
    found = [again.take(record) for record in bench.history() if not isinstance(record, JoinBatch)]
    assert [one.id for part in [*found, again.finish()] if part is not None for one in part.verdicts] == plain


def test_age_asks_without_an_incident_and_the_same_after_a_restart() -> None:
    whole = Bench(**PAYS)
    when = asked(whole, range(90))
    # Weeks of 1 400 labelled rows, a tenth of them wrong: the price of 40 after six, then later, as none came of it.
    assert when == [42, 70]
    request = whole.requests()[0]
    assert (request.kind, request.cause, request.version) == (VerdictKind.PERFORMANCE, Cause.AGEING, "1")
    assert "wrong answers (0 to 110) in 6 weeks" in request.evidence["reason"]
    assert request.verdict in {verdict.id for verdict in whole.verdicts()}
    first = Bench(**PAYS)
    asked(first, range(when[0] - 3))
    again = Bench(first, **PAYS)
    assert asked(again, range(when[0] - 3, 90)) == when
    assert [r.id for r in again.requests()] == [r.id for r in whole.requests()]


def test_by_default_nothing_asks_for_age() -> None:
    plain = Bench(**{**PAYS, "requests": {}})
    assert asked(plain, range(90)) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"requests": {"when": "pays"}}, "needs requests.cost"),
        ({"requests": {"when": "pays", "cost": 5}, "labels": None}, "needs labels: TOPIC"),
        ({"requests": {"when": "pays", "cost": 0}}, "greater than 0"),
        ({"requests": {"when": "always"}}, "'drift', 'harm', 'pays' or 'schedule'"),
        ({"requests": {"when": "schedule"}}, "needs requests.every, e.g. 30d"),
        (
            {"requests": {"when": "harm", "every": "30d"}},
            "every belongs to requests.when: schedule; it is harm",
        ),
        ({"page_on": "pays"}, "'drift' or 'harm'"),
    ],
)
def test_a_price_and_labels_are_asked_for(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as error:
        fraud(**more)
    assert words in str(error.value)


def test_an_older_state_takes_nothing_late_for_new_and_has_judged_by_the_age_of_maturity() -> None:
    judge = ModelJudge(fraud(label_maturity="30m"), References({}))
    old = state_of({"next": START + 60 * MINUTE, "watermark": START + 60 * MINUTE}, ModelPosition)
    judge.restore_open(PendingState(arms=[], outcomes=[]), old, 20)
    assert (judge.late.closed_by, judge.late.judged) == (20, START + 29 * MINUTE)
    told = structs.replace(old, closed_by=3, judged=START)
    judge.restore_open(PendingState(arms=[], outcomes=[]), told, 20)
    assert (judge.late.closed_by, judge.late.judged) == (3, START)
    # None is what a model says that has judged nothing yet.
    judge.restore_open(PendingState(arms=[], outcomes=[]), structs.replace(told, judged=None), 20)
    assert judge.late.judged is None


def test_what_late_labels_ask_for_counts_for_age_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, request = ModelJudge(fraud(), References({"fraud": fraud()})), Mock()
    noted = Mock()
    monkeypatch.setattr(judge, "_learn", lambda *_: iter([([], [request])]))
    monkeypatch.setattr(judge.retrainings.cures, "asked", noted.cures)
    monkeypatch.setattr(judge.retrainings.age, "asked", noted.age)
    assert judge._judge_late(START).requests == (request,)
    noted.cures.assert_called_once_with([request], [])
    noted.age.assert_called_once_with([request], START + MINUTE)
