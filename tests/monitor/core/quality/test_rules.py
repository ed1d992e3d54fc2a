"""Rules that need no budget: what holds with certainty, and what only looks like it."""

import numpy as np
import pytest

from stationkeeper.contracts.messages import Verdict, VerdictKind
from stationkeeper.monitor.core.adoption import Timeline, adopt
from stationkeeper.monitor.core.finding import PAGE
from stationkeeper.monitor.core.incidents.verdict import refusal_of
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.quality.rules import MIN_ROWS, Rules, far_outside
from stationkeeper.monitor.core.reasons import Check
from stationkeeper.monitor.core.reference import Reference
from stationkeeper.monitor.core.watch import Watch
from tests.monitor.core.streams import SETTINGS, Columns, bank, columns_for, judge, panes, reference_of

HOUR = 3_600_000
REFERENCE = reference_of({"temp": np.random.default_rng(0).uniform(10, 60, 5_000), "age": bank(5_000)["age"]})


def side(values: np.ndarray) -> str:
    place = REFERENCE.layout["temp"]
    data: Columns = {"temp": values, "age": np.full(len(values), 40.0)}
    counts = next(panes(REFERENCE, data, rows=len(values))).counts
    return far_outside(REFERENCE.by_name["temp"], counts[place.histogram], counts[place.quality : place.last])


@pytest.mark.parametrize(
    ("value", "found"),
    [(-999.0, "below"), (1e6, "above"), (-1e6, "below"), (95.0, ""), (5.0, ""), (0.0, ""), (30.0, "")],
)
def test_far_is_beyond_the_width_of_the_range(value: float, found: str):
    assert side(np.full(100, value)) == found


def test_a_twentieth_of_good_values_is_still_all_and_a_tenth_is_not():
    values = np.full(200, -999.0)
    values[:10] = 30.0
    assert side(values) == "below"
    values[:20] = 30.0
    assert side(values) == ""


def test_a_sentinel_in_every_row_is_a_fault_with_its_numbers_and_refuses_retraining():
    rules, found = Rules(REFERENCE), []
    data: Columns = {"temp": np.full(200, -999.0), "age": bank(200, 1)["age"]}
    for pane in panes(REFERENCE, data, rows=20):
        found.append([f for f in rules.step(pane) if f.check is Check.OUT_OF_RANGE])
    # Three panes of twenty are the first with fifty rows.
    assert [len(each) for each in found] == [0, 0, *[1] * 8]
    first = found[2][0]
    assert (first.level, first.kind, first.onset, first.score) == (PAGE, VerdictKind.DATA_QUALITY, 0, 60.0)
    assert first.threshold == MIN_ROWS
    assert "far below" in first.reason
    assert "broken data" in refusal_of(first)


def test_a_run_that_ends_begins_anew_and_survives_a_restart():
    def sentinel(rows: int) -> Columns:
        return {"temp": np.full(rows, -999.0), "age": np.full(rows, 40.0)}

    rules, good = Rules(REFERENCE), {"temp": np.linspace(20, 50, 20), "age": np.linspace(30, 50, 20)}
    pane = next(panes(REFERENCE, sentinel(40), rows=40))
    assert not [f for f in rules.step(pane) if f.check is Check.OUT_OF_RANGE]
    again = Rules(REFERENCE)
    again.restore(rules.state())
    assert [f for f in again.step(pane) if f.check is Check.OUT_OF_RANGE]
    rules.step(next(panes(REFERENCE, good, rows=20)))
    assert not [f for f in rules.step(pane) if f.check is Check.OUT_OF_RANGE]


def test_drift_that_lies_far_outside_is_said_as_broken_data():
    watch, data = Watch(REFERENCE, settings=SETTINGS), bank(1_000, 2)
    said = judge(watch, {"temp": np.full(1_000, 1e6), "age": data["age"]})
    assert {v.subject.check for v in said if v.kind is VerdictKind.DATA_QUALITY} >= {Check.OUT_OF_RANGE}
    assert watch.incidents()[0].refusal


def weather(days: int, seed: int, first: float) -> tuple[np.ndarray, np.ndarray]:
    """Forty rows an hour that share the hour's temperature; ``first`` is the season's height of the first day."""
    rng = np.random.default_rng(seed)
    hours = days * 24
    noise = np.zeros(hours)
    for at in range(1, hours):
        noise[at] = 0.97 * noise[at - 1] + rng.normal(0, 1.2)
    season = first + np.arange(hours) / 24 * 0.25
    temp = season + 6 * np.sin(np.arange(hours) / 24 * 2 * np.pi) + noise
    times = np.repeat(np.arange(hours) * HOUR, 40) + np.tile(np.arange(40) * 60_000, hours)
    return times, np.repeat(temp, 40) + rng.normal(0, 0.5, hours * 40)


def reference_of_winter() -> Reference:
    times, temp = weather(21, 1, 30.0)
    made = reference_of({"temp": temp})
    return adopt(made, columns_for(made, {"temp": temp}), Timeline.of_times(times, HOUR))


def test_a_spring_is_drift_and_never_broken_data():
    made = reference_of_winter()
    _, temp = weather(90, 2, 30.0 + 21 * 0.25)
    watch, said = Watch(made), list[Verdict]()
    vectors = made.layout.tally(columns_for(made, {"temp": temp}), np.arange(len(temp)) // 40, np.full(90 * 24, 40))
    for at, vector in enumerate(vectors):
        said += watch.step(Pane((21 * 24 + at) * HOUR, HOUR, 40, vector)).verdicts
    assert not [v for v in said if v.kind is VerdictKind.DATA_QUALITY]
    warned = [v for v in said if v.level.value in ("warn", "page")]
    # Twenty degrees in three months is true drift: said, and not once a warm afternoon.
    assert 1 <= len(warned) <= 4


def test_a_feature_of_one_value_with_gaps_is_not_called_constant():
    """What has one value in the reference proves nothing by having it again, however often it is missing."""

    def held(rows: int) -> Columns:
        gone = np.random.default_rng(rows).random(rows) < 0.15
        return {"unit": np.array([None if off else "EUR" for off in gone], object), "age": bank(rows)["age"]}

    made = Watch(reference_of(held(5_000)), settings=SETTINGS)
    assert Check.CONSTANT not in {verdict.subject.check for verdict in judge(made, held(6_000))}


def test_a_winter_below_a_spring_of_one_cold_night_is_not_called_constant():
    """The lowest cell reaches from the one cold night to the rest: what falls into it is cold, and not one value."""
    rng = np.random.default_rng(3)
    spring = np.append(rng.normal(60.0, 5.0, 5_000), 10.0)
    made = Watch(reference_of({"temp": spring}), settings=SETTINGS)
    said = judge(made, {"temp": rng.uniform(15.0, 35.0, 6_000)})
    assert Check.CONSTANT not in {verdict.subject.check for verdict in said}
    stuck = Watch(reference_of({"temp": spring}), settings=SETTINGS)
    assert Check.CONSTANT in {verdict.subject.check for verdict in judge(stuck, {"temp": np.full(6_000, 60.0)})}
