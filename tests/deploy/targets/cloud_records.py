"""Rollout records as a cloud target is given them, and the controller's patience with a slow platform."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.deploy.targets import ChangedByOthers, Target
from stationkeeper.streams.errors import Retryable


def record(weight_bp: int, canary: str | None = "2", champion: str = "1", epoch: int = 1, **more: Any) -> Rollout:
    phase = RolloutPhase.CANARY if canary else RolloutPhase.STEADY
    given = {"phase": phase, **more}
    return Rollout(
        model="fraud",
        epoch=epoch,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        champion=champion,
        canary=canary,
        weight_bp=weight_bp,
        **given,
    )


def follow(settle: Callable[[], object], one: Target, wanted: Rollout) -> None:
    """Apply a record as the controller does: again and again, ``settle`` between, until the platform is there."""
    for _ in range(20):
        try:
            one.apply(wanted)
        except Retryable as error:
            # Neither a change of somebody else nor an update that the platform undid ends by waiting.
            if isinstance(error, ChangedByOthers) or "undid" in str(error):
                raise
            settle()
        else:
            return
    raise AssertionError("never there")
