from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.messages import SubjectState, Verdict, VerdictKind
from stationkeeper.monitor.core.adoption.traffic import HOUR_MS
from stationkeeper.monitor.core.incidents import RequestPolicy, RequestRules
from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.quality.unit_change import unit_change
from stationkeeper.monitor.core.reasons import Check
from stationkeeper.monitor.core.watch import Watch
from tests.monitor.core.streams import SETTINGS, bank, columns_for, judge, pages, panes, reference_of

REFERENCE = reference_of(bank(5_000))


def after_change(data: dict[str, Any]) -> tuple[Watch, list[Verdict]]:
    made = Watch(REFERENCE, settings=SETTINGS)
    assert pages(judge(made, bank(1_000, 1))) == []
    return made, judge(made, data, start=1_000)


def lost(share: float) -> dict[str, Any]:
    data = bank(2_000, 2)
    data["age"] = np.where(np.random.default_rng(3).random(2_000) < share, np.nan, data["age"])
    return data


def test_nulls_are_broken_data_and_refuse_retraining():
    made, said = after_change(lost(0.1))
    page = pages(said)[0]
    assert (page.kind, page.subject.check, page.state) == (VerdictKind.DATA_QUALITY, Check.NULL, SubjectState.BROKEN)
    assert page.effect == pytest.approx(0.1, abs=0.08)
    incident = made.incidents()[0]
    policy = RequestPolicy(RequestRules())
    assert policy.consider(incident, page, now=0) is None
    answer = policy.answer(incident.id)
    assert answer is not None
    assert "repair the source" in answer.reason
    assert made.chart("age").state is SubjectState.BROKEN


def test_a_changed_unit_is_named_with_its_factor():
    data = bank(2_000, 4)
    data["amount"] = data["amount"] * 100
    _, said = after_change(data)
    page = pages(said)[0]
    assert (page.kind, page.subject.check) == (VerdictKind.DATA_QUALITY, Check.UNIT)
    assert page.evidence["factor"] == 100
    assert len(pages(said)) == 1


@pytest.mark.parametrize("factor", [1_000.0, 100.0, 0.01, 2.54])
def test_the_factor_of_a_unit_is_found(factor: float):
    subject, place = REFERENCE.by_name["amount"], REFERENCE.layout["amount"]
    data = {"amount": bank(3_000, 5)["amount"] * factor}
    counts = REFERENCE.layout.tally(columns_for(REFERENCE, data), np.zeros(3_000, np.int64), np.array([3_000]))[0]
    unit = unit_change(subject, counts[place.histogram], counts[place.octaves])
    assert unit is not None
    assert unit.factor == pytest.approx(factor, rel=0.2)


def test_a_plain_shift_is_no_change_of_unit():
    subject, place = REFERENCE.by_name["age"], REFERENCE.layout["age"]
    data = {"age": bank(3_000, 5)["age"] + 15}
    counts = REFERENCE.layout.tally(columns_for(REFERENCE, data), np.zeros(3_000, np.int64), np.array([3_000]))[0]
    assert unit_change(subject, counts[place.histogram], counts[place.octaves]) is None


def test_a_constant_feature_is_a_fault():
    data = bank(2_000, 6)
    data["age"] = np.full(2_000, 40.0)
    made, said = after_change(data)
    page = pages(said)[0]
    assert (page.kind, page.subject.check) == (VerdictKind.DATA_QUALITY, Check.CONSTANT)
    back = judge(made, bank(3_000, 7), start=3_000)
    assert VerdictKind.RECOVERED in {verdict.kind for verdict in back}


def test_values_that_vary_beyond_the_reference_are_not_one_constant_value():
    data = bank(2_000, 6)
    data["age"] = 400.0 + np.random.default_rng(5).normal(0.0, 20.0, 2_000)
    _, said = after_change(data)
    assert Check.CONSTANT not in {verdict.subject.check for verdict in said}


def test_a_field_that_is_gone_is_a_schema_fault():
    data = bank(500, 8)
    del data["age"]
    _, said = after_change(data)
    page = pages(said)[0]
    assert page.kind is VerdictKind.DATA_QUALITY
    assert page.subject.check in {Check.SCHEMA_MISSING, Check.ABSENT}
    assert page.subject.name == "age"


def test_text_in_a_number_is_a_type_fault():
    data = bank(1_000, 9)
    age = data["age"].astype(object)
    age[::4] = "forty"
    data["age"] = age
    _, said = after_change(data)
    assert (pages(said)[0].kind, pages(said)[0].subject.check) == (VerdictKind.DATA_QUALITY, Check.WRONG_TYPE)


