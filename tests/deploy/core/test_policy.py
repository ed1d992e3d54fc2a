"""The error of a rollout is split over what may act on it."""

import pytest

from stationkeeper.deploy.core.policy import IDLE_ROWS, Action
from stationkeeper.deploy.settings import RolloutSettings


def test_alpha_is_split_over_the_guardrails_that_act():
    policy = RolloutSettings().policy()
    acting = [rail for rail in policy.guardrails.values() if rail.action is not Action.INFORM]
    assert policy.rail_alpha() * len(acting) == pytest.approx(policy.alpha)


def test_the_weight_that_follows_is_the_next_above_the_present_whatever_the_steps_were():
    policy = RolloutSettings(steps=(0.1, 0.3)).policy()
    assert [policy.next_weight(weight) for weight in (0, 1_000, 2_500, 3_000, 5_000)] == [
        1_000,
        3_000,
        3_000,
        None,
        None,
    ]


def test_rows_are_waited_for_in_proportion_to_what_the_next_weight_exposes():
    policy = RolloutSettings().policy()
    assert [policy.rows_before(exposed) for exposed in (200, 201, 500, 1_000, 7_500)] == [0, 41, 100, 200, 200]
    assert [policy.lasts(exposed, IDLE_ROWS) for exposed in (200, 201)] == [5 * 60_000, 30 * 60_000]


def test_a_step_shorter_than_five_minutes_is_not_made_longer():
    assert RolloutSettings(step_duration=60_000, max_duration=600_000).policy().lasts(1, IDLE_ROWS) == 60_000


def test_a_step_is_short_only_once_the_canary_answered_a_handful():
    """At a request a minute half of all went to a canary that had not answered once."""
    policy = RolloutSettings().policy()
    assert [policy.lasts(1, rows) for rows in (0, 4, 5)] == [30 * 60_000, 30 * 60_000, 5 * 60_000]
