"""Where models are served: what the controller asks of any serving platform."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from stationkeeper.contracts.messages import Rollout


@dataclass(frozen=True, slots=True)
class Observation:
    """What a target really does for a model now, ``weight_bp`` of the traffic going to ``canary``.

    ``unfit`` names versions that it can never serve, with the reason; what is only late or unreachable is not there.
    """

    champion: str | None
    canary: str | None
    weight_bp: int
    unfit: Mapping[str, str] = field(default_factory=dict)


class Target(Protocol):
    """A serving platform that follows the log. Every call is idempotent and raises ``Retryable`` when it may help."""

    name: str

    def apply(self, rollout: Rollout) -> None:
        """Make the platform serve what a committed record says: a step, a promotion or a rollback."""

    def observe(self, model: str) -> Observation | None:
        """Return what the platform serves now; None when it cannot be told."""
