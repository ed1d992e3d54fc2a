from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.messages import Level, SubjectState, Verdict, VerdictKind
from stationkeeper.contracts.state import state_of
from stationkeeper.monitor.core.panes.pane import Pane
from stationkeeper.monitor.core.reasons import Unknown
from stationkeeper.monitor.core.watch import Watch, WatchState
from stationkeeper.monitor.judge.state import WatchRecords
from stationkeeper.monitor.state_codec import freeze, thaw
from tests.monitor.core.streams import SETTINGS, bank, columns_for, judge, pages, panes, reference_of

REFERENCE = reference_of(bank(5_000))


def watch() -> Watch:
    return Watch(REFERENCE, settings=SETTINGS)


def shifted(rows: int = 3_000, seed: int = 9) -> dict[str, Any]:
    data = bank(rows, seed)
    data["age"] = data["age"] + 8
    return data


def test_nothing_is_said_of_a_steady_stream():
    made = watch()
    assert pages(judge(made, bank(10_000, 1))) == []
    assert {chart.state for chart in made.charts()} == {SubjectState.STEADY}


def test_a_shift_opens_one_incident_dated_where_it_began():
    made = watch()
    judge(made, bank(2_000, 2))
    found = pages(judge(made, shifted(), start=2_000))
    assert len(found) == 1
    verdict = found[0]
    assert (verdict.kind, verdict.subject.name, verdict.cause) == (VerdictKind.DATA_DRIFT, "age", "shift")
    assert verdict.onset is not None
    assert verdict.onset.row is not None
    assert abs(verdict.onset.row - 2_000) <= 100
    assert verdict.row is not None
    assert verdict.row < 2_400
    assert [incident.id for incident in made.incidents()] == [verdict.incident]
    assert made.chart("age").state is SubjectState.DRIFTING


def test_the_chart_shows_the_numbers_of_the_verdict():
    made = watch()
    for pane in panes(REFERENCE, shifted()):
        for verdict in made.step(pane).verdicts:
            if verdict.level is Level.PAGE:
                chart = made.chart(verdict.subject.name)
                assert chart.effect == verdict.effect
                assert chart.rows == verdict.rows
                assert (chart.evidence, chart.threshold) == (verdict.statistic, verdict.threshold)
                return
    pytest.fail("a shift of .8 sd was not found in 3 000 rows")


def test_features_that_move_together_are_one_incident():
    made = watch()
    judge(made, bank(2_000, 3))
    data = bank(3_000, 4)
    data["age"], data["amount"] = data["age"] + 10, data["amount"] * 1.8
    found = pages(judge(made, data, start=2_000))
    assert len(found) == 1
    subjects = set(made.incidents()[0].subjects)
    assert {"age", "amount"} <= subjects
    # A feature takes the pairs that it is in along; none of them is an incident of its own.
    assert all(name.partition(" & ")[1] for name in subjects - {"age", "amount"})


def test_an_incident_ends_when_the_values_come_back():
    made = watch()
    judge(made, shifted())
    said = judge(made, bank(4_000, 5), start=3_000)
    assert [verdict.kind for verdict in said if verdict.kind is VerdictKind.RECOVERED] == [VerdictKind.RECOVERED]
    assert made.incidents() == []
    assert pages(judge(made, bank(4_000, 6), start=7_000)) == []
    assert len(pages(judge(made, shifted(seed=7), start=11_000))) == 1


def test_a_lasting_drift_pages_once():
    made = watch()
    assert len(pages(judge(made, shifted(20_000)))) == 1


@pytest.mark.parametrize("cut", [1, 12, 25])
def test_a_watch_restored_in_the_middle_says_the_same(cut: int):
    data = {
        name: np.concatenate([bank(1_500, 8)[name], shifted(1_500)[name], bank(2_500, 3)[name]]) for name in bank(1)
    }
    whole, first, second = watch(), watch(), watch()
    every = list(panes(REFERENCE, data))
    expected = [verdict for pane in every for verdict in whole.step(pane).verdicts]
    at = cut * len(every) // 30
    said = [verdict for pane in every[:at] for verdict in first.step(pane).verdicts]
    second.restore(first.state())
    said += [verdict for pane in every[at:] for verdict in second.step(pane).verdicts]
    assert said == expected
    assert any(verdict.kind is VerdictKind.RECOVERED for verdict in expected)
    assert second.charts() == whole.charts()


