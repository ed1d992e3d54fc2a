"""A reference without order of time learns from live panes first; how live differs is said once, and not as drift."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.messages import Level, Verdict, VerdictKind
from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.performance import APPROVAL, FairnessRules
from stationkeeper.monitor.core.reasons import Check, Unknown
from stationkeeper.monitor.core.reference import profile
from stationkeeper.monitor.core.watch import Watch
from tests.monitor.core.streams import SETTINGS, bank, judge, pages, panes

REFERENCE = profile(bank(5_000))
ADOPTION = 4_000


def watch() -> Watch:
    return Watch(REFERENCE, settings=replace(SETTINGS, adoption=ADOPTION))


def older(rows: int, seed: int, years: float = 8.0) -> dict[str, Any]:
    data = bank(rows, seed)
    data["age"] = data["age"] + years
    return data


def test_a_model_that_serves_what_it_was_trained_on_says_nothing():
    made = watch()
    assert made.chart("age").unknown is Unknown.NO_ROWS
    assert judge(made, bank(ADOPTION, 1)) == []
    assert not made.adopting
    assert made.reference.adopted
    assert made.reference.source == "adoption"
    assert made.reference.by_name["age"].rows == ADOPTION
    assert made.reference.by_name["age"].day_floor is not None
    assert pages(judge(made, bank(6_000, 2), start=ADOPTION)) == []


def test_skew_is_said_once_and_not_as_drift():
    made = watch()
    first = judge(made, older(ADOPTION - 50, 3))
    assert first == []
    assert made.chart("age").unknown is Unknown.ADOPTING
    after = judge(made, older(8_000, 4), start=ADOPTION - 50)
    assert [(v.kind, v.level, v.subject.name) for v in after if v.level is not Level.INFORM] == [
        (VerdictKind.TRAIN_SERVE_SKEW, Level.WARN, "age")
    ]
    assert after[0].evidence["subjects"] == ["age"]
    # 8 years of 10 are .8 sd: 2 Phi(.4) - 1 = 31 % of the rows changed cell.
    assert after[0].effect == pytest.approx(0.31, abs=0.04)
    assert made.incidents() == []


def test_a_segment_has_no_training_of_its_own_to_differ_from():
    settings = replace(SETTINGS, adoption=ADOPTION, segments=("", "country=de"))
    made = Watch(REFERENCE, "country=de", settings)
    assert judge(made, older(ADOPTION + 1_000, 3)) == []
    assert not made.adopting


def test_what_changes_after_the_period_is_drift_from_live():
    made = watch()
    judge(made, older(ADOPTION, 5))
    found = pages(judge(made, older(3_000, 6, years=0.0), start=ADOPTION))
    assert [(v.kind, v.subject.name) for v in found] == [(VerdictKind.DATA_DRIFT, "age")]


def test_broken_data_page_while_adopting_and_do_not_become_normal():
    made = watch()
    data = bank(ADOPTION, 7)
    data["age"] = np.where(np.random.default_rng(8).random(ADOPTION) < 0.2, np.nan, data["age"])
    said = judge(made, data)
    assert [v.subject.check for v in pages(said)] == [Check.NULL]
    assert not made.adopting
    usual = REFERENCE.by_name["age"]
    learned = made.reference.by_name["age"]
    assert learned.quality[1] / learned.rows == usual.quality[1] / usual.rows == 0.0


def test_dependence_is_learned_from_live_panes():
    made = watch()
    rng = np.random.default_rng(9)
    data = bank(ADOPTION, 9)
    data["age"] = data["age"] + np.repeat(rng.normal(0, 6, ADOPTION // 50), 50)
    judge(made, data)
    phi = made.reference.by_name["age"].phi
    assert phi.max() > 2.0
    assert made.reference.by_name["amount"].phi.max() < phi.max()


def test_a_period_without_enough_rows_goes_on():
    made = watch()
    for pane in panes(REFERENCE, bank(900, 10)):
        made.step(Pane(pane.start * 10, 500, pane.rows, pane.counts))
    assert made.adopting


@pytest.mark.parametrize("cut", [30, 79, 80, 81, 120])
def test_a_watch_restored_while_or_after_adopting_says_the_same(cut: int):
    data = {name: np.concatenate([older(ADOPTION, 11)[name], bank(3_000, 12)[name]]) for name in bank(1)}
    every = list(panes(REFERENCE, data))
    whole, first, second = watch(), watch(), watch()
    expected: list[Verdict] = [verdict for pane in every for verdict in whole.step(pane).verdicts]
    said = [verdict for pane in every[:cut] for verdict in first.step(pane).verdicts]
    second.restore(first.state())
    said += [verdict for pane in every[cut:] for verdict in second.step(pane).verdicts]
    assert said == expected
    assert {VerdictKind.TRAIN_SERVE_SKEW, VerdictKind.DATA_DRIFT} <= {verdict.kind for verdict in expected}
    assert second.charts() == whole.charts()


def test_segments_are_compared_after_the_period_alone_and_with_the_dependence_it_taught():
    data = {**bank(ADOPTION, 1), "score": np.random.default_rng(3).random(ADOPTION)}
    settings = replace(SETTINGS, adoption=ADOPTION, fairness=FairnessRules(("country",)))
    made, again, later = (Watch(profile(data, prediction="score"), settings=settings) for _ in range(3))
    judge(made, {name: values[:-50] for name, values in data.items()})
    assert made.state().fairness is None
    judge(made, {name: values[-50:] for name, values in data.items()}, start=ADOPTION - 50)
    assert made.state().fairness is not None
    later.take_over(replace(made.reference, subjects=tuple(replace(s, phi=7 * s.phi) for s in made.reference.subjects)))
    again.restore(later.state())
    for one in (later, again):
        assert one.fairness is not None
        one.fairness.add({"": np.full((3, 2), 60), "country=de": np.full((3, 2), 30)}, 0)
        assert one.fairness._sides["country=de"][APPROVAL].test.phi.min() >= 7
