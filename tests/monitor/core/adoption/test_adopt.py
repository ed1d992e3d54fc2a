from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.contracts.column import numbers
from stationkeeper.monitor import profile
from stationkeeper.monitor.core.adoption.adopt import (
    Timeline,
    adopt,
    error_phi,
    excess_floor,
    inherit,
    longest_run,
    may_take_over,
    pane_phi,
)
from stationkeeper.monitor.core.detect import plan_subject
from stationkeeper.monitor.core.reference import Reference
from tests.monitor.core.streams import bank, columns_for, reference_of


def test_a_timeline_of_rows_by_hand():
    made = Timeline.of_rows(7, 3)
    assert made.group.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert (made.panes, made.starts) == (2, None)


def test_a_timeline_of_times_leaves_out_panes_without_rows():
    made = Timeline.of_times(np.array([5, 61, 62, 250]), 60)
    assert made.group.tolist() == [0, 1, 1, 2]
    assert made.starts is not None
    assert made.starts.tolist() == [0, 60, 240]


def test_too_few_panes_leave_dependence_unknown():
    reference = profile(bank(100))
    columns = columns_for(reference, bank(100))
    assert not adopt(reference, columns, Timeline.of_rows(100, 50)).adopted
    assert adopt(reference, columns, Timeline.of_rows(100, 5)).adopted


def test_a_version_inherits_the_larger_of_each_law():
    known = reference_of(bank(5_000))
    learned = tuple(replace(s, phi=np.full(len(s.phi), 3.0), day_floor=0.1, repeats=9) for s in known.subjects)
    before = replace(known, subjects=learned)
    fresh = profile(bank(5_000, 1))
    made = inherit(fresh, before)
    assert may_take_over(before)
    assert made.adopted
    for subject in made.subjects:
        assert (subject.phi.max(), subject.day_floor, subject.repeats) == (3.0, 0.1, 9)
        np.testing.assert_array_equal(subject.counts, fresh.by_name[subject.name].counts)


def test_pane_phi_by_hand():
    # Panes of 10 rows, all wrong or all right: the variance of a pane is 10 times that of independent rows.
    hits = np.tile([0.0, 0.0, 10.0, 10.0, 10.0, 0.0], 40)
    assert pane_phi(hits, np.full(240, 10.0)) >= 10.0
    assert pane_phi(np.tile([2.0, 2.0], 100), np.full(200, 10.0)) == 1.0


def test_order_teaches_dependence_and_daily_movement():
    rng = np.random.default_rng(0)
    walk = np.zeros(10_000)
    for i in range(1, 10_000):
        walk[i] = 0.9 * walk[i - 1] + rng.normal()
    made = profile({"walk": walk, "noise": rng.normal(size=10_000)}, ordered=True, pane=50)
    assert made.by_name["walk"].phi.max() > 5
    assert made.by_name["noise"].phi.max() < 2
    assert made.by_name["noise"].day_floor == 0.0
    assert made.adopted


def test_hours_that_differ_get_their_own_bags():
    rng = np.random.default_rng(0)
    hours = 24 * 60
    times = np.repeat(np.arange(hours) * 3_600_000, 20) + rng.integers(0, 3_600_000, hours * 20)
    daily = rng.normal(size=len(times)) + 2 * np.sin(times / 86_400_000 * 2 * np.pi)
    made = profile({"daily": daily, "at": times}, time="at", pane="1h")
    assert made.by_name["daily"].strata.shape[0] == 24
    flat = profile({"flat": rng.normal(size=len(times)), "at": times}, time="at", pane="1h")
    assert flat.by_name["flat"].strata.shape[0] == 0


def days_that_move(carry: float) -> Reference:
    """Four weeks of 300 numbers an hour whose days lie .1 sd off, each with ``carry`` of the day before."""
    rng, moves = np.random.default_rng(3), np.zeros(28)
    for day in range(1, 28):
        moves[day] = carry * moves[day - 1] + rng.normal() * 0.1
    hours = np.repeat(np.arange(28 * 24), 300)
    data = {"x": rng.normal(size=len(hours)) + moves[hours // 24], "at": hours * 3_600_000}
    return profile(data, time="at", pane="1h")


def test_days_that_move_by_themselves_are_charged_once_and_weather_by_dependence():
    x = days_that_move(0.0).by_name["x"]
    assert x.day_floor is not None
    assert 0.04 < x.day_floor < 0.12
    # Half a day of such panes varies tens of times as much as rows do; within a day they are independent.
    assert x.phi.max() > 20
    assert len(x.phi_within_days) == len(x.phi)
    assert x.phi_within_days.max() < 2.5
    # An odd day waits only of a model with seasons, so without them it is charged with the whole.
    np.testing.assert_array_equal(plan_subject(x, 0.02).phi, x.phi)
    seasonal = replace(x, strata=np.tile(x.counts, (24, 1)))
    np.testing.assert_array_equal(plan_subject(seasonal, 0.02).phi, np.maximum(x.phi_within_days, 1.0))
    weather = days_that_move(0.9).by_name["x"]
    assert len(weather.phi_within_days) == 0
    np.testing.assert_array_equal(plan_subject(weather, 0.02).phi, weather.phi)


def test_a_version_inherits_dependence_within_days_only_where_both_know_it():
    known = reference_of(bank(500))
    knows = replace(known.subjects[0], name="x", phi=np.full(10, 3.0), phi_within_days=np.full(10, 2.0), day_floor=0.1)
    before = replace(known, subjects=(knows,), pairs=())
    for mine, within in (
        (replace(knows, phi=np.empty(0), phi_within_days=np.empty(0)), np.full(10, 2.0)),
        (replace(knows, phi_within_days=np.full(10, 4.0)), np.full(10, 4.0)),
        (replace(knows, phi_within_days=np.empty(0)), np.empty(0)),
    ):
        made = inherit(replace(before, subjects=(mine,)), before).by_name["x"]
        np.testing.assert_array_equal(made.phi_within_days, within)


def test_sampling_noise_is_no_daily_movement():
    rng = np.random.default_rng(0)
    equal = rng.multinomial(500, np.full(20, 0.05), size=12)
    assert excess_floor(equal) == 0.0
    moved = np.concatenate([equal[:6], rng.multinomial(500, np.repeat([0.03, 0.07], 10), size=6)])
    # Each half lies .1 (TV) from the middle of both.
    assert 0.07 < excess_floor(moved) < 0.13


def test_errors_in_clusters_inflate_their_variance():
    group = np.arange(10_000) // 50
    rng = np.random.default_rng(0)
    assert error_phi((rng.random(10_000) < 0.2).astype(float), group, 200) == 1.0
    assert error_phi(np.repeat((rng.random(200) < 0.2).astype(float), 50), group, 200) > 20


@pytest.mark.parametrize(("values", "run"), [([1, 1, 2, 2, 2, 1], 3), ([1], 1), ([np.nan, np.nan], 1), ([], 0)])
def test_the_longest_run_by_hand(values: list[float], run: int):
    assert longest_run(numbers(np.array(values, np.float64))) == run
