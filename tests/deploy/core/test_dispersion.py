"""The design effect: rows that fail together count as fewer, independent ones as themselves, and a share alike."""

import math

import numpy as np
import pytest

from stationkeeper.contracts.wire import ENTITY_GROUPS
from stationkeeper.deploy.core.dispersion import (
    BLOCK_VARIANCE,
    FIRST_BLOCKS,
    LEAST,
    MIDDLE,
    ROWS_TELL,
    alike,
    by_request,
    crowd,
    design_effect,
    entities,
    gathered,
    group_effect,
    in_block,
    scatter,
    scattered,
    shared_out,
)
from stationkeeper.deploy.core.policy import Guardrail
from stationkeeper.deploy.core.state import Allocation, Controller, Groups, Pool, Spread


def test_a_group_effect_by_hand():
    assert group_effect(np.array([10, 10]), np.array([0, 10])) == (20.0, 1.0)
    assert group_effect(np.array([10, 10]), np.array([0, 0])) == (1.0, 0.0)


def counted(rng: np.random.Generator, people: int, rows: int, spread: float) -> Controller:
    """People of equal rows in both arms; their failure rates have a standard deviation of ``spread`` times .1."""
    state = Controller()
    group = rng.integers(0, ENTITY_GROUPS, (2, people))
    rates = np.clip(0.1 + 0.1 * spread * rng.standard_normal((2, people)), 0.0, 1.0)
    failed = rng.binomial(rows, rates)
    sums = {
        "rows": [np.bincount(one, minlength=ENTITY_GROUPS) * rows for one in group],
        "errors": [np.bincount(one, lost, ENTITY_GROUPS).astype(int) for one, lost in zip(group, failed, strict=True)],
    }
    return state.model_copy(update={"groups": {name: gathered(None, *arms) for name, arms in sums.items()}})


def test_independent_rows_count_as_themselves_and_people_who_fail_alike_do_not():
    rng = np.random.default_rng(1)
    alike = [design_effect(counted(rng, 2_000, 20, 0.0), "errors") for _ in range(50)]
    assert np.mean(np.array(alike) == 1.0) > 0.9
    # Rates with a standard deviation of .1 and a mean of .1: 1 + (200 - 1) * .01 / .09 is about 20.
    apart = [design_effect(counted(rng, 500, 200, 1.0), "errors") for _ in range(20)]
    assert 10 < np.median(apart) < 30


def test_of_a_handful_of_people_nothing_is_told_and_where_most_rows_name_nobody_they_do_not_count():
    """Twenty people of whom two send most: an equal canary was rolled back in 39 of 100 rollouts, on rows."""
    rows, wrong = np.zeros((2, ENTITY_GROUPS), int), np.zeros((2, ENTITY_GROUPS), int)
    rows[0, :3], rows[1, 3:6], wrong[1, 3] = 500, 500, 40
    groups = {"rows": gathered(None, *rows), "errors": gathered(None, *wrong)}
    few = Controller(groups=groups, sums={"errors": Pool(rows_a=1_500, rows_b=1_500, loss_b=40)})
    assert design_effect(few, "errors") == math.inf
    mostly_nobody = few.model_copy(update={"sums": {"errors": Pool(rows_a=15_000, rows_b=15_000, loss_b=40)}})
    assert design_effect(mostly_nobody, "errors") == 1.0


def of_users(split: str, share: float, users: int = 20, rows: int = 20_000) -> Controller:
    """Return users of whom few send most, each with a failure rate of its own, split by entity or by request."""
    rng = np.random.default_rng(3)
    activity = rng.lognormal(0.0, 1.5, users)
    sent = rng.poisson(activity / activity.sum() * rows)
    b = rng.binomial(sent, share) if split == "request" else sent * (rng.permutation(users) < share * users)
    group = rng.integers(0, ENTITY_GROUPS, users)
    rates = rng.gamma(5.0, 0.2, users) * 0.05
    arms = [sent - b, b]
    sums = {
        "rows": [np.bincount(group, one, ENTITY_GROUPS).astype(int) for one in arms],
        "errors": [np.bincount(group, rng.binomial(one, rates), ENTITY_GROUPS).astype(int) for one in arms],
    }
    total = Pool(rows_a=int(arms[0].sum()), rows_b=int(arms[1].sum()))
    groups = {name: gathered(None, *both) for name, both in sums.items()}
    return Controller(groups=groups, sums={"errors": total}, split=shared_out(None, *sums["rows"]))