def test_a_schema_that_changes_is_broken_data_and_no_drift_beside_it():
    data = bank(2_000, 9)
    amount, age = data["amount"].astype(object), data["age"].copy()
    amount[::3], age[200::3] = "a lot", np.nan
    made, said = after_change(data | {"amount": amount, "age": age})
    assert {verdict.subject.name for verdict in said} >= {"amount", "age"}
    assert {verdict.kind for verdict in said} == {VerdictKind.DATA_QUALITY}
    # What is not said is still known: both come back only when the values do.
    kinds = {(m.subject, m.kind) for incident in made.incidents() for m in incident.members}
    assert kinds >= {(name, VerdictKind.DATA_DRIFT) for name in ("amount", "age")}


def test_a_new_category_is_drift_that_a_new_model_may_cure():
    data = bank(2_000, 10)
    data["method"][np.random.default_rng(1).random(2_000) < 0.06] = "crypto"
    made, said = after_change(data)
    page = pages(said)[0]
    assert (page.kind, page.subject.name, page.cause) == (VerdictKind.DATA_DRIFT, "method", "new_category")
    assert page.row is not None
    assert page.row < 1_400
    request = RequestPolicy(RequestRules()).consider(made.incidents()[0], page, now=0)
    assert request is not None
    assert request.incident == page.incident


def test_a_category_that_vanished_is_said_once_as_a_warning():
    data = bank(3_000, 11)
    data["method"][data["method"] == "wire"] = "card"
    _, said = after_change(data)
    assert sum(verdict.subject.check == Check.VANISHED for verdict in said) <= 1
    assert any(verdict.subject.name == "method" for verdict in said)


def test_duplicates_beyond_the_usual_are_a_fault():
    made = Watch(REFERENCE, settings=SETTINGS)
    said: list[Verdict] = []
    for pane in panes(REFERENCE, bank(2_000, 12)):
        pane.counts[REFERENCE.layout.pane_counter("duplicates")] += 15
        said += made.step(pane).verdicts
    assert pages(said)[0].subject.check == Check.DUPLICATES


def timed_reference() -> Any:
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 200 * HOUR_MS, 20_000))
    return reference_of({**bank(20_000), "at": times}, time="at", pane="1h", source="history")


def test_silence_of_a_busy_source_is_stale_data():
    reference = timed_reference()
    assert reference.traffic is not None
    made = Watch(reference, settings=SETTINGS)
    said: list[Verdict] = []
    for hour in range(200, 206):
        said += made.step(Pane(hour * HOUR_MS, HOUR_MS, 0, reference.layout.zeros())).verdicts
    assert Check.FRESHNESS in {verdict.subject.check for verdict in pages(said)}


def test_an_outage_is_a_volume_fault_that_ends():
    reference = timed_reference()
    made = Watch(reference, settings=SETTINGS)
    said: list[Verdict] = []
    for hour in range(200, 320):
        rows = 10 if 220 <= hour < 240 else 100
        data = bank(rows, hour)
        counts = reference.layout.tally(columns_for(reference, data), np.zeros(rows, np.int64), np.array([rows]))
        said += made.step(Pane(hour * HOUR_MS, HOUR_MS, rows, counts[0])).verdicts
    found = [verdict for verdict in said if verdict.subject.check == Check.VOLUME]
    assert [verdict.kind for verdict in found if verdict.level == "page" or verdict.kind == "recovered"] == [
        VerdictKind.DATA_QUALITY,
        VerdictKind.RECOVERED,
    ]


def test_a_training_set_says_nothing_of_production_volume():
    reference = replace(timed_reference(), source="training")
    made = Watch(reference, settings=replace(SETTINGS, stale_after=3 * HOUR_MS))
    nothing = reference.layout.zeros()
    said = [v for h in range(200, 202) for v in made.step(Pane(h * HOUR_MS, HOUR_MS, 0, nothing)).verdicts]
    assert said == []
    found = made.step(Pane(202 * HOUR_MS, HOUR_MS, 0, nothing)).verdicts
    assert [verdict.subject.check for verdict in found] == [Check.FRESHNESS]


def test_state_of_the_checks_survives_a_restart():
    every = list(panes(REFERENCE, lost(0.02)))
    whole, first, second = (Watch(REFERENCE, settings=SETTINGS) for _ in range(3))
    expected = [verdict for pane in every for verdict in whole.step(pane).verdicts]
    said = [verdict for pane in every[:7] for verdict in first.step(pane).verdicts]
    second.restore(first.state())
    said += [verdict for pane in every[7:] for verdict in second.step(pane).verdicts]
    assert said == expected
    assert expected
