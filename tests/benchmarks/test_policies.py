"""The comparison of retraining policies: hindsight is a bound, and no policy sees what is to come."""

import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure.plot import amounts
from benchmarks.policies.matrix import Losses, kept_losses, losses
from benchmarks.policies.peers import cara, drifted, upf
from benchmarks.policies.policies import best, every, never, policies, run, shipped
from benchmarks.policies.streams import CHANGE, PERIODS, WORLD_ROWS, shares, world


@pytest.fixture(scope="module")
def abrupt() -> Losses:
    return losses(world("abrupt", 1))


def test_no_policy_is_cheaper_than_hindsight(abrupt: Losses):
    for price in (1.0, 50.0, 1_000.0):
        least = best(abrupt, price)
        for name, decide in policies(abrupt)(price).items():
            assert run(abrupt, price, decide).cost >= least.cost - 1e-9, name


def test_prices_and_calendars_by_hand(abrupt: Losses):
    kept = run(abrupt, 10.0, never)
    assert kept.trainings == 0
    assert kept.cost == pytest.approx(abrupt.wrong[1, 1:].sum())
    often = run(abrupt, 10.0, every(1))
    assert often.trainings == PERIODS - 2
    assert often.cost == pytest.approx(np.diag(abrupt.wrong)[1:].sum() + 10.0 * (PERIODS - 2))
    assert best(abrupt, 1e9).trainings == 0
    assert best(abrupt, 0.0).cost <= often.cost


def test_the_shipped_rule_does_not_see_what_is_to_come(abrupt: Losses):
    def trained(found: Losses) -> list[int]:
        decide, seen = shipped(found, 60.0), [1]
        for period in range(2, CHANGE):
            if decide(period, seen):
                seen.append(period)
        return seen

    later = abrupt.wrong.copy()
    later[:, CHANGE:] *= 3
    assert trained(replace(abrupt, wrong=later)) == trained(abrupt)


def test_after_a_change_the_shipped_rule_trains_more_often_than_without(abrupt: Losses):
    calm = losses(world("none", 1))
    price = 0.5 * abrupt.unit
    assert run(abrupt, price, shipped(abrupt, price)).trainings > run(calm, price, shipped(calm, price)).trainings


def test_worlds_change_as_they_are_named():
    broken, harmless = world("broken", 0), world("harmless", 0)
    at = slice(CHANGE * WORLD_ROWS, (CHANGE + 3) * WORLD_ROWS)
    assert not broken.features[at, 0].any()
    assert broken.features[at.stop :, 0].any()
    assert harmless.features[at, -1].mean() == pytest.approx(2.0, abs=0.1)
    assert np.array_equal(world("slow", 3).labels, world("slow", 3).labels)


def test_a_stream_that_ships_with_a_package_is_cut_into_whole_periods():
    made = shares()
    assert made.features.shape == (len(made.labels), 10)
    assert set(made.labels) == {0, 1}
    assert (np.diff(made.period) >= 0).all()
    assert made.period.max() >= 15


def test_on_broken_data_the_shipped_rule_refuses(abrupt: Losses):
    found = losses(world("broken", 1))
    assert np.flatnonzero(found.broken).tolist() == [CHANGE, CHANGE + 1, CHANGE + 2]
    decide = shipped(found, 1e-9)
    assert decide(CHANGE, [1])
    assert not any(decide(period, [1]) for period in range(CHANGE + 1, CHANGE + 4))
    assert not abrupt.broken.any()


def test_evidentlys_rule_asks_for_half_of_the_columns():
    rng = np.random.default_rng(0)
    for rows in (800, 5_000):
        reference = np.column_stack([rng.normal(size=(rows, 3)), rng.integers(0, 3, rows)])
        current = np.column_stack([rng.normal(size=(900, 3)), rng.integers(0, 3, 900)])
        assert not drifted(reference, current, categories=1)
        one, two = current.copy(), current.copy()
        one[:, 0] += 1
        two[:, 0] += 1
        two[:, 3] = 0
        assert not drifted(reference, one, categories=1)
        assert drifted(reference, two, categories=1)


def test_rules_of_others_do_not_see_what_is_to_come(abrupt: Losses):
    later = abrupt.wrong.copy()
    later[:, CHANGE:] *= 3
    changed = replace(abrupt, wrong=later)
    for make in (cara, upf):
        price = 0.1 * abrupt.unit
        before, after = make(abrupt, price), make(changed, price)
        assert [before(at, [1]) for at in range(2, CHANGE)] == [after(at, [1]) for at in range(2, CHANGE)]


def test_losses_that_are_kept_are_those_that_were_computed(tmp_path: Path):
    stream = world("none", 5)
    made, again = (kept_losses(stream, tmp_path) for _ in range(2))
    (path,) = tmp_path.iterdir()
    assert np.array_equal(made.wrong, again.wrong, equal_nan=True)
    assert all(np.array_equal(made.errors[version], again.errors[version]) for version in made.errors)
    # Other rows are not taken for these.
    kept_losses(world("none", 6), tmp_path)
    assert len([*tmp_path.iterdir()]) == 2
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(TypeError):
        kept_losses(stream, tmp_path)


def test_a_bar_of_twice_the_amount_is_twice_as_long():
    drawn = amounts("cost", [("one", 2.0, "ours"), ("other", 4.0, "peer")], step=1)
    one, other = (float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', drawn))
    assert other == pytest.approx(2 * one, rel=1e-2)