@pytest.mark.parametrize("users", [5, 20, 200])
def test_people_who_are_in_both_arms_are_no_reason_to_wait(users: int) -> None:
    """A gateway splits request by request: twenty tenants were held as too few for a week, and rolled back."""
    for share in (0.05, 0.5):
        apart = of_users("entity", max(share, 0.21), users)
        assert not by_request(apart)
        assert design_effect(apart, "errors") > 3.0
        mixed = of_users("request", share, users)
        assert by_request(mixed)
        assert design_effect(mixed, "errors") == 1.0


def test_the_split_is_not_told_from_few_rows_nor_from_one_entity() -> None:
    assert not by_request(of_users("request", 0.5, rows=300))
    rows = np.zeros((2, ENTITY_GROUPS), int)
    rows[:, 4] = 5_000
    assert not by_request(Controller(groups={"rows": gathered(None, *rows)}, split=shared_out(None, *rows)))
    assert not by_request(Controller())


def test_the_rows_of_one_minute_shared_out_by_hand() -> None:
    split = shared_out(None, np.array([97, 103]), np.array([103, 97]))
    assert split is not None
    assert split.residual == (3.0, -3.0)
    assert list(split.variance) == [pytest.approx(25.06, abs=0.01)] * 2
    # A minute of one arm alone says nothing, and minutes add up.
    assert shared_out(split, np.array([5, 5]), np.array([0, 0])) == split
    twice = shared_out(split, np.array([97, 103]), np.array([103, 97]))
    assert twice is not None
    assert twice.residual == (6.0, -6.0)


def ramped(rng: np.random.Generator, minutes: int, *, sticky: bool) -> Controller:
    """Two tenants by day, two by night; by night the canary has a tenth of the rows and by day a half."""
    split, groups = None, None
    for index in range(minutes):
        night = index < minutes // 2
        sent = np.zeros(ENTITY_GROUPS, int)
        sent[[0, 1] if night else [2, 3]] = rng.poisson(40, 2)
        share = 0.1 if night else 0.5
        mine = rng.binomial(sent, share)
        if sticky:
            mine = np.where(np.arange(ENTITY_GROUPS) % 2, sent, 0)
        split, groups = shared_out(split, sent - mine, mine), gathered(groups, sent - mine, mine)
    assert groups is not None
    return Controller(groups={"rows": groups}, split=split)


def test_tenants_with_hours_of_their_own_under_a_weight_that_rises_do_not_seem_to_keep_their_arm() -> None:
    """The night's tenants have few rows with the canary: beside the share of all rows they waited for a week."""
    rng = np.random.default_rng(5)
    told = [by_request(ramped(rng, 120, sticky=False)) for _ in range(100)]
    # Each is wrong about one time in forty.
    assert sum(told) >= 92
    assert not any(by_request(ramped(rng, 120, sticky=True)) for _ in range(20))


def test_a_split_is_not_told_before_the_canary_has_its_rows() -> None:
    few = Allocation(rows_b=ROWS_TELL - 1, residual=(0.0, 0.0), variance=(50.0, 50.0))
    assert not by_request(Controller(split=few))
    assert by_request(Controller(split=few.model_copy(update={"rows_b": ROWS_TELL})))


def test_one_known_entity_an_arm_is_a_handful_and_people_of_whom_none_fails_are_none():
    """One entity an arm scatters over no groups: its rows counted as independent, the least so of all."""

    def of(people: int, failed: int) -> Controller:
        rows, wrong = np.zeros((2, ENTITY_GROUPS), int), np.zeros((2, ENTITY_GROUPS), int)
        rows[:, :people], wrong[1, :people] = 100, failed
        groups = {"rows": gathered(None, *rows), "errors": gathered(None, *wrong)}
        return Controller(groups=groups, grouped=10)

    for failed in (0, 50, 100):
        assert (design_effect(of(1, failed), "errors"), design_effect(of(20, failed), "errors")) == (math.inf, 1.0)
    # Ten rows a minute of one entity in either arm: (100 * 10 + 100 * 10) / 200.
    assert design_effect(of(1, 50), "errors", harm=True) == 10.0


