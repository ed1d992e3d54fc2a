"""A target that says what one would do, and does nothing."""

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.core.split import BUCKETS
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets.target import Abilities, Observation

_log = structlog.get_logger()


class DryRunTarget:
    """Logs each change that a rollout asks for; no traffic moves, so that no evidence ever promotes a canary."""

    name = "dry-run"
    abilities = Abilities(moves=False)

    def __init__(self, settings: TargetSettings) -> None:
        """Take the settings that every target takes; none is used."""
        self._said: dict[str, str] = {}
        # What a model served when we first heard of it: it goes on being served, whatever a record says later.
        self._champions: dict[str, str] = {}

    def apply(self, rollout: Rollout) -> None:
        """Log what a record asks for, once, and not again while it asks for the same."""
        served = self._champions.setdefault(rollout.model, rollout.champion)
        would = f"give all traffic to version {rollout.champion}"
        if rollout.canary is not None:
            share = rollout.weight_bp / BUCKETS
            would = f"give {share:.2%} of the traffic to version {rollout.canary}, the rest to {rollout.champion}"
        elif served != rollout.champion:
            would = f"promote version {rollout.champion} over {served}"
        if self._said.get(rollout.model) != would:
            self._said[rollout.model] = would
            _log.info(LogEvent.TARGET_WOULD, model=rollout.model, epoch=rollout.epoch, would=would)

    def observe(self, model: str) -> Observation | None:
        """Return the champion of before with all traffic; None for a model that no record named yet."""
        served = self._champions.get(model)
        return None if served is None else Observation(served, None, 0)
