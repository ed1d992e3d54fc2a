"""Rollouts among a handful of entities: harm is found at once, no harm seen is no evidence, and nobody is condemned."""

import numpy as np
import pytest

from stationkeeper.contracts.messages import Deployment, Rollout
from stationkeeper.contracts.wire import ENTITY_GROUPS
from stationkeeper.deploy.core.minutes import ArmCounts, Minute
from stationkeeper.deploy.core.reasons import Reason
from stationkeeper.deploy.core.rollout import close_minute
from stationkeeper.deploy.settings import RolloutSettings
from tests.deploy.core.ramp import MINUTE, NO_LATENCY, Phase, started

ROWS = 1_000
POLICY = RolloutSettings(guardrails=NO_LATENCY).policy()


def play(
    rates: np.ndarray,
    shares: np.ndarray,
    ratio: float | np.ndarray,
    panes: int,
    seed: int,
    *,
    sticky: bool,
    length: int = 1,
    hours: bool = False,
) -> tuple[Rollout, list[Deployment], int]:
    """Play panes of ``length`` minutes; ``sticky`` entities belong to one arm, others send their rows to both.

    With ``hours`` each but the first sends in nine hours of the day alone; ``ratio`` may be one for each.
    """
    rollout, rng, audits = started(POLICY), np.random.default_rng(seed), list[Deployment]()
    group, bucket = rng.integers(0, ENTITY_GROUPS, len(rates)), rng.random(len(rates))
    if not sticky:
        group = rng.permutation(ENTITY_GROUPS)[: len(rates)]
    opens = rng.uniform(0.0, 24.0, len(rates))
    for index in range(1, panes):
        works = (index * length / 60.0 - opens) % 24.0 < 9.0
        works[0] = True
        sent = np.where(works, shares, 0.0) if hours else shares
        if rollout.canary is None:
            return rollout, audits, index - 1
        weight, arms = rollout.weight_bp / 10_000, dict[str, ArmCounts]()
        for version, worse, canary in (("1", np.ones(len(rates)), False), ("2", ratio, True)):
            part = (bucket < weight) == canary if sticky else (weight if canary else 1.0 - weight)
            rows = rng.poisson(ROWS * length * sent * part)
            wrong = rng.binomial(rows, np.minimum(rates * worse, 1.0))
            groups = np.zeros((3, ENTITY_GROUPS), int)
            np.add.at(groups[0], group, rows)
            np.add.at(groups[1], group, wrong)
            if rows.any():
                sums = (int(rows.sum()), int(wrong.sum()))
                arms[version] = ArmCounts(rows=sums[0], errors=sums[1], groups=tuple(groups.ravel().tolist()))
        pane = Minute(start=index * length * MINUTE, length=length * MINUTE, arms=arms)
        step = close_minute(rollout, pane, POLICY)
        rollout, audits = step.rollout, [*audits, *step.deployments]
    return rollout, audits, panes


@pytest.mark.parametrize("entities", [1, 4, 8, 20])
def test_a_canary_that_fails_for_everybody_is_rolled_back_within_minutes(entities: int):
    """Four or eight entities were no evidence at all: it climbed to half of the traffic, "without harm"."""
    shares = np.full(entities, 1.0 / entities)
    rollout, audits, minutes = play(np.full(entities, 0.01), shares, 100.0, 60, entities, sticky=False)
    assert (rollout.canary, [one.evidence["code"] for one in audits]) == (None, [Reason.HARM])
    assert minutes <= 10


def test_of_one_entity_no_harm_seen_lets_no_step_pass_and_is_told_once():
    # Whether it keeps its version or is split request by request nobody can tell.
    rollout, audits, _ = play(np.full(1, 0.01), np.ones(1), 1.0, 120, 1, sticky=False)
    assert (rollout.phase, rollout.weight_bp) == (Phase.HOLD, 100)
    assert [one.evidence["code"] for one in audits] == [Reason.TOO_FEW_ENTITIES]


def test_of_four_that_are_split_request_by_request_each_is_its_own_comparison_and_the_canary_climbs():
    rollout, audits, _ = play(np.full(4, 0.01), np.full(4, 0.25), 1.0, 120, 1, sticky=False)
    assert rollout.weight_bp > 100
    assert Reason.TOO_FEW_ENTITIES not in {one.evidence["code"] for one in audits}


def people(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the failure rates, and the shares of the rows, of twenty people of whom a few send most."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(0.0, 1.5, 20)
    return rng.gamma(5.0, 0.2, 20) * 0.05, activity / activity.sum()


@pytest.mark.parametrize(("ratio", "for_one", "code"), [
    (1.0, False, Reason.NONINFERIOR), (2.0, False, Reason.HARM), (8.0, True, Reason.HARM)
])  # fmt: skip
def test_tenants_with_hours_of_their_own_split_by_request_have_their_answer_within_the_day(ratio, for_one, code):
    """Their shares differ by the weight of their hours: held as too few, and design effects of 80 to 800, for a week.

    ``for_one``: the one who sends most has eight times the failures, and nobody else more.
    """
    for seed in range(6):
        rates, shares = people(seed)
        rates, shares = np.full(20, 0.05) if for_one else rates, np.sort(shares)[::-1]
        worse = np.where(np.arange(20) == 0, ratio, 1.0) if for_one else ratio
        _, audits, _ = play(rates, shares / 10.0, worse, 145, seed, sticky=False, length=10, hours=True)
        told = [one.evidence["code"] for one in audits]
        assert code in told


def test_an_equal_canary_of_twenty_people_is_seldom_condemned_and_one_twice_as_bad_never_promoted():
    """By the row 39 of 100 equal ones were rolled back. A day in panes of ten minutes."""
    equal, worse = 0, 0
    for seed in range(50):
        ended = [play(*people(seed), ratio, 145, seed, sticky=True, length=10)[1] for ratio in (1.0, 2.0)]
        equal += any(one.evidence["code"] == Reason.HARM for one in ended[0])
        worse += any(one.evidence["code"] == Reason.NONINFERIOR for one in ended[1])
    assert equal <= 3
    assert worse == 0


def test_a_step_that_reaches_nobody_by_chance_does_not_wait_for_its_first_row_until_the_deadline():
    """Of eighty entities one split in sixty has none below 5 %: it stood there for seven days."""

    def nobody(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        rng.integers(0, ENTITY_GROUPS, 80)
        return bool(rng.random(80).min() > 0.05)

    seed = next(seed for seed in range(10_000) if nobody(seed))
    rollout, audits, _ = play(np.full(80, 0.01), np.full(80, 1 / 80), 1.0, 120, seed, sticky=True)
    assert rollout.weight_bp >= 2_500
    assert [one.evidence["code"] for one in audits][:2] == [Reason.SMALL_TRAFFIC] * 2
