"""Segments that meet other decisions than the rest: one incident of all traffic, shown, the same after a restart."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from stationkeeper.contracts.messages import Level, SubjectType, VerdictKind
from stationkeeper.contracts.status import check
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta
from stationkeeper.page.model import model_page
from tests.monitor.judge.test_stage import Bench, pane, progress
from tests.monitor.judge.test_succession import model
from tests.monitor.rig import MINUTE, START, fraud
from tests.stationkeeper.test_page import fleet_of

DECLARED: dict[str, Any] = {"segments": ["country"], "fairness": {"segments": ["country"], "tolerance": 0.05}}


def arms(minute: int, share: float) -> list[ArmDelta]:
    """A third of the rows is of one country, in which this share is approved, of the others a half."""
    rows = {"country=de": (30, round(30 * share)), "country=fr": (60, 30)}
    rows[""] = 90, rows["country=de"][1] + 30
    scores = {name: np.bincount([3], [many], 32).astype("<i8").tobytes() for name, (many, _) in rows.items()}
    start = START + minute * MINUTE
    return [
        ArmDelta("fraud", "1", name, start, MINUTE, many, 0, approved, 0, 0, scores[name])
        for name, (many, approved) in rows.items()
    ]


def fed(bench: Bench, minutes: range, share: float) -> None:
    for minute in minutes:
        bench.feed(pane(minute), *arms(minute, share), progress(minute + 1, minute + 1))


def told(bench: Bench) -> list[Any]:
    return [one for one in bench.verdicts() if one.subject.type is SubjectType.FAIRNESS]


def test_a_gap_is_one_page_of_all_traffic_that_asks_for_nothing_and_closes() -> None:
    bench = Bench(**DECLARED)
    fed(bench, range(20), 0.5)
    assert told(bench) == []
    fed(bench, range(20, 80), 0.2)
    (page,) = [one for one in told(bench) if one.level is Level.PAGE]
    assert (page.kind, page.cause, page.segment) == (VerdictKind.PERFORMANCE, "fairness", "")
    assert page.subject.name == "fairness of country"
    assert page.reason.startswith("country=")
    assert "5 are tolerated" in page.reason
    assert bench.requests() == []
    (incident,) = [one for one in model(bench)["incidents"] if one["cause"] == "fairness"]
    assert "a model trained on the same rows would decide alike" in incident["request_reason"]
    gaps = {(one["segment"], one["rate"]): one for one in model(bench)["fairness"]}
    mine = gaps["country=de", "approval rate"]
    assert [mine["value"], mine["others"]] == pytest.approx([0.2, 0.5])
    assert mine["open"]
    check(bench.judge.status())
    here = ("fraud", "1", "country=de", "approval rate")
    samples = {(one.metric, one.labels): one.value for one in bench.judge.samples()}
    assert samples["stationkeeper_fairness_gap_ratio", here] == pytest.approx(-0.3)
    assert samples["stationkeeper_fairness_gap_told", here] == 1
    shown = model_page(model(bench), fleet_of(model(bench)))
    assert "Segments against the others of their dimension" in shown
    assert "told, not closed" in shown
    fed(bench, range(80, 400), 0.5)
    assert [one for one in bench.verdicts() if one.kind is VerdictKind.RECOVERED]
    assert not any(one["open"] for one in model(bench)["fairness"])


def test_a_restart_says_the_same() -> None:
    whole = Bench(**DECLARED)
    fed(whole, range(20), 0.5)
    fed(whole, range(20, 60), 0.2)
    for stop in (10, 22, 40):
        first = Bench(**DECLARED)
        fed(first, range(min(stop, 20)), 0.5)
        fed(first, range(20, max(stop, 20)), 0.2)
        second = Bench(first, **DECLARED)
        fed(second, range(stop, 20), 0.5)
        fed(second, range(max(stop, 20), 60), 0.2)
        assert [one.id for one in told(first)] + [one.id for one in told(second)] == [one.id for one in told(whole)]


def test_rates_of_labels_come_with_the_cohort_and_not_before() -> None:
    bench = Bench(**DECLARED, label_maturity="10m")

    def labelled(minute: int) -> list[OutcomeDelta]:
        confusions = {"country=de": [4, 3, 6, 17], "country=fr": [16, 6, 4, 34], "": [20, 9, 10, 51]}
        out = []
        for name, confusion in confusions.items():
            scored = np.zeros((32, 2), np.int64)
            scored[3] = confusion[1] + confusion[3], confusion[0] + confusion[2]
            made = np.array(confusion, "<i8").tobytes(), scored.astype("<i8").tobytes()
            start = START + minute * MINUTE
            out.append(OutcomeDelta("fraud", "1", name, start, MINUTE, sum(confusion), start, *made, 0, 0))
        return out

    for minute in range(60):
        bench.feed(pane(minute), *arms(minute, 0.5), *labelled(minute), progress(minute + 1, minute + 1))
        if minute == 5:
            assert {one["rate"] for one in model(bench)["fairness"]} == {"approval rate"}
    gaps = {(one["segment"], one["rate"]): one for one in model(bench)["fairness"]}
    mine = gaps["country=de", "true positive rate"]
    assert [mine["value"], mine["others"]] == pytest.approx([0.4, 0.8])
    assert any("true positive rate" in one.reason for one in told(bench) if one.level is Level.PAGE)


def test_what_is_not_declared_says_nothing_and_a_dimension_that_is_not_watched_is_refused() -> None:
    bench = Bench(segments=["country"])
    fed(bench, range(40), 0.1)
    assert told(bench) == []
    assert "fairness" not in model(bench)
    with pytest.raises(ValidationError, match="'shop' is not watched apart; add it to segments"):
        fraud(segments=["country"], fairness={"segments": ["shop"]})
    with pytest.raises(ValidationError):
        fraud(segments=["country"], fairness={"segments": ["country"], "tolerance": 0})
