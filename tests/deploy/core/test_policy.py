"""The error of a rollout is split over what may act on it."""

import pytest

from stationkeeper.deploy.core.policy import Action
from stationkeeper.deploy.settings import RolloutSettings


def test_alpha_is_split_over_the_guardrails_that_act():
    policy = RolloutSettings().policy()
    acting = [rail for rail in policy.guardrails.values() if rail.action is not Action.INFORM]
    assert policy.rail_alpha() * len(acting) == pytest.approx(policy.alpha)