def test_a_state_that_was_stored_says_the_same():
    first, second = watch(), watch()
    every = list(panes(REFERENCE, shifted(2_000)))
    for pane in every[:-1]:
        first.step(pane)
    pieces = {name: thaw(freeze(value)) for name, value in WatchRecords().changed(first.state())}
    stored = WatchRecords().joined(pieces.pop(""), pieces)
    second.restore(state_of(stored, WatchState))
    assert second.step(every[-1]) == first.step(every[-1])
    assert second.charts() == first.charts()


def test_any_batching_of_the_arrivals_gives_the_same_panes():
    data = bank(1_000, 11)
    whole = list(panes(REFERENCE, data))
    parts: dict[int, Pane] = {}
    rng = np.random.default_rng(0)
    group = np.arange(1_000) // 50
    order = rng.permutation(1_000)
    for batch in np.array_split(order, 37):
        chosen = {name: values[batch] for name, values in data.items()}
        for start in np.unique(group[batch]):
            inside = group[batch] == start
            rows = {name: values[inside] for name, values in chosen.items()}
            for part in panes(REFERENCE, rows, rows=10_000):
                moved = Pane(int(start) * 50, 50, part.rows, part.counts)
                parts[int(start)] = parts[int(start)] + moved if int(start) in parts else moved
    assert [(p.start, p.rows, p.counts.tolist()) for p in whole] == [
        (p.start, p.rows, p.counts.tolist()) for _, p in sorted(parts.items())
    ]


def test_panes_out_of_order_are_refused():
    made = watch()
    first, second = list(panes(REFERENCE, bank(100)))
    made.step(second)
    with pytest.raises(ValueError, match="panes go in order"):
        made.step(first)


def test_a_daily_cycle_is_neither_drift_nor_recovery():
    rng = np.random.default_rng(3)
    hour, days = 3_600_000, 50
    times = np.sort(rng.integers(0, days * 24 * hour, days * 24 * 25))
    daily = rng.normal(size=len(times)) + 0.7 * np.sin(times / (24 * hour) * 2 * np.pi)
    half = len(times) // 2
    reference = reference_of({"x": daily[:half], "at": times[:half]}, time="at", pane="1h")
    assert len(reference.by_name["x"].strata) == 24
    made = Watch(reference, settings=SETTINGS)
    late = times >= times[half] + 8 * 24 * hour
    data = {"x": np.where(late, daily + 0.7, daily)[half:]}
    start, group = np.unique(times[half:] // hour, return_inverse=True)
    rows = np.bincount(group)
    said: list[Verdict] = []
    for at, vector, count in zip(
        start, reference.layout.tally(columns_for(reference, data), group, rows), rows, strict=True
    ):
        said += made.step(Pane(int(at) * hour, hour, int(count), vector)).verdicts
    assert [(verdict.kind, verdict.level) for verdict in said if verdict.level is Level.PAGE] == [
        (VerdictKind.DATA_DRIFT, Level.PAGE)
    ]
    assert VerdictKind.RECOVERED not in {verdict.kind for verdict in said}


def test_silence_is_unknown_and_not_steady():
    made = watch()
    assert made.chart("age").unknown is Unknown.NO_ROWS
    judge(made, bank(1_000))
    nothing = REFERENCE.layout.zeros()
    for start in range(1_000, 4_000, 50):
        assert made.step(Pane(start, 50, 0, nothing)).verdicts == ()
    assert made.chart("age").unknown is Unknown.STALE
    assert made.chart("age").state is SubjectState.UNKNOWN


def test_a_reference_without_time_order_holds_drift_back_while_adopting():
    from stationkeeper.monitor.core.reference import profile

    reference = profile(bank(5_000))
    made = Watch(reference, settings=replace(SETTINGS, adoption=10_000))
    said = [verdict for pane in panes(reference, shifted()) for verdict in made.step(pane).verdicts]
    assert said == []
    assert made.chart("age").unknown is Unknown.ADOPTING


def test_a_full_shuffle_pages_no_more_than_the_budget_allows():
    rows, wanted = 0, 0
    settings = replace(SETTINGS, budget=replace(SETTINGS.budget, period=2_000.0))
    for seed in range(4):
        made = Watch(reference_of(bank(2_000, seed)), settings=settings)
        data = bank(10_000, seed + 50)
        said = [verdict for pane in panes(made.reference, data) for verdict in made.step(pane).verdicts]
        wanted += len(pages(said))
        rows += 10_000
    allowed = rows / 2_000
    assert wanted <= allowed + 3 * np.sqrt(allowed)
