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
    alike,
    by_request,
    crowd,
    design_effect,
    entities,
    gathered,
    group_effect,
    scatter,
    scattered,
)
from stationkeeper.deploy.core.policy import Guardrail
from stationkeeper.deploy.core.state import Controller, Groups, Pool, Spread


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
    return Controller(groups=groups, sums={"errors": total})


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
    assert not by_request(Controller(groups={"rows": gathered(None, *rows)}))
    assert not by_request(Controller())


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
        spread = scattered(spread, 10.0, BLOCK_VARIANCE)
    early = Controller(spread={"errors": spread, "latency": spread})
    assert (design_effect(early, "errors"), design_effect(early, Guardrail.LATENCY)) == (1.0, math.inf)
    late = Controller(spread={"errors": scattered(spread, 10.0, BLOCK_VARIANCE)})
    assert design_effect(late, "errors") == pytest.approx(100.0 / BLOCK_VARIANCE)


def test_the_middle_speaks_of_latency_until_the_tail_has_its_blocks():
    few, many = Spread(blocks=FIRST_BLOCKS), Spread(blocks=FIRST_BLOCKS + int(LEAST), squares=400.0)
    assert design_effect(Controller(spread={"latency": few, MIDDLE: many}), Guardrail.LATENCY) == 50.0
    calm = many.model_copy(update={"squares": 8.0})
    assert design_effect(Controller(spread={"latency": calm, MIDDLE: many}), Guardrail.LATENCY) == 1.0


def test_the_scatter_of_one_minute_by_hand():
    residual, variance = scatter(Pool(), Pool(rows_a=10, loss_a=3, rows_b=10, loss_b=7)) or (0.0, 0.0)
    assert residual == 2.0
    assert variance == pytest.approx(10 * 0.25 * 10 / 19)
    # Where all rows fail, or none, nothing can scatter.
    assert scatter(Pool(), Pool(rows_a=10, loss_a=10, rows_b=10, loss_b=10)) is None
    assert scatter(Pool(), Pool(rows_a=10, rows_b=10)) is None


def test_a_block_ends_when_enough_was_expected():
    half = scattered(Spread(), 1.0, BLOCK_VARIANCE / 2)
    assert (half.blocks, half.residual) == (0, 1.0)
    assert scattered(half, 1.0, BLOCK_VARIANCE / 2) == Spread(blocks=1)


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