def test_the_worst_case_of_a_handful_by_hand():
    rows = np.array([[30, 30, 30, 0, 0], [0, 0, 0, 5, 5]])
    assert [crowd(one) for one in rows] == [pytest.approx(3.0), pytest.approx(2.0)]
    state = Controller(groups={"rows": gathered(None, *rows)}, grouped=1)
    assert alike(state) == pytest.approx(7.5)
    # A record from before minutes were counted: all rows of an entity are one.
    assert alike(state.model_copy(update={"grouped": 0})) == pytest.approx(7.5)
    assert alike(state.model_copy(update={"grouped": 100})) == 1.0
    # An entity counts for sixty at most: after a hundred minutes of such rows as after sixty.
    many = Controller(groups={"rows": gathered(None, *(100 * rows))}, grouped=100)
    assert alike(many) == pytest.approx(7.5 * 100 / 60)


def test_scatter_over_time_is_believed_after_some_blocks_and_a_latency_not_judged_before():
    spread = Spread()
    for _ in range(FIRST_BLOCKS + int(LEAST) - 1):
        spread = in_block(spread, 10.0, BLOCK_VARIANCE)
    early = Controller(spread={"errors": spread, "latency": spread})
    assert (design_effect(early, "errors"), design_effect(early, Guardrail.LATENCY)) == (1.0, math.inf)
    late = Controller(spread={"errors": in_block(spread, 10.0, BLOCK_VARIANCE)})
    assert design_effect(late, "errors") == pytest.approx(100.0 / BLOCK_VARIANCE)


def test_the_middle_speaks_of_latency_until_the_tail_has_its_blocks():
    few, many = Spread(blocks=FIRST_BLOCKS), Spread(blocks=FIRST_BLOCKS + int(LEAST), squares=400.0)
    assert design_effect(Controller(spread={"latency": few, MIDDLE: many}), Guardrail.LATENCY) == 50.0
    calm = many.model_copy(update={"squares": 8.0})
    assert design_effect(Controller(spread={"latency": calm, MIDDLE: many}), Guardrail.LATENCY) == 1.0


def test_the_scatter_of_one_minute_by_hand():
    residual, variance = scatter(Spread(), Pool(rows_a=10, loss_a=3, rows_b=10, loss_b=7)) or (0.0, 0.0)
    assert residual == 2.0
    assert variance == pytest.approx(10 * 0.25 * 10 / 19)
    # Where all rows fail, or none, nothing can scatter.
    assert scatter(Spread(), Pool(rows_a=10, loss_a=10, rows_b=10, loss_b=10)) is None
    assert scatter(Spread(), Pool(rows_a=10, rows_b=10)) is None


def test_a_block_ends_when_enough_was_expected():
    half = in_block(Spread(), 1.0, BLOCK_VARIANCE / 2)
    assert (half.blocks, half.residual) == (0, 1.0)
    assert in_block(half, 1.0, BLOCK_VARIANCE / 2) == Spread(blocks=1)


def test_rates_that_rise_and_fall_with_the_weight_are_no_scatter() -> None:
    """By night a hundredth fails and the canary has a tenth, by day a fifth and a half, of either arm alike.

    Over all rows it fails 1.7 times as often; with that for its ratio each minute of the day would be far off.
    """
    rng, spread = np.random.default_rng(6), Spread()
    for index in range(400):
        rows_b, rate = (200, 0.01) if index < 200 else (1_000, 0.2)
        pool = Pool(
            rows_a=2_000 - rows_b,
            loss_a=int(rng.binomial(2_000 - rows_b, rate)),
            rows_b=rows_b,
            loss_b=int(rng.binomial(rows_b, rate)),
        )
        spread = scattered(spread, pool)
    assert spread.failed_b / spread.failed_a == pytest.approx(1.0, abs=0.03)
    assert design_effect(Controller(spread={"errors": spread}), "errors") == 1.0


def test_entities_are_told_from_how_their_rows_fill_the_groups():
    rng = np.random.default_rng(2)

    def shared(people: int, rows: int) -> Controller:
        group, mine = rng.integers(0, ENTITY_GROUPS, people), rng.random(people) < 0.25
        found = [np.bincount(group[which], minlength=ENTITY_GROUPS) * rows for which in (~mine, mine)]
        return Controller(groups={"rows": gathered(None, *found)})

    assert 5 < entities(shared(20, 1_000)) < 80
    assert entities(shared(40_000, 1)) > 2_000
    assert entities(Controller()) == math.inf


def test_gathered_groups_add_up():
    first = gathered(None, np.array([1, 2]), np.array([3, 4]))
    assert gathered(first, np.array([1, 1]), np.array([1, 1])) == Groups(a=(2, 3), b=(4, 5))
